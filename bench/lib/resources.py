"""resources - memory, disk and CPU that are taken while little happens."""

from loads import PAYLOAD_BYTES, Loads

TRICKLE_RATE = 10_000
TRICKLE_SECONDS = 10


class Resources(Loads):
    def run_bytes(self):
        """Journal bytes per payload byte where commits are small: 10,000 events/s."""
        with self.gateway(None) as (server, port):
            before = self.metrics(server)["millrace_journal_written_bytes_total"]
            said = self.tool("load", "--port", port, "--count",
                             self.scaled(TRICKLE_SECONDS * TRICKLE_RATE), "--rate", TRICKLE_RATE,
                             "--connections", 1000, "--burst", 1, "--window", 1000, "--bytes",
                             PAYLOAD_BYTES)
            metrics = self.metrics(server)
            written = metrics["millrace_journal_written_bytes_total"] - before
        return dict(bytes_per_payload_byte=written / (said["acked"] * PAYLOAD_BYTES),
                    events_per_commit=said["acked"] / metrics["millrace_journal_commits_total"],
                    **self.said_of(said))

    def run_idle(self, subject):
        server_of = self.floor() if subject == "floor" else self.gateway(None)
        with server_of as (server, port):
            said = self.tool("idle", "--port", port, "--server-pid", server.pid)
        return dict(bytes_per_connection=said["bytes_per_connection"])
