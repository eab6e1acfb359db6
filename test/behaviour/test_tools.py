"""What the tools say of a journal in trouble, of folders they may not read, and what they leave."""

import os
import shutil
import subprocess
import unittest

import cursors
from harness import BUILD, Gateway, Temp, cannot, millrace, program, published, until

AWAY = 'bridges:\n  kafka:\n    servers: "127.0.0.1:1"\n    topic: t\n'
for name in ("one", "two"):  # their events are dead letters
    AWAY += (f'  {name}:\n    type: kafka\n    servers: "127.0.0.1:1"\n'
             '    topic: "t_${topic[7]}"\n')
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


def kept_letters(data):
    """The dead letters of both bridges, as a list of lines."""
    return [line for name in ("one", "two")
            for line in tool("dlq", "show", name, "--data", data)[1].splitlines()]


KEPT = Temp("tools")
tearDownModule = KEPT.remove


def setUpModule():
    """A gateway leaves a folder with events that wait, of two lanes."""
    with Gateway(AWAY, sets=["gateway.drain=100ms", "gateway.shards=2"]) as gateway:
        for device in range(8):
            published(gateway, f"t/{device}", ["a", "b", "c"], client=f"device-{device}")
        until(lambda: len(kept_letters(gateway.data)) == 2 * 24, "the dead letters")
        gateway.stop()
        shutil.copytree(gateway.data, KEPT.path / "data")


class OneGateway(unittest.TestCase):
    """Each test has a copy of that folder."""

    def setUp(self):
        self.temp = Temp("tools")
        self.addCleanup(self.temp.remove)
        self.data = self.temp.path / "data"
        shutil.copytree(KEPT.path / "data", self.data)

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


class Verify(OneGateway):
    def verify(self, *args):
        return tool("journal", "verify", "--data", self.data, *args)

    def newest(self, number):
        out = self.verify("--lane", number)[1]
        return int(out.split(" to ")[1].split(":")[0])

    def test_a_lane_that_is_whole_is_fine(self):
        code, said, why = self.verify()
        self.assertEqual((code, why), (0, ""))
        self.assertEqual(said.count(": fine\n"), 2)

    def test_what_cursors_know_of_and_no_segment_holds_is_lost(self):
        newest = self.newest(1)
        for what in ("the newest segment", "the lane's folder"):
            with self.subTest(what):
                if what == "the newest segment":
                    self.segment(1).unlink()
                else:
                    shutil.rmtree(self.lane(1))
                code, said, why = self.verify()
                self.assertEqual(code, 1, said)
                self.assertRegex(said, r"lane 0: .*: fine\n")
                self.assertIn(f"lane 1: empty: DAMAGED in 1 place, {newest} seqs lost", said)
                self.assertIn(f"seqs 1 to {newest} are lost", why)

    def test_a_damaged_identity_is_no_fine_journal(self):
        spoil(self.data / "journal" / "meta", 20)
        code, said, why = self.verify()
        self.assertEqual(code, 1, said)
        self.assertIn("meta is damaged", why)
        self.assertIn("lane 1: ", said)

    def test_what_is_lost_to_an_unknown_end_is_not_called_nothing(self):
        spoil(self.segment(1), HEADER_BYTE)
        code, said, _ = self.verify("--lane", "1")
        self.assertEqual(code, 1)
        self.assertIn("more than 0 seqs lost", said)


class Audit(OneGateway):
    def audit(self, *args):
        return tool("audit", *args, "--data", self.data)

    def test_a_lane_is_for_what_is_accepted(self):
        self.assertEqual(self.audit("kafka", "1")[0], 64)
        self.assertEqual(self.audit("kafka", "--reason", "x")[0], 64)
        code, _, why = self.audit("kafka", "9", "--accept", "--reason", "x")
        self.assertEqual(code, 66, why)
        self.assertIn("has no lane 9", why)

    def test_what_is_full_is_not_called_a_fault_of_the_disk(self):
        cursors.fill_ranges(self)
        cursors.recount(self, delivered=1)

        def refused():
            for of in ((), ("--kafka",)):
                code, said, why = self.audit("kafka", "0", *of, "--accept", "--reason", "x")
                self.assertEqual((code, said), (65, ""), why)
                self.assertIn("1,024", why)
                self.assertIn("millrace journal forget", why)
                self.assertNotIn("disk", why)

        refused()
        with Gateway(AWAY, sets=["gateway.drain=100ms", "gateway.shards=2"], data=self.data):
            refused()

    def test_what_is_lost_with_its_segment_was_received_all_the_same(self):
        before = self.audit("kafka", "--json")[1]
        self.segment(1).unlink()
        self.assertEqual(self.audit("kafka", "--json")[1], before)


