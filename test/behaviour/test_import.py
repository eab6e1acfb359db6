"""`millrace import`: configurations of Mosquitto and EMQX become ours, line by line."""

import pathlib
import re
import subprocess
import unittest

import certs
from harness import PATIENCE, Gateway, Temp, millrace, mosquitto_pub, program

HERE = pathlib.Path(__file__).parent / "import"

# mosquitto.conf(5) of 2.0 and 2.1; those of bridges that begin with bridge_ stand for all.
OPTIONS = """
acl_file allow_anonymous allow_duplicate_messages allow_zero_length_clientid auth_opt_x auth_plugin
auth_plugin_deny_special_chars auto_id_prefix autosave_interval autosave_on_changes bind_address
bind_interface cafile capath certfile check_retain_source ciphers ciphers_tls1.3 clientid_prefixes
connection_messages crlfile dhparamfile enable_control_api enable_proxy_protocol global_max_clients
global_max_connections global_plugin http_dir include_dir keyfile listener listener_allow_anonymous
listener_auto_id_prefix log_dest log_facility log_timestamp log_timestamp_format log_type
accept_protocol_versions max_connections max_inflight_bytes max_inflight_messages max_keepalive
max_packet_size max_qos max_queued_bytes max_queued_messages max_topic_alias memory_limit
message_size_limit mount_point packet_buffer_size password_file per_listener_settings persistence
persistence_file persistence_location persistent_client_expiration pid_file plugin plugin_load
plugin_opt_x plugin_use port protocol psk_file psk_hint queue_qos0_messages require_certificate
retain_available retain_expiry_interval retained_persistence retry_interval set_tcp_nodelay
socket_domain store_clean_interval sys_interval tls_engine tls_engine_kpass_sha1 tls_keyform
tls_version upgrade_outgoing_qos use_identity_as_username use_subject_as_username
use_username_as_clientid user websockets_headers_size websockets_log_level websockets_origin
address addresses bridge_attempt_unsubscribe bridge_bind_address bridge_cafile bridge_capath
bridge_certfile bridge_identity bridge_insecure bridge_keyfile bridge_max_packet_size
bridge_outgoing_retain bridge_protocol_version bridge_psk bridge_require_ocsp bridge_tls_version
bridge_alpn cleansession clientid connection idle_timeout keepalive_interval local_cleansession
local_clientid local_password local_username notification_topic notifications
notifications_local_only password remote_clientid remote_password remote_username restart_timeout
round_robin start_type threshold topic try_private username
""".split()


# Lines that say what others mean: they have no key of their own.
STRUCTURE = ("protocol", "socket_domain", "per_listener_settings")

# Values that make sense of an option, where "1" does not.
VALUES = {"persistent_client_expiration": "14d", "listener": "1883", "include_dir": "conf.d",
          "log_type": "all", "tls_version": "tlsv1.3", "socket_domain": "ipv4",
          "protocol": "websockets", "bind_address": "127.0.0.1", "log_dest": "stderr"}


def setUpModule():
    global temp, pki
    temp = Temp("import")
    pki = certs.Pki(temp.path)
    pki.issue("server", "localhost")
    pki.revoke()
    millrace("passwd", "-c", "-b", temp.path / "users.passwd", "press-7", "s3cret")
    (temp.path / "acl").write_text("user press-7\ntopic readwrite #\n", encoding="utf-8")


def tearDownModule():
    temp.remove()


def prepared(name):
    """A fixture with the paths of this run."""
    path = temp.path / name
    text = (HERE / name).read_text(encoding="utf-8").replace("@DIR@", str(temp.path))
    path.write_text(text, encoding="utf-8")
    return path


def written(name, *lines):
    path = temp.path / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def imported(*paths):
    """(the YAML, the notes on stderr)"""
    done = millrace("import", *paths)
    (temp.path / "out.yaml").write_text(done.stdout, encoding="utf-8")
    return done.stdout, done.stderr


