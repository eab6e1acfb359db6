"""What an operator's command waits for holds up nobody else: not health, not a reload, not the end.

strace, put to the running gateway and taken away again, makes a disk that is full, or slow, for
one of its files.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import PATIENCE, RELEASE, Gateway, cannot, millrace, popen, program, published

ENDING_PATIENCE = 30  # for an end whose waits take less than a second

# Events of one level are dead letters of the bridge, now and whenever they are retried.
CONFIG = """\
gateway: { drain: 200ms }
bridges:
  kafka: { servers: "127.0.0.1:1", topic: "level_${topic[1]}" }
"""


class Meddled:
    """While it lasts, calls for the files below `folder` are as `inject` says (strace)."""

    def __init__(self, gateway, folder, inject):
        files = [path for path in (gateway.data / folder).rglob("*") if path.is_file()]
        calls = inject.split(":")[0]
        self.argv = [program("strace"), "-f", "-p", gateway.pid(), "-o", "/dev/null",
                     *(word for path in files for word in ("-P", path)),
                     "-e", f"trace={calls}", "-e", f"inject={inject}"]

    def __enter__(self):
        self.process = popen(self.argv, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        if "attached" not in said:
            self.__exit__()
            cannot(f"strace cannot trace here: {said.strip()}")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()


def no_room(gateway, folder):
    return Meddled(gateway, folder, "fdatasync:error=ENOSPC")


def begun(gateway, path):
    """A POST that has left; its connection."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, PATIENCE)
    connection.request("POST", f"/api/v1/{path}", headers={"X-Millrace": "1"})
    return connection


def answered(connection):
    """(status, page)"""
    with contextlib.closing(connection):
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def post(gateway, path):
    return answered(begun(gateway, path))


def letters(gateway):
    done = millrace("dlq", "show", "kafka", "--json", "--data", gateway.data)
    return [json.loads(line) for line in done.stdout.splitlines()]


RETRY = "dead-letters/retry?name=kafka&letters=1-9"
JOURNAL, LETTERS = "journal/lane-00", "dead-letters/kafka/lane-00"
FULL = "level=error .*is full; nothing is acknowledged until there is room"


