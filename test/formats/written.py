"""What a data folder of test/formats holds: how it was made, and what must be found in it.

`write…()` are only ever run by make.py, with the version whose format is to be kept; `check()` by
every later version.  A change of them needs new folders; the old ones keep theirs.
"""

import json
import struct

import wire
from harness import PATIENCE, millrace, until
from wire import Wire, connect, publish, subscribe

CONFIG = """
gateway: {shards: 2, drain: 100ms}
journal: {max_size: 24MiB, segment_size: 1MiB}
bridges: {kafka: {servers: "SERVERS", topic: "sensor_${topic[1]}"}}
"""
DROPS = CONFIG.replace("journal: {", "journal: {when_full: drop_oldest, ")  # since version 3
AWAY = DROPS.replace("SERVERS", "127.0.0.1:1")
DEVICES = 6
EVENTS = 50  # of each device
QUEUED = 20
OPEN_ID = 77  # a QoS 2 exchange that waits for its PUBREL


def payload(device, number):
    return b'{"device":%d,"number":%d}' % (device, number)


def acked(client, kind, packet_id):
    got = client.read()
    assert got[0] >> 4 == kind and got[1][:2] == struct.pack(">H", packet_id), got


def write_letter(gateway):
    """While Kafka is there."""
    with Wire(gateway.mqtt_port, "device-x") as client:
        client.send(publish("flat", b"no second level", 1, 1))
        acked(client, wire.PUBACK, 1)
    until(lambda: dead_letters(gateway.data), "the dead letter", PATIENCE)


def write(gateway):
    """When it has gone."""
    with Wire(gateway.mqtt_port) as keeper:
        keeper.send(connect("keeper", flags=0x00))
        keeper.read()
        keeper.send(subscribe(["keep/+"]))
        acked(keeper, wire.SUBACK, 1)
    with Wire(gateway.mqtt_port) as half:
        half.send(connect("half", flags=0x00))
        half.read()
        half.send(publish("plant/half", b"once", 2, OPEN_ID))
        acked(half, wire.PUBREC, OPEN_ID)
    for device in range(DEVICES):
        with Wire(gateway.mqtt_port, f"device-{device}") as client:
            for number in range(1, EVENTS + 1):
                client.send(publish(f"plant/{device}", payload(device, number), 1, number))
                acked(client, wire.PUBACK, number)
            client.send(publish(f"state/{device}", b"on", 1, 1000, retain=True))
            acked(client, wire.PUBACK, 1000)
    with Wire(gateway.mqtt_port, "queuer") as client:
        for number in range(1, QUEUED + 1):
            client.send(publish("keep/1", b"%d" % number, 1, number))
            acked(client, wire.PUBACK, number)


def fill(gateway):
    """When Kafka has gone, until something is dropped."""
    def dropped():
        with Wire(gateway.mqtt_port, "filler") as client:
            for number in range(1, 51):
                client.send(publish("fill/1", bytes(50_000), 1, number))
                acked(client, wire.PUBACK, number)
        return json.loads(gateway.http("/api/v1/ledger")[1])["dropped_ranges"]

    until(dropped, "a range to be dropped", PATIENCE)


def check_drops(test, data):
    """A range that was dropped is in the books for ever."""
    rows = [json.loads(line) for line in
            millrace("audit", "--json", "--data", data).stdout.splitlines()]
    found = [row for row in rows if "first" in row]
    test.assertEqual([row["bridge"] for row in found], ["kafka"])
    test.assertGreater(found[0]["last"], found[0]["first"])
    test.assertEqual(millrace("journal", "verify", "--data", data).stdout.count("lost"), 0)


def dead_letters(data):
    done = millrace("dlq", "show", "kafka", "--json", "--data", data, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def events(data):
    done = millrace("journal", "cat", "--json", "--data", data)
    return [one for one in map(json.loads, done.stdout.splitlines()) if "topic" in one]


def check_files(test, data):
    """What the tools say of the folder while nothing runs."""
    said = millrace("journal", "verify", "--data", data)
    test.assertEqual(said.stdout.count(": fine"), 2, said.stdout)
    said = millrace("journal", "cursors", "--data", data)
    test.assertEqual(said.stdout.count("\nkafka "), 2, said.stdout)
    letters = dead_letters(data)
    test.assertEqual([one["topic"] for one in letters], ["flat"])
    found = events(data)
    for device in range(DEVICES):
        mine = [one for one in found if one["client"] == f"device-{device}"
                and one["topic"].startswith("plant/")]
        wanted = [json.loads(payload(device, number)) for number in range(1, EVENTS + 1)]
        test.assertEqual([one["payload"] for one in mine], wanted)


def check_sessions(test, gateway):
    """What clients find that come back."""
    with Wire(gateway.mqtt_port) as keeper:
        keeper.send(connect("keeper", flags=0x00))
        test.assertEqual(keeper.read(), (wire.CONNACK << 4, b"\x01\x00"), "its session is there")
        queued = []
        while len(queued) < QUEUED:
            kind, body = keeper.read()
            test.assertEqual(kind & 0xF6, wire.PUBLISH << 4 | 2)
            length = struct.unpack(">H", body[:2])[0]
            queued.append(int(body[length + 4:]))
            keeper.send(wire.packet(wire.PUBACK, 0, body[length + 2:length + 4]))
        test.assertEqual(queued, list(range(1, QUEUED + 1)))
        keeper.send(subscribe(["state/#"], packet_id=2))
        acked(keeper, wire.SUBACK, 2)
        states = set()
        while len(states) < DEVICES:
            _, body = keeper.read()
            length = struct.unpack(">H", body[:2])[0]
            states.add(body[2:2 + length].decode())
        test.assertEqual(states, {f"state/{device}" for device in range(DEVICES)})
    with Wire(gateway.mqtt_port) as half:
        half.send(connect("half", flags=0x00))
        test.assertEqual(half.read()[1], b"\x01\x00")
        half.send(publish("plant/half", b"once", 2, OPEN_ID, dup=True))
        acked(half, wire.PUBREC, OPEN_ID)
        half.send(wire.packet(wire.PUBREL, 2, struct.pack(">H", OPEN_ID)))
        acked(half, 7, OPEN_ID)
    once = [one for one in events(gateway.data) if one["topic"] == "plant/half"]
    test.assertEqual(len(once), 1, "its QoS 2 exchange went on")
