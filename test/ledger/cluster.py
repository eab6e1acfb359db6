"""cluster - a Kafka of several brokers on this machine, each a process that a fault can take away.

    cluster = Cluster()                   three brokers, all of them controllers too; started
    cluster.create_topic("t")             on all of them, and min.insync.replicas = 2
    cluster.nodes[0].kill()               SIGKILL; stop(), pause(), resume(), start() as well
    cluster.wait_whole("t")               every replica of every partition is in sync again
    cluster.remove()

Each broker has two addresses: one for tests (`bootstrap`), and one for the gateway
(`gateway_bootstrap`) that leads through a proxy of the test's where `proxied` is said (proxy.py).
The processes end with the test's own, however that ends (harness.popen).
"""

import contextlib
import functools
import os
import pathlib
import secrets
import signal
import subprocess

import harness
import kafka_wire
import ports
from failpoint import preloaded
from proxy import Proxy

PATIENCE_S = 120
SLOW_LOG_MS = 100  # for each write, while the switch is on
JVM = ("-Xms96m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
       "-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
       "-Dorg.slf4j.simpleLogger.showDateTime=true")
# A broker that is gone is noticed in 3 s; a follower that stands still leaves the replicas in sync
# in 4.  Both are longer by default, and nothing but time would be shown by that.
PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{plain},GATEWAY://127.0.0.1:{gateway},\
CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},GATEWAY://{advertised}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GATEWAY:{protocol}
log.dirs={folder}/log
num.partitions=4
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=2
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
auto.leader.rebalance.enable=false
unclean.leader.election.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=4000
replica.socket.timeout.ms=5000
request.timeout.ms=5000
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
controller.quorum.request.timeout.ms=2000
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=2097152
{more}
"""

TLS = """\
ssl.keystore.type=PEM
ssl.keystore.location={pem}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
ssl.client.auth=required
"""


@functools.cache
def jars():
    done = subprocess.run([harness.KAFKA_SH, "jars"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"kafka.sh jars: {done.stderr}")
    return f"{done.stdout.strip()}/*"


class Node:
    """One broker."""

    def __init__(self, number, folder):
        self.number, self.folder = number, pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.plain, self.gateway, self.controller = ports.take(), ports.take(), ports.take()
        self.proxy = None
        self.process, self.paused = None, False
        self.prefix = []  # words in front of java

    @property
    def address(self):
        return f"127.0.0.1:{self.plain}"

    @property
    def gateway_port(self):
        """Where gateways connect to."""
        return self.proxy.port if self.proxy else self.gateway

    def java(self, *args, **options):
        return harness.popen([*self.prefix, "java", *JVM, "-cp", jars(), *args],
                             stdin=subprocess.DEVNULL, stdout=self.log(), stderr=self.log(),
                             **options)

    def log(self):
        return os.open(self.folder / "kafka.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def said(self):
        return "\n".join((self.folder / "kafka.log").read_text(errors="replace")
                         .splitlines()[-30:])

    def format(self, cluster_id):
        return self.java("kafka.tools.StorageTool", "format", "-t", cluster_id,
                         "-c", self.folder / "server.properties")

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def spawn(self):
        if not self.is_alive():
            self.process = self.java("kafka.Kafka", self.folder / "server.properties")
            self.paused = False

    def end(self, how):
        if self.is_alive():
            self.resume()
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE_S / 4)
            except subprocess.TimeoutExpired:  # a controlled shutdown that nobody grants
                self.process.kill()
                self.process.wait()
        self.process = None

    def kill(self):
        self.end(signal.SIGKILL)

    def stop(self):
        self.end(signal.SIGTERM)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False


def kafka_for(known):
    """What these faults (classes) need: three brokers, a network of the test's, or just a Kafka."""
    if not any(one.needs_cluster or one.needs_proxy or one.needs_slow_log for one in known):
        return harness.Kafka()
    return Cluster(3 if any(one.needs_cluster for one in known) else 1,
                   proxied=any(one.needs_proxy for one in known),
                   slow_log=any(one.needs_slow_log for one in known))


