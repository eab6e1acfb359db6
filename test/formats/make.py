#!/usr/bin/env python3
"""make.py BINARY NAME - keep a data folder as the version BINARY writes it: NAME.tar.xz beside us.

Run it when a format has got a new version, before and after; the old folders stay for ever.
"""
import pathlib
import sys
import tarfile

DROPS_SINCE = 3

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "behaviour"))

import written  # noqa: E402
from harness import Gateway, Kafka  # noqa: E402


def main():
    binary, name = sys.argv[1:]
    kafka = Kafka()
    kafka.start()
    drops = int(name) >= DROPS_SINCE
    config = written.DROPS if drops else written.CONFIG
    gateway = Gateway(config.replace("SERVERS", kafka.bootstrap), binary=binary)
    with gateway:
        written.write_letter(gateway)
        kafka.remove()
        if drops:
            written.fill(gateway)
        written.write(gateway)
        gateway.kill()  # a tail that was not closed, and sessions that are only in the journal
        for spare in gateway.data.rglob("spare-*.seg"):
            spare.unlink()
        with tarfile.open(HERE / f"{name}.tar.xz", "w:xz", preset=9) as tar:
            tar.add(gateway.data, "data")


if __name__ == "__main__":
    main()
