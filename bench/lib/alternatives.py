"""alternatives - what the gateway might do instead, each measured by itself."""

from loads import PAYLOAD_BYTES, Loads

# Commits as the gateway makes them: at 20,000 events/s, and with 1,000 devices that wait.
COMMITS = {
    "sizes": {1200: 11, 54_000: 500},  # bytes, events
    "ways": {
        "thread": ["--by", "thread"],
        "owner": ["--by", "owner"],
        "ring": ["--by", "ring"],
        "ring_dsync": ["--by", "ring", "--dsync"],
        "dsync": ["--by", "thread", "--dsync"],
        "direct": ["--by", "thread", "--direct"],
        "direct_dsync": ["--by", "thread", "--direct", "--dsync"],
        "reserved": ["--by", "thread", "--into", "reserved"],
        "growing": ["--by", "thread", "--into", "growing"],
        "lanes_2": ["--by", "thread", "--lanes", 2],
        "merged": ["--by", "thread"],  # one batch of twice the size
    },
}
COMMIT_LABELS = {
    "thread": "a thread, buffered, fdatasync, zeroed file (the gateway)",
    "owner": "in the owner's loop",
    "ring": "io_uring, write and fdatasync linked",
    "ring_dsync": "io_uring, write with RWF_DSYNC",
    "dsync": "a thread, RWF_DSYNC",
    "direct": "a thread, O_DIRECT, fdatasync",
    "direct_dsync": "a thread, O_DIRECT, RWF_DSYNC",
    "reserved": "a thread, file reserved by posix_fallocate",
    "growing": "a thread, file that grows",
    "lanes_2": "two lanes at once, a file and thread each (CPU of both)",
    "merged": "two lanes merged into one file",
}
SOCKETS = {
    "plain": [],
    "busy_poll": ["--busy-poll", 50],
    "spin": ["--spin"],
    "zerocopy": ["--zerocopy"],
}
SOCKET_LABELS = {
    "plain": "epoll, send (the floor server)",
    "busy_poll": "SO_BUSY_POLL 50 µs",
    "spin": "an epoll that never sleeps",
    "zerocopy": "MSG_ZEROCOPY",
}
SOCKETS_RATE = 20_000


class Alternatives(Loads):
    def run_commit(self, way, size):
        events = COMMITS["sizes"][size]
        if way in ("lanes_2", "merged"):
            events *= 2
        said = self.tool("commit", "--path", self.work / "commit.tmp", "--bytes",
                         size * 2 if way == "merged" else size, "--count",
                         max(int(1000 * self.args.scale), 100), *COMMITS["ways"][way])
        return dict(commit_p50=said["commit_us_p50"], commit_p99=said["commit_us_p99"],
                    commit_cpu_ns=said["cpu_ns_per_commit"],
                    event_cpu_ns=said["cpu_ns_per_commit"] / events,
                    switches=said["switches_per_commit"])

    def run_sockets(self, way):
        with self.floor(*SOCKETS[way]) as (server, port):
            said = self.tool("load", "--port", port, "--server-pid", server.pid, "--count",
                             self.scaled(3 * SOCKETS_RATE), "--rate", SOCKETS_RATE,
                             "--connections", 1000, "--burst", 1, "--window", 1000, "--bytes",
                             PAYLOAD_BYTES)
            spent = said["server_cpu_end_ns"] - said["server_cpu_begin_ns"]
            return dict(cpu_ns=spent / said["acked"], **self.said_of(said))
