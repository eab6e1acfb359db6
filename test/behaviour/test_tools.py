"""What the tools say of a journal in trouble, of folders they may not read, and what they leave."""

import shutil
import unittest

from harness import Gateway, Temp, millrace, published

AWAY = 'bridges:\n  kafka:\n    servers: "127.0.0.1:1"\n    topic: t\n'
HEADER_BYTE = 32  # of a segment: its first seq


def tool(*args):
    done = millrace(*args, check=False)
    return done.returncode, done.stdout, done.stderr


def spoil(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


class OneGateway(unittest.TestCase):
    """Each test has a copy of a folder that a killed gateway left, with events that wait."""

    @classmethod
    def setUpClass(cls):
        cls.kept = Temp("tools")
        cls.addClassCleanup(cls.kept.remove)
        with Gateway(AWAY, sets=["gateway.drain=100ms", "gateway.shards=2"]) as gateway:
            for device in range(8):
                published(gateway, f"t/{device}", ["a", "b", "c"], client=f"device-{device}")
            gateway.kill()
            shutil.copytree(gateway.data, cls.kept.path / "data")

    def setUp(self):
        self.temp = Temp("tools")
        self.addCleanup(self.temp.remove)
        self.data = self.temp.path / "data"
        shutil.copytree(self.kept.path / "data", self.data)

    def lane(self, number):
        return self.data / "journal" / f"lane-{number:02}"

    def segment(self, number):
        (path,) = self.lane(number).glob("0*.seg")
        return path


class Seek(OneGateway):
    def seek(self, *args):
        return tool("bridge", "seek", "kafka", *args, "--data", self.data)

    def test_a_lane_whose_end_cannot_be_told_is_not_left_for_a_place_behind_it(self):
        spoil(self.segment(1), HEADER_BYTE)
        before = (self.data / "journal" / "cursors").read_bytes()
        for place in ("now", "1", "0s"):
            code, said, why = self.seek("--to", place, "--lane", "1", "--yes")
            self.assertEqual((code, said), (65, ""), why)
            self.assertIn("journal repair", why)
        self.assertEqual((self.data / "journal" / "cursors").read_bytes(), before)
        self.assertEqual(self.seek("--to", "oldest", "--lane", "1")[0], 0)
        self.assertEqual(tool("journal", "repair", "--yes", "--data", self.data)[0], 0)
        self.assertEqual(self.seek("--to", "now", "--yes")[0], 0)


if __name__ == "__main__":
    unittest.main()
