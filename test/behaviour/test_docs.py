"""The documents say what the program does."""

import pathlib
import re
import unittest

from harness import Temp, millrace

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


class Docs(unittest.TestCase):
    def test_config_md_is_what_the_option_tables_say(self):
        tables = millrace("config", "docs").stdout
        written = (DOCS / "CONFIG.md").read_text(encoding="utf-8")
        self.assertTrue(written.endswith(tables),
                        "docs/CONFIG.md is not up to date; put the output of "
                        "`millrace config docs` below its first lines")
        self.assertIn("`message_key`", tables)

    def test_every_configuration_of_bridges_md_passes_check(self):
        text = (DOCS / "BRIDGES.md").read_text(encoding="utf-8")
        examples = re.findall(r"```yaml\n(.*?)```", text, re.S)
        self.assertGreater(len(examples), 4)
        temp = Temp("docs")
        self.addCleanup(temp.remove)
        for example in examples:
            path = temp.path / "millrace.yaml"
            path.write_text(example, encoding="utf-8")
            with self.subTest(example):
                millrace("check", "-c", path)

    def test_every_variable_of_bridges_md_is_known(self):
        text = (DOCS / "BRIDGES.md").read_text(encoding="utf-8")
        names = sorted(set(re.findall(r"\$\{[^}`\n]+\}", text)) - {"${env:NAME}"})
        self.assertGreater(len(names), 10)
        temp = Temp("docs")
        self.addCleanup(temp.remove)
        for name in names:
            path = temp.path / "millrace.yaml"
            path.write_text("bridges:\n  kafka:\n    servers: kafka:9092\n    topic: t\n"
                            f"    message_key: '{name}'\n", encoding="utf-8")
            with self.subTest(name):
                millrace("check", "-c", path)


if __name__ == "__main__":
    unittest.main()
