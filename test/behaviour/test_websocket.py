"""MQTT over WebSocket and secure WebSocket: paho, and frames made by hand."""

import os
import signal
import ssl
import struct
import threading
import unittest

import paho.mqtt.client as paho

import wire
from certs import Pki
from harness import PATIENCE, Gateway, Temp, mosquitto_pub, until
from ws import BINARY, CONT, PING, TEXT, Ws, frame, request


def setUpModule():
    global temp, pki, gateway, ports
    temp = Temp("ws")
    pki = Pki(temp.path / "pki")
    cert, key = pki.issue("server", "localhost")
    gateway = Gateway(
        "gateway: { shards: 2 }\nmqtt: { connect_timeout: 1s, max_packet_size: 1MiB }\n"
        'listeners:\n  ws: { bind: "127.0.0.1:0", websocket: /mqtt }\n'
        '  pages: { bind: "127.0.0.1:0", websocket: /mqtt, '
        'websocket_origins: ["https://plant.example"] }\n'
        f'  wss: {{ bind: "127.0.0.1:0", websocket: /mqtt, tls: {{ certfile: {cert}, '
        f'keyfile: {key} }} }}\n'
        f'  little: {{ bind: "127.0.0.1:0", websocket: /mqtt, messages_rate: 100000, '
        f'tls: {{ certfile: {cert}, keyfile: {key} }} }}\n').start()
    ports = {name: int(gateway.wait_log(rf"listening on \S*:(\d+) \({name}\)")[1])
             for name in ("mqtt", "ws", "pages", "wss", "little")}


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def context():
    return ssl.create_default_context(cafile=pki.ca)


class Device:
    """A paho client over WebSocket."""

    def __init__(self, name, client_id, version=paho.MQTTv5):
        self.there = threading.Event()
        self.granted = threading.Event()
        self.messages = []
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=version,
                                transport="websockets")
        self.paho.ws_set_options(path="/mqtt")
        if name == "wss":
            self.paho.tls_set(ca_certs=str(pki.ca))
        self.paho.on_connect = lambda *_: self.there.set()
        self.paho.on_subscribe = lambda *_: self.granted.set()
        self.paho.on_message = lambda _c, _u, message: self.messages.append(message)
        self.paho.connect("localhost" if name == "wss" else "127.0.0.1", ports[name], 60)
        self.paho.loop_start()
        assert self.there.wait(PATIENCE)

    def subscribe(self, topic):
        self.paho.subscribe(topic, 1)
        assert self.granted.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()


class Clients(unittest.TestCase):
    def test_paho_publishes_and_subscribes_over_ws_and_wss(self):
        # Eight ids: with two shards some of them move after their CONNECT.
        for name in ("ws", "wss"):
            for version in (paho.MQTTv311, paho.MQTTv5):
                with self.subTest(name, version=version), \
                        Device(name, f"reader-{name}-{version}", version) as reader:
                    reader.subscribe(f"{name}/{version}/#")
                    for number in range(4):
                        with Device(name, f"writer-{number}", version) as writer:
                            payload = bytes([number]) * (10 ** (number + 1))
                            sent = writer.paho.publish(f"{name}/{version}/x", payload, 1)
                            sent.wait_for_publish(PATIENCE)
                    mosquitto_pub(ports["mqtt"], "-q", "1", "-t", f"{name}/{version}/x", "-m",
                                  "plain")
                    until(lambda: len(reader.messages) == 5, "five messages")
                    self.assertEqual(sorted(len(one.payload) for one in reader.messages),
                                     [5, 10, 100, 1000, 10000])

    def test_a_large_message_goes_both_ways(self):
        payload = os.urandom(900_000)
        with Device("wss", "large") as device:
            device.subscribe("large")
            device.paho.publish("large", payload, 1).wait_for_publish(PATIENCE)
            until(lambda: device.messages, "the message")
            self.assertEqual(device.messages[0].payload, payload)


