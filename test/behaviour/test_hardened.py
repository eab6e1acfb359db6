"""The program as it is delivered: what an attacker who found a fault would still face."""

import re
import shutil
import stat
import subprocess
import unittest

import harness
from harness import Gateway, mosquitto_pub

BINARY = harness.RELEASE / "millrace"


def readelf(*options):
    tool = shutil.which("readelf") or harness.cannot("readelf is not installed (binutils)")
    done = subprocess.run([tool, *options, str(BINARY)], capture_output=True, text=True, check=True)
    return done.stdout


class Hardened(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not BINARY.exists():
            harness.cannot("the release program is not built")

    def test_its_place_in_memory_is_random(self):
        self.assertRegex(readelf("-hW"), r"Type:\s+DYN")
        self.assertRegex(readelf("-dW"), r"FLAGS_1.*PIE")

    def test_what_the_linker_filled_in_is_read_only(self):
        self.assertRegex(readelf("-lW"), r"GNU_RELRO")
        self.assertRegex(readelf("-dW"), r"BIND_NOW|FLAGS_1.*NOW")

    def test_the_stack_is_not_executable_and_nothing_is_both(self):
        segments = readelf("-lW")
        self.assertRegex(segments, r"GNU_STACK.*\sRW\s")
        self.assertIsNone(re.search(r"^\s+LOAD.*\sRWE\s", segments, re.MULTILINE))

    def test_stack_canaries_and_checked_copies_are_in_use(self):
        symbols = readelf("--dyn-syms", "-W")
        self.assertIn("__stack_chk_fail", symbols)
        self.assertRegex(symbols, r"__(memcpy|vsnprintf|snprintf|memmove|read)_chk")


class Data(unittest.TestCase):
    def test_nobody_else_may_read_what_it_writes(self):
        """CVE-2017-9868: a database that every user of the machine can read."""
        open_to_all = ("sh", "-c", 'umask 0; exec "$0" "$@"')
        gateway = Gateway("mqtt: {}\n", prefix=open_to_all)
        with gateway:
            mosquitto_pub(gateway.mqtt_port, "-t", "a/b", "-m", "x", "-q", "1", "-r")
            gateway.stop()
            found = [gateway.data, *gateway.data.rglob("*")]
            self.assertGreater(len(found), 3)
            for path in found:
                mode = stat.S_IMODE(path.stat().st_mode)
                self.assertEqual(mode & 0o077, 0, f"{path} has mode {mode:o}")


if __name__ == "__main__":
    unittest.main()
