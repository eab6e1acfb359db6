"""The tables of a stopped gateway, changed as a mistake or time would (docs/JOURNAL.md)."""

import struct

COLUMNS = ("delivered", "skipped", "dead_letters", "lost", "given_up", "control", "confirmed",
           "repeated", "dropped")
RANGE, RANGES, RANGE_TEXT_AT, ACCEPTED = 256, 1024, 74, 0xFFFF
SLOT, GENERATION_AT, NAME_LEN_AT, NAME_AT, BOOKS_AT = 256, 16, 40, 41, 172


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def recount(gateway, bridge="kafka", **more):
    """So many more, or less, in these columns of the bridge's books in lane 0."""
    path = gateway.data / "journal" / "cursors"
    table = bytearray(path.read_bytes())
    slots = [at for at in range(0, len(table), SLOT) if table[at : at + 4] == b"MRCU"
             and table[at + NAME_AT : at + NAME_AT + table[at + NAME_LEN_AT]] == bridge.encode()]
    at = max(slots, key=lambda at: table[at + GENERATION_AT : at + GENERATION_AT + 8][::-1])
    slot = table[at : at + SLOT]
    for column, count in more.items():
        begin = BOOKS_AT + 8 * (1 + COLUMNS.index(column))
        count += int.from_bytes(slot[begin : begin + 8], "little")
        slot[begin : begin + 8] = count.to_bytes(8, "little")
    slot[-4:] = crc32c(slot[:-4]).to_bytes(4, "little")
    table[at : at + SLOT] = slot
    path.write_bytes(table)


def fill_ranges(gateway, bridge="kafka"):
    """The operator has accepted what lane 0 of the bridge repeated as often as can be noted."""
    name = bridge.encode()
    table = bytearray()
    for number in range(1, RANGES + 1):
        head = b"MRRG" + struct.pack("<HHH6xQ48xBB", 1, 0, ACCEPTED, number, len(name), 0)
        assert len(head) == RANGE_TEXT_AT
        entry = (head + name).ljust(RANGE - 4, b"\0")
        table += entry + crc32c(entry).to_bytes(4, "little")
    (gateway.data / "journal" / "ranges").write_bytes(table)
