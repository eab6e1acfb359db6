"""Kafka is away until the journal holds 20 GB; then all of it is delivered, in order.

The bench's own programs publish and read back (bench_load, bench_consume): each device numbers its
events, and each number is looked for once, in order, at isolation read_committed.  Memory is
watched throughout.  ./dev soak backlog [GB]; the disk needs a quarter more than that: the journal,
and what Kafka keeps of it compressed.

    MR_BACKLOG_GB      how much (default 20)
    MR_BACKLOG_BYTES   of a payload (default 1024)
"""

import os
import pathlib
import shutil
import subprocess
import time
import unittest

import harness
from harness import RELEASE, Gateway, kafka
from tally import tally
from watch import Watch
from world import say

GB = float(os.environ.get("MR_BACKLOG_GB", "20"))
BYTES = int(os.environ.get("MR_BACKLOG_BYTES", "1024"))
OVERHEAD = 64  # of an event in the journal, about
DEVICES, WINDOW, BURST = 100, 200, 20
PARTITIONS = 8
RESIDENT_KIB_MAX = 256 * 1024  # docs/MEMORY.md: blocks, the ring, and what librdkafka has queued
DRAIN_S_PER_GB = 120
CONFIG = """\
journal: {{ max_size: {size}MiB, segment_size: 64MiB }}
bridges:
  kafka:
    servers: "{servers}"
    topic: backlog
    value_encoder: raw
    compression: lz4
    delivery: exactly_once
    auto_create: {{ enable: true }}
"""

setUpModule = harness.kafka_up
tearDownModule = harness.kafka_down


def bench(name, **options):
    argv = [RELEASE / f"bench_{name}"]
    for option, value in options.items():
        argv += [f"--{option}", str(value)]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{name}: {done.stdout}{done.stderr}")
    return done.stdout


def folder_bytes(path):
    return sum(one.stat().st_blocks * 512 for one in pathlib.Path(path).rglob("*")
               if one.is_file())


class Backlog(unittest.TestCase):
    def test_all_of_it_arrives_in_order(self):
        free = shutil.disk_usage(kafka().temp.path).free / 1e9
        need = GB * 1.25 + 1
        if free < need:
            self.fail(f"{kafka().temp.path} has {free:.0f} GB free; {GB:g} GB of backlog need "
                      f"{need:.0f} GB: give fewer (./dev soak backlog GB), or set TMPDIR")
        kafka().create_topic("backlog", partitions=PARTITIONS)
        servers = kafka().bootstrap
        size = int(GB * 1.2e9) >> 20
        with Gateway(CONFIG.format(servers=servers, size=size),
                     binary=RELEASE / "millrace") as gateway, Watch(gateway) as watch:
            gateway.wait_log("kafka: connected")
            kafka().kill()
            ledger = gateway.temp.path / "ledger"
            count = int(GB * 1e9 / (BYTES + OVERHEAD)) // BURST * BURST
            self.fill(gateway, count, ledger)
            kafka().start()
            self.drain(gateway, ledger)
        resident = max(one.resident_kib for one in watch.looks)
        say(f"  memory at most {resident:,} KiB, second half {watch.growth_kib():+,.0f} KiB")
        self.assertLess(resident, RESIDENT_KIB_MAX)

    def fill(self, gateway, count, ledger):
        begin = time.monotonic()
        bench("load", port=gateway.mqtt_port, connections=DEVICES, window=WINDOW, burst=BURST,
              count=count, bytes=BYTES, ledger=ledger, drain=60)
        took, held = time.monotonic() - begin, folder_bytes(gateway.data / "journal")
        say(f"\n  {count:,} events of {BYTES} bytes in {took:.0f} s ({count / took:,.0f}/s); the "
            f"journal holds {held / 1e9:.1f} GB")
        self.assertGreater(held, GB * 0.95e9)

    def drain(self, gateway, ledger):
        begin, lag = time.monotonic(), gateway.bridge("kafka")["lag_records"]
        gateway.wait_drained("kafka", 300 + GB * DRAIN_S_PER_GB)
        took = time.monotonic() - begin
        say(f"  {lag:,} drained in {took:.0f} s ({lag / took:,.0f}/s)")
        found = bench("consume", servers=kafka().bootstrap, topic="backlog", ledger=ledger,
                      **{"from": "begin"}, timeout=60)
        say("  " + found.strip())
        tally("backlog", 1, lag, 0)


if __name__ == "__main__":
    unittest.main()