class Cluster(harness.KafkaClient):
    """`tls`: a faults_certificate.Tls; the gateway's addresses speak TLS then, and ask for its own.
    `slow_log`: brokers whose logs can be made slow.
    """

    def __init__(self, nodes=3, proxied=False, tls=None, slow_log=False):
        for name in ("java", "mvn", "kcat"):
            harness.program(name)
        self.temp = harness.Temp("cluster")
        self.copies, self.in_sync = nodes, min(2, nodes)
        self.nodes = [Node(n, self.temp.path / str(n)) for n in range(1, nodes + 1)]
        self.tls = tls
        self.slow_switch = self.temp.path / "slow"
        for node in self.nodes:
            if slow_log:
                node.prefix = ["env", f"LD_PRELOAD={preloaded('slow_log')}",
                               f"SLOW_LOG_WHILE={self.slow_switch}", f"SLOW_LOG_MS={SLOW_LOG_MS}"]
            node.proxy = Proxy(node.gateway) if proxied else None
        try:
            self.format()
            self.start()
        except BaseException:
            self.remove()
            raise

    # ---- as one Kafka: what harness.Kafka has ----

    @property
    def bootstrap(self):
        return ",".join(node.address for node in self.nodes)

    @property
    def gateway_bootstrap(self):
        return ",".join(self.advertised(node) for node in self.nodes)

    def advertised(self, node):
        return f"{'localhost' if self.tls else '127.0.0.1'}:{node.gateway_port}"

    def format(self):
        voters = ",".join(f"{one.number}@127.0.0.1:{one.controller}" for one in self.nodes)
        more = ""
        if self.tls:
            more = TLS.format(pem=self.tls.pem, ca=self.tls.pki.ca)
        for node in self.nodes:
            (node.folder / "server.properties").write_text(PROPERTIES.format(
                number=node.number, voters=voters, plain=node.plain, gateway=node.gateway,
                controller=node.controller, advertised=self.advertised(node), folder=node.folder,
                copies=self.copies, in_sync=self.in_sync, more=more,
                protocol="SSL" if self.tls else "PLAINTEXT"), encoding="ascii")
        cluster_id = secrets.token_urlsafe(16)[:22].replace("-", "A")
        for node, formatted in [(node, node.format(cluster_id)) for node in self.nodes]:
            if formatted.wait(PATIENCE_S) != 0:
                raise AssertionError(f"Kafka could not format its folder:\n{node.said()}")

    def start(self):
        """All that do not run; returns when each of them serves."""
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            self.wait_serves(node)
        return self

    def wait_serves(self, node):
        """It is one of the brokers that the others know of, and answers itself."""

        def serves():
            if not node.is_alive():
                raise AssertionError(f"broker {node.number} ended:\n{node.said()}")
            return node.number in kafka_wire.brokers(node.address)

        try:
            harness.until(serves, f"broker {node.number}", PATIENCE_S)
        except AssertionError as why:
            raise AssertionError(f"{why}\n{node.said()}") from None

    def each(self, what):
        for node in self.nodes:
            if node.is_alive():
                getattr(node, what)()

    def stop(self):
        for node in self.nodes:  # together: the last two could not do it in peace
            if node.is_alive():
                node.resume()
                node.process.terminate()
        self.each("stop")

    def kill(self):
        self.each("kill")

    def pause(self):
        self.each("pause")

    def resume(self):
        self.each("resume")

    def remove(self):
        self.kill()
        for node in self.nodes:
            if node.proxy is not None:
                node.proxy.close()
        self.temp.remove()

    # ---- with a client we did not write ----

    def create_topic(self, name, partitions=4, **more):
        super().create_topic(name, partitions, self.copies, **more)
        self.wait_whole(name)

    def configure(self, name, **config):
        """A topic's options, as min_insync_replicas=3."""
        self.alter("TOPIC", name, {key.replace("_", "."): str(value)
                                   for key, value in config.items()})

    def read_certificate(self):
        """Each broker reads its certificate again; connections stay."""
        for node in self.nodes:
            self.alter("BROKER", str(node.number), {
                "listener.name.gateway.ssl.keystore.type": "PEM",
                "listener.name.gateway.ssl.keystore.location": str(self.tls.pem)})

    def alter(self, kind, name, config):
        from confluent_kafka.admin import (AlterConfigOpType, ConfigEntry, ConfigResource,
                                           ResourceType)

        entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                   for key, value in config.items()]
        resource = ConfigResource(ResourceType[kind], name, incremental_configs=entries)
        for done in self.admin.incremental_alter_configs([resource]).values():
            done.result(harness.PATIENCE)

    def partitions(self, topic):
        """{number: confluent_kafka's metadata of it}; {} when there is no such topic just now."""
        from confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            known = self.admin.list_topics(timeout=5).topics
            return known[topic].partitions if topic in known else {}
        return {}

    def leaders(self, topic):
        """{partition: number of its leader}"""
        return {number: one.leader for number, one in self.partitions(topic).items()}

    def leader(self, topic):
        """The broker that leads most of a topic."""
        leads = list(harness.until(lambda: self.leaders(topic), f"leaders of {topic}").values())
        return self.node(max(set(leads), key=leads.count))

    def move_leaders(self, topic):
        """Another broker for each partition, without anybody being away."""
        from confluent_kafka import ElectionType, KafkaException, TopicPartition

        turned = {number: one.replicas[1:] + one.replicas[:1]
                  for number, one in self.partitions(topic).items()}
        kafka_wire.set_replicas(self.nodes[0].address, topic, turned)

        def moved():
            known = self.partitions(topic)
            if any(known[number].leader != replicas[0] for number, replicas in turned.items()):
                with contextlib.suppress(KafkaException):
                    self.admin.elect_leaders(ElectionType.PREFERRED, [
                        TopicPartition(topic, number) for number in turned]).result()
                return False
            return True

        harness.until(moved, f"other leaders of {topic}")

    def controller(self):
        def known():
            for node in self.nodes:
                if node.is_alive() and not node.paused:
                    with contextlib.suppress(OSError, AssertionError):
                        return kafka_wire.quorum_leader(node.address)
            return None

        return self.node(harness.until(lambda: self.node(known()), "a controller").number)

    def node(self, number):
        return next((one for one in self.nodes if one.number == number), None)

    def wait_whole(self, topic):
        def whole():
            known = self.partitions(topic)
            return known and all(one.leader > 0 and len(one.isrs) == self.copies
                                 for one in known.values())

        harness.until(whole, f"all replicas of {topic} in sync", PATIENCE_S)
