"""Clients that we did not write, in both versions, on every transport: test/clients/README.md."""

import os
import re
import shutil
import subprocess
import sys
import unittest

from certs import Pki
from harness import PATIENCE, ROOT, Gateway, Lines, Temp, cannot, popen, program

PROGRAMS = ROOT / "test" / "clients"
MADE = ROOT / "build" / "clients"
STEPS = ("qos", "retained", "will", "session", "properties")


def setUpModule():
    global temp, pki, gateway, urls
    temp = Temp("clients")
    pki = Pki(temp.path / "pki")
    cert, key = pki.issue("server", "localhost")
    tls = f"tls: {{ certfile: {cert}, keyfile: {key} }}"
    gateway = Gateway(
        "listeners:\n"
        f'  mqtts: {{ bind: "127.0.0.1:0", {tls} }}\n'
        '  ws: { bind: "127.0.0.1:0", websocket: /mqtt }\n'
        f'  wss: {{ bind: "127.0.0.1:0", websocket: /mqtt, {tls} }}\n'
    ).start()
    urls = {"mqtt": f"mqtt://127.0.0.1:{gateway.mqtt_port}"}
    for name, path in (("mqtts", ""), ("ws", "/mqtt"), ("wss", "/mqtt")):
        port = gateway.log.wait(rf"listening on \S*?:(\d+) \({name}\)")[1]
        urls[name] = f"{name}://127.0.0.1:{port}{path}"


def tearDownModule():
    gateway.__exit__(None)
    temp.remove()


def made(name):
    """What ./dev test fetches for the clients."""
    path = MADE / name
    return path if path.exists() else cannot(f"{path} is not there (./dev test fetches it)")


class Clients(unittest.TestCase):
    def run_all(self, *argv, over=("mqtt", "mqtts", "ws", "wss"), **env):
        where = [urls[name] for name in over]
        done = subprocess.run([*map(str, argv), str(pki.ca), *where], capture_output=True,
                              text=True, timeout=PATIENCE * 4, check=False,
                              env=dict(os.environ, **env))
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        expected = [f"{version} {url} {step}" for url in where for version in ("3.1.1", "5.0")
                    for step in STEPS]
        self.assertEqual(done.stdout.splitlines(), expected)

    def test_paho_python(self):
        self.run_all(sys.executable, PROGRAMS / "paho_python.py")

    def test_paho_c(self):
        if not os.path.exists("/usr/include/MQTTClient.h"):
            cannot("no MQTTClient.h (./dev test installs libpaho-mqtt-dev)")
        binary = temp.path / "paho_c"
        subprocess.run([program("cc"), "-std=gnu17", "-Wall", "-Wextra", "-o", binary,
                        PROGRAMS / "paho_c.c", "-lpaho-mqtt3cs"], check=True)
        self.run_all(binary)

    def test_mqttjs(self):
        self.run_all(program("node"), PROGRAMS / "mqttjs.js", NODE_PATH=str(made("node_modules")))

    def test_hivemq(self):
        if shutil.which("javac") is None:
            cannot("no javac (./dev test installs default-jdk-headless)")
        self.run_all(program("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m",
                     "-cp", f"{made('jars')}/*", PROGRAMS / "HiveMq.java")


class Mosquitto(unittest.TestCase):
    """The same steps with mosquitto_pub and mosquitto_sub."""

    def each(self, step):
        """step(scope) for each transport and version."""
        for name in ("mqtt", "mqtts"):  # of WebSocket they know nothing before version 2.1
            host, port = re.match(r"\w+://(.*):(\d+)", urls[name]).groups()
            secret = ["--cafile", str(pki.ca)] if name == "mqtts" else []
            for version in ("311", "5"):
                with self.subTest(transport=name, version=version):
                    self.where = ["-h", host, "-p", port, "-V", version, *secret]
                    self.version = version
                    step(f"mosquitto/{step.__name__}/{name}/{version}")

    def publish(self, *args):
        subprocess.run([program("mosquitto_pub"), *self.where, *args], check=True,
                       timeout=PATIENCE)

    def subscriber(self, *args):
        """mosquitto_sub, subscribed."""
        process = popen(["stdbuf", "-oL", program("mosquitto_sub"), *self.where, "-d", *args],
                        stdout=subprocess.PIPE, text=True)
        lines = Lines(process.stdout)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        lines.wait("^Subscribed|SUBACK")
        return process, lines

    def test_every_qos(self):
        self.each(self.every_qos)

    def every_qos(self, scope):
        process, lines = self.subscriber("-t", scope, "-q", "2", "-C", "3", "-F", "got %q %p")
        for qos in ("0", "1", "2"):
            self.publish("-t", scope, "-q", qos, "-m", f"m{qos}")
            lines.wait(f"got {qos} m{qos}")
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_retained(self):
        self.each(self.retained)

    def retained(self, scope):
        self.publish("-t", scope, "-q", "1", "-r", "-m", "kept")
        _, lines = self.subscriber("-t", scope, "-F", "got %r %p")
        lines.wait("got 1 kept")
        self.publish("-t", scope, "-q", "1", "-r", "-n")
        _, lines = self.subscriber("-t", scope, "-C", "1", "-F", "got %r %p")
        self.publish("-t", scope, "-m", "live")
        lines.wait("got 0 live")
        self.assertIsNone(lines.find("got 1"))

    def test_will(self):
        self.each(self.will)

    def will(self, scope):
        _, watch = self.subscriber("-t", scope, "-F", "got %p")
        dying, _ = self.subscriber("-t", "other", "--will-topic", scope, "--will-payload",
                                   "gone", "--will-qos", "1")
        dying.kill()
        watch.wait("got gone")

    def test_session(self):
        self.each(self.session)

    def session(self, scope):
        lasting = ["-i", scope, "-c", "-q", "2", "-t", scope]
        lasting += ["-x", "600"] if self.version == "5" else []
        subprocess.run([program("mosquitto_sub"), *self.where, *lasting, "-E"], check=True,
                       timeout=PATIENCE)
        self.publish("-t", scope, "-q", "1", "-m", "1")
        self.publish("-t", scope, "-q", "2", "-m", "2")
        done = subprocess.run([program("mosquitto_sub"), *self.where, *lasting, "-C", "2"],
                              check=True, timeout=PATIENCE, capture_output=True, text=True)
        self.assertEqual(done.stdout.split(), ["1", "2"])

    def test_properties(self):
        self.each(self.properties)

    def properties(self, scope):
        if self.version != "5":
            return
        _, lines = self.subscriber("-t", scope, "-C", "1", "-F", "got %C|%R|%D|%P|%E|")
        self.publish("-t", scope, "-q", "1", "-m", "x", "-D", "publish", "content-type", "t/p",
                     "-D", "publish", "response-topic", "answers", "-D", "publish",
                     "correlation-data", "42", "-D", "publish", "user-property", "b", "1",
                     "-D", "publish", "user-property", "a", "2", "-D", "publish",
                     "message-expiry-interval", "1000")
        left = lines.wait(r"got t/p\|answers\|42\|b:1 a:2\|(\d+)\|")[1]
        self.assertIn(int(left), range(900, 1001))


if __name__ == "__main__":
    unittest.main()
