"""Overlapping subscriptions that share one copy: `mqtt.overlapping: merged` (section 3.3.4)."""

import unittest

import kit
import packets as mq
from kit import Suite, fresh, shows
from kit import stop as tearDownModule


def setUpModule():
    kit.start("mqtt: { overlapping: merged }\n")


class Merged(Suite):
    @shows(v5="3.3.4-2 3.3.4-3 3.3.4-4", v3="3.3.5-1")
    def test_3_3_4_4_one_copy_with_the_highest_qos_and_all_identifiers(self, version):
        peer = self.peer(version)
        topic = fresh("over")
        for number, (filter_, qos) in enumerate(((topic, 1), (topic + "/#", 2), ("+", 0)), 1):
            peer.subscribe(filter_, qos=qos,
                           properties=mq.props(subscription_id=number) if version == 5 else b"")
        sender = self.peer(version)
        sender.publish(topic, b"x", 2)
        found = peer.message(topic=topic, payload=b"x", qos=2)
        if version == 5:
            self.assertEqual(sorted(found.props["subscription_id"]), [1, 2, 3])
        peer.alive()
        self.assertEqual(peer.later, [])


if __name__ == "__main__":
    unittest.main()
