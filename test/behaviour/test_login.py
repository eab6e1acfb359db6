"""User names and passwords: mosquitto_passwd's files, ours, and what clients are told."""

import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import unittest

import ports
import wire
from harness import (BUILD, PATIENCE, RELEASE, Gateway, Lines, Temp, millrace, mosquitto_pub,
                     popen, program, until)

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
SLOW = 1000000  # iterations: half a second and more, so that order can be seen


def passwd(*args, check=True, **options):
    return millrace("passwd", *args, check=check, **options)


def setUpModule():
    global temp, users, gateway, open_port
    temp = Temp("login")
    users = temp.path / "users"
    theirs = [program("mosquitto_passwd")]
    subprocess.run([*theirs, "-c", "-b", users, "theirs", "s3cret"], check=True)
    subprocess.run([*theirs, "-H", "sha512", "-b", users, "older", "s3cret"], check=True)
    passwd("-b", users, "ours", "pass:wörd")
    gateway = Gateway(f"""
auth: {{ password_file: {users} }}
listeners:
  open: {{ bind: "127.0.0.1:0", allow_anonymous: true }}
""").start()
    open_port = int(gateway.wait_log(r"listening on \S*:(\d+) \(open\)")[1])


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def login(port, user=None, password=None, version=4, client="login"):
    """The code of the CONNACK; the connection is closed."""
    with wire.Wire(port) as peer:
        peer.send(connect(client, user, password, version))
        kind, body = peer.read()
        assert kind >> 4 == wire.CONNACK, kind
        return body[1]


def connect(client, user, password, version=4):
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    packet = wire.connect(client, version, flags=flags)
    body = packet[2:] + b"".join(wire.text(one) for one in (user, password) if one is not None)
    return wire.packet(wire.CONNECT, 0, body)


class Codes(unittest.TestCase):
    def test_users_of_both_programs_come_in_with_their_password(self):
        for version in (4, 5):
            for user, password in (("theirs", "s3cret"), ("older", "s3cret"),
                                   ("ours", "pass:wörd")):
                with self.subTest(user=user, version=version):
                    self.assertEqual(login(gateway.mqtt_port, user, password, version), 0)

    def test_everybody_else_is_refused_with_the_same_code(self):
        for version, code in ((4, 4), (5, 0x86)):
            for user, password in (("theirs", "wrong"), ("nobody", "s3cret"), ("ours", ""),
                                   ("ours", None), ("", "s3cret"), ("Theirs", "s3cret")):
                with self.subTest(user=user, password=password, version=version):
                    self.assertEqual(login(gateway.mqtt_port, user, password, version), code)

    def test_anonymous_is_refused_although_it_is_loopback(self):
        self.assertEqual(login(gateway.mqtt_port), 5)
        self.assertEqual(login(gateway.mqtt_port, version=5), 0x87)

    def test_where_anonymous_is_allowed_a_wrong_password_is_still_wrong(self):
        self.assertEqual(login(open_port), 0)
        self.assertEqual(login(open_port, "theirs", "wrong"), 4)
        self.assertEqual(login(open_port, "theirs", "s3cret"), 0)

    def test_mosquittos_clients_and_the_user_name_in_the_journal(self):
        ours = ("-u", "theirs", "-q", "1", "-t", "login/topic", "-m", "1")
        self.assertNotEqual(mosquitto_pub(gateway.mqtt_port, *ours, "-P", "no",
                                          check=False).returncode, 0)
        mosquitto_pub(gateway.mqtt_port, *ours, "-P", "s3cret")
        shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        events = [json.loads(line) for line in shown.splitlines()]
        self.assertEqual([one["username"] for one in events if one.get("topic") == "login/topic"],
                         ["theirs"])


