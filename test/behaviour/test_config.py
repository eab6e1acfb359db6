"""The configuration file: what people get wrong, and what they are told.

Every mistake is reported at once, at file:line:col with a caret, and with the
nearest right name; exit code 78, so that systemd does not restart in a loop.
"""

import json
import os
import re
import subprocess
import unittest

import harness
from harness import Gateway, Temp, millrace

EMQX_BLOCK = """\
bridges:
  kafka:
    servers: "127.0.0.1:1"
    topic: sensor_data
    message_key: "${clientid}"
    value_encoder: json
    ssl:
      enable: true
      cacertfile: CA_FILE
"""


class Check(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("config")
        self.addCleanup(self.temp.remove)

    def check(self, text, command="check"):
        path = self.temp.path / "millrace.yaml"
        path.write_text(text, encoding="utf-8")
        options = ["--data", self.temp.path / "data"] if command == "run" else []
        return millrace(command, "-c", path, *options, check=False)

    def refused(self, text, *expected, command="check"):
        done = self.check(text, command)
        self.assertEqual(done.returncode, 78, done.stderr)
        for part in expected:
            self.assertIn(part, done.stderr)
        return done.stderr

    def test_the_emqx_block_alone_is_a_whole_configuration(self):
        certificates = self.temp.path / "certs"
        subprocess.run([harness.KAFKA_SH, "certificates", certificates], check=True)
        done = self.check(EMQX_BLOCK.replace("CA_FILE", str(certificates / "ca.crt")))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_ca_file_that_holds_no_certificate_is_refused(self):
        empty = self.temp.path / "empty.crt"
        empty.write_text("", encoding="ascii")
        self.refused(EMQX_BLOCK.replace("CA_FILE", str(empty)), "kafka", "ssl", "certificate")

    def test_an_empty_file_is_fine(self):
        self.assertEqual(self.check("").returncode, 0)

    def test_every_mistake_is_reported_at_once_with_its_place(self):
        said = self.refused(
            "bridges:\n"
            "  kafka:\n"
            "    servers: \"kafka:9092\"\n"
            "    topic: sensor_data\n"
            "    mesage_key: \"${clientid}\"\n"
            "    value_encoder: jsn\n"
            "journal:\n"
            "  max_size: many\n"
            "listners: {}\n",
            "millrace.yaml:5:5", "did you mean 'message_key'", "millrace.yaml:6:",
            "millrace.yaml:8:", "millrace.yaml:9:1", "did you mean 'listeners'",
        )
        lines = said.splitlines()
        at = next(i for i, line in enumerate(lines) if "mesage_key: " in line and "|" in line)
        caret = lines[at + 1]
        self.assertEqual(caret.index("^"), lines[at].index("mesage_key"), "it points at the word")
        self.assertEqual(caret.count("^"), len("mesage_key"))

    def test_run_refuses_with_78_too_and_touches_nothing(self):
        self.refused("gatway: {}\n", "did you mean 'gateway'", command="run")
        self.assertFalse((self.temp.path / "data").exists())

    def test_yaml_that_does_not_parse_says_where(self):
        self.refused("bridges:\n  kafka: [\n", "millrace.yaml:")

    def test_a_missing_file_is_named(self):
        done = millrace("check", "-c", self.temp.path / "nowhere.yaml", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn("nowhere.yaml", done.stderr)

    def test_a_bridges_faults_point_at_the_nearest_place(self):
        self.refused(
            "bridges:\n"
            "  kafka:\n"
            "    servers: \"kafka:9092\"\n"
            "    topic: \"${payload.kind}\"\n"
            "    message_key: \"${payload.a[x]}\"\n"
            "    timestamp: recieved\n"
            "    start: 2026-13-01T00:00:00Z\n"
            "    headers:\n"
            "      - unit: \"${payload.unit\"\n"
            "      - site: plant-7\n",
            "millrace.yaml:4:12: bridges.kafka.topic: column 1", "begin with literal text",
            "millrace.yaml:5:18: bridges.kafka.message_key: column 10", "a number from 0",
            "millrace.yaml:6:16: bridges.kafka.timestamp: 'recieved' is neither `received` nor",
            "millrace.yaml:7:12: bridges.kafka.start: '2026-13-01T00:00:00Z' is not a time of the",
            "millrace.yaml:8:5: bridges.kafka.headers.unit: column 1", "is not closed",
        )

    def test_an_unset_variable_is_an_error_and_a_set_one_is_put_in(self):
        block = "bridges:\n  kafka: {servers: \"${env:MR_TEST_SERVERS}\", topic: t}\n"
        os.environ.pop("MR_TEST_SERVERS", None)
        self.refused(block, "MR_TEST_SERVERS", "millrace.yaml:2:")
        os.environ["MR_TEST_SERVERS"] = "localhost:9092"
        self.addCleanup(os.environ.pop, "MR_TEST_SERVERS")
        self.assertEqual(self.check(block).returncode, 0)

    def test_impossible_templates_are_refused(self):
        head = "bridges:\n  kafka:\n    servers: \"k:9092\"\n"
        self.refused(head + "    topic: \"${nosuchthing}\"\n", "nosuchthing")
        self.refused(head + "    topic: t\n    message_key: \"${topic[\"\n", "message_key")

    def test_a_bridge_without_servers_or_topic_is_refused(self):
        self.refused("bridges:\n  kafka:\n    topic: t\n", "servers")
        self.refused("bridges:\n  kafka:\n    servers: \"k:9092\"\n", "topic")

    def test_a_name_that_is_a_path_or_one_of_the_gateways_own_is_refused(self):
        """A bridge `$sessions` would move the position up to which sessions are stored."""
        block = "bridges:\n  %s: { type: kafka, servers: \"k:9092\", topic: t }\n"
        for name, why in (("$sessions", "begin with $"), ("$live-kafka", "begin with $"),
                          ("a/b", "no /"), ("..", "not . or .."), ("'say \"x\"'", "has no quotes"),
                          ("k" * 123, "1 to 122 bytes"), ('""', "1 to 122 bytes")):
            self.refused(block % name, "millrace.yaml:2:", "cannot have this name", why)
        for name in ("k" * 122, "a.b-c_d", "Werk Süd", "..."):
            done = self.check(block % name)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_admin_address_open_to_the_world_is_refused(self):
        self.refused("admin: {bind: \"0.0.0.0:8080\"}\n", "loopback", "millrace.yaml:1:")

    def test_a_mistake_on_the_command_line_is_64(self):
        done = millrace("rnu", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("run", done.stderr)
        self.assertEqual(millrace("run", "--nosuch", check=False).returncode, 64)


SHOWN = """\
gateway:
  name: "gw-${env:MR_TEST_NAME:-x}"
bridges:
  kafka:
    servers: "127.0.0.1:1"
    topic: sensor_${topic[1]}
    from: ["a/#", "b/+"]
    ssl:
      enable: true
      password: "hunter2"
    kafka_options: { sasl.password: hunter3, batch.size: "10" }
"""


class Show(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("config")
        self.addCleanup(self.temp.remove)
        self.path = self.temp.path / "millrace.yaml"
        self.path.write_text(SHOWN, encoding="utf-8")

    def shown(self, *args):
        """{key: (value, origin)}"""
        out = millrace("config", "show", "-c", self.path, "--json", *args).stdout
        self.assertNotIn("hunter", out)
        rows = (json.loads(line) for line in out.splitlines())
        return {row["key"]: (row["value"], row["origin"]) for row in rows}

    def test_each_value_comes_with_its_origin(self):
        said = self.shown("--set", "log.level=debug", "--data", "/elsewhere")
        self.assertEqual(said["gateway.name"],
                         ('"gw-x"', f"{self.path}:2, environment MR_TEST_NAME"))
        self.assertEqual(said["gateway.data"], ('"/elsewhere"', "--data"))
        self.assertEqual(said["log.level"], ("debug", "--set"))
        self.assertEqual(said["journal.keep"], ("24h", "default"))
        self.assertEqual(said["listeners.mqtt.bind"], ('"127.0.0.1:1883"', "default"))
        self.assertEqual(said["bridges.kafka.from"], ('["a/#", "b/+"]', f"{self.path}:7"))
        self.assertEqual(said["bridges.kafka.ssl.enable"], ("true", f"{self.path}:9"))
        self.assertEqual(said["bridges.kafka.retry_max"], ("30s", "default"))

    def test_secrets_are_not_shown(self):
        said = self.shown()
        self.assertEqual(said["bridges.kafka.ssl.password"], ("***", f"{self.path}:10"))
        self.assertEqual(said["bridges.kafka.kafka_options"][0],
                         '{"sasl.password": "***", "batch.size": "10"}')

    def test_only_what_was_changed(self):
        self.assertNotIn("journal.keep", self.shown("--changed"))
        self.assertIn("gateway.name", self.shown("--changed"))

    def test_a_faulty_file_is_reported_and_not_shown(self):
        self.path.write_text("gateway: {nmae: x}\n", encoding="utf-8")
        done = millrace("config", "show", "-c", self.path, check=False)
        self.assertEqual((done.returncode, done.stdout), (78, ""))
        self.assertIn("did you mean 'name'?", done.stderr)

    def test_the_schema_has_every_option_and_only_those(self):
        schema = json.loads(millrace("config", "schema").stdout)
        self.assertFalse(schema["additionalProperties"])
        documented = set(re.findall(r"(?m)^\| `([^`]+)`", millrace("config", "docs").stdout))
        found = set()

        def walk(node, prefix):
            for name, option in node.get("properties", {}).items():
                if option.get("type") == "object" and "properties" in option:
                    walk(option, f"{prefix}{name}.")
                else:
                    found.add(prefix + name)

        properties = schema["properties"]
        for section in ("gateway", "auth", "mqtt", "journal", "admin", "log"):
            walk(properties[section], "")
        walk(properties["listeners"]["additionalProperties"], "")
        for sink in properties["bridges"]["additionalProperties"]["anyOf"]:
            walk(sink, "")
        self.assertEqual(found, documented)


EXPLAINED = """\
bridges:
  kafka:
    servers: "127.0.0.1:1"
    topic: "sensor_${topic[1]}"
    message_key: "${clientid}"
    value_encoder: json
    headers: id
  plant:
    type: kafka
    servers: "127.0.0.1:1"
    topic: plain
    from: ["plant/+/#"]
"""


class Explain(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("explain")
        self.addCleanup(self.temp.remove)
        self.path = self.temp.path / "millrace.yaml"
        self.path.write_text(EXPLAINED, encoding="utf-8")

    def explain(self, *args, code=0):
        done = millrace("explain", "-c", self.path, *args, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout

    def test_it_shows_topic_key_partition_headers_and_value_per_bridge(self):
        out = self.explain("plant/temp/7", '{"v":21.5}', "--client", "press-7", "--partitions",
                           "4", "--json")
        kafka, plant = (json.loads(line) for line in out.splitlines())
        self.assertEqual((kafka["bridge"], kafka["fate"], kafka["topic"], kafka["key"]),
                         ("kafka", "send", "sensor_temp", "press-7"))
        self.assertEqual(kafka["partition"], kafka["hash"] % 4)
        value = json.loads(kafka["value"])
        self.assertEqual((value["client"], value["payload"]), ("press-7", {"v": 21.5}))
        self.assertIn("millrace_id", kafka["headers"])
        self.assertEqual((plant["filter"], plant["topic"], plant["value"]),
                         ("plant/+/#", "plain", '{"v":21.5}'))

    def test_it_says_why_not(self):
        said = self.explain("flat", "x", code=1)
        self.assertRegex(said, r"(?m)^kafka: a dead letter: the topic has no level 1")
        self.assertRegex(said, r"(?m)^plant: not carried: no filter of `from` matches")

    def test_without_a_partition_count_it_says_so(self):
        self.assertIn("--partitions", self.explain("plant/temp/7", "x"))

    def test_a_filter_is_no_topic(self):
        self.explain("plant/#", code=64)


class Run(unittest.TestCase):
    def test_the_address_that_is_taken_is_named_and_ends_with_78(self):
        with Gateway() as first:
            second = Gateway()
            second.mqtt_port = first.mqtt_port
            self.addCleanup(second.temp.remove)
            second.spawn()
            second.wait_exit(78)
            self.assertIsNotNone(second.log.find(f"127.0.0.1:{first.mqtt_port}.*in use"))

    def test_two_gateways_cannot_share_a_data_folder(self):
        with Gateway() as first:
            second = Gateway(data=first.data)
            self.addCleanup(second.temp.remove)
            second.spawn()
            code = second.process.wait(harness.PATIENCE)
            second.log.thread.join(harness.PATIENCE)
            self.assertNotEqual(code, 0)
            self.assertIsNotNone(second.log.find(str(first.data)), second.log.text())


if __name__ == "__main__":
    unittest.main()
