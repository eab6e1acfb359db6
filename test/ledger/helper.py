"""helper - a process of this folder (publisher.py, subscriber.py), and what it says of itself."""

import json
import pathlib
import subprocess
import sys

import harness

HERE = pathlib.Path(__file__).resolve().parent


class Helper:
    def __init__(self, script, **options):
        self.script = script
        self.process = harness.popen(
            [sys.executable, "-B", HERE / script, json.dumps(options)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = harness.Lines(self.process.stdout)
        self.errors = harness.Lines(self.process.stderr)

    def said(self):
        """Its last word, {} before the first."""
        return json.loads(self.lines.all[-1]) if self.lines.all else {}

    def wait_first_word(self):
        self.lines.wait("{")
        return self.said()

    def check(self):
        if self.process.poll() not in (None, 0):
            self.errors.thread.join(harness.PATIENCE)
            raise AssertionError(f"{self.script} ended:\n{self.errors.text()}")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_end(self, patience):
        """Its last word; None when it is still at it."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        self.lines.thread.join(harness.PATIENCE)
        self.check()
        return self.said()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.lines.thread.join(harness.PATIENCE)
        self.errors.thread.join(harness.PATIENCE)
