"""`delivery: exactly_once` at a Kafka that is locked: its permissions, and its tokens.

The topic of positions and the transactional id need permissions of their own.
"""

import unittest

import harness
from harness import PATIENCE, Gateway, kafka
from test_kafka_secure import (QUICK, Provider, config, permit, publish, sasl, topic_for, values)

POSITIONS = "millrace.positions"


def setUpModule():
    harness.kafka_up(secure=True)
    kafka().create_topic(POSITIONS, 4, cleanup_policy="compact")


tearDownModule = harness.kafka_down


def permit_transactions(principal):
    from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType,
                                       ResourcePatternType, ResourceType)

    acl = AclBinding(ResourceType.TRANSACTIONAL_ID, "millrace-", ResourcePatternType.PREFIXED,
                     principal, "*", AclOperation.WRITE, AclPermissionType.ALLOW)
    for done in kafka().admin.create_acls([acl]).values():
        done.result(PATIENCE)


class Permissions(unittest.TestCase):
    def test_each_that_is_missing_is_named_and_enough_once_given(self):
        kafka().create_topic("locked", 2)
        permit("User:plain", "DESCRIBE", "locked")
        with Gateway(config("locked", sasl(), "delivery: exactly_once"), sets=QUICK) as gateway:
            publish(gateway)
            gateway.wait_log(r"level=warn.*'User:plain' may not use the transactional id "
                             r"'millrace-.*-kafka-0'; allow it: kafka-acls.sh .*"
                             r"--transactional-id millrace- --resource-pattern-type prefixed")
            permit_transactions("User:plain")
            gateway.wait_log(rf"level=warn.*topic '{POSITIONS}' may not be read by 'User:plain'.*"
                             rf"Allow it: kafka-acls.sh .*--operation Read --operation Write "
                             rf"--topic {POSITIONS}")
            permit("User:plain", "READ", POSITIONS)
            gateway.wait_log(rf"level=warn.*topic '{POSITIONS}' may not be written to by "
                             rf"'User:plain', .*--operation Write --topic {POSITIONS}")
            permit("User:plain", "WRITE", POSITIONS)
            gateway.wait_log(r"level=warn.*topic 'locked' may not be written to by 'User:plain', "
                             r".*--operation Write --topic locked")
            permit("User:plain", "WRITE", "locked")
            self.assertEqual(values("locked", 1), ["1"])
            gateway.wait_drained("kafka")


class Tokens(unittest.TestCase):
    def test_producer_and_reader_have_tokens_of_the_provider(self):
        principal = "User:gateway-7"
        topic_for("locked_token", principal)
        permit_transactions(principal)
        for operation in ("READ", "WRITE"):
            permit(principal, operation, POSITIONS)
        with Provider() as provider:
            text = config("locked_token", provider.auth(), "delivery: exactly_once")
            with Gateway(text, sets=QUICK) as gateway:
                publish(gateway)
                self.assertEqual(values("locked_token", 1), ["1"])
                gateway.wait_drained("kafka")
                gateway.restart()
                gateway.wait_log("goes on behind record 1 ")


if __name__ == "__main__":
    unittest.main()
