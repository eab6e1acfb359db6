"""A broker that acknowledges before it has stored fails; the gateway passes the same trial.

Devices publish with QoS 1 for a subscriber that is away, whose session the broker keeps: it was
restarted by its operator behind the SUBACK.  In the middle of the load it gets a SIGKILL and is
started again.  Whatever was acknowledged has to be there when the subscriber comes back.
"""

import json
import random
import unittest

import books as of
import harness
import journal
from checker import Checker, Rules
from helper import Helper
from mosquitto import Mosquitto
from report import Report
from subscriber import entries
from world import say

DEVICES, EVENTS, RATE = 10, 1500, 5000
KILLED_AFTER = 4000  # acknowledged events
READER = [["away", 1, ""]]
# As it comes it writes every half hour and when it is stopped; more often makes it lose less, not
# nothing.  (Started by root it would become another user, who may not write there.)
KEEPS = "user root\npersistence true\npersistence_location {folder}/\nmax_queued_messages 0\n"


class Trial:
    """`broker`: kill(), start(), restart(); `quiet`: after so long nothing more is expected."""

    def __init__(self, broker, port, quiet):
        self.broker, self.port, self.quiet = broker, port, quiet
        self.temp = harness.Temp("early")
        self.run_id = random.SystemRandom().randrange(1, 1 << 32)
        self.journal_path = self.temp.path / "publisher.journal"
        self.takings_path = self.temp.path / "subscriber.takings"

    def subscriber(self):
        return Helper("subscriber.py", port=self.port, run=self.run_id, losses=0,
                      quiet=self.quiet, path=str(self.takings_path),
                      devices=list(range(DEVICES)), readers=READER)

    def report(self, name):
        away = self.subscriber()
        away.wait_first_word()
        away.kill()
        self.broker.restart()
        publisher = Helper("publisher.py", port=self.port, run=self.run_id, devices=DEVICES,
                           path=str(self.journal_path), rate=RATE, qos=[1], limit=EVENTS)
        harness.until(lambda: publisher.said().get("acked", 0) > KILLED_AFTER, "the load")
        self.broker.kill()
        self.broker.start()
        said = publisher.wait_end(harness.PATIENCE * 2)
        publisher.kill()
        self.broker_restarted = said["connections"] > DEVICES
        books = of.Books.read(self.journal_path)
        checker = Checker(books, Rules(replays=True))
        self.read(books, checker)
        return Report(name, 0, books.counts, {"the subscriber": checker.finish()}, [])

    def read(self, books, checker):
        back = self.subscriber()
        back.tell("quit" + json.dumps(dict.fromkeys(range(DEVICES), EVENTS)))
        said = back.wait_end(harness.PATIENCE * 4)
        back.kill()
        checker.session_faults(said["faults"])
        for _, _, device, event in entries(self.takings_path):
            checker.saw(device, event, "-")


class Early(unittest.TestCase):
    def trial(self, broker, port, name, quiet):
        trial = Trial(broker, port, quiet)
        self.addCleanup(trial.temp.remove)
        report = trial.report(name)
        say(f"\n  {report.line()}")
        self.assertTrue(trial.broker_restarted)
        self.assertEqual(report.counts[journal.ACKED], DEVICES * EVENTS)
        return report

    def test_a_broker_that_acknowledges_early_fails(self):
        with Mosquitto(KEEPS) as broker:
            report = self.trial(broker, broker.port, "Mosquitto", quiet=2)
        lost = report.sums()["LOST"]
        self.assertTrue(0 < lost < DEVICES * EVENTS, "its session was there, its events were not")
        self.assertEqual(report.exit_code(), 1)

    def test_the_gateway_passes_the_same_trial(self):
        with harness.Gateway("mqtt: { max_queued_messages: 1000000 }\n",
                             binary=harness.RELEASE / "millrace") as gateway:
            report = self.trial(gateway, gateway.mqtt_port, "millrace", quiet=30)
        self.assertEqual(report.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()
