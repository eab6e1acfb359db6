"""A short run of the stateful fuzzer; ./dev fuzz makes longer ones."""

import os
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fuzz"))

import stateful  # noqa: E402


class Stateful(unittest.TestCase):
    def test_valid_and_slightly_invalid_sequences(self):
        seed = int(os.environ.get("MR_SEED") or random.SystemRandom().randrange(1 << 32))
        stateful.fuzz(6, seed)


if __name__ == "__main__":
    unittest.main()