class DeadLetters(OneGateway):
    def test_a_damaged_box_hides_no_other(self):
        (path,) = (self.data / "dead-letters" / "one" / "lane-00").glob("0*.seg")
        spoil(path, 4096 + 60)  # in the first batch
        code, said, why = tool("dlq", "ls", "--data", self.data)
        self.assertEqual(code, 1, why)
        self.assertRegex(said, r"(?m)^two +24 ")
        (self.data / "dead-letters" / "one" / "meta").write_bytes(b"")
        code, said, _ = tool("dlq", "ls", "--json", "--data", self.data)
        self.assertEqual(code, 74)
        self.assertNotIn('"one"', said)
        self.assertIn('{"bridge":"two","count":24,', said)

    def test_a_folder_that_is_no_gateways_is_not_one_without_letters(self):
        code, said, why = tool("dlq", "ls", "--data", self.temp.path)
        self.assertEqual((code, said), (66, ""))
        self.assertIn("there is no journal", why)


class Rights(OneGateway):
    """Somebody else than the gateway's user asks."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            cannot("needs root, to be somebody else")
        self.program = self.temp.path / "millrace"
        shutil.copy(BUILD / "millrace", self.program)
        self.temp.path.chmod(0o755)
        self.data.chmod(0o700)

    def ask(self, *args):
        done = subprocess.run(
            [program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", self.program,
             *args], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_what_may_not_be_read_is_not_called_empty(self):
        for command in ("audit", "journal verify", "journal repair", "dlq ls", "dlq show one",
                        "bridge ls", "bridge seek kafka --to now", "bridge pause kafka"):
            with self.subTest(command):
                code, said, why = self.ask(*command.split(), "--data", str(self.data))
                self.assertEqual((code, said), (74, ""), why)
                self.assertIn("permission denied", why)
                self.assertNotIn("there is no", why)

    def test_a_disk_that_may_not_be_written_is_not_called_full_of_zeroes(self):
        code, _, why = self.ask("prove", str(self.temp.path))
        self.assertEqual(code, 74)
        self.assertIn("permission denied", why)
        self.assertNotIn("zeroes", why)


class Prove(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("prove")
        self.addCleanup(self.temp.remove)

    def test_what_a_cut_left_is_looked_at_before_it_goes(self):
        with subprocess.Popen([BUILD / "millrace", "prove", "--cut", self.temp.path],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as cut:
            seen = cut.stdout.readline().strip()
            cut.kill()
        self.assertEqual(tool("prove", "--cut", "--after", seen, self.temp.path)[0], 64)
        code, _, why = tool("prove", "--cut", self.temp.path)
        self.assertEqual(code, 65)
        self.assertIn("--after NUMBER", why)
        self.assertIn(tool("prove", "-n", "10", self.temp.path)[0], (0, 1, 69))
        self.assertEqual(tool("prove", "--after", seen, self.temp.path)[0], 0)
        self.assertEqual(os.listdir(self.temp.path), [])

    def test_where_there_is_no_room_nothing_is_left_behind(self):
        limit = f"ulimit -f 1024; exec {BUILD}/millrace prove {self.temp.path}"
        done = subprocess.run(["bash", "-c", f"trap '' XFSZ; {limit}"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertIn("file too large", done.stderr)
        self.assertEqual(os.listdir(self.temp.path), [])


if __name__ == "__main__":
    unittest.main()