def check():
    return millrace("check", "-c", temp.path / "out.yaml", check=False, cwd=temp.path)


def keys(text):
    """{dotted key: value as it stands there}"""
    found, above = {}, []
    for line in text.splitlines():
        match = re.match(r"( *)([\w-]+):(?: (.*?))?(?:  # .*)?$", line)
        if match and not line.startswith("#"):
            depth = len(match[1]) // 2
            above = [*above[:depth], match[2]]
            if match[3]:
                found[".".join(above)] = match[3].strip('"')
    return found


class Mosquitto(unittest.TestCase):
    def assert_every_line_is_there(self, path):
        """Behind a key, or as a note on stderr and as a comment."""
        out, notes = imported(path)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#") or line.split()[0] in STRUCTURE:
                continue
            where = f"{path.name}:{number}"
            mapped = re.search(rf"^ *[a-z_]+: .*# {re.escape(where)}$", out, re.M)
            named = f"{where}: " in notes
            commented = f"# {where}: " in out
            self.assertTrue(mapped or (named and commented), f"{where}: {line}")
        return keys(out), notes

    def test_a_plant_that_grew(self):
        conf_d = temp.path / "conf.d"
        conf_d.mkdir(exist_ok=True)
        (conf_d / "20-more.conf").write_text("listener 1886 127.0.0.1\n", encoding="utf-8")
        (conf_d / "README").write_text("listener 9999\n", encoding="utf-8")
        found, notes = self.assert_every_line_is_there(prepared("mosquitto.conf"))
        for key, value in {
            "listeners.mqtt.bind": "127.0.0.1:1886",
            "listeners.mqtt-1883.bind": "10.20.0.5:1883",
            "listeners.mqtt-1883.max_connections": "2000",
            "listeners.mqtt-1883.allow_anonymous": "false",
            "listeners.mqtts.bind": "0.0.0.0:8883",
            "listeners.mqtts.tls.cacertfile": f"{temp.path}/ca.crt",
            "listeners.mqtts.tls.require_certificate": "true",
            "listeners.mqtts.tls.use_identity_as_username": "true",
            "listeners.mqtts.tls.tls_version": "tlsv1.2",
            "listeners.mqtts.tls.ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384",
            "listeners.mqtt-1884.bind": "[::1]:1884",
            "auth.password_file": f"{temp.path}/users.passwd",
            "auth.check_retain_source": "false",
            "mqtt.max_inflight_messages": "40",
            "mqtt.max_queued_messages": "5000",
            "mqtt.max_queued_bytes": "1048576",
            "mqtt.max_keepalive": "3600s",
            "mqtt.max_session_expiry": "1440h",
            "listeners.mqtt-1883.topic_alias_maximum": "20",
            "listeners.mqtt-1884.topic_alias_maximum": "10",
            "mqtt.overlapping": "merged",
            "mqtt.sys_interval": "30s",
            "gateway.memory": "536870912",
            "log.level": "info",
            "log.connections": "true",
        }.items():
            self.assertEqual(found.get(key), value, key)
        self.assertNotIn("geheim", notes)
        self.assertNotIn("geheim", (temp.path / "out.yaml").read_text(encoding="utf-8"))
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_listener_for_itself(self):
        found, notes = self.assert_every_line_is_there(prepared("mosquitto-per-listener.conf"))
        for key, value in {
            "listeners.mqtt.bind": "127.0.0.1:1883",
            "listeners.mqtt.allow_anonymous": "true",
            "listeners.ws.bind": "0.0.0.0:8080",
            "listeners.ws.websocket": "/mqtt",
            "listeners.ws.allow_anonymous": "false",
            "listeners.ws.auth.password_file": f"{temp.path}/users.passwd",
            "listeners.ws.auth.acl_file": f"{temp.path}/acl",
            "listeners.mqtt-1885.auth.client_id_pattern": "plant-*",
            "listeners.ws.auth.use_username_as_clientid": "true",
            "listeners.ws.websocket_origins": '["https://plant.example"]',
            "listeners.ws.proxy_protocol": "true",
            "listeners.unix.bind": "unix:/run/mosquitto/mqtt.sock",
            "listeners.mqtt-1885.bind": "0.0.0.0:1885",
            "mqtt.max_queued_messages": "1000000",
            "mqtt.max_packet_size": "268435456",
            "mqtt.max_retained_messages": "0",
            "log.level": "debug",
        }.items():
            self.assertEqual(found.get(key), value, key)
        self.assertNotIn("listeners.mqtt-1885.tls.cacertfile", found)
        self.assertIn("no_such_option 1: no option of mosquitto.conf(5)", notes)
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_option_of_the_manual_is_known(self):
        for name in OPTIONS:
            path = written("one.conf", "listener 1883", f"{name} {VALUES.get(name, '1')}")
            out, notes = imported(path)
            self.assertNotIn("that is known here", notes, name)
            said = "one.conf:2: " in notes or re.search(r"^ .*# one\.conf:2$", out, re.M) \
                or name in STRUCTURE
            self.assertTrue(said, f"{name}:\n{out}\n{notes}")

    def test_the_whole_subject_as_user_name(self):
        path = written("subject.conf", "listener 8883", f"cafile {pki.ca}",
                       f"certfile {temp.path}/server.crt", f"keyfile {temp.path}/server.key",
                       "require_certificate true", "use_subject_as_username true")
        found = keys(imported(path)[0])
        self.assertEqual(found["listeners.mqtts.tls.use_identity_as_username"], "true")
        self.assertEqual(found["listeners.mqtts.tls.identity_from"], "subject")
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_nothing_is_mosquittos_default_too(self):
        """Without a listener it is open on loopback, and nowhere else."""
        found = keys(imported(written("empty.conf", "# nothing"))[0])
        self.assertEqual(found["listeners.mqtt.bind"], "127.0.0.1:1883")
        self.assertEqual(found["listeners.mqtt.allow_anonymous"], "true")
        found = keys(imported(written("open.conf", "listener 1883"))[0])
        self.assertEqual(found["listeners.mqtt.bind"], "0.0.0.0:1883")
        self.assertEqual(found["listeners.mqtt.allow_anonymous"], "false")

    def test_a_gateway_runs_with_it_and_lets_the_same_clients_in(self):
        path = written("run.conf", "listener 1883 127.0.0.1",
                       f"password_file {temp.path}/users.passwd", "max_packet_size 2000")
        out, _ = imported(path)
        with Gateway(out) as gateway:
            ours = ("-u", "press-7", "-q", "1", "-t", "a", "-m", "1")
            mosquitto_pub(gateway.mqtt_port, *ours, "-P", "s3cret")
            self.assertNotEqual(mosquitto_pub(gateway.mqtt_port, *ours, "-P", "no",
                                              check=False).returncode, 0)

    def test_mosquitto_itself_takes_our_fixture(self):
        """It is real: every line of it is read, up to one that ends it."""
        lines = prepared("mosquitto.conf").read_text(encoding="utf-8").splitlines()
        path = written("ours.conf", *[line for line in lines if line[:11] != "include_dir"],
                       "the_end 1")
        done = subprocess.run([program("mosquitto"), "-c", path], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        self.assertEqual(re.findall(r"Error: (.*)", done.stderr),
                         ['Unknown configuration variable "the_end".'])

    def test_a_file_that_is_not_there_is_said(self):
        done = millrace("import", temp.path / "none.conf", check=False)
        self.assertEqual((done.returncode, done.stdout), (65, ""))
        self.assertIn("none.conf", done.stderr)


class Emqx(unittest.TestCase):
    def test_connectors_actions_and_rules(self):
        path = prepared("emqx.conf")
        (temp.path / "rules.acl").write_text("pattern readwrite #\n", encoding="utf-8")
        out, notes = imported(path)
        found = keys(out)
        for key, value in {
            "listeners.tcp-default.bind": "0.0.0.0:1883",
            "listeners.tcp-default.max_connections": "1024000",
            "listeners.tcp-default.allow_anonymous": "false",
            "listeners.tcp-hall.bind": "0.0.0.0:1893",
            "listeners.tcp-hall.allow_anonymous": "true",
            "listeners.tcp-hall.proxy_protocol": "true",
            "auth.use_username_as_clientid": "false",
            "listeners.tcp-hall.max_conn_rate": "1000",
            "listeners.tcp-hall.messages_rate": "10",
            "listeners.tcp-hall.bytes_rate": "524288",
            "mqtt.max_clientid_len": "1024",
            "mqtt.max_subscriptions": "0",
            "mqtt.flapping_detect.enable": "true",
            "mqtt.flapping_detect.ban_time": "600s",
            "listeners.ssl-default.bind": "[::]:8883",
            "listeners.ssl-default.tls.certfile": f"{temp.path}/server.crt",
            "listeners.ssl-default.tls.require_certificate": "true",
            "listeners.ssl-default.tls.tls_version": "tlsv1.2",
            "auth.password_file": "users.passwd",
            "auth.acl_file": "rules.acl",
            "mqtt.max_packet_size": "1MiB",
            "mqtt.max_topic_levels": "128",
            "mqtt.topic_alias_maximum": "1000",
            "mqtt.max_inflight_messages": "32",
            "mqtt.max_queued_messages": "2000",
            "mqtt.max_session_expiry": "5400s",
            "mqtt.max_keepalive": "600s",
            "mqtt.connect_timeout": "15s",
            "mqtt.max_retained_messages": "500000",
            "mqtt.sys_interval": "60s",
            "log.level": "warn",
            "bridges.readings.type": "kafka",
            "bridges.readings.servers": "kafka-1:9093,kafka-2:9093",
            "bridges.readings.from": '["sensors/#", "meters/+/value", "alarms/#"]',
            "bridges.readings.topic": "sensor_${payload.kind}",
            "bridges.readings.message_key": "${clientid}",
            "bridges.readings.value_encoder": "raw",
            "bridges.readings.compression": "none",
            "bridges.readings.linger": "5ms",
            "bridges.readings.ssl.enable": "true",
            "bridges.readings.authentication.mechanism": "scram_sha_512",
            "bridges.readings.authentication.password": "geheim",
        }.items():
            self.assertEqual(found.get(key), value, key)
        self.assertNotIn("bridges.unused.topic", found)
        for word in ("SQL has no equivalent", "QUIC", "terms of Erlang", "no cluster",
                     "switched off", "this action of the rule", "no rule leads there"):
            self.assertIn(word, notes)
        self.assertNotIn("geheim", notes)
        self.assertNotIn("emqxsecretcookie", notes + out)
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)
        quiet = re.compile(r"^    (mechanism|backend|user_id_type|bootstrap)|enable = true$|sql =")
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for number, line in lines:
            if re.search(r"[\w.]+ = [^\[{]+$", line) and not quiet.search(line):
                self.assertRegex(out, rf"# emqx\.conf:{number}(:|\n)", line)

    def test_bridges_of_5_1(self):
        out, notes = imported(prepared("emqx-5.1.conf"))
        found = keys(out)
        for key, value in {
            "listeners.tcp-default.bind": "127.0.0.1:1883",
            "listeners.tcp-default.allow_anonymous": "true",
            "bridges.old.servers": "127.0.0.1:9092",
            "bridges.old.from": '["t/#"]',
            "bridges.old.topic": "old_topic",
            "bridges.old.value_encoder": "json",
            "mqtt.max_topic_levels": "70",
        }.items():
            self.assertEqual(found.get(key), value, key)
        for word in ("nothing has this name", "include = more.conf: cannot open",
                     "bridges.mqtt.elsewhere", "less than all replicas"):
            self.assertIn(word, notes)
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_later_files_win(self):
        one = written("emqx-a.conf", 'mqtt { max_inflight = 10, max_packet_size = "2MB" }')
        two = written("cluster.hocon", "mqtt.max_inflight = 11")
        found = keys(imported(one, two)[0])
        self.assertEqual(found["mqtt.max_inflight_messages"], "11")
        self.assertEqual(found["mqtt.max_packet_size"], "2MiB")

    def test_users_of_other_kinds_open_nothing(self):
        path = written("emqx-ldap.conf", 'listeners.tcp.default.bind = 1883',
                       'authentication { mechanism = password_based, backend = ldap,'
                       ' password = "geheim" }')
        out, notes = imported(path)
        self.assertEqual(keys(out)["listeners.tcp-default.allow_anonymous"], "false")
        self.assertFalse([key for key in keys(out) if key.startswith("auth.")])
        self.assertIn("users of this kind (password_based, ldap)", notes)
        self.assertNotIn("geheim", notes + out)
        self.assertEqual(check().returncode, 0)

    def test_tokens_and_a_service(self):
        (temp.path / "jwt.secret").write_text("x" * 40, encoding="utf-8")
        (temp.path / "jwt.secret").chmod(0o600)
        path = written(
            "emqx-auth.conf", "listeners.tcp.default.bind = 1883", "authentication = [",
            "  { mechanism = jwt, from = username, secret = geheim, algorithm = hmac-based",
            "    secret_base64_encoded = false, acl_claim_name = rules, use_jwks = false",
            "    disconnect_after_expire = false",
            '    verify_claims { name = "${username}", cid = "${clientid}", iss = plant } }',
            "  { mechanism = password_based, backend = http, method = post",
            '    url = "https://accounts.example/auth", body { username = "${username}" }',
            '    headers { content-type = "application/json", authorization = "Bearer x" }',
            f'    ssl {{ enable = true, cacertfile = "{pki.ca}", verify = verify_peer }}',
            "    pool_size = 8, request_timeout = 3s, connect_timeout = 15s }",
            "  { mechanism = password_based, backend = http, url = second }", "]")
        out, notes = imported(path)
        found = keys(out)
        for key, value in {
            "order": '["jwt", "http"]',
            "jwt.from": "username",
            "jwt.secret_file": "jwt.secret",
            "jwt.secret_base64_encoded": "false",
            "jwt.acl_claim": "rules",
            "jwt.disconnect_after_expire": "false",
            "jwt.username_claim": "name",
            "jwt.clientid_claim": "cid",
            "jwt.issuer": "plant",
            "http.url": "https://accounts.example/auth",
            "http.authorization": "Bearer x",
            "http.cacertfile": str(pki.ca),
            "http.max_requests": "8",
            "http.request_timeout": "3s",
        }.items():
            self.assertEqual(found.get(f"auth.{key}"), value, key)
        for word in ("put it into the file jwt.secret", "body.username", "content-type",
                     "there is one of this kind already", "always verified"):
            self.assertIn(word, notes)
        self.assertNotIn("geheim", notes + out)
        done = check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_keys_of_tokens_elsewhere(self):
        path = written("emqx-keys.conf", 'authentication = { mechanism = jwt, public_key = "a.pem",'
                       ' endpoint = "https://accounts.example/jwks", refresh_interval = 300 }')
        out, notes = imported(path)
        self.assertEqual(keys(out)["auth.jwt.public_key_file"], "a.pem")
        self.assertEqual(keys(out)["auth.jwt.jwks_file"], "keys.jwks")
        for word in ("curl -fo keys.jwks", "refresh_interval", "its claim `sub`"):
            self.assertIn(word, notes)

    def test_a_claim_that_cannot_be_checked_lets_nobody_in(self):
        """It kept people out; so would nothing here."""
        for claims in ("{ role = plant }", '[{ name = role, value = "${cert_common_name}" }]'):
            path = written("emqx-claim.conf", "listeners.tcp.default.bind = 1883",
                           "authentication { mechanism = jwt, secret = x,"
                           f" verify_claims = {claims} }}")
            out, notes = imported(path)
            self.assertEqual(keys(out)["listeners.tcp-default.allow_anonymous"], "false")
            self.assertFalse([key for key in keys(out) if key.startswith("auth.")])
            self.assertIn("verify_claims.role = ", notes)
        path = written("emqx-url.conf", "authentication { mechanism = password_based,"
                       ' backend = http, url = "http://a/${username}" }')
        out, notes = imported(path)
        self.assertFalse([key for key in keys(out) if key.startswith("auth.")])
        self.assertIn("let the service take that", notes)

    def test_substitutions(self):
        path = written("emqx-sub.conf", "base { size = 3MB, alias = 7 }",
                       'host = "127.0.0.1"',
                       "mqtt.max_packet_size = ${base.size}", "mqtt.max_topic_alias = ${alias}",
                       "alias = ${base.alias}", 'listeners.tcp.default.bind = ${host}":"${PORT_OF}',
                       "mqtt.max_inflight = 9", "mqtt.max_inflight = ${?NO_SUCH}",
                       "mqtt.max_mqueue_len = ${?NO_SUCH}",
                       "common { max_connections = 5, bind = 1883 }",
                       "listeners.tcp.other = ${common}", "listeners.tcp.added = ${common}",
                       "listeners.tcp.added.bind = 1884",
                       "mqtt.max_topic_levels = ${mqtt.max_topic_levels}",
                       "mqtt.max_clientid_len = ${one}", "one = ${two}", "two = ${one}",
                       'listeners.tcp.third { bind = 1885, mountpoint = "${username}/" }')
        done = millrace("import", path, env={"PORT_OF": "1899"})
        found = keys(done.stdout)
        for key, value in {"mqtt.max_packet_size": "3MiB", "mqtt.topic_alias_maximum": "7",
                           "listeners.tcp-default.bind": "127.0.0.1:1899",
                           "mqtt.max_inflight_messages": "9",
                           "listeners.tcp-other.max_connections": "5",
                           "listeners.tcp-added.bind": "0.0.0.0:1884"}.items():
            self.assertEqual(found.get(key), value, key)
        for key in ("max_queued_messages", "max_topic_levels", "max_clientid_len"):
            self.assertNotIn(f"mqtt.{key}", found)
        self.assertIn("PORT_OF: its value is that of the environment", done.stderr)
        self.assertIn("emqx-sub.conf:12: added: an object from elsewhere", done.stderr)
        for line in (14, 15):
            self.assertRegex(done.stderr,
                             rf"emqx-sub\.conf:{line}: .*(nothing has this|cannot be taken)")

    def test_included_files(self):
        """Where they stand, from the folder of the file that includes them."""
        (temp.path / "sub").mkdir(exist_ok=True)
        path = written("emqx-inc.conf", "mqtt.max_inflight = 3", 'include "sub/one.conf"',
                       "mqtt.max_mqueue_len = 4", 'include "none.conf"', 'include url("http://x/")',
                       'mqtt { include required(file("sub/levels.conf")) }')
        written("sub/one.conf", "mqtt.max_inflight = 5", "mqtt.max_mqueue_len = 6",
                'include file("two.conf")')
        written("sub/two.conf", "mqtt.max_topic_alias = 8")
        written("sub/levels.conf", "max_topic_levels = 9")
        out, notes = imported(path)
        found = keys(out)
        for key, value in {"max_inflight_messages": "5", "max_queued_messages": "4",
                           "topic_alias_maximum": "8", "max_topic_levels": "9"}.items():
            self.assertEqual(found.get(f"mqtt.{key}"), value, key)
        self.assertIn("# two.conf:1", out)
        self.assertRegex(notes, r"emqx-inc\.conf:4: include = none\.conf: cannot open")
        self.assertRegex(notes, r"emqx-inc\.conf:5: include = .*only files are included")
        for lines, why in ((['include "loop.conf"'], r"loop\.conf:1: a file that includes itself"),
                           (["x = 1", "= 2"], r"loop\.conf:2: a key was expected"),
                           (['include required("none.conf")'], r"loop\.conf:1: .*required is not")):
            written("loop.conf", *lines)
            done = millrace("import", written("emqx-bad.conf", 'include "loop.conf"'), check=False)
            self.assertEqual((done.returncode, done.stdout), (65, ""), lines)
            self.assertRegex(done.stderr, why)

    def test_rules_of_acl_conf(self):
        """Those that mean the same here; the others are named, and refuse rather than allow."""
        path = written(
            "acl.conf", "%% as shipped, and more", '{allow, {username, "press-7"}, publish,',
            '  ["plant/press/#", {eq, "plant/x"}]}.',
            '{allow, {user, "desk"}, pubsub, ["desk/#"]}.',
            '{allow, all, subscribe, ["own/${username}/${clientid}/#", "news/%c"]}.',
            '{deny, {username, "desk"}, all, ["desk/vault/#"]}.',
            '{allow, {username, {re, "^dash"}}, subscribe, ["$SYS/#"]}.',
            '{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.',
            "{allow, {'and', [{clientid, \"c\"}, {username, \"u\"}]}, publish, [\"a\"]}.",
            '{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.',
            '{allow, all, {publish, [{qos, 1}]}, ["b"]}.', '{allow, all, publish, [{eq, "a/#"}]}.',
            '{allow, {username, "u"}, publish, ["${cert}/a", "of/%c"]}.',
            '{deny, all, all, ["secret/#"]}.', '{allow, {username, "boss"}, all, ["secret/#"]}.',
            "{deny, all}.", "{allow, all}.")
        done = millrace("import", path)
        rules = [line for line in done.stdout.splitlines() if line[:1] != "#"]
        self.assertEqual(rules, [
            "user press-7", "topic write plant/press/#", "user press-7", "topic write plant/x",
            "user desk", "topic readwrite desk/#", "pattern read own/%u/%c/#",
            "pattern read news/%c", "user desk", "topic deny desk/vault/#",
            "pattern deny secret/#"])
        for line, why in ((6, "also for what a rule above allows"), (7, "no equivalent"),
                          (8, "no equivalent"), (9, "no equivalent"), (10, "for reading and"),
                          (11, "QoS or retain"), (12, "a/#: this topic cannot be said"),
                          (13, r"\$\{cert\}/a: this topic"), (13, "of/%c: this topic"),
                          (15, "denies something to all"), (17, "denies everything to all")):
            self.assertRegex(done.stderr, rf"acl\.conf:{line}: .*{why}")
            self.assertRegex(done.stdout, rf"# acl\.conf:{line}: .*{why}")
        (temp.path / "rules.acl").write_text(done.stdout, encoding="utf-8")
        config = f"auth: {{ acl_file: {temp.path}/rules.acl }}\n"
        (temp.path / "out.yaml").write_text(config, encoding="utf-8")
        self.assertEqual(check().returncode, 0, check().stderr)
        for text, why in (("{allow, all}", "no `.`"), ('{allow, "x', "does not end"),
                          ("{{" * 20, "within each other"), ("{allow, ,}.", "was expected")):
            done = millrace("import", written("acl.conf", text), check=False)
            self.assertEqual(done.returncode, 65, text)
            self.assertRegex(done.stderr, rf"acl\.conf:\d+: .*{why}")

    def test_what_is_no_hocon_is_said_with_its_line(self):
        for text, why in (("a {\n b = 1\n", "does not end"), ("a = [1, 2", "does not end"),
                          ("x\n", "behind a key"), ('a = "b\n', "does not end"),
                          ("a = {" * 100, "within each other"), ("= 1", "a key was expected")):
            path = written("emqx-bad.conf", text)
            done = millrace("import", path, check=False)
            self.assertEqual((done.returncode, done.stdout), (65, ""), text)
            self.assertRegex(done.stderr, r"emqx-bad\.conf:\d+: ")
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
