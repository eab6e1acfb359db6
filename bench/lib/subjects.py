"""subjects - what is measured: the servers, a real Kafka, and the programs of this folder."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from process import Failed, cpu_ns, free_port, port_open, process, threads_cpu_ns, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTITIONS = 4
# What test/services/kafka.sh gives its Kafka is meant for tests (one compiler, a small
# heap).  These come after its own flags and win.
KAFKA_JVM = "-XX:TieredStopAtLevel=4 -XX:-UseSerialGC -XX:+UseG1GC -Xms1g -Xmx1g"


class Subjects:
    """The programs, the Kafka and the folder of one invocation."""

    def __init__(self, args, work):
        self.build = pathlib.Path(args.build).resolve()
        self.args = args
        self.work = work
        self.servers = args.kafka
        self.kafka_pid = None
        self.topics = 0
        self.preload = {}  # of the environment of gateways

    def tool(self, name, *options, may_fail=False):
        """Run a program of this folder to its end; its JSON."""
        command = [self.build / f"bench_{name}", *options]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0 and not (may_fail and done.stdout):
            raise Failed(f"bench_{name} ended with {done.returncode}: {done.stdout}")
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout.strip()

    def simulate(self, *options):
        """`millrace simulate` to its end; its JSON."""
        command = [self.build / "millrace", "simulate", "--json", *options]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed(f"millrace simulate ended with {done.returncode}: {done.stdout}")
        return json.loads(done.stdout)

    def new_topic(self):
        self.topics += 1
        name = f"bench-{int(time.time())}-{self.topics}"
        self.tool("topic", "--servers", self.servers, "--topic", name, "--create", PARTITIONS)
        return name

    # ---- Kafka ----

    @contextlib.contextmanager
    def kafka(self):
        if self.servers:
            yield
            return
        script = ROOT / "test/services/kafka.sh"
        env = dict(os.environ, KAFKA_DATA=str(self.work / "kafka"), KAFKA_OWNER=str(os.getpid()),
                   _JAVA_OPTIONS=KAFKA_JVM)
        said = subprocess.run([str(script), "start"], env=env, check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        self.servers = values["BOOTSTRAP"]
        self.kafka_pid = int(values["PID"])
        try:
            yield
        finally:
            subprocess.run([str(script), "remove"], env=env, check=False)

    def kafka_cpu_ns(self):
        return cpu_ns(self.kafka_pid) if self.kafka_pid else None

    # ---- servers under test ----

    @contextlib.contextmanager
    def floor(self, *options):
        port = free_port()
        with process([self.build / "bench_floor", "--port", port, *options],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            wait_until(lambda: port_open(port), 10, "the floor server's start")
            yield server, port

    def certificate(self):
        """(certificate, key) of an EC key, made once."""
        cert, key = self.work / "cert.pem", self.work / "key.pem"
        if not cert.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                            "/CN=localhost", "-out", cert, "-keyout", key], check=True,
                           stderr=subprocess.DEVNULL)
        return cert, key

    @contextlib.contextmanager
    def tls_server(self, subject):
        """The least of a TLS server, or the gateway with a TLS listener."""
        cert, key = self.certificate()
        port = free_port()
        if subject == "floor":
            with process([self.build / "bench_tls", "--port", port, "--cert", cert, "--key", key],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
                wait_until(lambda: port_open(port), 10, "the TLS server's start")
                yield server, port
            return
        listener = (f'tls: {{ bind: "127.0.0.1:{port}", allow_anonymous: true, '
                    f'tls: {{ certfile: {cert}, keyfile: {key} }} }}')
        with self.gateway(None, listeners=listener) as (server, _):
            yield server, port

    def gateway_config(self, folder, port, admin, topic, shards, more):
        """`more`: `mqtt` and `journal`, what stands in those sections; `bridge`, its keys."""
        config = f"""\
gateway: {{ name: bench, data: {folder}/data, shards: {shards}, loop: {more.get("loop", "auto")} }}
listeners:
  mqtt: {{ bind: "127.0.0.1:{port}", allow_anonymous: true }}
