"""tally - what a test counted, for the table of ./dev soak (test/ledger/night.py).

    tally("power", rounds=200, events=1_236_263, found=0)

writes a line to the file that MR_TALLY names, and nothing where nobody asks for it.
"""

import json
import os


def tally(what, rounds, events, found):
    path = os.environ.get("MR_TALLY")
    if path:
        row = {"what": what, "rounds": rounds, "events": events, "found": found}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
