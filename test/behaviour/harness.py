"""harness - bring up a gateway and a Kafka for a test, and never leave one behind.

    with Gateway("bridges: ...") as gateway:      a real process, free ports, own data
        gateway.wait_log("ready")                 (start() did that already)
        ...
    # SIGTERM, exit code 0, no sanitizer report: checked on the way out

What a test waits for is an event: a log line, a packet, a record.  Where a state
tells nobody of its change (a metric, a file), until() looks again and again.

Processes get SIGKILL from the kernel when the test process dies, however that
happens (setpriv --pdeathsig); Kafka has a watcher of its own (kafka.sh).
"""

import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MR_BUILD", ROOT / "build" / "sanitize"))
RELEASE = pathlib.Path(os.environ.get("MR_RELEASE", ROOT / "build" / "release"))
KAFKA_SH = ROOT / "test" / "services" / "kafka.sh"
KAFKA_LISTENERS = 5  # at most
IN_CI = os.environ.get("CI") == "true"

# Patience for one thing to happen.  Long, because the machine may be busy; it is
# only used up when the test fails.
PATIENCE = float(os.environ.get("MR_PATIENCE", "60"))

SANITIZER = re.compile(
    r"ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:"
    r"|mr_assert|assertion"
)


def until(condition, what, patience=PATIENCE):
    """Return condition()'s first true value."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience:.0f} s still waiting for: {what}")
        time.sleep(0.02)  # sleep: the state tells nobody when it changes


def cannot(what):
    """An optional part is not to be had: skip, but never in CI."""
    if IN_CI:
        raise AssertionError(f"CI may not skip: {what}")
    raise unittest.SkipTest(what)


def program(name):
    """Path of a client program the tests use."""
    path = shutil.which(name)
    return path or cannot(f"{name} is not installed (./dev test installs it)")


class Temp:
    """A folder that is gone afterwards; MR_KEEP=1 keeps it and says where."""

    def __init__(self, prefix, where=None):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"millrace-{prefix}-", dir=where))

    def remove(self):
        if os.environ.get("MR_KEEP"):
            print(f"kept: {self.path}", file=sys.stderr)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Lines:
    """A process's output, line by line, for whoever waits for one of them."""

    def __init__(self, stream):
        self.all = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        with stream:
            for line in stream:
                with self.changed:
                    self.all.append(line.rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def find(self, pattern, start=0):
        for line in self.all[start:]:
            match = re.search(pattern, line)
            if match:
                return match
        return None

    def wait(self, pattern, patience=PATIENCE, start=0):
        """The match of the first line that has `pattern`; lines before `start` do not count."""
        with self.changed:
            self.changed.wait_for(lambda: self.find(pattern, start) or self.ended, patience)
            match = self.find(pattern, start)
        if match is None:
            why = "the process ended" if self.ended else f"not within {patience:.0f} s"
            raise AssertionError(f"no line with {pattern!r} ({why}); the log:\n{self.text()}")
        return match

    def text(self):
        return "\n".join(self.all[-200:])


# The signal comes when the *thread* that started the process ends, so one thread, which
# ends with us, starts them all.
_starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)


def popen(argv, **options):
    """Popen of a process that cannot outlive us."""
    argv = ["setpriv", "--pdeathsig", "KILL", *map(str, argv)]
    return _starter.submit(subprocess.Popen, argv, **options).result()


