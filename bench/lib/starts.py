"""starts - how fast the gateway is there again, and everyone is back."""

import time

from loads import Loads
from process import drop_caches, mqtt_served, wait_until

JOURNAL_EVENTS = 8_500_000  # a gigabyte of journal


class Starts(Loads):
    def run_recovery(self):
        """kill -9 behind a gigabyte of journal; from the next start to the first CONNACK."""
        with self.folder() as folder:
            with self.gateway_in(folder) as server:
                self.await_ready(server)
                count = self.scaled(JOURNAL_EVENTS)
                self.tool("load", *self.load_options("a", server.port, server.pid, count,
                                                     self.work / "ledger"))
                journal = self.metrics(server)["millrace_journal_written_bytes_total"]
                server.kill()
                server.wait()
            cold = drop_caches()
            began = time.monotonic()
            with self.gateway_in(folder) as server:
                wait_until(lambda: mqtt_served(server.port), 120, "the first CONNACK")
                took = time.monotonic() - began
                self.end(server)
        return dict(recovery_ms=took * 1e3, journal_bytes=journal, cold=int(cold))

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
