"""peer - what one would pick instead of millrace, and what their processes cost."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess

from process import Failed, free_port, mqtt_served, wait_until

HERE = pathlib.Path(__file__).resolve().parent
CLASSES = {
    "D0": "the PUBACK leaves before anything is written anywhere",
    "D3": "the PUBACK leaves after a flush to disk",
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    title: str
    durability: str  # one of CLASSES
    parts: tuple  # folders beside this file, in the order of their start
    bridge: bool  # into Kafka; otherwise a broker alone
    fast: int = 1  # so many times the events of the others: a run of seconds, not of moments
    variables: tuple = ()  # (NAME, value) for its templates
    session: bool = False  # a client that is away has subscribed: the broker keeps everything

    @property
    def own(self):
        return self.parts[0] == "millrace"


PEERS = (
    Peer("millrace_disk", "millrace, `ack: disk`", "D3", ("millrace",), True, 10,
         (("ACK", "disk"),)),
    Peer("millrace_memory", "millrace, `ack: memory`", "D0", ("millrace",), True, 10,
         (("ACK", "memory"),)),
    Peer("mochi", "mochi-mqtt + franz-go, a program", "D0", ("mochi",), True, 2),
    Peer("rmqtt", "RMQTT + its Kafka plug-in", "D0", ("rmqtt",), True),
    Peer("hivemq", "HiveMQ CE + a Kafka extension", "D0", ("hivemq",), True),
    Peer("telegraf", "Mosquitto + Telegraf", "D0", ("mosquitto", "telegraf"), True),
    Peer("benthos", "Mosquitto + benthos", "D0", ("mosquitto", "benthos"), True),
    Peer("journal_disk", "millrace, `ack: disk`, no bridge", "D3", ("millrace",), False, 10,
         (("ACK", "disk"),)),
    Peer("journal_memory", "millrace, `ack: memory`, no bridge", "D0", ("millrace",), False, 10,
         (("ACK", "memory"),)),
    Peer("mosquitto", "Mosquitto", "D0", ("mosquitto",), False, 5),
    Peer("rabbitmq", "RabbitMQ with its MQTT plug-in", "D0", ("rabbitmq",), False),
    Peer("rabbitmq_quorum", "RabbitMQ, into a quorum queue", "D3", ("rabbitmq",), False, 1,
         (("QUEUES", "quorum"),), session=True),
)
# What stands for "what one would pick instead": programs of our own are not.
PRODUCTS = ("rmqtt", "hivemq", "telegraf", "benthos")


def stat_fields(pid):
    """Of /proc/PID/stat, from the state (field 3) on."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2:].split()


def process_cpu_ns(pid):
    """Of the whole process, threads that have ended too (which schedstat has not)."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) * 10**9 // TICKS


def session_cpu_ns(session):
    """Of all processes of a session."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(stat_fields(folder.name)[3]) == session:
                total += process_cpu_ns(folder.name)
    return total


def machine_busy_ns():
    """Of all processors since the machine started, whoever used them."""
    line = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, line[1:8])
    return (user + nice + system + irq + softirq) * 10**9 // TICKS


def end_session(started):
    """SIGTERM to the group that `started` leads, SIGKILL to what is left of it."""
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(started.pid, number)
            started.wait(patience)
    started.wait()


def leave_session(port):
    """A client subscribes to all of the load at QoS 1, with a session that stays, and goes."""
    topic = b"sensors/#"
    connect = b"\x10\x10\x00\x04MQTT\x04\x00\x00\x00\x00\x04away"
    subscribe = bytes([0x82, 5 + len(topic), 0, 1, 0, len(topic)]) + topic + b"\x01"
    dialogue = ((connect, b"\x20\x02\x00\x00"), (subscribe, b"\x90\x03\x00\x01\x01"))
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        for packet, answer in dialogue:
            sock.sendall(packet)
            said = sock.recv(len(answer), socket.MSG_WAITALL)
            if said != answer:
                raise Failed(f"a client with a session that stays was told {said.hex()}")
        sock.sendall(b"\xe0\x00")


class Running:
    """The processes of one peer."""

    def __init__(self, port):
        self.port = port
        self.started = []

    def cpu_ns(self):
        return sum(session_cpu_ns(process.pid) for process in self.started)

    def check(self):
        for process in self.started:
            if process.poll() is not None:
                raise Failed(f"{process.part} ended with {process.returncode}")

    def logs(self):
        """The ends of all that they wrote of themselves."""
        parts = []
        for process in self.started:
            for log in sorted(process.log.parent.glob("*log")):
                text = log.read_text(errors="replace").strip()[-2000:]
                if text:
                    parts.append(f"{process.part}, {log.name}:\n{text}")
        return "\n".join(parts)


@contextlib.contextmanager
def running(peer, folder, build, servers, topic):
    """The peer, serving MQTT; its files are in `folder`, one each."""
    peer_at = Running(free_port())
    try:
        for part in peer.parts:
            files = folder / part
            files.mkdir()
            env = dict(os.environ, PORT=str(peer_at.port), OTHER_PORT=str(free_port()),
                       THIRD_PORT=str(free_port()), SERVERS=servers or "none",
                       TOPIC=topic or "", FOLDER=str(files), MILLRACE=str(build / "millrace"),
                       **dict(peer.variables))
            with open(files / "log", "w") as log:
                process = subprocess.Popen([HERE / "start.sh", part], env=env, stdout=log,
                                           stderr=log, stdin=subprocess.DEVNULL,
                                           start_new_session=True)
            process.part, process.log = part, files / "log"
            peer_at.started.append(process)

            def served():
                peer_at.check()
                return mqtt_served(peer_at.port)

            wait_until(served, 60, f"the start of {part}")
        if peer.session:
            leave_session(peer_at.port)
        yield peer_at
        peer_at.check()
    except Failed as why:
        raise Failed(f"{why}\n{peer_at.logs()}") from why
    finally:
        for process in reversed(peer_at.started):
            end_session(process)