class Waiting(unittest.TestCase):
    def setUp(self):
        self.operators = concurrent.futures.ThreadPoolExecutor()
        self.addCleanup(self.operators.shutdown)  # behind the gateway, which answers or ends

    def ask(self, gateway, path):
        """The answer to come; the gateway has the request."""
        connection = begun(gateway, path)
        self.assertEqual(gateway.http("/healthz")[0], 200, "it serves one after the other")
        return self.operators.submit(answered, connection)

    def gateway_with_a_letter(self):
        gateway = Gateway(CONFIG, binary=RELEASE / "millrace").start()
        self.addCleanup(gateway.temp.remove)
        self.addCleanup(gateway.kill)
        published(gateway, "flat", ["once"])
        gateway.wait_drained("kafka")
        return gateway

    def assert_answered(self, gateway, asked, *paths):
        for path in ("/healthz", "/metrics", "/api/v1/status", "/api/v1/bridges", *paths):
            self.assertEqual(gateway.http(path)[0], 200, path)
        self.assertIn(gateway.http("/readyz")[0], (200, 503))  # a full disk is no place for devices
        self.assertFalse(asked.done(), "the command still waits")

    def assert_others_are_answered(self, gateway, asked):
        """What looks, and what an operator says of a bridge beside the command."""
        self.assert_answered(gateway, asked, "/api/v1/clients", "/api/v1/ledger",
                             "/api/v1/bridges/partitions?name=kafka&topic=level_flat")
        self.assertEqual(post(gateway, "bridges/pause?name=kafka"), (200, {"paused": True}))
        self.assertEqual(post(gateway, "bridges/resume?name=kafka"), (200, {"paused": False}))
        self.assertFalse(asked.done(), "the command still waits")

    def assert_once(self, gateway):
        """The one event is one letter, of the retry: nothing is lost, nothing doubled."""
        gateway.wait_drained("kafka")
        (letter,) = letters(gateway)
        self.assertEqual(letter["payload"], "once")
        self.assertGreater(letter["from_seq"], 1)

    def test_a_retry_for_which_the_disk_has_no_room(self):
        gateway = self.gateway_with_a_letter()
        with no_room(gateway, JOURNAL):
            retry = self.ask(gateway, RETRY)
            gateway.wait_log(FULL)
            self.assert_others_are_answered(gateway, retry)
            os.kill(gateway.pid(), signal.SIGHUP)
            gateway.wait_log("reload: waits for an operator's command")
            self.assert_others_are_answered(gateway, retry)
        self.assertEqual(retry.result(PATIENCE), (200, {"count": 1}))
        gateway.wait_log("reload: done")
        self.assert_once(gateway)
        gateway.stop()

    def test_the_end_waits_for_no_command_and_says_what_became_of_it(self):
        for reloads in (False, True):
            with self.subTest(reloads=reloads):
                gateway = self.gateway_with_a_letter()
                with no_room(gateway, JOURNAL):
                    retry = self.ask(gateway, RETRY)
                    gateway.wait_log(FULL)
                    behind = self.ask(gateway, "bridges/seek?name=kafka&lane=0&seq=0")
                    if reloads:
                        os.kill(gateway.pid(), signal.SIGHUP)
                        gateway.wait_log("reload: ")
                    gateway.stop(expect=74, patience=ENDING_PATIENCE)  # 74: no room to the end
                for command in (retry, behind):
                    status, page = command.result(PATIENCE)
                    self.assertEqual(status, 503)
                    self.assertIn("the gateway is ending", page["error"])
                page = retry.result()[1]
                self.assertEqual(page["count"], 0)
                self.assertIn("of 1 more the next start", page["error"])
                self.assertIn("of 1 more the next start", gateway.log.text())
                gateway.start()
                if letters(gateway)[0]["from_seq"] == 1:
                    self.assertEqual(post(gateway, RETRY), (200, {"count": 1}))
                self.assert_once(gateway)
                gateway.stop()

    def test_the_end_waits_for_no_bridge_that_is_asked(self):
        for path in (RETRY, "bridges/seek?name=kafka&lane=0&seq=0"):
            with self.subTest(path=path):
                gateway = self.gateway_with_a_letter()
                with no_room(gateway, LETTERS):
                    if path != RETRY:
                        published(gateway, "flat", ["twice"])
                    command = self.ask(gateway, path)
                    gateway.wait_log("dead letters: .*is full")
                    self.assert_others_are_answered(gateway, command)
                    began = time.monotonic()
                    gateway.stop(patience=ENDING_PATIENCE)
                    self.assertLess(time.monotonic() - began, 10)
                self.assertEqual(command.result(PATIENCE)[0], 503)
                gateway.start()
                gateway.wait_drained("kafka")
                found = ["once"] if path == RETRY else ["once", "twice"]
                self.assertEqual([one["payload"] for one in letters(gateway)], found)
                gateway.stop()

    def test_a_seek_that_waits_for_a_letter(self):
        gateway = self.gateway_with_a_letter()
        with no_room(gateway, LETTERS):
            published(gateway, "flat", ["twice"])
            seek = self.ask(gateway, "bridges/seek?name=kafka&lane=0&seq=0")
            gateway.wait_log("dead letters: .*is full")
            self.assert_others_are_answered(gateway, seek)
        self.assertEqual(seek.result(PATIENCE), (200, {"lane": 0, "seq": 0}))
        gateway.wait_drained("kafka")
        self.assertEqual([one["payload"] for one in letters(gateway)], ["once", "twice"])
        gateway.stop()

    def test_a_pause_on_a_slow_disk(self):
        gateway = self.gateway_with_a_letter()
        with Meddled(gateway, "journal", "fdatasync:delay_enter=600s"):
            pause = self.ask(gateway, "bridges/pause?name=kafka")
            self.assert_answered(gateway, pause)
        self.assertEqual(pause.result(PATIENCE), (200, {"paused": True}))
        gateway.stop()

    def test_as_many_commands_as_may_wait_leave_room_for_other_requests(self):
        gateway = self.gateway_with_a_letter()
        with no_room(gateway, JOURNAL):
            retry = self.ask(gateway, RETRY)
            gateway.wait_log(FULL)
            with concurrent.futures.ThreadPoolExecutor(100) as many:
                asked = [many.submit(post, gateway, "bridges/seek?name=kafka&lane=0&seq=0")
                         for _ in range(100)]
                done = next(concurrent.futures.as_completed(asked, PATIENCE)).result()
                self.assertEqual(done[0], 503)
                self.assertIn("wait already", done[1]["error"])
                self.assert_others_are_answered(gateway, retry)
                gateway.kill()


