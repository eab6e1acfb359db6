"""resources - memory, disk and CPU that are taken while little happens."""

from loads import PAYLOAD_BYTES, Loads

TRICKLE_RATE = 10_000
TRICKLE_SECONDS = 10
IDLE_CONNECTIONS = 15_000  # a process may have 20,000 descriptors
IDLE_SECONDS = 5


class Resources(Loads):
    def run_bytes(self):
        """Journal bytes per payload byte where commits are small: 10,000 events/s.

        Counted by the gateway (batches and records), and as its writes are: in whole pages.
        """
        trace = self.work / "commits-bytes"
        with self.traced(BENCH_TRACE=trace), self.gateway(None) as (server, port):
            said = self.tool("load", "--port", port, "--count",
                             self.scaled(TRICKLE_SECONDS * TRICKLE_RATE), "--rate", TRICKLE_RATE,
                             "--connections", 1000, "--burst", 1, "--window", 1000, "--bytes",
                             PAYLOAD_BYTES, "--realtime")
            metrics = self.metrics(server)
        payload = said["acked"] * PAYLOAD_BYTES
        pages = sum(int(line.split()[1]) for line in trace.read_text().splitlines())
        written = metrics["millrace_journal_written_bytes_total"]
        return dict(bytes_per_payload_byte=written / payload,
                    pages_per_payload_byte=pages / payload,
                    events_per_commit=said["acked"] / metrics["millrace_journal_commits_total"],
                    **self.said_of(said))

    def run_idle(self, subject):
        """Memory of a connection that says nothing, and the CPU time of 15,000 of them."""
        server_of = self.floor() if subject == "floor" else self.gateway(None)
        with server_of as (server, port):
            return self.idle(server, port, "--hold", IDLE_SECONDS)

    def run_idle_tls(self, subject):
        with self.tls_server(subject) as (server, port):
            return self.idle(server, port, "--tls")

    def idle(self, server, port, *options):
        many = max(int(IDLE_CONNECTIONS * min(self.args.scale, 1)), 300)
        said = self.tool("idle", "--port", port, "--server-pid", server.pid, "--few",
                         many * 2 // 15, "--many", many, *options)
        result = dict(bytes_per_connection=said["bytes_per_connection"], connections=many)
        if "cpu_ms_per_s" in said:
            result["idle_cpu_ms"] = said["cpu_ms_per_s"]
        return result
