"""Makes calls of a daemon fail, by the preload library tests/lib/fault.c ($HOLDFAST_FAULT_LIBRARY).

    with Fault("fdatasync:1:EIO:forever") as fault:
        daemon = Daemon(environment=fault.environment)
        fault.arm()     # calls count from here on
        ...
        fault.end()     # nothing fails any more
"""

import mmap
import os
import struct
import subprocess
import tempfile

# In the order of call_names in fault.c.
CALLS = ("open", "read", "pread", "write", "pwrite", "fsync", "fdatasync", "rename", "link", "unlink", "mkdir",
         "ftruncate", "fallocate", "mmap", "memfd_create", "fork", "pipe", "accept", "recv", "send", "malloc", "aio")

# Offsets in the page.
ARMED, OVER, FIRED, COUNT, FRAME_COUNT, FRAMES = 0, 4, 8, 12, 172, 176


def library():
    path = os.environ.get("HOLDFAST_FAULT_LIBRARY")
    if not path:
        raise RuntimeError("HOLDFAST_FAULT_LIBRARY does not say where the library is")
    return path


class Fault:
    """text: as of $HOLDFAST_FAULT; file: what the path of the file concerned contains."""

    def __init__(self, text, file=None):
        path = library()
        self.text = text
        self.call = text.split(":")[0]
        self._file = tempfile.NamedTemporaryFile(prefix="holdfast-fault-")
        self._file.truncate(mmap.PAGESIZE)
        self._page = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self.environment = {"LD_PRELOAD": path, "HOLDFAST_FAULT": text, "HOLDFAST_FAULT_CONTROL": self._file.name,
                            "HOLDFAST_FAULT_FILE": file}
        # A sanitizer comes second here, which is fine: the library does nothing that it would have to see.
        self.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._page.close()
        self._file.close()

    def _word(self, offset):
        return struct.unpack_from("=I", self._page, offset)[0]

    def arm(self):
        struct.pack_into("=I", self._page, ARMED, 1)

    def disarm(self):
        """Counts no more, and nothing fails; what was counted stays."""
        struct.pack_into("=I", self._page, ARMED, 0)

    def end(self):
        struct.pack_into("=I", self._page, OVER, 1)

    def again(self):
        """After an end."""
        struct.pack_into("=I", self._page, OVER, 0)

    @property
    def fired(self):
        """How many calls failed."""
        return self._word(FIRED)

    def count(self, call=None):
        """How many calls were made while it was armed."""
        return self._word(COUNT + 4 * CALLS.index(call or self.call))

    def place(self, program):
        """Where the first call failed: names of functions, innermost first."""
        count = self._word(FRAME_COUNT)
        addresses = [f"{a - 1:x}" for a in struct.unpack_from(f"={count}Q", self._page, FRAMES) if a < 1 << 32]
        try:
            found = subprocess.run(["addr2line", "-f", "-s", "-e", program, *addresses], capture_output=True, text=True)
        except FileNotFoundError:
            return " < ".join(addresses)
        lines = found.stdout.split("\n")
        return " < ".join(f"{name} ({line})" for name, line in zip(lines[::2], lines[1::2]) if name != "??")
