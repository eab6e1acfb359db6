"""starts - how fast the gateway is there again, everyone is back, and who comes is let in."""

import re
import subprocess
import time

from loads import Loads
from process import Failed, drop_caches, mqtt_served, wait_until

JOURNAL_EVENTS = 8_500_000  # a gigabyte of journal
VISITS = 20_000
TLS_VISITS = 1500


class Starts(Loads):
    def run_recovery(self):
        """kill -9 behind a gigabyte of journal; each of the following with cold caches.

        All of it read with a checksum and no more; all of it verified; and a start, until
        the first CONNACK.
        """
        with self.folder() as folder:
            with self.gateway_in(folder) as server:
                self.await_ready(server)
                self.tool("load", *self.load_options("a", server.port, server.pid,
                                                     self.scaled(JOURNAL_EVENTS),
                                                     self.work / "ledger"))
                journal = self.metrics(server)["millrace_journal_written_bytes_total"]
                server.kill()
                server.wait()
            lane = folder / "data/journal/lane-00"
            segments = sum(path.stat().st_size for path in lane.glob("[0-9]*.seg"))
            cold = drop_caches()
            read_s = self.whole_journal("bench_read", "--folder", lane)
            drop_caches()
            verify_s = self.whole_journal("millrace", "journal", "verify", "-q", "--data",
                                          folder / "data", "-c", folder / "bench.yaml")
            drop_caches()
            began = time.monotonic()
            with self.gateway_in(folder) as server:
                wait_until(lambda: mqtt_served(server.port), 120, "the first CONNACK")
                took = time.monotonic() - began
                self.end(server)
        return dict(recovery_ms=took * 1e3, journal_bytes=journal, cold=int(cold),
                    read_per_s=segments / read_s, verify_per_s=segments / verify_s,
                    start_per_s=journal / took)

    def whole_journal(self, program, *options):
        """Seconds of a program that reads all of it, from its start to its end.

        The journal's bytes come from the disk, the program's own do not: its libraries would count
        as if they were journal.
        """
        program = self.build / program
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
        began = time.monotonic()
        done = subprocess.run([program, *options], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        took = time.monotonic() - began
        if done.returncode != 0:
            raise Failed(f"{program.name} ended with {done.returncode}: {done.stdout}")
        return took

    def run_sessions(self):
        """15,000 persistent sessions: all come back at once, then once more after kill -9."""
        with self.folder() as folder:
            with self.gateway_in(folder) as server:
                self.await_ready(server)
                made = self.tool("sessions", "--port", server.port, "--prepare")
                back = self.tool("sessions", "--port", server.port, "--return")
                server.kill()
                server.wait()
            began = time.monotonic()
            with self.gateway_in(folder) as server:
                wait_until(lambda: mqtt_served(server.port), 120, "the first CONNACK")
                started = time.monotonic() - began
                again = self.tool("sessions", "--port", server.port, "--return")
                self.end(server)
        return dict(sessions=back["clients"], made_s=made["seconds"], back_s=back["seconds"],
                    back_p99=back["connack_us_p99"], restart_ms=started * 1e3,
                    again_s=again["seconds"])

    # ---- connections that come and go ----

    def visit(self, server, port, *options):
        said = self.tool("visit", "--port", port, "--server-pid", server.pid, *options)
        return dict(visits_per_s=said["visits_per_s"], cpu_ns=said["server_cpu_ns_per_visit"],
                    visit_p99=said["visit_us_p99"])

    def run_connect(self, subject):
        """CONNECT to CONNACK, 100 at a time."""
        server_of = self.floor() if subject == "floor" else self.gateway(None)
        with server_of as (server, port):
            return self.visit(server, port, "--count", self.scaled(VISITS))

    def run_handshakes(self, subject):
        """Visits with TLS 1.3 and an EC key, of an echo server or of the gateway."""
        count = max(int(TLS_VISITS * self.args.scale), 200)
        with self.tls_server(subject) as (server, port):
            result = self.visit(server, port, "--count", count, "--opening", 20, "--tls")
        if subject == "gateway":
            # What of it is the handshake's: a visit without TLS costs the rest.
            with self.gateway(None) as (server, port):
                plain = self.visit(server, port, "--count", count, "--opening", 20)
            result["handshake_ns"] = result["cpu_ns"] - plain["cpu_ns"]
        return result

    def run_openssl(self):
        """What the cryptography of a handshake takes alone: a signature, and two of X25519."""
        said = subprocess.run(["openssl", "speed", "-seconds", "1", "-mr", "ecdsap256",
                               "ecdhx25519"], text=True, capture_output=True, check=True).stdout
        rates = {}
        for key, line in re.findall(r"^\+(F4|F5):(.*)$", said, re.M):
            rate = float(line.split(":")[2])  # of older ones it is the time of one
            rates[key] = rate if rate > 1 else 1 / rate
        return dict(handshake_ns=(1 / rates["F4"] + 2 / rates["F5"]) * 1e9)
