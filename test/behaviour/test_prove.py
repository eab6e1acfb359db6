"""`millrace prove`: what it says of a disk is so, and a disk that lies is found out."""

import json
import os
import subprocess
import unittest

from disk import Disk, run
from harness import BUILD, PATIENCE, RELEASE, Gateway, Lines, Temp, cannot, popen, program


class Memory(unittest.TestCase):
    def test_a_folder_in_memory_cannot_hold_the_promise(self):
        if not os.path.isdir("/dev/shm"):
            cannot("there is no file system in memory")
        temp = Temp("prove", where="/dev/shm")
        self.addCleanup(temp.remove)
        said = run(BUILD / "millrace", "prove", "--json", "-n", "10", temp.path)
        self.assertEqual(said.returncode, 1, said.stderr)
        said = json.loads(said.stdout)
        self.assertEqual((said["promise"], said["filesystem"]), ("broken", "tmpfs"))
        self.assertEqual(os.listdir(temp.path), [], "nothing is left behind")
        with Gateway(data=temp.path / "data") as gateway:
            said = gateway.log.find("level=warn .*tmpfs at /dev/shm: it lies in memory")
            self.assertIsNotNone(said, gateway.log.text())

    def test_a_folder_that_is_not_there(self):
        said = run(BUILD / "millrace", "prove", "/no/such/folder")
        self.assertEqual(said.returncode, 66)
        self.assertIn("name a folder that exists", said.stderr)


class ShortWrite(unittest.TestCase):
    """The kernel takes half of a block; the calls before it left another error behind."""

    def prove(self, when):
        temp = Temp("prove")
        self.addCleanup(temp.remove)
        said = run(program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
                   f"inject=pwrite64:retval=2048:when={when}", RELEASE / "millrace", "prove", "-n",
                   "10", temp.path)
        if "strace: " in said.stderr:
            cannot(f"strace cannot trace here: {said.stderr.strip()}")
        return said

    def test_one_is_written_again(self):
        said = self.prove("5")
        self.assertIn("p50", said.stdout, said.stderr)

    def test_the_cause_of_one_that_stays_short_is_no_older_one(self):
        said = self.prove("5+")
        self.assertEqual(said.returncode, 74)
        self.assertIn("writing failed: input/output error", said.stderr)


class PowerCut(unittest.TestCase):
    """An ext4 of its own whose power can be cut."""

    def setUp(self):
        self.disk = Disk("prove")
        self.addCleanup(self.disk.remove)
        self.disk.mount()

    def prove_by_the_plug(self, prefix=()):
        """Pull the plug when a number above 200 has been read; what --after says of it."""
        process = popen([*prefix, RELEASE / "millrace", "prove", "--cut", self.disk.path],
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = Lines(process.stdout)
        lines.wait(r"^\d{3,}$")
        seen = int(lines.all[-1])
        self.disk.cut_power()
        process.wait(PATIENCE)
        self.disk.unmount()
        self.disk.mount()
        return run(RELEASE / "millrace", "prove", "--after", seen, self.disk.path)

    def test_an_honest_disk_has_all_that_was_confirmed(self):
        said = self.prove_by_the_plug()
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertRegex(said.stdout, r"^all there: \d+ had been confirmed, the newest is \d+\n$")

    def test_a_disk_whose_flush_does_nothing_is_found_out(self):
        said = self.prove_by_the_plug(prefix=[
            program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
            "-e", "inject=fdatasync:retval=0"])
        self.assertEqual(said.returncode, 1, said.stdout)
        self.assertIn("this disk lies", said.stderr)


if __name__ == "__main__":
    unittest.main()
