"""books - what the publisher's journal says of each event, in one byte an event.

    journal file ──▶ Books: flags[device][number], qos[device], copies the device itself sent again
"""

import collections

import journal

SENT, ACKED, REFUSED, RESENT = 1, 2, 4, 8
FLAG_OF = {journal.SENT: SENT, journal.ACKED: ACKED, journal.REFUSED: REFUSED,
           journal.RESENT: RESENT}
NOT_ACKED = bytes(flag for flag in range(256) if not flag & ACKED)


class Books:
    def __init__(self):
        self.flags = {}  # device: bytearray by number; 0 is no event
        self.qos = {}
        self.resent = collections.Counter()  # (device, number): how often
        self.counts = collections.Counter()

    @classmethod
    def read(cls, path):
        books = cls()
        for kind, qos, _, device, number, _ in journal.entries(path):
            books.note(kind, qos, device, number)
        return books

    def note(self, kind, qos, device, number):
        self.counts[kind] += 1
        flag = FLAG_OF.get(kind)
        if flag is None:
            return
        flags = self.flags.get(device)
        if flags is None:
            flags = self.flags[device] = bytearray(1)
            self.qos[device] = qos
        if number >= len(flags):
            flags.extend(bytes(number + 1 - len(flags)))
        flags[number] |= flag
        if kind == journal.RESENT:
            self.resent[device, number] += 1

    def flag(self, device, number):
        flags = self.flags.get(device)
        return flags[number] if flags is not None and 0 < number < len(flags) else 0

    def acknowledged(self, device):
        """How many of its events."""
        return len(self.flags.get(device, b"").translate(None, NOT_ACKED))

    def resends(self, device, number):
        return self.resent[device, number] if self.flag(device, number) & RESENT else 0


def times_of(path, wanted):
    """{(device, number): (time sent, time acknowledged or None)} of a few events."""
    found = {}
    for kind, _, _, device, number, when in journal.entries(path):
        key = device, number
        if key in wanted:
            sent, acked = found.get(key, (None, None))
            if kind == journal.SENT:
                sent = when
            elif kind == journal.ACKED:
                acked = when
            found[key] = sent, acked
    return found


def sent_of(path):
    """{(device, number): the time at which it was first sent} of all events."""
    return {(device, number): when for kind, _, _, device, number, when in journal.entries(path)
            if kind == journal.SENT}