class Memory(unittest.TestCase):
    def test_no_password_stays_in_memory(self):
        """Right and wrong ones, in pieces, of clients that move to another shard."""
        secret = "kuckuck-7319-im-speicher"
        file = temp.path / "memory.users"
        passwd("-c", "-b", file, "user", secret)
        config = f"auth: {{ password_file: {file} }}\n"
        with Gateway(config, binary=RELEASE / "millrace", sets=["gateway.shards=3"]) as other:
            for number in range(12):
                packet = connect(f"client-{number}", "user", secret if number % 3 else secret + "!")
                with wire.Wire(other.mqtt_port) as peer:
                    half = len(packet) - 3 if number % 2 else 0
                    wanted = self.received(other) + half
                    peer.send(packet[:half])
                    until(lambda w=wanted: self.received(other) >= w, "the first piece")
                    peer.send(packet[half:])
                    self.assertEqual(peer.read()[1][1] == 0, number % 3 != 0)
            self.assertEqual(self.find(other.pid(), secret[:20].encode()), [])

    @staticmethod
    def received(other):
        return sum(value for key, value in other.metrics().items()
                   if key.startswith("millrace_mqtt_bytes_received_total"))

    @staticmethod
    def find(pid, secret):
        """Where in the writable memory of the process it is."""
        found = []
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
        with open(f"/proc/{pid}/mem", "rb") as memory:
            for line in maps:
                place, rights = line.split()[:2]
                begin, end = (int(number, 16) for number in place.split("-"))
                if not rights.startswith("rw") or "s" in rights:
                    continue
                memory.seek(begin)
                at = memory.read(end - begin).find(secret)
                if at >= 0:
                    found.append(f"{line}: +{at}")
        return found


class Simulate(unittest.TestCase):
    def test_simulated_sensors_give_a_name_and_a_password(self):
        sensors = ("simulate", "--port", gateway.mqtt_port, "--sensors", "20", "--count", "100",
                   "--rate", "0", "--drain", "2s")
        self.assertIn("100", millrace(*sensors, "-u", "theirs", "-P", "s3cret").stdout)
        done = millrace(*sensors, "--duration", "1s", "-u", "theirs", "-P", "no", check=False)
        self.assertEqual(done.returncode, 69, done.stderr)


class Slow(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.users = temp.path / "slow-users"
        passwd("-c", "-b", cls.users, "quick", "s3cret")
        passwd("-b", "-I", SLOW, cls.users, "slow", "patience")
        cls.gateway = Gateway(f"auth: {{ password_file: {cls.users} }}\n").start()

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:
            pass

    def test_a_password_that_is_being_checked_holds_up_nobody_else(self):
        port = self.gateway.mqtt_port
        with wire.Wire(port) as slow, wire.Wire(port) as other:
            other.send(connect("busy", "quick", "s3cret"))
            self.assertEqual(other.read()[1], b"\x00\x00")
            began = time.monotonic()
            slow.send(connect("slow", "slow", "patience") + wire.publish("slow/t", b"1", 1, 7))
            for number in range(1, 11):
                other.send(wire.publish("busy", b"1", 1, number))
                self.assertEqual(other.read()[1], struct.pack(">H", number))
            slow.sock.setblocking(False)
            with self.assertRaises(BlockingIOError):  # ten round trips later it still waits
                slow.sock.recv(1)
            slow.sock.settimeout(PATIENCE)
            self.assertEqual(slow.read(), (wire.CONNACK << 4, b"\x00\x00"))
            first = time.monotonic() - began
            self.assertEqual(slow.read(), (wire.PUBACK << 4, b"\x00\x07"))
        began = time.monotonic()
        self.assertEqual(login(port, "slow", "patience"), 0)  # remembered
        self.assertLess(time.monotonic() - began, first / 2)

    def test_a_client_that_hangs_up_while_it_is_checked_is_forgotten(self):
        for _ in range(20):
            with wire.Wire(self.gateway.mqtt_port) as peer:
                peer.send(connect("gone", "slow", "wrong"))
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: self.gateway.metric("millrace_mqtt_connections") == 0, "them to be gone")
        self.assertEqual(login(self.gateway.mqtt_port, "quick", "s3cret"), 0)

    def test_stopping_does_not_wait_for_passwords(self):
        with Gateway(f"auth: {{ password_file: {self.users} }}\n") as other:
            peers = [wire.Wire(other.mqtt_port) for _ in range(8)]
            for peer in peers:
                peer.send(connect("gone", "slow", "wrong"))
            until(lambda: other.metric("millrace_mqtt_connections") == 8, "them to be there")
            other.stop()
            for peer in peers:
                peer.sock.close()


