"""An arena with many pages, hardly one of which holds anything: its image is small, and written as the image of a large
one is, with writes that the kernel does while the next is made ready (daemon/checkpoint/image-file.c).

    create the arena with maxBytes=MAX_BYTES
    for method, fields, changed in updates("wide"): ...
    wait_until_empty(daemon, client, "wide")"""

import os

from daemon import eventually

MAX_BYTES = 128 << 20
# Together more than OVERLAP_BYTES_MIN in image-file.c.
VALUES = 10
VALUE_BYTES = 7 << 20
EMPTY_BYTES = 8 << 20


def updates(arena):
    """Method, fields, and the values by their keys, None for none."""
    for number in range(VALUES):
        value = chr(ord("a") + number) * VALUE_BYTES
        yield "Put", {"arena": arena, "key": f"wide{number}", "value": value}, {f"wide{number}": value}
    for number in range(VALUES):
        yield "Delete", {"arena": arena, "key": f"wide{number}"}, {f"wide{number}": None}


def memory_bytes(daemon, arena):
    """What the system holds of the arena."""
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        path = f"/proc/{daemon.pid}/fd/{name}"
        if os.readlink(path).split(" ")[0] == f"/memfd:holdfast-{arena}":
            return os.stat(path).st_blocks * 512
    raise AssertionError(f"no memory of the arena {arena}")


def wait_until_empty(daemon, client, arena):
    def empty():
        client.call("GetStatus")  # in each turn of the daemon's loop some of it goes
        return memory_bytes(daemon, arena) < EMPTY_BYTES

    eventually(empty, "the pages of what was deleted are given back", 60)
