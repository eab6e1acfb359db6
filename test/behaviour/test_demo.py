"""./dev demo shows events flowing, and leaves nothing behind when it is interrupted."""

import os
import pathlib
import re
import signal
import subprocess
import unittest

from harness import PATIENCE, ROOT, Lines, cannot, program, until


def processes_naming(text):
    """Command lines of all processes that mention `text`."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if text in line:
            found.append(line)
    return found


class Demo(unittest.TestCase):
    def demo(self, *options):
        demo = subprocess.Popen(
            [ROOT / "dev", "demo", "--sensors", "200", "--rate", "1000", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )
        self.addCleanup(self.end, demo)
        lines = Lines(demo.stdout)
        try:
            folder = lines.wait(r"--data (\S+)/data", PATIENCE * 4)[1]
            lines.wait(r"acked [1-9]\d* ", PATIENCE)
        except AssertionError:
            os.killpg(demo.pid, signal.SIGTERM)
            raise
        return demo, lines, folder

    def end(self, demo):
        """Whatever became of the test: it is asked, and has to obey."""
        if demo.poll() is None:
            demo.terminate()
        demo.wait(PATIENCE * 2)

    def interrupt(self, demo, lines, folder):
        """As Ctrl-C does: SIGINT to the whole foreground group."""
        self.assertNotEqual(processes_naming(folder), [])
        os.killpg(demo.pid, signal.SIGINT)
        self.assertEqual(demo.wait(PATIENCE * 2), 0, lines.text())
        lines.thread.join(PATIENCE)
        until(lambda: not processes_naming(folder), "every process to be gone")
        self.assertFalse(pathlib.Path(folder).exists(), "its folder is gone")

    def test_ctrl_c_ends_the_journal_only_demo(self):
        demo, lines, folder = self.demo()
        self.interrupt(demo, lines, folder)
        said = lines.find(r"(\d+) events were acknowledged")
        self.assertIsNotNone(said, lines.text())
        self.assertGreater(int(said[1]), 0)

    def test_ctrl_c_ends_the_demo_with_kafka_and_nothing_is_missing_there(self):
        for name in ("java", "mvn", "kcat"):
            if not program(name):
                cannot(f"{name} is missing")
        demo, lines, folder = self.demo("--kafka")
        lines.wait(r"key=sim-\w+-\d+ partition=\d timestamp=\d+ \{", PATIENCE)
        self.interrupt(demo, lines, folder)
        said = lines.find(r"(\d+) events acknowledged, (\d+) records in Kafka")
        self.assertIsNotNone(said, lines.text())
        self.assertGreaterEqual(int(said[2]), int(said[1]))

    def test_it_ends_by_itself_after_the_given_time(self):
        done = subprocess.run(
            [ROOT / "dev", "demo", "--sensors", "10", "--rate", "100", "--seconds", "2"],
            capture_output=True, text=True, check=False, timeout=PATIENCE * 4,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        folder = re.search(r"--data (\S+)/data", done.stdout)[1]
        self.assertFalse(pathlib.Path(folder).exists())

    def test_a_wrong_option_is_named(self):
        done = subprocess.run([ROOT / "dev", "demo", "--kafak"], capture_output=True, text=True,
                              check=False, timeout=PATIENCE)
        self.assertEqual(done.returncode, 64)
        self.assertIn("--kafak", done.stderr)


if __name__ == "__main__":
    unittest.main()
