"""A Kafka as a real site has it: SASL_SSL, client certificates, tokens, ACLs, no topics by use.

test/services/kafka.sh with KAFKA_SECURE=1 says what it asks for.  On the plaintext listener
the test is a super user: there it makes topics, gives permissions and reads back.
"""

import base64
import contextlib
import ctypes
import http.server
import json
import pathlib
import ssl
import subprocess
import threading
import time
import unittest
import urllib.parse

import harness
from harness import PATIENCE, RELEASE, Gateway, kafka, millrace, mosquitto_pub, until

QUICK = ["bridges.kafka.retry_max=500ms"]


def setUpModule():
    harness.kafka_up(secure=True)


tearDownModule = harness.kafka_down


def certs():
    return pathlib.Path(kafka().ca_file).parent


def config(topic, auth="", keys="", servers=None, ssl_keys=""):
    lines = [
        "bridges:", "  kafka:", f'    servers: "{servers or kafka().sasl_bootstrap}"',
        f'    topic: "{topic}"', *(f"    {line}" for line in keys.splitlines()),
        "    ssl:", "      enable: true", f"      cacertfile: {kafka().ca_file}",
        *(f"      {line}" for line in ssl_keys.splitlines()),
        *(["    authentication:"] if auth else []),
        *(f"      {line}" for line in auth.splitlines()), "",
    ]
    return "\n".join(lines)


def sasl(user="plain", mechanism="plain"):
    return f'mechanism: {mechanism}\nusername: {user}\npassword: "secret-of-{user}"'


# Before 2.6.1 librdkafka's SCRAM is not what Kafka 4 accepts (docs/KAFKA.md).
SCRAM_WORKS = ctypes.CDLL("librdkafka.so.1").rd_kafka_version() >= 0x020601FF


def with_sasl():
    """Options of a Gateway that can do SCRAM: with the librdkafka of our own reader, if need be."""
    if SCRAM_WORKS:
        return {}
    import confluent_kafka

    folder = pathlib.Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    (library,) = folder.glob("librdkafka-*.so*")
    return {"binary": RELEASE / "millrace", "prefix": ["env", f"LD_PRELOAD={library}"]}


def permit(principal, operation, topic=None):
    from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType,
                                       ResourcePatternType, ResourceType)

    kind = ResourceType.BROKER if topic is None else ResourceType.TOPIC
    acl = AclBinding(kind, topic or "kafka-cluster", ResourcePatternType.LITERAL, principal, "*",
                     AclOperation[operation], AclPermissionType.ALLOW)
    for done in kafka().admin.create_acls([acl]).values():
        done.result(PATIENCE)


def topic_for(name, principal, partitions=2, **options):
    kafka().create_topic(name, partitions, **options)
    permit(principal, "WRITE", name)


def publish(gateway, payload="1", client="press-4", topic="hall/temp"):
    mosquitto_pub(gateway.mqtt_port, "-i", client, "-q", "1", "-t", topic, "-m", payload)


def values(topic, count):
    return [record.value().decode() for record in kafka().records(topic, count)]


