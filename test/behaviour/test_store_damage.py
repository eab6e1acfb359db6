"""What is mapped in of the session store and cannot be read ends the gateway: it says of what file.

A file that was cut short faults as a bad sector does, by SIGBUS.
"""

import os
import subprocess
import unittest

from harness import PATIENCE, Gateway, mosquitto_pub, popen, program

IO_FAILED = 74
META_PAGES = 2 * 4096  # what LMDB reads before it maps the file


def mosquitto_sub(gateway, *args):
    """A session `keeper` that stays, of QoS 1 below keep/; all lines that it was sent."""
    return popen(
        [program("mosquitto_sub"), "-h", "127.0.0.1", "-p", gateway.mqtt_port, "-i", "keeper",
         "-c", "-q", "1", "-t", "keep/#", *args],
        stdout=subprocess.PIPE, text=True,
    )


class Store(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway(sets=["gateway.shards=1"])
        self.folder = self.gateway.data / "sessions" / "lane-00"
        self.store = self.folder / "data.mdb"
        self.addCleanup(self.gateway.__exit__, None, None, None)
        self.gateway.start()
        self.assertEqual(mosquitto_sub(self.gateway, "-E").wait(PATIENCE), 0)

    def publish(self, text):
        mosquitto_pub(self.gateway.mqtt_port, "-q", "1", "-t", "keep/1", "-m", text)

    def expect_end(self):
        log = self.gateway.log
        self.gateway.wait_exit(IO_FAILED)
        said = [line for line in log.all if str(self.store) in line]
        self.assertEqual(len(said), 1, log.text())
        for part in ("cannot be read", "check the disk", "move the folder away",
                     "of sessions and retained messages there is then what the journal still has"):
            self.assertIn(part, said[0])

    def test_each_start_names_the_file_until_it_is_moved_away(self):
        self.gateway.stop()
        os.truncate(self.store, META_PAGES)
        for _ in range(2):
            self.gateway.spawn()
            self.expect_end()
        self.folder.rename(self.folder.with_name("aside"))
        self.gateway.start()
        self.publish("one")
        reader = mosquitto_sub(self.gateway, "-C", "1", "-W", int(PATIENCE))
        self.assertEqual(reader.communicate(timeout=PATIENCE)[0], "one\n")
        self.gateway.stop()

    def test_it_is_named_by_a_gateway_that_runs(self):
        os.truncate(self.store, META_PAGES)
        self.publish("one")  # the next checkpoint has to look where it goes
        self.expect_end()


if __name__ == "__main__":
    unittest.main()
