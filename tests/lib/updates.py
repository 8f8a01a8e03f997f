"""Updates of several clients, each with the positions in a record of the disk (tests/lib/record-disk.c) at which it was
sent and answered, and what of them must be there at a position. Between the two positions it may be there or not; all
that is there is a beginning of what was sent, in the order of revisions."""

import copy
from dataclasses import dataclass, field

NEVER = 1 << 62


def merged(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@dataclass
class Update:
    """entries: key -> value, or None where it is deleted; attributes: of an arena that is created or changed."""
    sent: int
    arena: str
    entries: dict = field(default_factory=dict)
    attributes: dict = None
    generation: int = 0  # of an arena's name: counts those that had it; creates one where the name has an older one
    acknowledged: int = NEVER
    revision: int = 0


@dataclass
class Drop:
    """Has a revision that nobody is told."""
    sent: int
    arena: str
    generation: int
    acknowledged: int = NEVER


class Deleted:
    """The value of an entry that is not there: JSON's null is a value."""


class State:
    def __init__(self):
        self.arenas = {}

    def apply(self, update):
        arena = self.arenas.get(update.arena)
        if arena is None or arena["generation"] < update.generation:
            arena = self.arenas[update.arena] = {"generation": update.generation, "entries": {}}
        if update.attributes:
            arena.update(update.attributes)
        arena["revision"] = update.revision
        for key, value in update.entries.items():
            if value is Deleted:
                arena["entries"].pop(key, None)
            else:
                arena["entries"][key] = (value, update.revision)


class Oracle:
    """For positions that rise from call to call."""

    def __init__(self, updates, drops):
        self.updates = sorted((update for update in updates if update.revision), key=lambda update: update.revision)
        self.drops = {(drop.arena, drop.generation): drop for drop in drops}
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
        first = self._compare(self.state, found, position)
        if first is None:
            return None, 0
        state = None
        for number, update in enumerate(self.updates[self.count:], 1):
            if update.sent > position:
                break
            state = state or copy.deepcopy(self.state)
            state.apply(update)
            if self._compare(state, found, position) is None:
                return None, number
        return first, 0

    def _compare(self, state, found, position):
        for name in state.arenas.keys() | found.keys():
            expected = state.arenas.get(name)
            drop = self.drops.get((name, expected["generation"])) if expected else None
            if drop and drop.acknowledged <= position:
                expected = None
            elif drop and drop.sent <= position and name not in found:
                continue
            wrong = compare_arena(name, expected, found.get(name))
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
