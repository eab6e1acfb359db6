"""faults_certificate - certificates that expire and are renewed: the brokers', the gateway's own.

    tls = Tls(folder)        a CA, a certificate for the brokers, one for the gateway
    Cluster(1, proxied=True, tls=tls)   brokers that ask gateways for theirs
    tls.config()             the `ssl` of the bridge
"""

import datetime
import pathlib

import faults
import harness
from certs import Pki

OVER = datetime.timedelta(seconds=-60)
GOOD = datetime.timedelta(days=30)


class Tls:
    def __init__(self, folder):
        self.pki = Pki(pathlib.Path(folder) / "pki")
        self.pem = self.pki.folder / "broker.pem"
        self.brokers(expired=False)
        self.own(GOOD)

    def brokers(self, expired):
        """What the brokers read when they start, or are told to."""
        certificate, key = self.pki.issue("broker", "broker", expired=expired)
        self.pem.write_text(key.read_text() + certificate.read_text(), encoding="ascii")

    def own(self, lives):
        """The gateway's, from now on for so long."""
        self.pki.issue_until("gateway", "gateway", datetime.datetime.now(datetime.UTC) + lives)

    def config(self):
        folder = self.pki.folder
        return (f"    ssl: {{ enable: true, cacertfile: {self.pki.ca}, "
                f"certfile: {folder}/gateway.crt, keyfile: {folder}/gateway.key }}\n"
                '    retry_max: 1s\n    kafka_options: { reconnect.backoff.max.ms: "500" }\n')


class Certificate(faults.Fault):
    """Named by tests alone: it needs a Tls in its world."""

    target = "kafka"
    default = False
    lasts = (0.5, 2.0)

    def await_refusal(self, world, pattern, start):
        """Connections are cut until it comes: a broker takes a moment to read its certificate.
        Each time it is longer until the next cut: a handshake takes as long as the machine likes.
        """
        pause = 0.2

        def refused():
            nonlocal pause
            for node in world.kafka.nodes:
                node.proxy.cut()
            world.rest(pause)
            pause = min(pause * 1.3, 5)
            return world.gateway.log.find(f"level=warn component=bridge .*{pattern}", start)

        harness.until(refused, pattern)


class BrokersExpired(Certificate):
    """The brokers get a certificate that is over, and then a new one."""

    name = "brokers-certificate"

    def begin(self, world):
        start = len(world.gateway.log.all)
        world.tls.brokers(expired=True)
        world.kafka.read_certificate()
        self.await_refusal(world, "certificate .*CN *= *broker.* expired at .*; renew it", start)

    def end(self, world):
        world.tls.brokers(expired=False)
        world.kafka.read_certificate()


class OwnExpired(Certificate):
    """The gateway's own expires while it is connected; the brokers refuse it when it connects anew,
    and a renewed file is enough.
    """

    name = "own-certificate"
    LIVES_S = 5

    def begin(self, world):
        lives = datetime.timedelta(seconds=self.LIVES_S)
        until = datetime.datetime.now(datetime.UTC) + lives
        world.tls.own(lives)
        world.gateway.stop()
        world.start_gateway()
        world.gateway.wait_log("our certificate in .*gateway.crt expire[ds] at ")
        start = len(world.gateway.log.all)
        world.rest((until - datetime.datetime.now(datetime.UTC)).total_seconds() + 1)
        self.await_refusal(world, "our certificate in .*gateway.crt expired at .*renewed", start)

    def end(self, world):
        start = len(world.gateway.log.all)
        world.tls.own(GOOD)
        world.gateway.wait_log("the files of `ssl` have changed", start=start)
        harness.until(lambda: world.gateway.bridge("kafka")["up"], "the bridge to be up")