class Who(unittest.TestCase):
    """Each way to say who we are."""

    def carries_one_event(self, topic, principal, *args, gateway_options=None, **options):
        topic_for(topic, principal)
        with Gateway(config(topic, *args, **options), **(gateway_options or {})) as gateway:
            publish(gateway, "21.5")
            self.assertEqual(values(topic, 1), ["21.5"])
            gateway.wait_drained("kafka")
            self.assertIsNone(gateway.log.find("level=(warn|error)"), gateway.log.text())

    def test_plain(self):
        self.carries_one_event("who_plain", "User:plain", sasl())

    def test_scram_sha_256(self):
        self.carries_one_event("who_256", "User:scram256", sasl("scram256", "scram_sha_256"),
                               gateway_options=with_sasl())

    def test_scram_sha_512(self):
        self.carries_one_event("who_512", "User:scram512", sasl("scram512", "scram_sha_512"),
                               gateway_options=with_sasl())

    @unittest.skipIf(SCRAM_WORKS, "this librdkafka can do SCRAM")
    def test_scram_with_a_librdkafka_that_cannot_is_said(self):
        with Gateway(config("who_512", sasl("scram512", "scram_sha_512"))) as gateway:
            gateway.wait_log("level=warn.*librdkafka [0-9.]+ cannot do SCRAM with Kafka 4")
            gateway.wait_log("level=warn.*away: Kafka does not accept 'User:scram512' "
                             r"\(SCRAM-SHA-512\): .*too old for SCRAM")

    def test_a_certificate(self):
        self.carries_one_event(
            "who_mutual", "User:CN=press", servers=kafka().mutual_bootstrap,
            ssl_keys=f"certfile: {certs()}/client.crt\nkeyfile: {certs()}/client.key",
        )

    def test_without_the_certificate_the_log_points_at_ssl(self):
        with Gateway(config("who_mutual", servers=kafka().mutual_bootstrap)) as gateway:
            gateway.wait_log("level=warn.*kafka: away: .*(?i:certificate).*check `ssl`")

    def test_sasl_options_of_librdkafka_may_be_given_as_they_are(self):
        self.carries_one_event(
            "who_options", "User:plain", keys="kafka_options:\n  security.protocol: sasl_ssl\n"
            "  sasl.mechanism: PLAIN\n  sasl.username: plain\n"
            '  sasl.password: "secret-of-plain"\n' f"  ssl.ca.location: {kafka().ca_file}",
        )


