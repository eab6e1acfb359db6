"""ports - ports of 127.0.0.1 that stay a test's own, whatever runs beside it.

    port = take()       free, and no other test process gets it as long as this one lives

A gateway that comes back to its port must find it free, and so must a Kafka.  The kernel gives
the ports of its own range to whoever asks meanwhile, so these lie below that range: in blocks,
of which a process holds as many as it needs.  A block belongs to who has bound its name, an
abstract socket: it goes with the process, and is known wherever the ports are the same.
"""

import itertools
import random
import socket
import threading

# kafka.sh takes its ports below these when nobody hands it any.
FIRST, END, BLOCK = 20_000, 32_000, 100

_names = []  # open as long as we live
_lock = threading.Lock()


def _claim():
    """The ports of a block that nobody has."""
    blocks = list(range(FIRST, END, BLOCK))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0millrace-test-ports-{first}")
        except OSError:
            name.close()
            continue
        _names.append(name)
        return range(first, first + BLOCK)
    raise AssertionError(f"other tests have all ports from {FIRST} to {END}")


def _is_free(port):
    """No program has it that is no test."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = (port for _ in itertools.count() for port in _claim() if _is_free(port))


def take():
    with _lock:
        return next(_ports)
