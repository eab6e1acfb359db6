"""What a running gateway can be asked and told: /api/v1/... and the commands that use it."""

import http.client
import json
import os
import signal
import unittest

from harness import PATIENCE, Gateway, millrace, mosquitto_pub, until

AWAY = """\
bridges:
  kafka:
    servers: "127.0.0.1:1"
    topic: sensor_data
"""


def ask(gateway, method, path, **headers):
    """(status, JSON) of a request with headers of our own."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=PATIENCE)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def rows(*args):
    """What a command with --json prints, one object a line."""
    return [json.loads(line) for line in millrace(*args, "--json").stdout.splitlines()]


class Status(unittest.TestCase):
    def test_status_tells_of_lanes_bridges_listeners_and_clients(self):
        with Gateway(AWAY, sets=["gateway.name=plant-7", "gateway.drain=100ms"]) as gateway:
            for number in range(3):
                mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", f"t/{number}", "-m", "x" * 100)
            status, said = ask(gateway, "GET", "/api/v1/status")
            self.assertEqual((status, said["name"], said["ready"]), (200, "plant-7", True))
            self.assertRegex(said["journal_id"], r"^[0-9a-f-]{36}$")
            (lane,) = said["lanes"]
            self.assertEqual((lane["state"], lane["oldest"], lane["durable"]), ("open", 1, 3))
            (bridge,) = said["bridges"]
            self.assertEqual((bridge["name"], bridge["lag_records"]), ("kafka", 3))
            self.assertGreater(bridge["lag_bytes"], 300)
            self.assertEqual(said["listeners"],
                             [{"name": "mqtt", "bind": f"127.0.0.1:{gateway.mqtt_port}"}])
            self.assertEqual(said["clients"]["publishes_received"], 3)

    def test_lag_is_in_records_bytes_and_seconds(self):
        with Gateway(AWAY, sets=["gateway.drain=100ms"]) as gateway:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "t/1", "-m", "x" * 1000)
            labels = '{bridge="kafka",lane="0"}'
            until(lambda: gateway.metrics()["millrace_sink_lag_records" + labels] == 1, "the lag")
            self.assertGreater(gateway.metrics()["millrace_sink_lag_bytes" + labels], 1000)
            until(lambda: gateway.metrics()["millrace_sink_lag_seconds" + labels] >= 1, "its age")


class Guard(unittest.TestCase):
    """A page in a browser on this machine must not reach it."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(AWAY, sets=["gateway.drain=100ms"]).start()

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:
            pass

    def test_a_foreign_host_name_is_refused(self):
        for host in ("evil.example", "127.evil.example", "localhost.evil.example:80"):
            status, said = ask(self.gateway, "GET", "/api/v1/status", Host=host)
            self.assertEqual(status, 403, said)
        for host in ("localhost", "127.0.0.1:1", "[::1]:80"):
            self.assertEqual(ask(self.gateway, "GET", "/api/v1/status", Host=host)[0], 200)

    def test_a_page_of_another_origin_is_refused(self):
        status, _ = ask(self.gateway, "POST", "/api/v1/bridges/pause?name=kafka",
                        Origin="http://evil.example", X_Millrace="1")
        self.assertEqual(status, 403)

    def test_a_post_without_our_header_is_refused(self):
        status, said = ask(self.gateway, "POST", "/api/v1/bridges/pause?name=kafka")
        self.assertEqual(status, 403)
        self.assertIn("X-Millrace", said["error"])

    def test_a_request_that_was_meant_for_another_gateway_is_refused(self):
        status, _ = ask(self.gateway, "GET", "/api/v1/status",
                        X_Millrace="00000000-0000-0000-0000-000000000000")
        self.assertEqual(status, 421)

    def test_what_is_not_there_and_the_wrong_method_are_told(self):
        self.assertEqual(ask(self.gateway, "GET", "/api/v1/nothing")[0], 404)
        self.assertEqual(ask(self.gateway, "GET", "/api/v2/status")[0], 404)
        self.assertEqual(ask(self.gateway, "POST", "/api/v1/status", X_Millrace="1")[0], 405)