class Refused(unittest.TestCase):
    def test_a_wrong_password_is_named_once_and_a_corrected_file_is_enough(self):
        topic_for("refused_password", "User:plain")
        with contextlib.ExitStack() as stack:
            auth = "mechanism: plain\nusername: plain\npassword_file: kafka.secret"
            gateway = Gateway(config("refused_password", auth))
            secret = gateway.temp.path / "kafka.secret"
            secret.write_text("not this one\n")
            stack.enter_context(gateway)
            publish(gateway)
            gateway.wait_log(
                r"level=warn.*kafka: away: Kafka does not accept 'User:plain' \(PLAIN\): "
                r".*Authentication failed.*; check user name, password and mechanism")
            secret.write_text("secret-of-plain\n")
            self.assertEqual(values("refused_password", 1), ["1"])
            gateway.wait_log("kafka: back after")
            refusals = [line for line in gateway.log.all if "does not accept" in line]
            self.assertEqual(len(refusals), 1, refusals)
            self.assertNotIn("not this one", gateway.log.text())

    def test_a_missing_permission_is_named_with_the_command_and_noticed_when_granted(self):
        kafka().create_topic("refused_acl", 2)
        with Gateway(config("refused_acl", sasl()), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(
                r"level=warn.*kafka: (still )?away: topic 'refused_acl' may not be written to by "
                r"'User:plain'.*kafka-acls.sh --bootstrap-server localhost:\d+ --add "
                r"--allow-principal 'User:plain' --operation Write --topic refused_acl")
            self.assertEqual(gateway.bridge("kafka"), {"up": False, "lag_records": 1})
            permit("User:plain", "WRITE", "refused_acl")
            self.assertEqual(values("refused_acl", 1), ["1"])
            gateway.wait_log("kafka: back after")
            said = [line.split("msg=")[1] for line in gateway.log.all if "away: " in line]
            self.assertEqual(len(said), len(set(said)), "each refusal is said once: " + str(said))

    def test_a_user_who_may_only_look_is_told_what_it_lacks(self):
        kafka().create_topic("refused_write", 1)
        permit("User:looker", "DESCRIBE", "refused_write")
        # Write on some other topic: or else not even a producer id is given.
        topic_for("refused_other", "User:looker", 1)
        with Gateway(config("refused_write", sasl("looker")), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*away: topic 'refused_write' may not be written to by "
                             r"'User:looker'.*--operation Write --topic refused_write")
            permit("User:looker", "WRITE", "refused_write")
            self.assertEqual(values("refused_write", 1), ["1"])
            gateway.wait_log("kafka: back after")

    def test_a_user_who_may_write_nowhere_is_told_so(self):
        kafka().create_topic("refused_all", 1)
        permit("User:nobody", "DESCRIBE", "refused_all")
        with Gateway(config("refused_all", sasl("nobody")), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*away: 'User:nobody' may write to no topic at all.*"
                             r"--operation Write --topic refused_all")
            permit("User:nobody", "WRITE", "refused_all")
            self.assertEqual(values("refused_all", 1), ["1"])
            gateway.wait_log("kafka: back after")

    def test_a_missing_topic_is_named_with_the_command_and_noticed_when_made(self):
        permit("User:plain", "DESCRIBE", "refused_missing")
        permit("User:plain", "WRITE", "refused_missing")
        permit("User:plain", "CREATE", "refused_missing")
        with Gateway(config("refused_missing", sasl()), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*away: topic 'refused_missing' does not exist.*"
                             r"kafka-topics.sh --bootstrap-server \S+ --create --topic "
                             r"refused_missing, or set auto_create.enable")
            kafka().create_topic("refused_missing", 1)
            self.assertEqual(values("refused_missing", 1), ["1"])


class Mistakes(unittest.TestCase):
    """What `millrace check` says before anything runs."""

    def check(self, *args, **options):
        gateway = Gateway(config("mistakes", *args, **options))
        self.addCleanup(gateway.temp.remove)
        done = millrace("check", "-c", gateway.config, check=False)
        self.assertEqual(done.returncode, 78, done.stderr)
        return done.stderr

    def test_each_is_named(self):
        cases = [
            ("username: press", "authentication.username: without a mechanism it is not used"),
            ("mechanism: plain", "authentication.mechanism: plain needs a username"),
            ("mechanism: plain\nusername: press", "plain needs one of password and password_file"),
            ("mechanism: plain\nusername: press\npassword: x\npassword_file: y",
             "plain needs one of password and password_file"),
            ("mechanism: plain\nusername: press\npassword_file: /nowhere/secret",
             "authentication.password_file: cannot read /nowhere/secret: "),
            ("mechanism: oauthbearer\nclient_id: press", "oauthbearer needs a token_endpoint_url"),
            ("mechanism: oauthbearer\nclient_id: press\ntoken_endpoint_url: x\nclient_secret: y",
             "token_endpoint_url: 'x' is no address; write https://host/path"),
            ("mechanism: scram_sha_521", "did you mean 'scram_sha_512'?"),
        ]
        for auth, said in cases:
            with self.subTest(auth):
                self.assertIn(said, self.check(auth))

    def test_a_password_in_an_address_is_refused_and_not_shown(self):
        said = self.check("mechanism: oauthbearer\nclient_id: press\nclient_secret: y\n"
                          "token_endpoint_url: https://press:hunter2@idp.example.org/token")
        self.assertIn("token_endpoint_url: a user or password in the address", said)
        self.assertNotIn("hunter2", said)

    def test_a_password_in_two_places(self):
        said = self.check(sasl(), keys="kafka_options: { sasl.password: x }")
        self.assertIn("'sasl.password' cannot be set beside `authentication`", said)


class Topics(unittest.TestCase):
    def test_auto_create_makes_a_topic_as_told(self):
        for operation in ("CREATE", "WRITE"):
            permit("User:plain", operation, "made_7")
        keys = ("auto_create: { enable: true, partitions: 7, replication_factor: 1, "
                "options: { retention.ms: 3600000 } }")
        with Gateway(config("made_${topic[1]}", sasl(), keys)) as gateway:
            publish(gateway, topic="hall/7")
            self.assertEqual(values("made_7", 1), ["1"])
            gateway.wait_log("kafka: topic 'made_7' did not exist and was created")
        found = kafka().admin.list_topics("made_7", PATIENCE).topics["made_7"]
        self.assertEqual(len(found.partitions), 7)
        self.assertEqual(topic_option("made_7", "retention.ms"), "3600000")

    def test_auto_create_needs_no_permission_for_a_topic_that_is_there(self):
        topic_for("made_before", "User:plain")
        keys = "auto_create: { enable: true }"
        with Gateway(config("made_before", sasl(), keys)) as gateway:
            publish(gateway)
            self.assertEqual(values("made_before", 1), ["1"])

    def test_auto_create_without_permission_says_which(self):
        permit("User:plain", "WRITE", "made_never")
        keys = "auto_create: { enable: true, partitions: 3 }"
        with Gateway(config("made_never", sasl(), keys), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*away: topic 'made_never' does not exist, and "
                             r"'User:plain' may not create it; allow it: kafka-acls.sh .* "
                             r"--operation Create --topic made_never")
            permit("User:plain", "CREATE", "made_never")
            self.assertEqual(values("made_never", 1), ["1"])

    def test_auto_create_that_the_cluster_refuses_says_why(self):
        for operation in ("CREATE", "WRITE"):
            permit("User:plain", operation, "made_wide")
        keys = "auto_create: { enable: true, replication_factor: 3 }"
        with Gateway(config("made_wide", sasl(), keys), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*away: topic 'made_wide' cannot be created: .*"
                             r"replication factor.*see auto_create")
            # Away it stays, however often that is looked at again (every two seconds).
            until(lambda: gateway.metrics()['millrace_sink_up{bridge="kafka",lane="0"}'] == 0,
                  "the bridge to be away")
            with self.assertRaises(AssertionError):
                gateway.wait_log("kafka: back after", patience=3)

    def test_a_topic_that_kafka_never_makes_is_kept_aside_and_the_others_go_on(self):
        for topic in ("clash_a_b", "clash_a.b"):  # to Kafka's metrics these are one
            for operation in ("CREATE", "WRITE"):
                permit("User:plain", operation, topic)
        keys = "auto_create: { enable: true }"
        with Gateway(config("clash_${topic[1]}", sasl(), keys), sets=QUICK) as gateway:
            publish(gateway, "1", topic="hall/a_b")
            self.assertEqual(values("clash_a_b", 1), ["1"])
            publish(gateway, "2", topic="hall/a.b")
            publish(gateway, "3", topic="hall/a_b")
            self.assertEqual(values("clash_a_b", 2), ["1", "3"])
            gateway.wait_log("went to the dead letters: Kafka cannot make the topic 'clash_a.b': "
                             ".*collides")

    def grow(self, topic, policy):
        """Events of 40 devices before and after a topic grew from 1 to 8 partitions."""
        from confluent_kafka.admin import NewPartitions

        topic_for(topic, "User:plain", 1)
        keys = (f"partitions: {policy}\nkafka_options:\n"
                "  topic.metadata.refresh.interval.ms: 500")
        gateway = Gateway(config(topic, sasl(), keys))
        with gateway:
            for device in range(40):
                publish(gateway, "before", f"d{device}")
            gateway.wait_drained("kafka")
            change = kafka().admin.create_partitions([NewPartitions(topic, 8)])
            for done in change.values():
                done.result(PATIENCE)
            said = gateway.wait_log(f"topic '{topic}' has grown from 1 to 8 partitions; .*")[0]
            for device in range(40):
                publish(gateway, "after", f"d{device}")
            records = kafka().records(topic, 80)
        after = [record for record in records if record.value() == b"after"]
        self.assertEqual(len(after), 40)
        self.assertEqual(said.count("has grown"), 1)
        return said, after

    def test_a_topic_that_grows_keeps_its_keys_where_they_are(self):
        said, after = self.grow("grown_keep", "keep")
        self.assertIn("every key stays where it is", said)
        self.assertEqual({record.partition() for record in after}, {0})

    def test_a_topic_that_grows_is_followed_when_told(self):
        said, after = self.grow("grown_follow", "follow")
        self.assertIn("so that keys move", said)
        for record in after:  # as the Java client does
            self.assertEqual(record.partition(), murmur2_partition(record.key(), 8))
        self.assertGreater(len({record.partition() for record in after}), 3)

    def test_a_limit_below_what_devices_may_send_is_said_at_the_start(self):
        topic_for("limit_low", "User:plain", max_message_bytes=20000)
        permit("User:plain", "DESCRIBE_CONFIGS", "limit_low")
        with Gateway(config("limit_low", sasl())) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*devices may send 1048576 bytes \(mqtt.max_packet_size\)"
                             r".*topic 'limit_low' takes no record beyond 20000 "
                             r"\(max.message.bytes\).*--add-config max.message.bytes=")
        sets = ["mqtt.max_packet_size=16KiB", "log.level=debug"]
        with Gateway(config("limit_low", sasl()), sets=sets) as gateway:
            publish(gateway)
            gateway.wait_drained("kafka")
            self.assertIsNone(gateway.log.find("max.message.bytes"))

    def test_without_the_permission_to_ask_for_limits_nothing_is_said_aloud(self):
        topic_for("limit_hidden", "User:plain", max_message_bytes=20000)
        with Gateway(config("limit_hidden", sasl()), sets=["log.level=debug"]) as gateway:
            publish(gateway)
            gateway.wait_log("level=debug.*'limit_hidden': max.message.bytes cannot be compared")


