"""Every planted fault still has its place in the code (./dev mutants plants and hunts them)."""

import pathlib
import unittest

from planted import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Planted(unittest.TestCase):
    def test_each_fault_can_be_planted_in_exactly_one_place(self):
        for mutant in MUTANTS:
            with self.subTest(mutant.name):
                text = (ROOT / mutant.file).read_text(encoding="utf-8")
                self.assertEqual(text.count(mutant.old), 1, f"{mutant.file}: {mutant.old}")
                self.assertNotEqual(mutant.old, mutant.new)
                self.assertTrue(mutant.tests)

    def test_there_are_twenty_and_none_twice(self):
        self.assertGreaterEqual(len(MUTANTS), 20)
        self.assertEqual(len({one.name for one in MUTANTS}), len(MUTANTS))


if __name__ == "__main__":
    unittest.main()
