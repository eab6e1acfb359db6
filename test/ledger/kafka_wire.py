"""kafka_wire - the few requests to Kafka's administration that its Python client does not have.

    brokers(address)                      which brokers this one knows of
    quorum_leader(address)                the broker that is the active controller
    set_replicas(address, topic, {partition: [brokers]})   the first is the preferred leader
    set_quota(address, bytes per second or None)           of all clients that produce

Kafka protocol: https://kafka.apache.org/protocol - a request is one answer on a connection of
its own.
"""

import io
import socket
import struct

METADATA, ALTER_REPLICAS, ALTER_QUOTAS, DESCRIBE_QUORUM = 3, 45, 49, 55
PATIENCE_S = 10
TIMEOUT_MS = 10_000


class Refused(AssertionError):
    """Kafka says no."""


def exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("the broker closed the connection")
        data += more
    return data


def ask(address, key, version, body, flexible):
    """The body of the answer."""
    host, port = address.rsplit(":", 1)
    head = struct.pack(">hhi", key, version, 1) + string("test") + (b"\0" if flexible else b"")
    with socket.create_connection((host, int(port)), PATIENCE_S) as sock:
        sock.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (length,) = struct.unpack(">i", exactly(sock, 4))
        answer = io.BytesIO(exactly(sock, length))
    answer.read(5 if flexible else 4)  # the number of the request, and no tags
    return answer


def take(answer, form):
    return struct.unpack(form, answer.read(struct.calcsize(form)))[0]


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def compact(text):
    return bytes([len(text) + 1]) + text.encode()


def count(number):
    """Of a compact array, which is short here."""
    assert number < 127
    return bytes([number + 1])


def brokers(address):
    """[] when it does not answer yet."""
    try:
        answer = ask(address, METADATA, 1, struct.pack(">i", 0), False)
    except OSError:
        return []
    found = []
    for _ in range(take(answer, ">i")):
        found.append(take(answer, ">i"))
        answer.read(take(answer, ">h"))  # host
        take(answer, ">i")  # port
        answer.read(max(0, take(answer, ">h")))  # rack
    return found


def quorum_leader(address):
    topic = compact("__cluster_metadata") + count(1) + struct.pack(">i", 0) + b"\0\0"
    answer = ask(address, DESCRIBE_QUORUM, 0, count(1) + topic + b"\0", True)
    error = take(answer, ">h")
    if error:
        raise Refused(f"DescribeQuorum: error {error}")
    answer.read(1)  # one topic
    answer.read(take(answer, ">B") - 1)  # its name
    answer.read(1)  # one partition
    answer.read(4)  # 0
    error = take(answer, ">h")
    if error:
        raise Refused(f"DescribeQuorum: error {error}")
    return take(answer, ">i")


def set_replicas(address, topic, replicas):
    body = struct.pack(">i", TIMEOUT_MS) + count(1) + compact(topic) + count(len(replicas))
    for partition, nodes in replicas.items():
        body += struct.pack(">i", partition) + count(len(nodes))
        body += struct.pack(f">{len(nodes)}i", *nodes) + b"\0"
    answer = ask(address, ALTER_REPLICAS, 0, body + b"\0\0", True)
    take(answer, ">i")  # throttled for
    error = take(answer, ">h")
    if error:
        raise Refused(f"AlterPartitionReassignments: error {error}")


def set_quota(address, per_second):
    entity = struct.pack(">i", 1) + string("client-id") + struct.pack(">h", -1)  # the default
    change = struct.pack(">i", 1) + string("producer_byte_rate")
    change += struct.pack(">d?", float(per_second or 0), per_second is None)
    answer = ask(address, ALTER_QUOTAS, 0, struct.pack(">i", 1) + entity + change + b"\0", False)
    take(answer, ">i")  # throttled for
    take(answer, ">i")  # one entry
    error = take(answer, ">h")
    if error:
        raise Refused(f"AlterClientQuotas: error {error}")
