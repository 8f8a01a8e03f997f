"""What the kill campaign knows must be there. Each writer has arenas and keys of its own, whose state follows from what
it sent in the order it sent it; the accounts and the "last" keys in the arena "bank" are changed by all of them, and
follow from all updates in the order of their revisions.

An update that was not answered may have happened or not. A connection's updates are carried out in their order, so what
happened of them is the first n; what is found on the writer's own keys tells n, and the oracle goes on from there."""

from merge import merged

ACCOUNTS = 20
BALANCE = 1000
# Keys "m<writer>.<serial % MARKERS>" in the bank mark transfers; far more of them than one writer has under way.
MARKERS = 32

UNKNOWN = None


class Entries:
    """(arena, key) -> (value, revision), and name of an arena -> (maxBytes, mode)."""

    def __init__(self, arenas=None, entries=None):
        self.arenas, self.entries = dict(arenas or {}), dict(entries or {})

    def copy(self):
        return Entries(self.arenas, self.entries)

    def apply(self, arena, operations, revision):
        """All of them or none; returns the name of the error, or the last value."""
        changed, value = {}, None
        for operation in operations:
            slot = (arena, operation["key"])
            entry = changed[slot] if slot in changed else self.entries.get(slot)
            if operation["op"] == "delete":
                if entry is None:
                    return "NoSuchKey"
                changed[slot] = None
                continue
            value = self.changed_value(operation, entry[0] if entry else None)
            changed[slot] = (value, revision)
        for slot, entry in changed.items():
            if entry is None:
                self.entries.pop(slot, None)
            else:
                self.entries[slot] = entry
        return {"value": value}

    @staticmethod
    def changed_value(operation, value):
        if operation["op"] == "put":
            return operation["value"]
        if operation["op"] == "merge":
            return merged(value, operation["value"])
        return (value or 0) + operation["by"]

    def change_arena(self, method, parameters):
        name = parameters["name"]
        if (name in self.arenas) == (method == "CreateArena"):
            return "ArenaExists" if method == "CreateArena" else "NoSuchArena"
        if method == "DropArena":
            del self.arenas[name]
            self.entries = {slot: entry for slot, entry in self.entries.items() if slot[0] != name}
            return {}
        self.arenas[name] = (parameters["maxBytes"], parameters.get("mode", 0o600))
        return {}

    def update(self, method, parameters, revision):
        """Carries out what is this writer's own in a call. Returns the name of the error it must give, or a dictionary."""
        if method in ("CreateArena", "ChangeArena", "DropArena"):
            return self.change_arena(method, parameters)
        arena = parameters["arena"]
        if arena not in self.arenas and arena != "bank":
            return "NoSuchArena"
        return self.apply(arena, own(operations_of(method, parameters), arena), revision)


def operations_of(method, parameters):
    if method == "Apply":
        return parameters["operations"]
    operation = {"op": method.lower(), **parameters}
    if method == "Merge":
        operation["value"] = operation.pop("patch")
    return [operation]


def is_own(arena, key):
    return arena != "bank" or key.startswith("m")


def own(operations, arena):
    return [operation for operation in operations if is_own(arena, operation["key"])]


def shared(operations, arena):
    return [operation for operation in operations if not is_own(arena, operation["key"])]


