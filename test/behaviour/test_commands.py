"""Commands a person types, and the pages a monitor asks for."""

import json
import re
import signal
import subprocess
import unittest

import harness
from harness import BUILD, PATIENCE, Gateway, Lines, millrace, mosquitto_pub, popen


def simulate(gateway, *options):
    done = millrace("simulate", "--port", gateway.mqtt_port, "--json", *options)
    return json.loads(done.stdout)


class Admin(unittest.TestCase):
    def test_health_and_readiness(self):
        with Gateway() as gateway:
            status, body = gateway.http("/healthz")
            self.assertEqual((status, json.loads(body)["status"]), (200, "ok"))
            status, body = gateway.http("/readyz")
            self.assertEqual((status, json.loads(body)["ready"]), (200, True))
            self.assertEqual(gateway.http("/nowhere")[0], 404)

    def test_the_metrics_count_what_was_accepted_and_made_durable(self):
        with Gateway() as gateway:
            before = gateway.metrics()
            simulate(gateway, "--sensors", 10, "--rate", 0, "--count", 500)
            after = gateway.metrics()
            for name in ("millrace_journal_appended_records_total", "millrace_journal_durable_seq"):
                name += '{journal="journal",lane="0"}'
                self.assertEqual(after[name] - before[name], 500, name)
            self.assertGreater(after["process_resident_memory_bytes"], 0)
            status, body = gateway.http("/metrics")
            names = re.findall(r"(?m)^# TYPE (\S+) (?:counter|gauge|histogram)$", body)
            self.assertEqual(status, 200)
            self.assertEqual(len(names), len(set(names)), "each name is declared once")

    def test_only_loopback_is_served_by_default(self):
        with Gateway() as gateway:
            with open("/proc/net/tcp", encoding="ascii") as table:
                rows = table.read()
            self.assertIn(f"0100007F:{gateway.admin_port:04X} 00000000:0000 0A", rows)
            self.assertNotIn(f"00000000:{gateway.admin_port:04X} 00000000:0000 0A", rows)