admin: {{ bind: "127.0.0.1:{admin}" }}
journal: {{ {more.get("journal", "max_size: 8GiB")}, keep: 0 }}
"""
        if "listeners" in more:
            config = config.replace("listeners:\n", f"listeners:\n  {more['listeners']}\n")
        if more.get("mqtt"):
            config += f"mqtt: {{ {more['mqtt']} }}\n"
        if topic:
            keys = dict(servers=f'"{self.servers}"', topic=topic, message_key='"${clientid}"',
                        value_encoder="raw")
            keys.update(more.get("bridge") or {})
            if keys.get("delivery") == "exactly_once":
                keys["auto_create"] = "{ enable: true }"  # for the topic of positions
            config += "bridges:\n  kafka:\n"
            config += "".join(f"    {key}: {value}\n" for key, value in keys.items())
        path = folder / "bench.yaml"
        path.write_text(config)
        return path

    @contextlib.contextmanager
    def folder(self):
        path = pathlib.Path(tempfile.mkdtemp(prefix="gateway-", dir=self.work))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def gateway_in(self, folder, topic=None, shards=1, **more):
        """The process on the data of this folder, just started; `port` and `admin` are its."""
        port, admin = free_port(), free_port()
        config = self.gateway_config(folder, port, admin, topic, shards, more)
        with open(folder / "gateway.log", "a") as log, \
             process([self.build / "millrace", "run", "-c", config], stderr=log, stdout=log,
                     env=dict(os.environ, **self.preload)) as server:
            server.port, server.admin = port, admin
            server.log = folder / "gateway.log"
            yield server

    @staticmethod
    def await_ready(server):
        def ready():
            if server.poll() is not None:
                raise Failed("the gateway ended:\n" + server.log.read_text())
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.admin}/readyz", timeout=5):
                    return port_open(server.port)
            except OSError:
                return False

        wait_until(ready, 60, "the gateway's start")

    @staticmethod
    def end(server):
        server.send_signal(signal.SIGTERM)
        if server.wait(60) != 0:
            raise Failed(f"the gateway ended with {server.returncode}:\n"
                         + server.log.read_text())

    @contextlib.contextmanager
    def gateway(self, topic, shards=1, **more):
        """A new gateway with an empty journal; with a bridge if there is a topic."""
        with self.folder() as folder, self.gateway_in(folder, topic, shards, **more) as server:
            self.await_ready(server)
            self.await_quiet(server)
            yield server, server.port
            self.end(server)

    def await_quiet(self, server):
        """Until the bridge is connected and the keeper has zeroed the first spare segment.

        A short run would otherwise be charged for 64 MiB that it never writes to; in a long
        one, and with `keep: 0`, segments are recycled.
        """
        before, quiet = None, 0
        deadline = time.monotonic() + (0 if getattr(self.args, "smoke", False) else 30)
        while quiet < 3 and time.monotonic() < deadline:
            time.sleep(0.1)  # sleep: CPU time tells nobody that it stands still
            now = sum(ns for name, ns in threads_cpu_ns(server.pid).items()
                      if not name.startswith("rdk:"))
            quiet = quiet + 1 if before is not None and now - before < 2_000_000 else 0
            before = now

    def metrics(self, server):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.admin}/metrics", timeout=5) as page:
            text = page.read().decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                bare = name.split("{", 1)[0]
                values[bare] = values.get(bare, 0) + float(value)
        return values

    # ---- runs ----

    def verify(self, topic, ledger):
        said = self.tool("consume", "--servers", self.servers, "--topic", topic, "--ledger",
                         ledger, may_fail=True)
        if said["verdict"] == "WRONG":
            raise Failed(f"topic {topic} does not hold what was acknowledged: {said}")
        return said

    @staticmethod
    def await_line(started, word):
        """Read messages until the one that says it is ready (librdkafka may talk before)."""
        for line in started.stderr:
            if word in line:
                return
            sys.stderr.write(line)
        raise Failed(f"{started.args[0]} ended before it was {word}")

    def warm_up(self):
        """A Java virtual machine is slow until it has compiled what it runs."""
        topic = self.new_topic()
        ledger = self.work / "ledger-warm-up"
        self.tool("rdkafka", "--servers", self.servers, "--topic", topic, "--count",
                  max(int(4_000_000 * self.args.scale), 200_000), "--ledger", ledger)
        self.verify(topic, ledger)

    @contextlib.contextmanager
    def watcher(self, topic, wanted, result):
        """While the block runs, and until the topic has grown by `wanted`; then fill `result`.

        `wanted` is a number, or the ledger that will tell it.
        """
        what = ["--watch", wanted] if isinstance(wanted, int) else ["--watch-ledger", wanted]
        with process([self.build / "bench_topic", "--servers", self.servers, "--topic", topic,
                      *what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            self.await_line(watch, "watching")
            yield
            out, _ = watch.communicate()  # it gives up by itself
            if watch.returncode != 0:
                raise Failed(f"Kafka did not get everything: {out}")
            result.update(json.loads(out))

    @staticmethod
    def threads(server, count):
        """CPU ns per event of each thread since the process began: who spends it."""
        spent = sorted(threads_cpu_ns(server.pid).items(), key=lambda item: -item[1])
        return {name: ns / count for name, ns in spent if ns / count >= 1}

    def commits(self, metrics):
        commits = metrics.get("millrace_journal_commits_total", 0)
        written = metrics.get("millrace_journal_written_bytes_total", 0)
        return dict(commit_bytes=written / commits) if commits else {}

    @contextlib.contextmanager
    def follower(self, topic, ledger, result):
        """While the block runs, consume; then fill `result` with the latencies."""
        with process([self.build / "bench_consume", "--servers", self.servers, "--topic", topic,
                      "--follow", "--ledger", ledger], stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE, text=True) as follow:
            self.await_line(follow, "following")
            time.sleep(1)  # sleep: its first fetches
            yield
            out, _ = follow.communicate(timeout=120)
            if follow.returncode != 0:
                raise Failed(f"the consumer did not get every event in order: {out}")
            result.update(json.loads(out))
