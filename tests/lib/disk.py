"""States of the disk after a power cut, built from what tests/lib/record-disk.c recorded.

    disk = Disk(root)
    for entry in entries(path):
        disk.apply(entry)
    write_tree(disk.build(random.Random(1)), directory)

What a completed sync covers is there; each directory entry and each sector of 512 bytes that none covers is there or
not on its own. Nothing more is assumed: a file's sync does not make its name durable, a later write may be there
without an earlier one, a size without its data (zeros) and data without its size (gone). One thing is: a rename within
a directory is done or not done, as every file system of today has it."""

import os
import struct
from collections import namedtuple

SECTOR = 512

# As in record-disk.c.
(BEGIN, OPEN, WRITE, ZEROS, SIZE, ALLOCATE, MKDIR, RENAME, LINK, UNLINK, SYNC_BEGIN, SYNC_END) = range(12)
HEADER = struct.Struct("<IIIIQQQQ")
MAGIC = 0x44524648
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

# end: where it ends in the record, the position that everything else is compared with.
Entry = namedtuple("Entry", "end kind thread file other offset bytes names data")


def entries(path, upto=None):
    """The entries of a record, in their order."""
    with open(path, "rb") as file:
        end = 0
        while upto is None or end < upto:
            header = file.read(HEADER.size)
            if not header:
                return
            magic, kind, thread, text_bytes, inode, other, offset, size = HEADER.unpack(header)
            if magic != MAGIC:
                raise AssertionError(f"the record makes no sense at {end}")
            names = file.read(text_bytes).decode().split("\0")[:-1]
            data = file.read(size) if kind == WRITE else b""
            end = file.tell()
            yield Entry(end, kind, thread, inode, other, offset, size, names, data)


class Durable:
    """What files and directories share: changes that no sync has covered yet, in their order."""

    def __init__(self):
        self.pending = []
        self.settled = 0  # changes that were pending once

    def mark(self):
        return self.settled + len(self.pending)

    def settle(self, mark):
        """All changes before the mark are durable."""
        count = max(mark - self.settled, 0)
        for change in self.pending[:count]:
            self.keep(change)
        del self.pending[:count]
        self.settled += count


class File(Durable):
    """pending: (offset, data, size): whole sectors as they are in memory, and the file's size from then on; data None:
    cut to that size."""

    def __init__(self):
        super().__init__()
        self.durable = bytearray()
        self.cache = bytearray()

    def write(self, offset, data):
        end = offset + len(data)
        if len(self.cache) < end:
            self.cache.extend(bytes(end - len(self.cache)))
        self.cache[offset:end] = data
        begin = offset - offset % SECTOR
        self.pending.append((begin, bytes(self.cache[begin:end + -end % SECTOR]), len(self.cache)))

    def resize(self, size):
        resize(self.cache, size)
        self.pending.append((0, None, size))

    def keep(self, change):
        put(self.durable, *change)

    def build(self, dice):
        """Its contents after the cut."""
        contents = bytearray(self.durable)
        if not self.pending:
            return contents
        chance = likelihood(dice)
        for offset, data, size in self.pending:
            fate = dice.random()
            if data is None:
                if fate < chance:
                    resize(contents, size)
            elif fate < chance / 2:  # the whole write, else each sector for itself
                put(contents, offset, data, max(len(contents), offset + len(data)))
            elif fate < 0.5 + chance / 2:
                for at in range(0, len(data), SECTOR):
                    if dice.random() < chance:
                        piece = data[at:at + SECTOR]
                        put(contents, offset + at, piece, max(len(contents), offset + at + len(piece)))
        # The size is kept for itself: any that the file had since the sync.
        sizes = [len(self.durable)] + [size for _, _, size in self.pending]
        resize(contents, sizes[-1] if dice.random() < chance else dice.choice(sizes))
        return contents


class Directory(Durable):
    """pending: (old name or None, new name or None, what): made, linked, renamed, removed."""

    def __init__(self):
        super().__init__()
        self.durable = {}
        self.cache = {}

    def change(self, old, new, what):
        change = (old, new, what)
        move(self.cache, *change)
        self.pending.append(change)

    def keep(self, change):
        move(self.durable, *change)

    def build(self, dice):
        names = dict(self.durable)
        chance = likelihood(dice)
        for change in self.pending:
            if dice.random() < chance:
                move(names, *change)
        return names


def likelihood(dice):
    """How likely each change that is not durable is there: often all or nothing of one file or directory."""
    return dice.choice((0, 0, 1, 1, 0.5, dice.random()))


def resize(contents, size):
    if size < len(contents):
        del contents[size:]
    else:
        contents.extend(bytes(size - len(contents)))


def put(contents, offset, data, size):
    if data is not None:
        if len(contents) < offset + len(data):
            contents.extend(bytes(offset + len(data) - len(contents)))
        contents[offset:offset + len(data)] = data
    resize(contents, size)


def move(names, old, new, what):
    if old is not None and names.get(old) is what:
        del names[old]
    if new is not None:
        names[new] = what