class Frames(unittest.TestCase):
    def test_packets_split_and_joined_over_frames(self):
        packets = wire.connect("cut") + wire.subscribe(["cut"], 1) + b"".join(
            wire.publish("cut", bytes([number]) * 300, 1, number + 2) for number in range(5))
        for size in (1, 7, 299, len(packets)):
            with self.subTest(size), Ws(ports["ws"]) as ws:
                pieces = [packets[at : at + size] for at in range(0, len(packets), size)]
                ws.send(b"".join(frame(piece) for piece in pieces))
                kinds = [ws.packet()[0] >> 4 for _ in range(12)]
                self.assertEqual(kinds[:2], [wire.CONNACK, wire.SUBACK])
                self.assertEqual(kinds.count(wire.PUBACK), 5)
                self.assertEqual(kinds.count(wire.PUBLISH), 5)

    def test_fragments_inside_a_packet_and_a_ping_between_them(self):
        with Ws(ports["ws"]).join("fragments") as ws:
            packet = wire.publish("f", b"x" * 1000, 1, 9)
            ws.send(frame(packet[:3], BINARY, fin=False))
            ws.send(frame(b"are you there", PING))
            ws.send(frame(packet[3:500], CONT, fin=False) + frame(b"", CONT, fin=False))
            ws.send(frame(packet[500:], CONT))
            self.assertEqual(ws.packet(), (wire.PUBACK << 4, struct.pack(">H", 9)))
            self.assertEqual(ws.pongs, [b"are you there"])

    def test_bytes_one_by_one(self):
        with Ws(ports["ws"], upgrade=False) as ws:
            for byte in request() + frame(wire.connect("slow")):
                ws.send(bytes([byte]))
            self.assertEqual(ws.answer()[0], 101)
            self.assertEqual(ws.packet()[0] >> 4, wire.CONNACK)

    def test_what_breaks_the_rules_is_closed_with_its_code(self):
        failed = "millrace_mqtt_disconnects_total", 'reason="websocket"'
        cases = [
            (frame(wire.connect("x"), mask=b""), 1002),
            (frame(wire.connect("x"), TEXT), 1003),
            (b"\x82\xff" + struct.pack(">Q", 1 << 40) + b"mask" + b"\x10", 1009),
            (frame(b"x", 3), 1002),
            (frame(b"x", CONT), 1002),
        ]
        before = gateway.metric(*failed)
        for data, code in cases:
            with self.subTest(data[:20]), Ws(ports["ws"]) as ws:
                ws.send(data)
                self.assertEqual(ws.closed_with(), code)
        until(lambda: gateway.metric(*failed) == before + len(cases), "all to be counted")
        gateway.wait_log("WebSocket: ")

    def test_a_session_ends_with_a_close_frame_and_its_will_is_published(self):
        with wire.Wire(ports["mqtt"], greet="heir") as heir:
            heir.send(wire.subscribe(["wills/#"]))
            heir.read()
            with Ws(ports["ws"]).join("dying", will=("wills/w", b"gone", 1)) as ws:
                ws.send(frame(b"\x03\xe9", 8))
                self.assertEqual(ws.closed_with(), 1001)
            self.assertEqual(heir.read()[0] >> 4, wire.PUBLISH)
        with Ws(ports["ws"]).join("polite") as ws:
            ws.send(frame(b"\xe0\x00"))
            self.assertEqual(ws.closed_with(), 1000)


class Upgrades(unittest.TestCase):
    def refused(self, data, status, words, name="ws"):
        with Ws(ports[name], upgrade=False) as ws:
            ws.send(data)
            got, head, body = ws.answer()
            self.assertEqual(got, status)
            self.assertEqual(int(head["content-length"]), len(body))
            self.assertIn(words, body.decode())

    def test_a_wrong_upgrade_gets_a_status_and_a_sentence(self):
        self.refused(request(protocol="chat"), 400, "subprotocol `mqtt`")
        self.refused(request(protocol=None), 400, "subprotocol `mqtt`")
        self.refused(request(path="/"), 404, "MQTT is at /mqtt")
        self.refused(request(Sec_WebSocket_Version="8"), 426, "must be 13")
        self.refused(request(Upgrade=None, Connection=None), 400, "nothing else")
        self.refused(b"GET /" + b"x" * 9000, 431, "8192")
        self.refused(request(Origin="https://evil.example"), 403, "websocket_origins", "pages")

    def test_a_page_of_the_list_and_a_device_without_a_page_may_come(self):
        for fields in ({"Origin": "https://plant.example"}, {}):
            with Ws(ports["pages"], upgrade=False) as ws:
                ws.send(request(**fields))
                self.assertEqual(ws.answer()[0], 101)

    def test_the_subprotocol_is_echoed(self):
        for offered, spoken in (("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"),
                                ("chat, mqttv3.1, mqtt", "mqtt")):
            with Ws(ports["ws"], upgrade=False) as ws:
                ws.send(request(protocol=offered))
                self.assertEqual(ws.answer()[1]["sec-websocket-protocol"], spoken)

    def test_an_upgrade_has_no_more_time_than_a_connect(self):
        half = (b"", request()[:40])
        for begin in half:
            with self.subTest(begin), Ws(ports["ws"], upgrade=False) as ws:
                ws.send(begin)
                self.assertIsNone(ws.answer()[0])
        with Ws(ports["ws"]) as ws:  # and then no CONNECT
            self.assertEqual(ws.closed_with(), 1000)

    def test_the_wrong_port_is_told(self):
        def told(port, data, line):  # again and again: such lines come once a second
            with wire.Wire(port) as lost:
                lost.send(data)
                self.assertEqual(lost.read_until_closed(), [])
            return gateway.log.find(line)

        for port, data, line in (
                ("ws", wire.connect("x"), "it speaks plain MQTT and this listener WebSocket"),
                ("mqtt", request(), "it speaks HTTP and this listener plain MQTT")):
            until(lambda: told(ports[port], data, line), line)


class Reload(unittest.TestCase):
    def test_wss_is_read_to_its_end_a_little_at_a_time(self):
        """Whoever has a rate is read in pieces; the last of them is followed by nothing more."""
        with Ws(ports["little"], context()).join("little") as ws:
            for number in range(1, 21):
                many = frame(wire.publish("w/little", b"x" * 500, 0)) * 120
                ws.send(many + frame(wire.publish("w/little", b"end", 1, number)))
                self.assertEqual(ws.packet(), (wire.PUBACK << 4, struct.pack(">H", number)))

    def test_certificates_change_and_wss_connections_stay(self):
        with Ws(ports["wss"], context()).join("stays") as before:
            first = before.sock.getpeercert()["serialNumber"]
            pki.issue("server", "localhost")
            start = len(gateway.log.all)
            os.kill(gateway.pid(), signal.SIGHUP)
            gateway.wait_log("reload: done", start=start)
            with Ws(ports["wss"], context()).join("new") as after:
                self.assertNotEqual(after.sock.getpeercert()["serialNumber"], first)
            before.send(frame(wire.publish("r", b"still here", 1, 3)))
            self.assertEqual(before.packet()[0] >> 4, wire.PUBACK)


if __name__ == "__main__":
    unittest.main()