class Guessing(unittest.TestCase):
    def test_who_guesses_waits_and_who_is_known_does_not(self):
        with Gateway(f"auth: {{ password_file: {users} }}\n") as other:
            self.assertEqual(login(other.mqtt_port, "theirs", "s3cret"), 0)
            for number in range(25):
                self.assertEqual(login(other.mqtt_port, "theirs", f"guess-{number}"), 4)
            crowd = [wire.Wire(other.mqtt_port) for _ in range(60)]
            for peer in crowd:
                peer.send(connect("guess", "theirs", "guess", 5))
            began = time.monotonic()
            self.assertEqual(login(other.mqtt_port, "theirs", "s3cret"), 0)
            known = time.monotonic() - began
            codes = [peer.read()[1][1] for peer in crowd]
            guessing = time.monotonic() - began
            for peer in crowd:
                peer.sock.close()
            self.assertEqual(sorted(set(codes)), [0x86, 0x89])  # told wrong, or not even looked at
            self.assertGreater(guessing, 1)
            self.assertLess(known, guessing)
            for result, count in (("busy", codes.count(0x89)), ("accepted", 2)):
                self.assertEqual(
                    other.metric("millrace_mqtt_logins_total", f'result="{result}"'), count)
            other.wait_log("wrong user name or password, as 'theirs'")


class Configuration(unittest.TestCase):
    def start_fails(self, text, line):
        users_file = temp.path / "bad"
        users_file.write_text(text, encoding="utf-8")
        broken = Gateway(f"auth: {{ password_file: {users_file} }}\n")
        self.addCleanup(broken.temp.remove)
        broken.spawn()
        broken.wait_exit(78)
        self.assertIsNotNone(broken.log.find(line), broken.log.text())

    def test_a_bad_password_file_is_a_mistake_with_file_and_line(self):
        self.start_fails("# mine\nbob:plain\n", "bad, line 2, user 'bob': its password is plain")

    def test_a_listener_that_nobody_can_use_says_how_to_open_it(self):
        with Gateway('listeners:\n  wide: { bind: "0.0.0.0:0" }\n') as closed:
            closed.wait_log("'wide' on 0.0.0.0:[0-9]+ refuses everyone: .*password_file"
                            ".*`allow_anonymous: true`")
            port = int(closed.wait_log(r"listening on \S*:(\d+) \(wide\)")[1])
            self.assertEqual(login(port), 5)
            self.assertEqual(login(port, "bob", "any"), 5)


