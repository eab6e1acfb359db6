"""The documents say what the program does."""

import pathlib
import unittest

from harness import millrace

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


class Docs(unittest.TestCase):
    def test_config_md_is_what_the_option_tables_say(self):
        tables = millrace("config", "docs").stdout
        written = (DOCS / "CONFIG.md").read_text(encoding="utf-8")
        self.assertTrue(written.endswith(tables),
                        "docs/CONFIG.md is not up to date; put the output of "
                        "`millrace config docs` below its first lines")
        self.assertIn("`message_key`", tables)


if __name__ == "__main__":
    unittest.main()
