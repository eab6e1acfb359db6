"""journal - what the publisher itself knows, written as it happens to a disk no fault touches.

One entry of 24 bytes each: kind u8, QoS u8, reason code u8, device u32, number u64, time f64.

    SENT      the first PUBLISH goes to the socket
    RESENT    again, with DUP and the same packet id, after a reconnect
    ACKED     PUBACK or PUBREC says: the gateway has it.  From here on it must not be lost
    REFUSED   the same packet, with a reason code of refusal: it must not arrive
    DONE      PUBCOMP: the packet id is free
    UNKNOWN   the connection is lost, and what became of it is not known
"""

import struct

ENTRY = struct.Struct("<BBBxIQd")
SENT, RESENT, ACKED, REFUSED, DONE, UNKNOWN = range(1, 7)
CHUNK = ENTRY.size * 40_000


class Writer:
    def __init__(self, path):
        self.file = open(path, "wb", buffering=1 << 20)
        self.pack = ENTRY.pack

    def note(self, kind, qos, reason, device, number, now):
        self.file.write(self.pack(kind, qos, reason, device, number, now))

    def close(self):
        self.file.close()


def entries(path):
    """(kind, qos, reason, device, number, time) in the order of writing; one chunk in memory."""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield from ENTRY.iter_unpack(chunk)