class Passwd(unittest.TestCase):
    def setUp(self):
        self.file = temp.path / f"{self._testMethodName}.users"

    def test_mosquitto_admits_the_users_we_write(self):
        passwd("-c", "-b", self.file, "ours", "s3cret")
        passwd("-b", self.file, "second", "pass:wörd")
        self.file.chmod(0o644)  # mosquitto changes its user
        conf = temp.path / "mosquitto.conf"
        port = ports.take()
        conf.write_text(f"listener {port} 127.0.0.1\npassword_file {self.file}\nuser root\n",
                        encoding="utf-8")
        process = popen([MOSQUITTO or program("mosquitto"), "-c", conf],
                        stderr=subprocess.PIPE, text=True)
        try:
            Lines(process.stderr).wait("running")
            self.assertEqual(login(port, "ours", "s3cret"), 0)
            self.assertEqual(login(port, "second", "pass:wörd"), 0)
            self.assertNotEqual(login(port, "ours", "wrong"), 0)
        finally:
            process.kill()
            process.wait()

    def test_both_programs_change_the_same_file(self):
        theirs = [program("mosquitto_passwd")]
        passwd("-c", "-b", self.file, "ours", "1")
        subprocess.run([*theirs, "-b", self.file, "theirs", "2"], check=True)
        passwd("-b", self.file, "theirs", "3")
        subprocess.run([*theirs, "-D", self.file, "ours"], check=True)
        lines = self.file.read_text(encoding="utf-8").splitlines()
        self.assertEqual([line.split("$")[:2] for line in lines], [["theirs:", "7"]])

    def test_the_prompt_shows_no_password_and_asks_twice(self):
        for second, code in (("s3cret", 0), ("other", 65)):
            parent, child = pty.openpty()
            process = popen([BUILD / "millrace", "passwd", "-c", self.file, "typed"], stdin=child,
                            stdout=child, stderr=child)
            os.close(child)
            shown = self.type(parent, b"Password: ", "s3cret")
            shown += self.type(parent, b"Reenter password: ", second)
            with self.subTest(second):
                self.assertEqual(process.wait(PATIENCE), code)
                self.assertNotIn(b"s3cret", shown)
            os.close(parent)
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    def test_a_terminal_that_is_interrupted_at_the_prompt_has_its_echo_back(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            parent, child = pty.openpty()
            process = popen([BUILD / "millrace", "passwd", "-c", self.file, "typed"], stdin=child,
                            stdout=child, stderr=child)
            shown = self.type(parent, b"Password: ", "")[:0]
            while not shown.endswith(b"Reenter password: "):  # the second prompt waits silently
                shown += os.read(parent, 1)
            self.assertFalse(termios.tcgetattr(child)[3] & termios.ECHO)
            process.send_signal(number)
            with self.subTest(number):
                self.assertEqual(process.wait(PATIENCE), -number)
                self.assertTrue(termios.tcgetattr(child)[3] & termios.ECHO)
                self.assertFalse(self.file.exists())
            os.close(child)
            os.close(parent)

    def type(self, terminal, prompt, answer):
        shown = b""
        while not shown.endswith(prompt):
            self.assertTrue(select.select([terminal], [], [], PATIENCE)[0], shown)
            shown += os.read(terminal, 1)
        os.write(terminal, answer.encode() + b"\n")
        return shown

    def test_a_password_may_come_from_a_pipe(self):
        passwd("-c", self.file, "piped", input="from a pipe\n")
        other = Gateway(f"auth: {{ password_file: {self.file} }}\n")
        with other:
            self.assertEqual(login(other.mqtt_port, "piped", "from a pipe"), 0)

    def test_what_cannot_be_done_changes_nothing_and_says_why(self):
        passwd("-c", "-b", self.file, "ours", "1")
        before = self.file.read_bytes()
        cases = [
            (("-D", self.file, "nobody"), 66, "has no user 'nobody'"),
            (("-b", self.file, "a:b", "x"), 65, "a colon"),
            (("-b", self.file, "x", ""), 65, "empty"),
            (("-b", self.file, "x"), 64, "FILE USER PASSWORD"),
            (("-U", "-D", self.file), 64, "stand alone"),
            (("-b", temp.path / "none", "x", "y"), 66, "-c makes it"),
            (("-b", "-c", temp.path / "no" / "users", "x", "y"), 74, "cannot write"),
            (("-b", "-I", "0", self.file, "x", "y"), 64, "--iterations"),
        ]
        for args, code, line in cases:
            with self.subTest(args):
                done = passwd(*args, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(line, done.stderr)
                self.assertEqual(self.file.read_bytes(), before)

    def test_plain_text_becomes_hashes(self):
        self.file.write_text("# ours\nbob:plain\n", encoding="utf-8")
        self.assertIn("1 passwords", passwd("-U", self.file).stderr)
        text = self.file.read_text(encoding="utf-8")
        self.assertRegex(text, r"^# ours\nbob:\$7\$10000\$")
        self.assertNotIn("plain", text)


class Late(unittest.TestCase):
    def test_a_connect_that_was_there_in_time_is_checked_however_late_we_are(self):
        folder = Temp("late")
        self.addCleanup(folder.remove)
        passwd("-c", "-b", folder.path / "users", "ours", "right")
        text = (f"auth: {{ password_file: {folder.path / 'users'} }}\n"
                "mqtt: { connect_timeout: 1s }\n")
        with Gateway(text) as stopped, wire.Wire(stopped.mqtt_port) as peer:
            until(lambda: stopped.metric("millrace_mqtt_connections") == 1, "the connection")
            os.kill(stopped.pid(), signal.SIGSTOP)
            try:
                peer.send(connect("late", "ours", "right"))
                time.sleep(3)  # sleep: connect_timeout goes by
            finally:
                os.kill(stopped.pid(), signal.SIGCONT)
            kind, body = peer.read()
            self.assertEqual((kind >> 4, body[1]), (wire.CONNACK, 0))


if __name__ == "__main__":
    unittest.main()