class Disk:
    """forget: True for a sync (the entry that ends it, and its file or directory) that shall count as not done."""

    def __init__(self, forget=None):
        self.forget = forget or (lambda entry, what: False)
        self.root = None
        self.inodes = {}
        self.syncs = {}  # of a thread: what, and the mark at the beginning
        self.handlers = {
            BEGIN: self.begin, OPEN: self.open, WRITE: self.write, ZEROS: self.write, SIZE: self.size,
            ALLOCATE: self.allocate, MKDIR: self.mkdir, RENAME: self.rename, LINK: self.link,
            UNLINK: self.unlink, SYNC_BEGIN: self.sync_begin, SYNC_END: self.sync_end,
        }

    def load(self, path):
        """Begins with the directories that lie in path, all of it durable. Before the record's first entry."""
        self.root = self.inodes[os.stat(path).st_ino] = Directory()
        for name in os.listdir(path):
            if os.path.isdir(os.path.join(path, name)):
                self.root.durable[name] = self.root.cache[name] = self._load(os.path.join(path, name))

    def _load(self, path):
        inode = os.stat(path).st_ino
        if inode in self.inodes:
            return self.inodes[inode]
        if os.path.isdir(path):
            what = Directory()
            what.cache = {name: self._load(os.path.join(path, name)) for name in os.listdir(path)}
            what.durable = dict(what.cache)
        else:
            what = File()
            with open(path, "rb") as file:
                what.cache = bytearray(file.read())
            what.durable = bytearray(what.cache)
        self.inodes[inode] = what
        return what

    def apply(self, entry):
        self.handlers[entry.kind](entry)

    def begin(self, entry):
        self.syncs.clear()
        if self.root is None:
            self.root = self.inodes[entry.file] = Directory()

    def directory(self, inode):
        """None: outside of what is looked at."""
        found = self.inodes.get(inode)
        return found if isinstance(found, Directory) else None

    def open(self, entry):
        directory = self.directory(entry.other)
        if directory is None or directory is self.root:
            return  # beside the state directory: socket, log
        file = directory.cache.get(entry.names[0])
        if file is None:
            file = File()
            self.inodes[entry.file] = file
            directory.change(None, entry.names[0], file)
        elif file is not self.inodes.get(entry.file):
            raise AssertionError(f"{entry.names[0]} is not the file that it was")
        elif entry.offset & os.O_TRUNC and file.cache:
            file.resize(0)

    def write(self, entry):
        file = self.inodes.get(entry.file)
        if isinstance(file, File):
            file.write(entry.offset, entry.data if entry.kind == WRITE else bytes(entry.bytes))

    def size(self, entry):
        file = self.inodes.get(entry.file)
        if isinstance(file, File):
            file.resize(entry.bytes)

    def allocate(self, entry):
        file = self.inodes.get(entry.file)
        if not isinstance(file, File):
            return
        if entry.other == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
            file.write(entry.offset, bytes(min(entry.bytes, max(len(file.cache) - entry.offset, 0))))
        elif entry.other == 0:
            file.resize(max(len(file.cache), entry.offset + entry.bytes))
        elif entry.other != FALLOC_FL_KEEP_SIZE:
            raise AssertionError(f"a fallocate of mode {entry.other}")

    def mkdir(self, entry):
        parent = self.directory(entry.other)
        if parent is not None:
            made = self.inodes[entry.file] = Directory()
            parent.change(None, entry.names[0], made)

    def rename(self, entry):
        directory, target = self.directory(entry.file), self.directory(entry.other)
        if directory is not target:
            raise AssertionError("a rename between directories")
        if directory is not None:
            old, new = entry.names
            directory.change(old, new, directory.cache[old])

    def link(self, entry):
        directory, target = self.directory(entry.file), self.directory(entry.other)
        if target is not None:
            target.change(None, entry.names[1], directory.cache[entry.names[0]])

    def unlink(self, entry):
        directory = self.directory(entry.other)
        if directory is not None and entry.names[0] in directory.cache:
            directory.change(entry.names[0], None, directory.cache[entry.names[0]])

    def sync_begin(self, entry):
        what = self.inodes.get(entry.file)
        if what is not None:
            self.syncs[entry.thread] = (what, what.mark())

    def sync_end(self, entry):
        what, mark = self.syncs.pop(entry.thread, (None, 0))
        if what is not None and entry.bytes == 0 and not self.forget(entry, what):
            what.settle(mark)

    # What is looked up and built

    def find(self, *names):
        """The directory below the root, as it is in memory; None where it is not."""
        found = self.root
        for name in names:
            found = found.cache.get(name) if found is not None else None
        return found

    def build(self, dice):
        """A state of the disk: name -> a dictionary, or contents; a file with two names is one object."""
        return self._build(self.root, lambda what: what.build(dice), {})

    def memory(self):
        """What a running system sees: everything."""
        return self._build(self.root, lambda what: what.cache, {})

    def durable(self):
        """Only what is durable."""
        return self._build(self.root, lambda what: what.durable, {})

    def _build(self, what, state, built):
        if what not in built:
            found = state(what)
            if isinstance(what, Directory):
                found = {name: self._build(one, state, built) for name, one in found.items()}
            built[what] = found
        return built[what]


def write_tree(tree, path, written=None):
    """Makes the files below path, which is there."""
    written = {} if written is None else written
    for name, what in tree.items():
        place = os.path.join(path, name)
        if isinstance(what, dict):
            os.mkdir(place, 0o700)
            write_tree(what, place, written)
        elif id(what) in written:
            os.link(written[id(what)], place)
        else:
            written[id(what)] = place
            with open(place, "wb") as file:
                file.write(what.rstrip(b"\0"))
                file.truncate(len(what))


def read_tree(path):
    """What write_tree would make the same of."""
    tree = {}
    for name in os.listdir(path):
        place = os.path.join(path, name)
        if os.path.isdir(place):
            tree[name] = read_tree(place)
        else:
            with open(place, "rb") as file:
                tree[name] = file.read()
    return tree
