"""Updates of several clients, each with the positions in a record of the disk (tests/lib/record-disk.c) at which it was
sent and answered, and what of them must be there at a position. Between the two positions it may be there or not; all
that is there is a beginning of what was sent, in the order of revisions."""

import copy
from dataclasses import dataclass, field

from merge import merged

NEVER = 1 << 62


@dataclass
class Update:
    """entries: key -> value, or Deleted; attributes: of an arena that is created or changed. Creating and dropping tell
    no revision: number_gaps finds it."""
    sent: int
    kind: str  # of the method
    arena: str
    entries: dict = field(default_factory=dict)
    attributes: dict = None
    acknowledged: int = NEVER
    revision: int = 0  # 0: it never happened


def number_gaps(updates, unnumbered):
    """Gives the updates whose revision nobody was told the numbers that are missing among the others of one run of the
    daemon. unnumbered: in the order in which they happened."""
    known = {update.revision for update in updates if update.revision}
    gaps = [revision for revision in range(min(known), max(known)) if revision not in known]
    if len(gaps) != len(unnumbered):
        raise AssertionError(f"{len(gaps)} revisions are missing for {len(unnumbered)} updates")
    for update, revision in zip(unnumbered, gaps):
        update.revision = revision


class Deleted:
    """The value of an entry that is not there: JSON's null is a value."""


class State:
    def __init__(self):
        self.arenas = {}

    def apply(self, update):
        if update.kind == "DropArena":
            del self.arenas[update.arena]
            return
        if update.kind == "CreateArena":
            self.arenas[update.arena] = {"entries": {}, "revision": 0, **update.attributes}
            return
        arena = self.arenas[update.arena]
        arena.update(update.attributes or {})
        arena["revision"] = update.revision
        for key, value in update.entries.items():
            if value is Deleted:
                arena["entries"].pop(key, None)
            else:
                arena["entries"][key] = (value, update.revision)


class Oracle:
    """For positions that rise from call to call."""

    def __init__(self, updates):
        self.updates = sorted((update for update in updates if update.revision), key=lambda update: update.revision)
        self.state = State()
        self.count = 0  # updates that the state holds
        # At or behind which update the newest that was acknowledged by a position stands.
        self.by_acknowledged = sorted((update.acknowledged, number) for number, update in enumerate(self.updates, 1))
        self.acknowledged = 0

    def advance(self, position):
        least = self.count
        while (self.acknowledged < len(self.by_acknowledged) and
               self.by_acknowledged[self.acknowledged][0] <= position):
            least = max(least, self.by_acknowledged[self.acknowledged][1])
            self.acknowledged += 1
        for update in self.updates[self.count:least]:
            self.state.apply(update)
        self.count = least

    def difference(self, found, position):
        """None where found (as of read_state) may be there after a cut at the position; else what is wrong, and how
        many updates that were not acknowledged are there."""
        self.advance(position)
        first = compare(self.state, found)
        if first is None:
            return None, 0
        state = None
        for number, update in enumerate(self.updates[self.count:], 1):
            if update.sent > position:
                break
            state = state or copy.deepcopy(self.state)
            state.apply(update)
            if compare(state, found) is None:
                return None, number
        return first, 0


def compare(state, found):
    for name in state.arenas.keys() | found.keys():
        wrong = compare_arena(name, state.arenas.get(name), found.get(name))
        if wrong:
            return wrong
    return None


def compare_arena(name, expected, found):
    if expected is None or found is None:
        return None if expected is found else f"the arena {name} is {'missing' if expected else 'there'}"
    for key in expected["entries"].keys() | found["entries"].keys():
        left, right = expected["entries"].get(key), found["entries"].get(key)
        if left != right:
            return f"{name}/{key} is {str(right)[:200]}, not {str(left)[:200]}"
    for key in ("maxBytes", "mode", "revision"):
        if expected[key] != found[key]:
            return f"the {key} of {name} is {found[key]}, not {expected[key]}"
    return None


def read_state(client):
    """All arenas and entries, in the form that an oracle compares with."""
    found = {}
    for arena in client.call("ListArenas")["arenas"]:
        contents = {key: arena[key] for key in ("maxBytes", "mode", "revision")}
        contents["entries"] = {entry["key"]: (entry["value"], entry["revision"])
                               for page in client.call_more("List", arena=arena["name"])
                               for entry in page["entries"]}
        found[arena["name"]] = contents
    return found
