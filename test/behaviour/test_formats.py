"""Data folders that earlier versions wrote: each is opened, read and gone on with.

test/formats has them and says what is in them; they are never made anew.
"""

import pathlib
import sys
import tarfile
import unittest

from harness import ROOT, Gateway, Temp

FORMATS = ROOT / "test" / "formats"
sys.path.insert(0, str(FORMATS))

import written  # noqa: E402


class Formats(unittest.TestCase):
    def test_folders_of_all_versions_so_far(self):
        kept = sorted(FORMATS.glob("*.tar.xz"))
        self.assertGreaterEqual(len(kept), 3)
        for file in kept:
            with self.subTest(file.name):
                self.check(file)

    def check(self, file):
        temp = Temp("formats")
        self.addCleanup(temp.remove)
        with tarfile.open(file) as tar:
            tar.extractall(temp.path)
        data = pathlib.Path(temp.path) / "data"
        written.check_files(self, data)
        if int(file.name.split(".")[0]) >= 3:
            written.check_drops(self, data)
        with Gateway(written.AWAY, data=data) as gateway:
            written.check_sessions(self, gateway)
            gateway.restart()
            gateway.stop()
            written.check_files(self, data)
            gateway.start()


if __name__ == "__main__":
    unittest.main()
