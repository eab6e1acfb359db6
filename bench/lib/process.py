"""process - start programs, read what they cost, and end them by their pid."""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time


class Failed(Exception):
    """A run that cannot count."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_ns(pid):
    """On-CPU nanoseconds of all threads of a process: the scheduler's own count, not ticks."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def threads_cpu_ns(pid):
    """The same by the names of the threads."""
    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text().strip()
            threads[name] = threads.get(name, 0) + int((task / "schedstat").read_text().split()[0])
    return threads


def peak_memory_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


class Stolen:
    """Which share of the machine's time its host gave to others while the block ran."""

    share = 0.0

    @staticmethod
    def ticks():
        """(stolen, all), since the machine began."""
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        return int(fields[7]), sum(map(int, fields))

    def __enter__(self):
        self.before = self.ticks()
        return self

    def __exit__(self, *_):
        stolen, total = (now - then for now, then in zip(self.ticks(), self.before))
        self.share = stolen / max(total, 1)


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what} took longer than {seconds} s")
        time.sleep(0.01)  # sleep: a state that tells nobody when it changes


def port_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def mqtt_served(port):
    """A CONNECT is answered with CONNACK 0."""
    connect = bytes([0x10, 17, 0, 4, *b"MQTT", 4, 2, 0, 0, 0, 5, *b"first"])
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.settimeout(5)
            sock.sendall(connect)
            return sock.recv(4) == b"\x20\x02\x00\x00"
    except OSError:
        return False


def drop_caches():
    """As after a power cut: nothing of the journal is in memory.  False: not permitted."""
    try:
        subprocess.run(["sync"], check=True)
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1\n")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@contextlib.contextmanager
def process(command, stderr=None, **options):
    """A process that is ended, by its pid, when the block is left."""
    started = subprocess.Popen([str(part) for part in command], stderr=stderr, **options)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
