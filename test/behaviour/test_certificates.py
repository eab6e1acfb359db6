"""Client certificates as user names: `tls.identity_from`."""

import json
import ssl
import unittest

import wire
from certs import EC, Pki
from harness import Gateway, Temp, millrace

KINDS = {"cn": "press-7", "subject": "CN=press-7,OU=hall\\, 3,O=plant",
         "san_dns": "press-7.plant.example", "san_email": "press-7@plant.example",
         "san_uri": "urn:plant:press-7"}


def setUpModule():
    global temp, pki, gateway, ports
    temp = Temp("certificates")
    pki = Pki(temp.path / "pki")
    cert, key = pki.issue("server", "localhost")
    issue("press", "/O=plant/OU=hall, 3/CN=press-7",
          "DNS:press-7.plant.example,DNS:second.example,email:press-7@plant.example,"
          "URI:urn:plant:press-7,IP:127.0.0.1")
    issue("bare", "/O=plant", "IP:127.0.0.1")
    tls = (f"certfile: {cert}, keyfile: {key}, cacertfile: {pki.ca}, require_certificate: true, "
           "use_identity_as_username: true")
    gateway = Gateway("listeners:\n" + "".join(
        f'  {kind}: {{ bind: "127.0.0.1:0", tls: {{ {tls}, identity_from: {kind} }} }}\n'
        for kind in KINDS)).start()
    ports = {kind: int(gateway.wait_log(rf"listening on \S*:(\d+) \({kind}\)")[1])
             for kind in KINDS}


def tearDownModule():
    with gateway:
        pass
    temp.remove()


def issue(file, subject, names):
    (pki.folder / f"{file}.ext").write_text(f"subjectAltName={names}\n", encoding="ascii")
    pki.openssl("req", *EC, "-subj", subject, "-keyout", f"{file}.key", "-out", f"{file}.csr")
    pki.openssl("x509", "-req", "-in", f"{file}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", f"{file}.ext", "-days", "30",
                "-out", f"{file}.crt")


class Identity(unittest.TestCase):
    def code(self, kind, file, topic=None):
        context = ssl.create_default_context(cafile=pki.ca)
        context.load_cert_chain(pki.folder / f"{file}.crt", pki.folder / f"{file}.key")
        with wire.Wire(ports[kind]) as peer:
            peer.sock = context.wrap_socket(peer.sock, server_hostname="localhost")
            peer.send(wire.connect("who"))
            code = peer.read()[1][1]
            if topic:
                peer.send(wire.publish(topic, b"1", 1, 1))
                self.assertEqual(peer.read()[0] >> 4, wire.PUBACK)
            return code

    def test_each_part_of_a_certificate_may_be_the_name(self):
        for kind in KINDS:
            self.assertEqual(self.code(kind, "press", f"identity/{kind}"), 0)
        shown = millrace("journal", "cat", "--json", "--data", gateway.data).stdout
        events = [json.loads(line) for line in shown.splitlines()]
        self.assertEqual({one["topic"].split("/")[1]: one["username"] for one in events
                          if one.get("topic", "").startswith("identity/")}, KINDS)

    def test_a_certificate_without_that_part_does_not_come_in(self):
        self.assertEqual(self.code("subject", "bare"), 0)
        for kind in KINDS.keys() - {"subject"}:
            self.assertEqual(self.code(kind, "bare"), 4)


if __name__ == "__main__":
    unittest.main()