class Simulate(unittest.TestCase):
    def test_every_event_is_acknowledged_and_in_the_journal(self):
        with Gateway() as gateway:
            said = simulate(gateway, "--sensors", 50, "--rate", 2000, "--count", 2000)
            self.assertEqual((said["sent"], said["acked"], said["unacked"]), (2000, 2000, 0))
            out = millrace("journal", "cat", "--data", gateway.data).stdout
            self.assertEqual(len(re.findall(r"sensors/\w+/\w+", out)), 2000)

    def test_it_goes_on_across_a_crash_of_the_gateway(self):
        with Gateway() as gateway:
            process = popen(
                [BUILD / "millrace", "simulate", "--port", gateway.mqtt_port, "--sensors", "20",
                 "--rate", "500", "--json", "--status"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            lines = Lines(process.stderr)
            lines.wait(r"acked [1-9]")
            gateway.kill()
            gateway.start()
            lines.wait(r"up 20/20  reconnects [1-9]")
            process.send_signal(signal.SIGTERM)
            with process.stdout:
                said = json.loads(process.stdout.read())
            self.assertEqual(process.wait(PATIENCE), 0)
            self.assertEqual(said["sent"], said["acked"])
            self.assertGreater(said["reconnects"], 0)
            millrace("journal", "verify", "--data", gateway.data)

    def test_the_same_seed_and_time_give_the_same_bytes_for_every_profile(self):
        for profile in ("mixed", "meters", "trains", "tolling", "vibration"):
            with self.subTest(profile):
                first, second = (self.published(profile, seed=7) for _ in range(2))
                self.assertEqual(first, second)
        self.assertNotEqual(first, self.published(profile, seed=8))

    @staticmethod
    def published(profile, seed):
        """{(topic, payload)} of 400 readings."""
        with Gateway() as gateway:
            simulate(gateway, "--profile", profile, "--seed", seed, "--time", 1700000000,
                     "--sensors", 20, "--rate", 4000, "--count", 400)
            out = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        events = [json.loads(line) for line in out.splitlines()]
        found = {(event["topic"], json.dumps(event["payload"])) for event in events}
        assert len(found) == 400, out
        return found

    def test_devices_that_drop_their_connection_lose_nothing(self):
        with Gateway() as gateway:
            said = simulate(gateway, "--profile", "trains", "--sensors", 20, "--rate", 1000,
                            "--count", 1500, "--disconnect", 50, "--disconnect-every", "300ms")
            self.assertEqual((said["sent"], said["acked"], said["reconnects"]), (1500, 1500, 0))
            self.assertGreater(said["dropped"], 0)

    def test_the_profiles_are_shown_with_an_example_each(self):
        out = millrace("simulate", "--list").stdout
        self.assertEqual(out, re.sub(r"\s+$", "\n", out))
        for profile in ("mixed", "meters", "trains", "tolling", "vibration"):
            example = r' +sensors/\w+/\S+/\d+\n +{"t":\d+,"n":1,'
            self.assertRegex(out, rf"(?m)^{profile} +\w.*\n{example}")
        self.assertIn("meters", millrace("simulate", "--profile", "help").stdout)

    def test_without_a_gateway_it_says_so_and_ends_with_69(self):
        done = millrace("simulate", "--port", "1", "--sensors", "1", "--duration", "1s",
                        "--drain", "0s", check=False)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("127.0.0.1:1", done.stderr)


class Journal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway().start()
        simulate(cls.gateway, "--sensors", 10, "--rate", 0, "--count", 300)

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:
            pass

    def test_ls_shows_lanes_and_segments(self):
        out = millrace("journal", "ls", "--data", self.gateway.data).stdout
        self.assertIn("300", out)

    def test_cat_shows_each_event_while_the_gateway_runs(self):
        out = millrace("journal", "cat", "--data", self.gateway.data).stdout
        self.assertEqual(len(re.findall(r"sensors/\w+/\w+", out)), 300)

    def test_verify_accepts_what_is_whole_and_names_what_is_not(self):
        with Gateway() as other:
            simulate(other, "--sensors", 10, "--rate", 0, "--count", 3000)
            other.restart()
            simulate(other, "--sensors", 10, "--rate", 0, "--count", 3000)
            other.stop()
            millrace("journal", "verify", "--data", other.data)
            segment = min((other.data / "journal" / "lane-00").glob("0*.seg"))
            with segment.open("r+b") as file:
                file.seek(4096 + 400)
                byte = file.read(1)
                file.seek(4096 + 400)
                file.write(bytes([byte[0] ^ 0x10]))
            done = millrace("journal", "verify", "--data", other.data, check=False)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertIn(segment.name, done.stdout + done.stderr)
            other.start()

    def test_a_folder_that_is_no_journal_is_named(self):
        done = millrace("journal", "ls", "--data", "/nowhere", check=False)
        self.assertEqual(done.returncode, 66)
        self.assertIn("/nowhere", done.stderr)

    def test_a_reader_that_leaves_early_is_no_error(self):
        done = subprocess.run(
            f"set -o pipefail; {BUILD}/millrace journal cat --data {self.gateway.data} | head -n 1",
            shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
        )
        # Python ignores SIGPIPE and children inherit that; either end is a quiet one.
        self.assertIn(done.returncode, (0, 141))
        self.assertEqual(done.stderr, "")
        self.assertEqual(len(done.stdout.splitlines()), 1)


class Tap(unittest.TestCase):
    def test_it_shows_new_events_that_match(self):
        with Gateway() as gateway:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "hall/1", "-m", "before")
            process = popen(
                [BUILD / "millrace", "tap", "hall/+", "--from-start", "--data", gateway.data],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            lines = Lines(process.stdout)
            lines.wait("before")
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "yard/1", "-m", "elsewhere")
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "hall/2", "-m", "after")
            lines.wait("after")
            self.assertIsNone(lines.find("elsewhere"))
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            lines.thread.join(PATIENCE)


class Stop(unittest.TestCase):
    def test_sigterm_and_sigint_end_with_0_and_keep_every_event(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), Gateway() as gateway:
                simulate(gateway, "--sensors", 10, "--rate", 0, "--count", 200)
                gateway.process.send_signal(number)
                gateway.wait_exit(0)
                out = millrace("journal", "cat", "--data", gateway.data).stdout
                self.assertEqual(len(re.findall(r"sensors/\w+/\w+", out)), 200)
                gateway.start()

    def test_a_version_5_client_is_told_that_the_server_shuts_down(self):
        from wire import DISCONNECT, Wire

        with Gateway() as gateway:
            with Wire(gateway.mqtt_port, "d", 5) as device:
                gateway.stop()
                packets = device.read_until_closed()
            self.assertEqual([(kind >> 4, body[0]) for kind, body in packets], [(DISCONNECT, 0x8B)])
            gateway.start()


class Words(unittest.TestCase):
    def test_version_and_help(self):
        self.assertRegex(millrace("version").stdout, r"millrace \d+\.\d+\.\d+")
        said = millrace("--help").stdout
        for command in ("run", "check", "simulate", "tap", "journal", "version"):
            self.assertIn(command, said)
            self.assertIn("Usage" if "Usage" in said else "usage",
                          millrace(command, "--help").stdout)


if __name__ == "__main__":
    unittest.main()