class Gateway:
    """One `millrace run`, restartable on the same data and ports."""

    def __init__(self, config="", *, binary=None, sets=(), prefix=(), data=None):
        self.temp = Temp("gateway")
        self.data = pathlib.Path(data) if data else self.temp.path / "data"
        self.config = self.temp.path / "millrace.yaml"
        self.config.write_text(config, encoding="utf-8")
        self.binary = pathlib.Path(binary) if binary else BUILD / "millrace"
        self.sets = list(sets)
        self.prefix = list(prefix)
        self.process = None
        self.log = None
        self.mqtt_port = ports.take()
        self.admin_port = ports.take()
        self.starts = 0

    # ---- life cycle ----

    def argv(self):
        sets = [
            f"listeners.mqtt.bind=127.0.0.1:{self.mqtt_port}",
            f"admin.bind=127.0.0.1:{self.admin_port}",
            *os.environ.get("MR_SETS", "").split(),  # a whole file of tests in another way
            *self.sets,
        ]
        options = [word for value in sets for word in ("--set", value)]
        return [*self.prefix, self.binary, "run", "-c", self.config, "--data", self.data, *options]

    def spawn(self):
        """Start without waiting for anything."""
        if not self.binary.exists():
            raise AssertionError(f"{self.binary} is not built; run ./dev test")
        known = ROOT / "test" / "behaviour" / "lsan.supp"
        env = dict(os.environ, NO_COLOR="1", ASAN_OPTIONS="detect_leaks=1:exitcode=99",
                   LSAN_OPTIONS=f"suppressions={known}:print_suppressions=0")
        env.pop("JOURNAL_STREAM", None)
        self.process = popen(
            self.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="backslashreplace", env=env,
        )
        self.log = Lines(self.process.stderr)
        self.starts += 1
        return self

    def start(self):
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_ready(self):
        bound = self.log.wait(r'component=listener msg="listening on \S*?:(\d+) \(mqtt\)"')
        self.mqtt_port = int(bound[1])
        self.admin_port = int(self.log.wait(r"component=admin .*listening on http://\S*?:(\d+)")[1])
        self.log.wait(r'component=gateway .*msg="ready"')

    def pid(self):
        """The gateway's own pid, also below strace."""
        if not self.prefix:
            return self.process.pid
        return int(self.log.wait(r"component=gateway .*pid (\d+)")[1])

    def stop(self, expect=0, patience=PATIENCE):
        """SIGTERM; the exit code must be `expect`, and no sanitizer may have spoken."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.wait_exit(expect, patience)

    def wait_exit(self, expect, patience=PATIENCE):
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            log = self.log.text()
            self.kill()
            said = f"still running after {patience:.0f} s; the log:\n{log}"
            raise AssertionError(said) from None
        self.log.thread.join(PATIENCE)
        self.process = None
        self.check_log()
        if code != expect:
            said = f"exit code {code}, expected {expect}; the log:\n{self.log.text()}"
            raise AssertionError(said)
        return code

    def kill(self):
        """As a crash: SIGKILL at whatever moment this is."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, AssertionError):
            os.kill(self.pid(), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.log.thread.join(PATIENCE)
        self.process = None
        self.check_log()

    def check_log(self):
        if self.log.find(SANITIZER.pattern):
            raise AssertionError(f"the gateway's log:\n{self.log.text()}")

    def restart(self):
        self.stop()
        return self.start()

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, kind, *_):
        try:
            if self.process is not None and kind is None:
                self.stop()
        finally:
            if kind is not None and self.log is not None:
                print(f"---- the gateway's log:\n{self.log.text()}\n----", file=sys.stderr)
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None
            self.temp.remove()

    # ---- looking at it ----

    def wait_log(self, pattern, patience=PATIENCE, start=0):
        return self.log.wait(pattern, patience, start)

    def http(self, path):
        """(status, body)"""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def metrics(self):
        """{'name{labels}': value}"""
        status, body = self.http("/metrics")
        assert status == 200, body
        rows = (line.rsplit(" ", 1) for line in body.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in rows}

    def metric(self, name, labels=""):
        """The sum over all shards; `labels`: only those that have this."""
        return sum(value for full, value in self.metrics().items()
                   if full.split("{")[0] == name and labels in full)

    def bridge(self, name):
        """What /readyz says of a bridge: up, lag_records."""
        return json.loads(self.http("/readyz")[1])["bridges"][name]

    def wait_drained(self, name, patience=PATIENCE):
        """Everything durable so far is settled at this bridge."""
        until(lambda: self.bridge(name)["lag_records"] == 0, f"bridge {name} to drain", patience)

    def resident_kib(self, peak=False):
        """Now, or the most that it ever was."""
        text = pathlib.Path(f"/proc/{self.pid()}/status").read_text(encoding="ascii")
        return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", text)[1])


def millrace(*args, binary=None, check=True, **options):
    """Run one command to its end; stdout and stderr as text."""
    done = subprocess.run(
        [str(binary or BUILD / "millrace"), *map(str, args)], capture_output=True, text=True,
        timeout=PATIENCE * 2, check=False, **options,
    )
    if SANITIZER.search(done.stderr):
        raise AssertionError(done.stderr)
    if check and done.returncode != 0:
        raise AssertionError(f"millrace {args}: exit {done.returncode}\n{done.stderr}")
    return done


def mosquitto_pub(port, *args, payload=None, check=True):
    done = subprocess.run(
        [program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), *map(str, args)],
        input=payload, capture_output=True, timeout=PATIENCE * 2, check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"mosquitto_pub {args}: {done.stderr.decode(errors='replace')}")
    return done


def published(gateway, topic, lines, client="d"):
    """One QoS 1 event for each of `lines`, in order, from one client; all acknowledged."""
    text = "".join(f"{line}\n" for line in lines).encode()
    mosquitto_pub(gateway.mqtt_port, "-i", client, "-q", "1", "-t", topic, "-l", payload=text)