class Bridges(unittest.TestCase):
    def test_ls_shows_state_and_lag(self):
        with Gateway(AWAY, sets=["gateway.drain=100ms"]) as gateway:
            mosquitto_pub(gateway.mqtt_port, "-q", "1", "-t", "t/1", "-m", "x")
            (row,) = rows("bridge", "ls", "--data", gateway.data)
            self.assertEqual((row["name"], row["type"], row["lag_records"]), ("kafka", "kafka", 1))
            said = millrace("bridge", "ls", "--data", gateway.data).stdout.splitlines()
            self.assertRegex(said[0], r"^NAME +LANE +STATE")
            self.assertRegex(said[1], r"^kafka +0 +down +0 +1 ")

    def test_repetitions_are_accepted_only_by_who_says_true(self):
        with Gateway(AWAY, sets=["gateway.drain=100ms"]) as gateway:
            page = "/api/v1/ledger/accept?name=kafka&lane=0&reason=x"

            def accept(more):
                status, said = ask(gateway, "POST", page + more, X_Millrace="1")
                return status, said.get("error", "")

            for more in ("", "&repetitions=false"):
                status, why = accept(more)
                self.assertEqual(status, 409)
                self.assertIn("its books balance", why)
            for more in ("&repetitions=", "&repetitions=no", "&repetitions=TRUE"):
                status, why = accept(more)
                self.assertEqual(status, 400, more)
                self.assertIn("repetitions is true or false", why)
            self.assertEqual(json.loads(gateway.http("/api/v1/ledger")[1])["ranges"], [])
            self.assertEqual(accept("&repetitions=true"), (200, ""))

    def test_without_a_gateway_it_ends_with_69_and_says_what_to_do(self):
        with Gateway(AWAY, sets=["gateway.drain=100ms"]) as gateway:
            gateway.kill()  # its address stays behind
            done = millrace("bridge", "ls", "--data", gateway.data, check=False)
            self.assertEqual(done.returncode, 69)
            self.assertIn("millrace run", done.stderr)
            gateway.start()


class Clients(unittest.TestCase):
    def test_ls_shows_who_is_connected_and_what_they_sent(self):
        from wire import Wire, publish

        with Gateway() as gateway:
            with Wire(gateway.mqtt_port, "press-7", 5) as one, Wire(gateway.mqtt_port, "lathe", 4):
                one.send(publish("t/1", b"x", 1, 1, version=5))
                one.read()
                said = rows("clients", "ls", "--data", gateway.data)
                self.assertEqual({row["client"]: (row["version"], row["received"]) for row in said},
                                 {"press-7": ("5.0", 1), "lathe": ("3.1.1", 0)})
                for row in said:
                    self.assertRegex(row["peer"], r"^127\.0\.0\.1:\d+$")
                    self.assertRegex(row["connected"], r"^20\d\d-")
                (only,) = rows("clients", "ls", "--filter", "pr*-?".replace("?", "7"),
                               "--data", gateway.data)
                self.assertEqual(only["client"], "press-7")
                text = millrace("clients", "ls", "--data", gateway.data).stdout
                self.assertRegex(text, r"(?m)^127\.0\.0\.1:\d+ +3\.1\.1 .* lathe$")

    def test_a_page_ends_and_the_next_goes_on_through_all_shards(self):
        from contextlib import ExitStack

        from wire import Wire

        with Gateway(sets=["gateway.shards=2"]) as gateway, ExitStack() as stack:
            names = {f"device-{number:03}" + "n" * 3000 for number in range(150)}
            for name in names:
                stack.enter_context(Wire(gateway.mqtt_port, name))
            _, page = ask(gateway, "GET", "/api/v1/clients")
            self.assertIsNotNone(page["next"])
            said = rows("clients", "ls", "--data", gateway.data)
            self.assertEqual({row["client"] for row in said}, names)
            self.assertEqual(len(said), len(names))

    def test_kick_ends_a_connection_and_tells_a_version_5_client_why(self):
        from wire import DISCONNECT, Wire

        with Gateway() as gateway:
            with Wire(gateway.mqtt_port, "press-7", 5) as device:
                millrace("clients", "kick", "press-7", "--data", gateway.data)
                packets = device.read_until_closed()
            self.assertEqual([(kind >> 4, body[0]) for kind, body in packets], [(DISCONNECT, 0x98)])
            with Wire(gateway.mqtt_port, "press-8", 4) as device:
                millrace("clients", "kick", "press-8", "--data", gateway.data)
                self.assertEqual(device.read_until_closed(), [])
            done = millrace("clients", "kick", "press-7", "--data", gateway.data, check=False)
            self.assertEqual(done.returncode, 66)
            kicked = [value for name, value in gateway.metrics().items()
                      if name.startswith("millrace_mqtt_disconnects_total") and "kicked" in name]
            self.assertEqual(sum(kicked), 2)


