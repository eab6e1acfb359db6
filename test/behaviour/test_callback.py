"""A service that says by HTTP who may come in, as EMQX asks it."""

import http.server
import json
import ssl
import threading
import time
import unittest

import certs
import wire
from harness import PATIENCE, Gateway, Temp, millrace, until
from test_login import connect, login

DENIED, DOWN = 0x86, 0x88


class Service:
    """Answers what `answers` says of a user: a status, or a status and a body."""

    def __init__(self, context=None):
        self.answers = {}
        self.asked = []
        self.headers = {}
        self.gate = threading.Event()
        self.gate.set()
        self.gone = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.headers = dict(self.headers)
                outer.asked.append(question)
                outer.gate.wait(PATIENCE)
                if outer.gone:
                    self.close_connection = True
                    return
                status, body = outer.answers.get(question.get("username"), (403, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def say(self, user, status=200, **body):
        self.answers[user] = status, json.dumps(body).encode() if body else b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def config(service, more="", auth=""):
    scheme = "https" if "cacertfile" in more else "http"
    return f"""
auth:
  http: {{ url: "{scheme}://127.0.0.1:{service.port}/mqtt/auth?token=hidden7", {more} }}
  {auth}
"""


class Answers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = Temp("callback")
        cls.users = cls.temp.path / "users"
        millrace("passwd", "-c", "-b", cls.users, "ours", "s3cret", check=True)
        cls.service = Service().__enter__()
        cls.gateway = Gateway(config(cls.service, 'authorization: "Bearer hidden8"',
                                     f"password_file: {cls.users}")).start()

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:
            pass
        cls.service.__exit__()
        cls.temp.remove()

    def code(self, user, password="pässword", **options):
        return login(self.gateway.mqtt_port, user, password, 5, **options)

    def test_what_the_service_says_holds(self):
        self.service.say("allowed", result="allow", is_superuser=False)
        self.service.say("empty", 204)
        self.service.say("denied", result="deny")
        self.service.say("unknown", result="ignore")
        for user, code in (("allowed", 0), ("empty", 0), ("denied", DENIED),
                           ("unknown", DENIED), ("nobody at all", DENIED)):
            with self.subTest(user):
                self.assertEqual(self.code(user), code)
        self.assertEqual(self.service.headers["Authorization"], "Bearer hidden8")
        self.assertEqual(self.service.headers["Content-Type"], "application/json")

    def test_the_question_is_emqxs(self):
        self.service.say('a"b\\', 204)
        self.assertEqual(self.code('a"b\\', client="id-1"), 0)
        question = self.service.asked[-1]
        self.assertRegex(question.pop("peername"), r"^127\.0\.0\.1:\d+$")
        self.assertEqual(question, {"clientid": "id-1", "username": 'a"b\\', "listener": "mqtt",
                                    "password": "pässword", "peerhost": "127.0.0.1",
                                    "protocol": "mqtt"})
        self.assertEqual(self.code("x", b"\xff\xfe"), DENIED)  # no text: it is not even asked
        self.assertEqual(self.code("x", "y" * 10000), DENIED)
        self.assertNotIn("x", [one.get("username") for one in self.service.asked])

    def test_who_is_ignored_here_is_asked_for_elsewhere_first_or_last(self):
        asked = len(self.service.asked)
        self.assertEqual(self.code("ours", "s3cret"), 0)  # known to the file, nobody else is asked
        self.assertEqual(self.code("ours", "wrong"), DENIED)
        self.assertEqual(len(self.service.asked), asked)
        order = f"order: [http, password_file]\n  password_file: {self.users}"
        with Gateway(config(self.service, auth=order)) as other:
            for says, password, code in (("ignore", "s3cret", 0), ("ignore", "wrong", DENIED),
                                         ("deny", "s3cret", DENIED)):
                self.service.say("ours", result=says)
                with self.subTest(says=says, password=password):
                    self.assertEqual(login(other.mqtt_port, "ours", password, 5), code)

    def test_a_plain_yes_is_remembered_for_this_client_and_password_alone(self):
        self.service.say("cached", result="allow")

        def asked():
            return len([one for one in self.service.asked if one["username"] == "cached"])

        self.assertEqual(self.code("cached"), 0)
        self.assertEqual(self.code("cached"), 0)
        self.assertEqual(asked(), 1)
        self.assertEqual(self.code("cached", client="other"), 0)
        self.assertEqual(asked(), 2)
        self.service.say("cached", result="deny")
        self.assertEqual(self.code("cached", "another"), DENIED)
        self.assertEqual(self.code("cached"), 0)

    def test_a_yes_may_end(self):
        self.service.say("ends", result="allow", expire_at=int(time.time()) + 2)
        with wire.Wire(self.gateway.mqtt_port) as peer:
            peer.send(connect("ends", "ends", "x", 5))
            self.assertEqual(peer.read()[1][1], 0)
            self.assertEqual([(kind >> 4, body[0]) for kind, body in peer.read_until_closed()],
                             [(wire.DISCONNECT, 0x87)])

    def test_what_is_no_answer_means_down_and_is_told_once(self):
        self.service.answers["html"] = 200, b"<html>"
        self.service.answers["long"] = 200, b"x" * 100000
        self.service.say("odd", result="perhaps")
        self.service.say("broken", 500)
        self.service.say("moved", 302)
        self.service.say("until", result="allow", expire_at="tomorrow")
        for user in ("html", "odd", "broken", "moved", "until", "long"):
            with self.subTest(user):
                self.assertEqual(self.code(user), DOWN)
        self.service.say("fine", 204)
        self.assertEqual(self.code("fine"), 0)
        self.gateway.wait_log("/mqtt/auth answers again")
        self.assertEqual(self.gateway.log.text().count("refused until it answers again"), 1)
        self.assertEqual(login(self.gateway.mqtt_port, "broken", "x", 4), 3)
        self.assertNotIn("hidden", self.gateway.log.text())


class Failing(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("callback")
        self.addCleanup(self.temp.remove)

    def test_a_service_that_is_away_or_hangs_lets_nobody_in_and_holds_up_nobody(self):
        with Service() as service:
            users = self.temp.path / "users"
            millrace("passwd", "-c", "-b", users, "ours", "s3cret", check=True)
            text = config(service, "request_timeout: 500ms, max_requests: 4, cache_ttl: 0",
                          f"password_file: {users}")
            with Gateway(text) as gateway:
                service.say("press", 204)
                service.gate.clear()  # it hangs
                crowd = [wire.Wire(gateway.mqtt_port) for _ in range(12)]
                for number, peer in enumerate(crowd):
                    peer.send(connect(f"c{number}", "press", "x", 5))
                with wire.Wire(gateway.mqtt_port) as other:
                    other.send(connect("busy", "ours", "s3cret"))
                    self.assertEqual(other.read()[1], b"\x00\x00")
                    other.send(wire.publish("callback", b"1", 1, 1))
                    self.assertEqual(other.read()[0] >> 4, wire.PUBACK)
                self.assertLessEqual(len(service.asked), 4)
                self.assertEqual({peer.read()[1][1] for peer in crowd}, {DOWN})
                for peer in crowd:
                    peer.sock.close()
                service.gate.set()
                until(lambda: login(gateway.mqtt_port, "press", "x", 5) == 0, "it to answer")
                service.server.shutdown()
                service.server.server_close()
                service.gone = True
                until(lambda: login(gateway.mqtt_port, "press", "x", 5) == DOWN, "it to be away")
                self.assertEqual(login(gateway.mqtt_port, "ours", "s3cret"), 0)

    def test_stopping_does_not_wait_for_a_service(self):
        with Service() as service, Gateway(config(service)) as gateway:
            service.gate.clear()
            with wire.Wire(gateway.mqtt_port) as peer:
                peer.send(connect("x", "press", "x", 5))
                until(lambda: service.asked, "the question")
                gateway.stop()


class Secure(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("callback")
        self.addCleanup(self.temp.remove)

    def test_the_service_has_to_be_who_it_is(self):
        ours = certs.Pki(self.temp.path / "ours")
        theirs = certs.Pki(self.temp.path / "theirs")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*ours.issue("service", "localhost"))
        with Service(context) as service:
            service.say("press", 204)
            for authority, code in ((ours.ca, 0), (theirs.ca, DOWN)):
                with Gateway(config(service, f"cacertfile: {authority}")) as gateway:
                    self.assertEqual(login(gateway.mqtt_port, "press", "x", 5), code)

    def test_mistakes_are_told_by_check(self):
        path = self.temp.path / "bad.yaml"
        for line, words in (('url: "ftp://x/"', "http:// or https://"),
                            ('url: "http://u:p@x/"', "user part"),
                            ('url: "http://x/", cacertfile: none.pem', "no such file"),
                            ('url: "http://x/", certfile: x', "needs `certfile`")):
            path.write_text(f"auth: {{ http: {{ {line} }} }}\n", encoding="utf-8")
            with self.subTest(line):
                done = millrace("check", "-c", path, check=False)
                self.assertEqual(done.returncode, 78, done.stderr)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