class Looks(unittest.TestCase):
    RELOADS = 20

    def test_a_reload_takes_no_bridge_away_from_who_looks_at_it(self):
        """And it is made, however many look."""
        with Gateway(CONFIG) as gateway, concurrent.futures.ThreadPoolExecutor() as many:
            over = threading.Event()
            looking = [many.submit(self.look, gateway, over) for _ in range(3)]
            try:
                for number in range(self.RELOADS):
                    start = len(gateway.log.all)
                    text = CONFIG.replace("level", f"level_{number}")
                    gateway.config.write_text(text, encoding="utf-8")
                    os.kill(gateway.pid(), signal.SIGHUP)
                    gateway.wait_log("reload: done", start=start)
            finally:
                over.set()
            for one in looking:
                self.assertGreater(one.result(), 0)

    @staticmethod
    def look(gateway, over):
        """How often it was answered."""
        count = 0
        while not over.is_set():
            status, page = gateway.http("/api/v1/bridges/partitions?name=kafka&topic=level_flat")
            assert (status, json.loads(page)) == (200, {"partitions": 0}), page
            count += 1
        return count


class HalfWay(unittest.TestCase):
    """The journal has room for some of the letters."""

    CONFIG = CONFIG + """\
  away: { type: kafka, servers: "127.0.0.1:1", topic: holds_the_journal }
mqtt: { max_packet_size: 64KiB }
journal: { max_size: 1MiB, segment_size: 256KiB, keep: 0s }
"""
    EVENTS = 30

    def test_what_was_retried_and_what_was_not_is_said_with_the_cause(self):
        with Gateway(self.CONFIG) as gateway:
            published(gateway, "flat", [f"{number}:{'x' * 20000}" for number in range(self.EVENTS)])
            gateway.wait_drained("kafka")
            done = self.retry(gateway)
            self.assertEqual(done.returncode, 75, "it can be tried again")
            count = int(re.search(rf"^retried (\d+) of {self.EVENTS} ", done.stdout)[1])
            self.assertTrue(0 < count < self.EVENTS, count)
            sentence = (f"{count} of the dead letters were appended again; the others stay: "
                        "the journal has no room now")
            self.assertIn(sentence, done.stderr)
            gateway.wait_log(f'level=warn component=bridge msg="kafka: {sentence}')

            millrace("bridge", "seek", "away", "--to", "now", "--yes", "--data", gateway.data)
            gateway.wait_drained("kafka")
            done = self.retry(gateway, *(str(one["seq"]) for one in letters(gateway)
                                         if one["from_seq"] <= self.EVENTS))
            self.assertIn(f"retried {self.EVENTS - count} of {self.EVENTS - count} ", done.stdout)
            gateway.wait_drained("kafka")
            found = letters(gateway)
            self.assertEqual(sorted(int(one["payload"].split(":")[0]) for one in found),
                             list(range(self.EVENTS)), "each is there, and once")
            self.assertTrue(all(one["from_seq"] > self.EVENTS for one in found))

    def retry(self, gateway, *numbers):
        return millrace("dlq", "retry", "kafka", *numbers, "--yes", "--data", gateway.data,
                        check=False)


if __name__ == "__main__":
    unittest.main()