class Log(unittest.TestCase):
    def test_a_line_when_a_client_connects_and_one_when_it_goes(self):
        from wire import DISCONNECT, Wire, packet, publish

        with Gateway() as gateway:
            with Wire(gateway.mqtt_port, "press-7", 5) as device:
                gateway.wait_log(r"client 'press-7' \(127\.0\.0\.1:\d+\) connected: MQTT 5.0, "
                                 r"keep alive 60 s, listener mqtt")
                device.send(publish("t/1", b"x", 1, 1, version=5))
                device.read()
                device.send(packet(DISCONNECT, 0, b""))
                gateway.wait_log(r"client 'press-7' .* disconnected after \d+\.\d s: it said so; "
                                 r"1 received, 0 sent")
            with Wire(gateway.mqtt_port, "lathe"):
                pass
            gateway.wait_log(r"client 'lathe' .* disconnected .* without DISCONNECT")

    def test_a_storm_of_connections_does_not_flood_it(self):
        from wire import Wire

        with Gateway() as gateway:
            for number in range(200):
                with Wire(gateway.mqtt_port, f"d{number}"):
                    pass
            gateway.wait_log(r"\d+ more clients came or went within that second")

    def test_it_can_be_switched_off(self):
        from wire import Wire

        with Gateway(sets=["log.connections=false"]) as gateway:
            with Wire(gateway.mqtt_port, "press-7"):
                rows("clients", "ls", "--data", gateway.data)
            gateway.stop()
            self.assertIsNone(gateway.log.find("press-7"))
            gateway.start()


class Reload(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway(AWAY, sets=["gateway.drain=100ms"]).start()

    def tearDown(self):
        with self.gateway:
            pass

    def reload(self, text, *expected):
        """Put `text` in the file, SIGHUP, wait for the lines."""
        gateway = self.gateway
        start = len(gateway.log.all)
        gateway.config.write_text(text, encoding="utf-8")
        os.kill(gateway.pid(), signal.SIGHUP)
        for line in expected:
            gateway.wait_log(line, start=start)
        return start

    def successful(self):
        return self.gateway.metrics()["millrace_config_last_reload_successful"]

    def bridges(self):
        said = rows("bridge", "ls", "--data", self.gateway.data)
        return {row["name"]: row["type"] for row in said}

    def test_a_faulty_file_is_reported_and_the_old_one_runs_on(self):
        self.assertEqual(self.successful(), 1)
        self.reload("bridges:\n  kafka:\n    servres: x\n", r"did you mean 'servers'\?",
                    "the old one runs on")
        self.assertEqual(self.successful(), 0)
        self.assertEqual(self.bridges(), {"kafka": "kafka"})
        _, status = ask(self.gateway, "GET", "/api/v1/status")
        self.assertFalse(status["config"]["last_reload_successful"])
        mosquitto_pub(self.gateway.mqtt_port, "-q", "1", "-t", "t/1", "-m", "x")
        self.reload(AWAY, "reload: done")
        self.assertEqual(self.successful(), 1)

    def test_only_bridges_that_changed_are_restarted_and_cursors_stay(self):
        mosquitto_pub(self.gateway.mqtt_port, "-q", "1", "-t", "t/1", "-m", "x")
        other = '  other:\n    type: kafka\n    servers: "127.0.0.1:2"\n    topic: t\n'
        start = self.reload(AWAY + other, "reload: bridge 'other' is new", "reload: done")
        self.assertEqual(self.bridges(), {"kafka": "kafka", "other": "kafka"})
        self.assertIsNone(self.gateway.log.find("bridges.kafka", start))
        changed = AWAY.replace("sensor_data", "elsewhere")
        self.reload(changed + other, 'reload: bridges.kafka.topic: .*sensor_data.*, now .*else',
                    "reload: done")
        self.reload(changed, "reload: bridge 'other' is gone; its cursor still holds",
                    "reload: done")
        self.assertEqual(self.bridges(), {"kafka": "kafka"})
        self.reload(changed, "reload: done")
        (row,) = rows("bridge", "ls", "--data", self.gateway.data)
        self.assertEqual((row["cursor"], row["lag_records"]), (0, 1))

    def test_limits_and_log_change_at_once_and_the_rest_is_named(self):
        more = ("log: {connections: false}\n"
                "mqtt: {max_keepalive: 30s, receive_maximum: 5, overlapping: merged}\n")
        self.reload(AWAY + more, "reload: log.connections: true, now false",
                    "reload: mqtt.max_keepalive: 0, now 30s",
                    "reload: mqtt.receive_maximum: 1000, now 5\"",
                    "reload: mqtt.overlapping: each, now merged; needs a restart", "reload: done")
        from wire import Wire, connect

        with Wire(self.gateway.mqtt_port) as device:
            device.send(connect("d", 5, keep_alive=60))
            _, body = device.read()
            self.assertIn(b"\x13\x00\x1e", body, "Server Keep Alive 30")
            self.assertIn(b"\x21\x00\x05", body, "Receive Maximum 5")


if __name__ == "__main__":
    unittest.main()