class Oracle:
    def __init__(self, writers):
        self.private = [Entries() for _ in range(writers)]
        self.common = Entries()
        self.seen = 0  # the highest revision that anyone has seen
        self.floor = 0  # the same when the daemon was started: what it gives since then is higher
        self.kept = 0  # the highest that was answered or found in an entry
        self.given = set()  # revisions of acknowledged updates

    def created(self, name, max_bytes):
        """An arena of all (bank, ballast) or of a writer (w0, w1, ...)."""
        model = self.private[int(name[1:])] if name[1:].isdigit() else self.common
        model.arenas[name] = (max_bytes, 0o600)

    def see(self, revision):
        self.seen = max(self.seen, revision)

    def shared_update(self, revision, arena, operations):
        self.common.apply(arena, operations, revision)
        self.see(revision)

    # After a kill

    def check(self, client, told):
        """told: of each writer what was answered and what was not. Compares with what the daemon holds; returns how many
        unanswered updates happened."""
        transfers = []
        for number, (answered, _, _) in enumerate(told):
            self.acknowledge(number, answered, transfers)
        found = read(client)
        kept = 0
        for number, (_, unanswered, _) in enumerate(told):
            kept += self.settle(number, unanswered, found, transfers)
        for revision, operations in sorted(transfers, key=lambda one: one[0]):
            self.common.apply("bank", operations, revision)
        self.compare_common(found)
        self.kept = max(self.kept, *(revision for _, revision in found.entries.values()))
        self.see(self.kept)
        self.floor = self.seen
        return kept

    def acknowledge(self, number, answered, transfers):
        last = 0
        for method, parameters, answer in answered:
            revision = answer.get("revision", UNKNOWN) if isinstance(answer, dict) else UNKNOWN
            expected = self.private[number].update(method, parameters, revision)
            what = f"writer {number}: the answer to {method} {str(parameters)[:200]}"
            if isinstance(answer, str) or isinstance(expected, str):
                if answer != expected:
                    raise AssertionError(f"{what} is {answer!r}, not {expected!r}")
                continue
            if method in ("Merge", "Increment") and answer["value"] != expected["value"]:
                raise AssertionError(f"{what} is {answer!r}, not {expected!r}")
            if revision is UNKNOWN:
                continue
            self.check_revision(revision, last, what)
            last = revision
            if parameters["arena"] == "bank":
                transfers.append((revision, shared(parameters["operations"], "bank")))

    def check_revision(self, revision, last, what):
        if revision in self.given:
            raise AssertionError(f"{what}: revision {revision} was given before")
        if revision <= last:
            raise AssertionError(f"{what}: revision {revision} after {last}")
        self.given.add(revision)
        self.kept = max(self.kept, revision)
        self.see(revision)
        if revision <= self.floor:
            raise AssertionError(f"{what}: revision {revision}, though {self.floor} was seen before the start")

    def settle(self, number, unanswered, found, transfers):
        """Finds how many of a writer's unanswered updates happened, and takes them into the model."""
        theirs = found.of_writer(number)
        for count in range(len(unanswered), -1, -1):
            trial = self.private[number].copy()
            for method, parameters in unanswered[:count]:
                trial.update(method, parameters, UNKNOWN)
            if not differences(trial, theirs):
                break
        else:
            least = differences(self.private[number], theirs)
            raise AssertionError(f"writer {number}: {len(unanswered)} updates were not answered, and no first part of them "
                                 f"explains what is found; without any of them (key, expected, found): {least[:5]}; "
                                 f"not answered: {str(unanswered)[:1000]}")
        for method, parameters in unanswered[:count]:
            if parameters.get("arena") == "bank":
                marker = own(parameters["operations"], "bank")[0]["key"]
                transfers.append((theirs.entries["bank", marker][1], shared(parameters["operations"], "bank")))
        self.private[number] = theirs
        return count

    def compare_common(self, found):
        theirs = found.of_all()
        wrong = differences(self.common, theirs)
        if wrong:
            raise AssertionError(f"{len(wrong)} shared entries differ (key, expected, found): {wrong[:5]}")
        total = sum(theirs.entries["bank", f"account{i}"][0] for i in range(ACCOUNTS))
        if total != ACCOUNTS * BALANCE:
            raise AssertionError(f"{total} in all accounts")


class Found(Entries):
    """What the daemon holds."""

    def of_writer(self, number):
        arenas = {name: told for name, told in self.arenas.items() if name in (f"w{number}", f"t{number}")}
        return Entries(arenas, {slot: entry for slot, entry in self.entries.items()
                                if slot[0] in arenas or slot[0] == "bank" and slot[1].startswith(f"m{number}.")})

    def of_all(self):
        arenas = {name: told for name, told in self.arenas.items() if name in ("bank", "ballast")}
        return Entries(arenas, {slot: entry for slot, entry in self.entries.items()
                                if slot[0] in arenas and not (slot[0] == "bank" and is_own(*slot))})


def read(client):
    found = Found()
    for arena in client.call("ListArenas")["arenas"]:
        name = arena["name"]
        found.arenas[name] = (arena["maxBytes"], arena["mode"])
        count = 0
        for page in client.call_more("List", arena=name, limit=10000):
            for entry in page["entries"]:
                found.entries[name, entry["key"]] = (entry["value"], entry["revision"])
                count += 1
        if count != arena["entries"]:
            raise AssertionError(f"{name} says it has {arena['entries']} entries, and lists {count}")
    return found


def differences(expected, found):
    """[(what, expected, found)]; a revision that is not known is taken for the one that is found."""
    wrong = [(name, expected.arenas.get(name), found.arenas.get(name))
             for name in set(expected.arenas) | set(found.arenas)
             if expected.arenas.get(name) != found.arenas.get(name)]
    for slot in set(expected.entries) | set(found.entries):
        one, other = expected.entries.get(slot), found.entries.get(slot)
        if one is None or other is None or one[0] != other[0] or one[1] not in (UNKNOWN, other[1]):
            wrong.append((slot, str(one)[:100], str(other)[:100]))
    return wrong
