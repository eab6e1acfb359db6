"""beside - millrace and Mosquitto under the same load, one after the other, in one run.

Each function is one measurement of one subject; the load comes from the programs of this folder.
Not part of a whole run: `bench/run --only beside` (some eight minutes), or `beside/fanout` etc.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import time

from process import Failed, free_port, port_open, process, wait_until

SUBJECTS = ("millrace", "mosquitto")
RETAINED = 1_000_000
FILTERS = 1_000_000
SUBSCRIBERS = 1000
# As many half-open connections as Mosquitto's accept queue (100) takes without dropping SYNs,
# which would measure the kernel's timers; the same for both.
STORM_OPENING = 100
SHAPES = {  # name: (publishers, QoS, publishes)
    "1_to_1000_qos0": (1, 0, 1000),
    "1_to_1000_qos1": (1, 1, 1000),
    "1000_to_1000_qos0": (1000, 0, 1000),
    "1000_to_1000_qos1": (1000, 1, 1000),
}


def resident_bytes(pid):
    """Proportional set size: what would be free if the process were not there."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * 1024


class Beside:
    """Beside Subjects, whose `tool` and `gateway` it uses."""

    @contextlib.contextmanager
    def mosquitto(self):
        if shutil.which("mosquitto") is None:
            raise Failed("mosquitto is not installed (tools/packages/test)")
        port = free_port()
        with self.folder() as folder:
            config = folder / "mosquitto.conf"
            # Nothing of what is measured may be dropped for being too much.
            config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 0\n"
                              "max_queued_messages 0\nlog_type error\n")
            with process(["mosquitto", "-c", config], stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL) as server:
                wait_until(lambda: port_open(port), 10, "Mosquitto's start")
                yield server, port

    def beside(self, subject, **limits):
        return self.mosquitto() if subject == "mosquitto" else self.gateway(None, **limits)

    def run_fanout(self, subject, shape):
        publishers, qos, count = SHAPES[shape]
        with self.beside(subject) as (server, port):
            said = self.tool("fanout", "--port", port, "--publishers", publishers,
                             "--subscribers", SUBSCRIBERS, "--qos", qos, "--count",
                             max(int(count * self.args.scale), 50), "--server-pid", server.pid)
        return self.copies(said)

    @staticmethod
    def copies(said):
        return dict(copies_per_s=said["copies_per_s"], cpu_ns=said["server_cpu_ns_per_copy"],
                    copy_p50=said["copy_us_p50"], copy_p99=said["copy_us_p99"],
                    subscribe_s=said["subscribe_s"])

    def run_filters(self, subject):
        """A publish meets one of a million filters with wildcards."""
        each = max(int(FILTERS * self.args.scale), SUBSCRIBERS) // SUBSCRIBERS
        with self.beside(subject) as (server, port):
            before = resident_bytes(server.pid)
            said = self.tool("fanout", "--port", port, "--subscribers", SUBSCRIBERS, "--filters",
                             each, "--count", max(int(300_000 * self.args.scale), 1000),
                             "--window", 500, "--server-pid", server.pid)
            memory = resident_bytes(server.pid) - before
        return dict(bytes_per_filter=memory / (each * SUBSCRIBERS), **self.copies(said))

    def run_storm(self, subject):
        """15,000 persistent sessions with a subscription come back at once."""
        with self.beside(subject) as (_, port):
            made = self.tool("sessions", "--port", port, "--prepare", "--opening", STORM_OPENING)
            back = self.tool("sessions", "--port", port, "--return", "--opening", STORM_OPENING)
        return dict(made_s=made["seconds"], back_s=back["seconds"],
                    back_p99=back["connack_us_p99"])

    def run_retained(self, subject):
        count = max(int(RETAINED * self.args.scale), 1000)
        with self.beside(subject, mqtt="max_retained_messages: 2000000, "
                                       "max_retained_bytes: 1GiB") as (server, port):
            before = resident_bytes(server.pid)
            made = self.tool("retained", "--port", port, "--count", count, "--publish")
            time.sleep(3)  # sleep: a checkpoint, after which the messages are on disk alone
            memory = resident_bytes(server.pid) - before
            asked = self.tool("retained", "--port", port, "--count", count, "--subscribe")
        return dict(made_per_s=count / made["seconds"], bytes_per_message=memory / count,
                    subscribe_s=asked["seconds"], first_s=asked["first_s"])

    def run_subtree(self, spread):
        said = self.tool("subtree", *(["--spread"] if spread else []))
        return dict(match_ns=said["match_ns"], matches_per_s=said["matches_per_s"],
                    add_ns=said["add_ns"], bytes_per_filter=said["bytes_per_filter"])


def beside_plan():
    """(name, function) in the order of one repetition."""
    runs = []
    for shape in SHAPES:
        runs += [(f"beside/fanout/{shape}/{subject}",
                  lambda b, s=subject, shape=shape: b.run_fanout(s, shape))
                 for subject in SUBJECTS]
    for name in ("filters", "storm", "retained"):
        runs += [(f"beside/{name}/{subject}",
                  lambda b, s=subject, name=name: getattr(b, f"run_{name}")(s))
                 for subject in SUBJECTS]
    return runs + [("beside/subtree/own", lambda b: b.run_subtree(False)),
                   ("beside/subtree/spread", lambda b: b.run_subtree(True))]