def topic_option(topic, name):
    from confluent_kafka.admin import ConfigResource

    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    for done in kafka().admin.describe_configs([resource]).values():
        return done.result(PATIENCE)[name].value
    return None


def murmur2_partition(key, count):
    """The Java client's, written from its description once more."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    for at in range(0, len(key) // 4 * 4, 4):
        k = int.from_bytes(key[at:at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = key[len(key) // 4 * 4:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % count


class Audits(unittest.TestCase):
    """What `audit --kafka` may not find out it says, and takes it for no answer."""

    def audit(self, gateway):
        return millrace("audit", "-c", gateway.config, "--data", gateway.data, "--kafka",
                        check=False)

    def audit_as_looker(self, gateway, topic):
        gateway.config.write_text(config(topic, sasl("looker"), "headers: id"), encoding="utf-8")
        done = self.audit(gateway)
        self.assertEqual(done.returncode, 69, done.stderr)
        return done.stderr

    def test_whether_a_topic_is_compacted_needs_a_permission(self):
        topic_for("audited", "User:plain", 1)
        permit("User:plain", "READ", "audited")
        doubt = (r"whether topic audited is compacted is not known: 'User:plain' may not ask for "
                 r"its configuration; allow it: kafka-acls.sh --bootstrap-server \S+ --add "
                 r"--allow-principal 'User:plain' --operation DescribeConfigs --topic audited")
        with Gateway(config("audited", sasl(), "headers: id")) as gateway:
            publish(gateway)
            gateway.wait_drained("kafka")
            done = self.audit(gateway)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stderr, "kafka: " + doubt)
            millrace("bridge", "pause", "kafka", "--data", gateway.data)
            kafka().delete_topic("audited")  # as compaction might, of all but the latest
            until(lambda: "audited" not in kafka().admin.list_topics(timeout=PATIENCE).topics,
                  "the topic is gone")
            kafka().create_topic("audited", 1, cleanup_policy="compact")
            done = self.audit(gateway)
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertRegex(done.stderr, "lane 0: 1 that the books call delivered are not in "
                             "Kafka, and " + doubt)
            self.assertNotIn("missing", done.stderr)
            permit("User:plain", "DESCRIBE_CONFIGS", "audited")
            done = self.audit(gateway)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("because a topic is compacted", done.stderr)

    def test_a_topic_that_may_not_be_seen_or_read_is_not_called_empty(self):
        topic_for("unseen_temp", "User:plain", 1)
        with Gateway(config("unseen_${topic[1]}", sasl(), "headers: id")) as gateway:
            publish(gateway)
            gateway.wait_drained("kafka")
            refusal = (r"topic unseen_temp: 'User:looker' may not read it, or it is not there; "
                       r"allow it: kafka-acls.sh .*--operation Read --topic unseen_temp")
            self.assertRegex(self.audit_as_looker(gateway, "unseen_temp"), refusal)
            said = self.audit_as_looker(gateway, "unseen_${topic[1]}")
            self.assertIn("1 that the books call delivered are not in Kafka, and no topic matches "
                          "unseen_*: there is none, or this user may see none", said)
            permit("User:looker", "DESCRIBE", "unseen_temp")
            self.assertRegex(self.audit_as_looker(gateway, "unseen_temp"), refusal)


class Provider:
    """An identity provider: gives tokens for client credentials, over TLS."""

    def __init__(self, secret="let me in", lifetime=3600, key="token.key"):
        self.secret, self.lifetime, self.key = secret, lifetime, key
        self.asked = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                status, answer = provider.answer(
                    self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs() / "server.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, headers, body):
        form = urllib.parse.parse_qs(body.decode())
        self.asked.append(form)
        given = base64.b64decode(headers["Authorization"].split()[1]).decode()
        if given != f"gateway-7:{self.secret}" or form["grant_type"] != ["client_credentials"]:
            return 401, {"error": "invalid_client", "error_description": "who are you?"}
        return 200, {"token_type": "Bearer", "expires_in": self.lifetime, "nested": {
            "access_token": "not this one"}, "access_token": self.token()}

    def token(self):
        now = int(time.time())
        claims = {"iss": "millrace test", "aud": "millrace test", "sub": "gateway-7", "iat": now,
                  "exp": now + self.lifetime, "scope": "kafka"}
        head = {"alg": "RS256", "kid": "test", "typ": "JWT"}
        signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
                           for part in (head, claims))
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(certs() / self.key)], input=signed,
            capture_output=True, check=True)
        return (signed + b"." + base64.urlsafe_b64encode(done.stdout).rstrip(b"=")).decode()

    def auth(self, secret="let me in"):
        return (f"mechanism: oauthbearer\ntoken_endpoint_url: {self.url}\nclient_id: gateway-7\n"
                f'token_cacertfile: {kafka().ca_file}\nclient_secret: "{secret}"\n'
                "scope: kafka write")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Tokens(unittest.TestCase):
    def test_a_token_of_the_provider_is_accepted_and_renewed(self):
        topic_for("token_ok", "User:gateway-7")
        with Provider(lifetime=8) as provider:
            with Gateway(config("token_ok", provider.auth())) as gateway:
                publish(gateway, "first")
                self.assertEqual(values("token_ok", 1), ["first"])
                until(lambda: len(provider.asked) >= 2, "a second token")
                publish(gateway, "second")
                self.assertEqual(sorted(values("token_ok", 2)), ["first", "second"])
                self.assertIsNone(gateway.log.find("level=(warn|error)"), gateway.log.text())
        self.assertEqual(provider.asked[0]["scope"], ["kafka write"])

    def test_a_provider_that_refuses_is_named_with_its_words(self):
        with Provider() as provider:
            with Gateway(config("token_no", provider.auth("wrong"))) as gateway:
                gateway.wait_log(r"level=warn.*away: no token: https://localhost:\d+/token answers "
                                 r"with HTTP status 401 \(invalid_client: who are you\?\); check "
                                 r"authentication.client_id")
                self.assertNotIn("wrong", gateway.log.text())

    def test_a_provider_that_is_away_does_not_hold_up_the_end(self):
        with Gateway(config("token_away", Provider().auth()
                            .replace("token_endpoint_url: https://localhost",
                                     "token_endpoint_url: https://10.255.255.1"))) as gateway:
            began = time.monotonic()
            gateway.stop()
            self.assertLess(time.monotonic() - began, 4)

    def test_a_token_that_kafka_does_not_want_is_said(self):
        with Provider(key="server.key") as provider:  # the brokers check the signature
            with Gateway(config("token_other", provider.auth())) as gateway:
                gateway.wait_log(r"level=warn.*away: Kafka does not accept 'User:gateway-7' "
                                 r"\(OAUTHBEARER\): .*check what the brokers expect of a token")


if __name__ == "__main__":
    unittest.main()