class KafkaClient:
    """What a client that we did not write does at the Kafka `bootstrap`."""

    bootstrap = None

    @functools.cached_property
    def admin(self):
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topic(self, name, partitions=4, copies=1, if_missing=False, **config):
        """`copies`: brokers that have it."""
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import NewTopic

        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=copies, config=config)
        for done in self.admin.create_topics([topic]).values():
            try:
                done.result(PATIENCE)
            except KafkaException as why:
                if not if_missing or why.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def delete_topic(self, name):
        for done in self.admin.delete_topics([name]).values():
            done.result(PATIENCE)

    def records(self, topic, count=None, patience=PATIENCE):
        """All records of a topic in order of (partition, offset).

        With `count`: wait until there are so many; more is for the caller to judge.
        """
        found = self.each_record(topic, lambda record: record, count, patience)
        return sorted(found, key=lambda record: (record.partition(), record.offset()))

    def each_record(self, topic, convert, count=None, patience=PATIENCE):
        """convert(record) of all records, in order within each partition."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "enable.partition.eof": True,
        })
        try:
            # A topic that comes into being by its first record may not be there yet.
            known = until(lambda: consumer.list_topics(topic, PATIENCE).topics[topic].partitions,
                          f"topic {topic}")
            consumer.assign([TopicPartition(topic, number, 0) for number in known])
            return read_to_end(consumer, len(known), convert, count, patience)
        finally:
            consumer.close()


class Kafka(KafkaClient):
    """A real Apache Kafka by test/services/kafka.sh; a module shares one."""

    def __init__(self, tls=False, partitions=4, secure=False):
        for name in ("java", "mvn", "kcat"):
            if shutil.which(name) is None:
                cannot(f"no {name}: a real Kafka needs the packages of tools/packages/kafka")
        self.temp = Temp("kafka")
        self.env = dict(
            os.environ, KAFKA_DATA=str(self.temp.path / "kafka"), KAFKA_OWNER=str(os.getpid()),
            KAFKA_PORTS=" ".join(str(ports.take()) for _ in range(KAFKA_LISTENERS)),
            KAFKA_PARTITIONS=str(partitions), **({"KAFKA_TLS": "1"} if tls else {}),
            **({"KAFKA_SECURE": "1"} if secure else {}),
        )
        self.start()

    def sh(self, command):
        done = subprocess.run(
            [KAFKA_SH, command], env=self.env, capture_output=True, text=True, check=False,
            timeout=300,
        )
        if done.returncode != 0:
            raise AssertionError(f"kafka.sh {command}: {done.stderr}")
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def start(self):
        said = self.sh("start")
        self.bootstrap = self.gateway_bootstrap = said["BOOTSTRAP"]
        self.tls_bootstrap = said.get("TLS_BOOTSTRAP")
        self.sasl_bootstrap = said.get("SASL_BOOTSTRAP")
        self.mutual_bootstrap = said.get("MUTUAL_BOOTSTRAP")
        self.ca_file = said.get("CA_FILE")
        return self

    def stop(self):
        self.sh("stop")

    def kill(self):
        self.sh("kill")

    def pause(self):
        self.sh("pause")

    def resume(self):
        self.sh("resume")

    def remove(self):
        self.sh("remove")
        self.temp.remove()


def read_to_end(consumer, partitions, convert, count, patience):
    from confluent_kafka import KafkaError

    found, ended, deadline = [], set(), time.monotonic() + patience
    while time.monotonic() < deadline:
        for record in consumer.consume(10_000, 0.2):
            error = record.error()
            if error is None:
                found.append(convert(record))
                ended.discard(record.partition())
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(record.partition())
            elif error.code() != KafkaError._UNKNOWN_TOPIC_OR_PART:
                raise AssertionError(str(error))
        if len(ended) == partitions and len(found) >= (count or 0):
            return found
    wanted = "the end of the topic" if count is None else f"{count} of them"
    raise AssertionError(f"{len(found)} records after {patience:.0f} s, expected {wanted}")


# ---- one Kafka per test module: setUpModule = harness.kafka_up etc. ----

_shared = {}


def kafka_up(**options):
    _shared["kafka"] = Kafka(**options)


def kafka_down():
    kafka = _shared.pop("kafka", None)
    if kafka is not None:
        kafka.remove()


def kafka():
    return _shared["kafka"]


def kafka_bridge(topic, *keys):
    """The configuration of a bridge `kafka` into the module's Kafka, payloads as they are."""
    lines = [f'servers: "{kafka().bootstrap}"', f'topic: "{topic}"', "value_encoder: raw", *keys]
    return "\n".join(["bridges:", "  kafka:", *(f"    {line}" for line in lines), ""])
