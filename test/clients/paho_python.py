"""paho_python - paho-mqtt against the gateway: paho_python.py CA URL...

What each step does is in README.md beside this file; "VERSION URL step" says that one went well.
"""

import itertools
import queue
import sys
import threading
import urllib.parse

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 30
CA, URLS = sys.argv[1], sys.argv[2:]
number = itertools.count(1)


class Peer:
    def __init__(self, url, version, client_id, clean=True, will=None):
        where = urllib.parse.urlsplit(url)
        self.version = version
        self.inbox = queue.Queue()
        self.connack = queue.Queue()
        self.done = queue.Queue()
        more = {} if version == paho.MQTTv5 else {"clean_session": clean}
        web = "websockets" if where.scheme.startswith("ws") else "tcp"
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=version,
                                  transport=web, reconnect_on_failure=False, **more)
        if where.scheme in ("mqtts", "wss"):
            self.client.tls_set(CA)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.connack.put((flags, reason))
        self.client.on_message = lambda _c, _u, message: self.inbox.put(message)
        self.client.on_subscribe = lambda *_: self.done.put(True)
        if will:
            self.client.will_set(will, b"gone", 1)
        options = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean else 600
            options = {"clean_start": clean, "properties": properties}
        self.client.connect(where.hostname, where.port, **options)
        self.client.loop_start()
        flags, reason = self.connack.get(timeout=PATIENCE)
        assert not reason.is_failure, reason
        self.present = flags.session_present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        self.done.get(timeout=PATIENCE)

    def publish(self, topic, text, qos, **how):
        self.client.publish(topic, text, qos, **how).wait_for_publish(PATIENCE)

    def message(self):
        return self.inbox.get(timeout=PATIENCE)

    def close(self):
        ended = threading.Event()
        self.client.on_disconnect = lambda *_: ended.set()
        self.client.disconnect()
        ended.wait(PATIENCE)
        self.client.loop_stop()


def qos(url, version, scope):
    peer = Peer(url, version, f"{scope}-qos")
    peer.subscribe(f"{scope}/qos", 2)
    for level in (0, 1, 2):
        peer.publish(f"{scope}/qos", str(level), level)
        one = peer.message()
        assert (one.payload, one.qos, one.retain) == (b"%d" % level, level, False)
    peer.close()


def retained(url, version, scope):
    peer = Peer(url, version, f"{scope}-retained")
    peer.publish(f"{scope}/kept", "kept", 1, retain=True)
    peer.subscribe(f"{scope}/kept", 1)
    one = peer.message()
    assert (one.payload, one.retain) == (b"kept", True)
    peer.publish(f"{scope}/kept", "", 1, retain=True)
    peer.message()
    peer.close()


def will(url, version, scope):
    watch = Peer(url, version, f"{scope}-watch")
    watch.subscribe(f"{scope}/will", 1)
    first = Peer(url, version, f"{scope}-dying", will=f"{scope}/will")
    second = Peer(url, version, f"{scope}-dying")
    assert watch.message().payload == b"gone"
    first.client.loop_stop()
    second.close()
    watch.close()


def session(url, version, scope):
    first = Peer(url, version, f"{scope}-session", clean=False)
    assert not first.present
    first.subscribe(f"{scope}/session", 2)
    first.close()
    sender = Peer(url, version, f"{scope}-sender")
    for level in (1, 2):
        sender.publish(f"{scope}/session", str(level), level)
    again = Peer(url, version, f"{scope}-session", clean=False)
    assert again.present
    assert [again.message().payload, again.message().payload] == [b"1", b"2"]
    again.close()
    sender.close()


def properties(url, version, scope):
    if version != paho.MQTTv5:
        return
    peer = Peer(url, version, f"{scope}-properties")
    peer.subscribe(f"{scope}/properties", 1)
    given = Properties(PacketTypes.PUBLISH)
    given.ContentType, given.ResponseTopic = "text/plain", "answers"
    given.CorrelationData, given.PayloadFormatIndicator = b"\0\xff", 1
    given.MessageExpiryInterval = 1000
    given.UserProperty = [("b", "1"), ("a", "2"), ("b", "3")]
    peer.publish(f"{scope}/properties", "x", 1, properties=given)
    got = peer.message().properties
    for name in ("ContentType", "ResponseTopic", "CorrelationData", "PayloadFormatIndicator",
                 "UserProperty"):
        assert getattr(got, name) == getattr(given, name), name
    assert 900 < got.MessageExpiryInterval <= 1000
    peer.close()


for target in URLS:
    for name, level in (("3.1.1", paho.MQTTv311), ("5.0", paho.MQTTv5)):
        for step in (qos, retained, will, session, properties):
            step(target, level, f"paho-python-{next(number)}")
            print(name, target, step.__name__, flush=True)
