"""certs - a CA and what it signs, made by openssl in a folder of the test's.

    pki = Pki(folder)
    pki.issue("server", "localhost")      server.crt and server.key
    pki.ca                                path of ca.crt
"""

import subprocess

from harness import program

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Newer clients are strict: who signed, and what for, has to be said.
NAMES = ("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
         "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")


class Pki:
    def __init__(self, folder, name="millrace test CA"):
        self.folder = folder
        self.ca = folder / "ca.crt"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "san.ext").write_text(NAMES, encoding="ascii")
        self.openssl("req", "-x509", *EC, "-days", "30", "-subj", f"/CN={name}",
                     "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                     "-keyout", "ca.key", "-out", "ca.crt")

    def openssl(self, *args, check=True):
        done = subprocess.run([program("openssl"), *args], cwd=self.folder, capture_output=True,
                              text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"openssl {args}: {done.stderr}")
        return done.returncode == 0

    def issue(self, file, name, expired=False, key=EC, names=None):
        """FILE.crt and FILE.key for NAME; returns both paths.  `names`: instead of localhost."""
        extensions = "san.ext"
        if names:
            extensions = f"{file}.ext"
            theirs = ",".join(f"DNS:{one}" for one in names)
            (self.folder / extensions).write_text(
                NAMES.replace("DNS:localhost,IP:127.0.0.1", theirs), encoding="ascii")
        self.openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{file}.key",
                     "-out", f"{file}.csr")
        sign = ("x509", "-req", "-in", f"{file}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", extensions, "-out", f"{file}.crt")
        if not expired:
            self.openssl(*sign, "-days", "30")
        elif not self.openssl(*sign, "-days", "-1", check=False):  # newer ones ask for dates
            self.openssl(*sign, "-not_before", "20200101000000Z", "-not_after", "20200201000000Z")
        return self.folder / f"{file}.crt", self.folder / f"{file}.key"

    def issue_until(self, file, name, end):
        """The same as issue(), good until `end` (a datetime in UTC), to the second."""
        self.openssl("req", *EC, "-subj", f"/CN={name}", "-keyout", f"{file}.key",
                     "-out", f"{file}.csr")
        (self.folder / "until.conf").write_text(
            "[ca]\ndefault_ca=one\n[one]\ndatabase=until.txt\ndefault_md=sha256\n"
            "new_certs_dir=.\nrand_serial=yes\npolicy=any\n[any]\ncommonName=supplied\n",
            encoding="ascii")
        (self.folder / "until.txt").touch()
        (self.folder / "until.txt.attr").write_text("unique_subject = no\n", encoding="ascii")
        self.openssl("ca", "-config", "until.conf", "-cert", "ca.crt", "-keyfile", "ca.key",
                     "-batch", "-notext", "-extfile", "san.ext",
                     "-startdate", "20200101000000Z", "-enddate", f"{end:%Y%m%d%H%M%SZ}",
                     "-in", f"{file}.csr", "-out", f"{file}.tmp")
        (self.folder / f"{file}.tmp").replace(self.folder / f"{file}.crt")

    def expired_list(self):
        """old-crl.pem, whose time is over; after revoke()."""
        self.openssl("ca", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key", "-gencrl",
                     "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z",
                     "-out", "old-crl.pem")
        return self.folder / "old-crl.pem"

    def revoke(self, *files):
        """crl.pem with the certificates of these files on it."""
        (self.folder / "ca.conf").write_text(
            "[ca]\ndefault_ca=one\n[one]\ndatabase=index.txt\ndefault_md=sha256\n"
            "default_crl_days=30\n", encoding="ascii")
        (self.folder / "index.txt").touch()
        ours = ("ca", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key")
        for file in files:
            self.openssl(*ours, "-revoke", f"{file}.crt")
        self.openssl(*ours, "-gencrl", "-out", "crl.pem")
        return self.folder / "crl.pem"
