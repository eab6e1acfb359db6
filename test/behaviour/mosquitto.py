"""mosquitto - a real Mosquitto beside the gateway, to compare with."""

import subprocess

import ports
from harness import PATIENCE, Lines, Temp, popen, program


class Mosquitto:
    """One `mosquitto` on a free port of 127.0.0.1; `config`: lines beside the listener's."""

    def __init__(self, config=""):
        self.temp = Temp("mosquitto")
        self.port = ports.take()
        self.file = self.temp.path / "mosquitto.conf"
        config = config.format(folder=self.temp.path)
        self.file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{config}",
                             encoding="utf-8")
        self.spawn()

    def spawn(self):
        self.process = popen([program("mosquitto"), "-c", self.file], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             errors="backslashreplace")
        self.log = Lines(self.process.stderr)

    def start(self):
        """Again, on the same port and folder."""
        self.spawn()
        self.log.wait(r"mosquitto version .* running")

    def kill(self):
        """As a crash."""
        self.process.kill()
        self.gone()

    def restart(self):
        """As an operator does: it writes down what it has."""
        self.process.terminate()
        self.gone()
        self.start()

    def gone(self):
        self.process.wait(PATIENCE)
        self.log.thread.join(PATIENCE)

    def __enter__(self):
        self.log.wait(r"mosquitto version .* running")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.gone()
        self.temp.remove()
