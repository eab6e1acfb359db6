"""The table of cursors of a stopped gateway, changed as a mistake would (docs/JOURNAL.md)."""

COLUMNS = ("delivered", "skipped", "dead_letters", "lost", "given_up", "control", "confirmed",
           "repeated", "dropped")
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
