"""tools/conformance.py can say no: each thing that it watches over is broken once."""

import shutil
import subprocess
import sys
import unittest

from harness import ROOT, Temp

ROW = "| [MQTT-1.5.4-1] | both | Strings are well-formed UTF-8 without surrogates. |"
TAG = '@shows(v5="{}")\ndef {}(self, version):\n    pass\n'


class Tool(unittest.TestCase):
    def setUp(self):
        self.temp = Temp("conformance")
        self.addCleanup(self.temp.remove)
        self.page = self.temp.path / "docs" / "CONFORMANCE.md"
        self.page.parent.mkdir()
        shutil.copy(ROOT / "docs" / "CONFORMANCE.md", self.page)
        shutil.copytree(ROOT / "test", self.temp.path / "test")

    def run_tool(self, *options):
        return subprocess.run([sys.executable, ROOT / "tools" / "conformance.py", *options,
                               self.temp.path], capture_output=True, text=True, check=False)

    def refused(self, words):
        done = self.run_tool()
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(words, done.stdout)

    def add_test(self, number, name):
        path = self.temp.path / "test" / "behaviour" / "conformance" / "test_more.py"
        path.write_text(TAG.format(number, name), encoding="utf-8")

    def change(self, old, new):
        text = self.page.read_text(encoding="utf-8")
        self.assertIn(old, text)
        self.page.write_text(text.replace(old, new, 1), encoding="utf-8")

    def test_as_it_is_there_is_nothing_to_say(self):
        done = self.run_tool()
        self.assertEqual((done.returncode, done.stdout), (0, ""), done)

    def test_a_lost_row(self):
        line = next(line for line in self.page.read_text(encoding="utf-8").split("\n")
                    if line.startswith(ROW))
        self.change(line + "\n", "")
        self.refused("250 statements of 5.0, not 251")

    def test_a_test_that_is_gone(self):
        (self.temp.path / "test/behaviour/conformance/test_qos.py").unlink()
        self.refused("not what the tests say")
        self.assertEqual(self.run_tool("--write").returncode, 0)
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertIn("not yet: no test shows it", self.page.read_text(encoding="utf-8"))

    def test_a_test_that_the_page_does_not_name(self):
        self.add_test("1.5.4-1", "test_more")
        self.refused("not what the tests say")

    def test_a_number_that_does_not_exist(self):
        self.add_test("9.9.9-9", "test_more")
        self.refused("shows 5.0 9.9.9-9")

    def test_a_name_with_another_number(self):
        self.add_test("1.5.4-1", "test_3_1_0_1_something_else")
        self.refused("does not show the statement of its name")

    def test_a_tag_above_a_test_in_c(self):
        path = self.temp.path / "test" / "unit" / "test_more.c"
        path.write_text("/* Shows 5.0: 1.5.4-1, 1.5.4-2; 3.1.1: 1.5.3-1. */\n"
                        "static void test_of_c(void)\n", encoding="utf-8")
        self.run_tool("--write")
        self.assertEqual(self.page.read_text(encoding="utf-8").count("test_of_c"), 3)


if __name__ == "__main__":
    unittest.main()
