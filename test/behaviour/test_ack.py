"""`ack` of a listener: what an acknowledgement waits for, against a real Kafka."""

import struct
import unittest

import harness
import wire
from harness import Gateway, kafka, millrace
from wire import Wire, connect, publish, subscribe

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def config(topic):
    return f"""
listeners:
  sure: {{ bind: "127.0.0.1:0", ack: kafka }}
  quick: {{ bind: "127.0.0.1:0", ack: memory }}
bridges:
  kafka: {{ servers: "{kafka().bootstrap}", topic: {topic}, value_encoder: raw, from: ["plant/#"] }}
"""


def port_of(gateway, name):
    return int(gateway.log.wait(rf"listening on \S*?:(\d+) \({name}\)")[1])


class Ack(unittest.TestCase):
    def expect(self, client, kind, packet_id=None):
        got = client.read()
        self.assertIsNotNone(got, "the connection was closed")
        self.assertEqual(got[0] >> 4, kind, got)
        if packet_id is not None:
            self.assertEqual(got[1][:2], struct.pack(">H", packet_id))

    def expect_nothing(self, client):
        """Everything before the PINGREQ was looked at, and nothing answered."""
        client.send(wire.packet(wire.PINGREQ, 0, b""))
        self.expect(client, wire.PINGRESP)

    def test_an_acknowledgement_that_waits_for_kafka(self):
        kafka().create_topic("sure", partitions=1)
        with Gateway(config("sure")) as gateway:
            sure = port_of(gateway, "sure")
            with Wire(sure, "a") as a, Wire(sure, "b") as b, Wire(gateway.mqtt_port, "c") as c:
                a.send(publish("plant/1", b"one", 1, 1))
                self.expect(a, wire.PUBACK, 1)
                self.assertEqual([r.value() for r in kafka().records("sure")], [b"one"])

                kafka().pause()
                a.send(publish("plant/1", b"two", 1, 2))
                b.send(publish("plant/2", b"three", 2, 3))
                c.send(publish("plant/3", b"four", 1, 4))
                self.expect(c, wire.PUBACK, 4)  # the other listener waits for the disk
                with Wire(sure) as late:  # neither a session nor what is not carried waits
                    late.send(connect("late", flags=0x00))
                    self.expect(late, wire.CONNACK)
                    late.send(subscribe(["x"]))
                    self.expect(late, wire.SUBACK)
                    late.send(publish("else", b"five", 1, 5))
                    self.expect(late, wire.PUBACK, 5)
                self.expect_nothing(a)
                self.expect_nothing(b)
                kafka().resume()
                self.expect(a, wire.PUBACK, 2)
                self.expect(b, wire.PUBREC, 3)
                b.send(wire.packet(wire.PUBREL, 2, struct.pack(">H", 3)))
                self.expect(b, 7, 3)
            found = {r.value() for r in kafka().records("sure", 4)}
            self.assertEqual(found, {b"one", b"two", b"three", b"four"})

    def test_an_acknowledgement_that_waits_for_nothing_is_still_of_the_journal(self):
        kafka().create_topic("quick", partitions=1)
        with Gateway(config("quick")) as gateway, Wire(port_of(gateway, "quick"), "a") as a:
            for number in range(1, 101):
                a.send(publish("plant/1", b"%d" % number, 1, number))
                self.expect(a, wire.PUBACK, number)
            found = [int(r.value()) for r in kafka().records("quick", 100)]
            self.assertEqual(found, list(range(1, 101)))

    def test_a_bridge_that_is_waited_for_cannot_go_by_a_reload(self):
        kafka().create_topic("stays", partitions=1)
        with Gateway(config("stays")) as gateway:
            text = gateway.config.read_text(encoding="utf-8")
            gateway.config.write_text(text.replace("plant/#", "other/#"), encoding="utf-8")
            gateway.process.send_signal(1)
            gateway.log.wait("listener 'sure' wait for bridge 'kafka', which has another `from`")
            gateway.log.wait("nothing of it is put in force")
            with Wire(port_of(gateway, "sure"), "a") as a:
                a.send(publish("plant/1", b"one", 1, 1))
                self.expect(a, wire.PUBACK, 1)
            self.assertEqual([r.value() for r in kafka().records("stays")], [b"one"])

    def test_a_bridge_that_is_not_there(self):
        made = Gateway(config("none").replace("ack: kafka", "ack: kafak"))
        self.addCleanup(made.temp.remove)
        said = millrace("check", "-c", made.config, check=False)
        self.assertEqual(said.returncode, 78)
        self.assertIn("listeners.sure.ack is disk, memory or the name of a bridge, and there is no "
                      "bridge 'kafak'; did you mean 'kafka'?", said.stderr)

    def test_a_bridge_with_the_name_of_a_place(self):
        """What waits for the disk must not seem to wait for a bridge."""
        for name in ("disk", "memory"):
            made = Gateway(config("none").replace("ack: kafka", f"ack: {name}")
                           .replace("  kafka: {", f"  {name}: {{ type: kafka,"))
            self.addCleanup(made.temp.remove)
            said = millrace("check", "-c", made.config, check=False)
            self.assertEqual(said.returncode, 78)
            self.assertRegex(said.stderr, rf"yaml:\d+:\d+: .*bridges\.{name}: `ack: {name}` of "
                             rf"listener '\w+' means the {name}")


if __name__ == "__main__":
    unittest.main()
