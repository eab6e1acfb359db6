"""mosquitto - a real Mosquitto beside the gateway, to compare with."""

import socket
import subprocess

from harness import PATIENCE, Lines, Temp, popen, program


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Mosquitto:
    """One `mosquitto` on a free port of 127.0.0.1; `config`: lines beside the listener's."""

    def __init__(self, config=""):
        self.temp = Temp("mosquitto")
        self.port = free_port()
        file = self.temp.path / "mosquitto.conf"
        file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{config}",
                        encoding="utf-8")
        self.process = popen([program("mosquitto"), "-c", file], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             errors="backslashreplace")
        self.log = Lines(self.process.stderr)

    def __enter__(self):
        self.log.wait(r"mosquitto version .* running")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.thread.join(PATIENCE)
        self.temp.remove()
