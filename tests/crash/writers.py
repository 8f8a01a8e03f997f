"""The writers of the kill campaign: each a process with a connection, which sends random updates of every kind, several at a
time, until the daemon is gone, and tells what was answered. The oracle knows what must follow from that."""

import multiprocessing
import random

from oracle import ACCOUNTS, BALANCE, MARKERS
from varlink import Client, VarlinkError

PIPELINE = MARKERS // 4


def private_operation(dice, serial):
    """An operation on a key that is one writer's own. What it leaves behind tells which one it was."""
    key = f"k{dice.randrange(60)}"
    kind = dice.randrange(10)
    if kind < 5:
        return {"op": "put", "key": key, "value": {"s": serial, "text": "x" * dice.randrange(10, 3000)}}
    if kind < 7:
        return {"op": "merge", "key": key, "value": {"m": serial, "s": None, "deep": {str(serial % 5): serial}}}
    if kind < 8:
        return {"op": "delete", "key": key}
    return {"op": "increment", "key": f"n{dice.randrange(5)}", "by": dice.randrange(1, 9)}


def transfer(dice, number, serial):
    """Moves an amount between two accounts that all writers share. The marker is the writer's own, and tells whether
    it happened and as which revision."""
    one, other = dice.sample(range(ACCOUNTS), 2)
    amount = dice.randrange(1, 100)
    return [{"op": "increment", "key": f"account{one}", "by": -amount},
            {"op": "put", "key": f"m{number}.{serial % MARKERS}", "value": serial},
            {"op": "put", "key": f"last{dice.randrange(4)}", "value": [number, serial]},
            {"op": "increment", "key": f"account{other}", "by": amount}]


def single(operation):
    """The same operation as a method of its own."""
    parameters = {name: value for name, value in operation.items() if name != "op"}
    if operation["op"] == "merge":
        parameters["patch"] = parameters.pop("value")
    return operation["op"].capitalize(), parameters


def next_call(dice, number, serial):
    """A random update as (method, parameters)."""
    kind = dice.randrange(100)
    if kind < 55:
        method, parameters = single(private_operation(dice, serial))
        return method, {"arena": f"w{number}", **parameters}
    if kind < 75:
        return "Apply", {"arena": "bank", "operations": transfer(dice, number, serial)}
    if kind < 90:
        return "Apply", {"arena": f"w{number}",
                         "operations": [private_operation(dice, serial) for _ in range(dice.randrange(1, 30))]}
    name = f"t{number}"  # comes and goes; what fails since it is not there, or is there, fails as the oracle expects
    if kind < 95:
        return "Put", {"arena": name, "key": f"k{dice.randrange(9)}", "value": [serial]}
    if kind < 97:
        return "CreateArena", {"name": name, "maxBytes": dice.randrange(1, 5) << 20}
    if kind < 98:
        return "ChangeArena", {"name": name, "maxBytes": dice.randrange(5, 9) << 20, "mode": dice.choice((0o600, 0o660))}
    return "DropArena", {"name": name}


def write(socket_path, number, dice, serial, results):
    """A writer: updates until the daemon is gone. Sends back when it is served, and then [(method, parameters, reply or
    error)] and, as [(method, parameters)], what was sent and not answered."""
    answered, sent = [], []
    try:
        with Client(socket_path) as client:
            client.call("GetStatus")
            results.send("served")
            while True:
                sent = [next_call(dice, number, serial + i) for i in range(dice.randrange(1, PIPELINE + 1))]
                serial += len(sent)
                for call in sent:
                    client.send(*call)
                while sent:
                    try:
                        answer = client.receive()
                    except VarlinkError as error:
                        answer = error.short
                    answered.append((*sent.pop(0), answer))
    except (ConnectionError, EOFError, FileNotFoundError):
        pass
    results.send((answered, sent, serial))


class Writers:
    """Running ones, one for each of the serials: the numbers that their next updates begin with."""

    def __init__(self, socket_path, dice, serials):
        context = multiprocessing.get_context("fork")
        self.ends, self.processes = [], []
        for number, serial in enumerate(serials):
            end, theirs = context.Pipe(duplex=False)
            process = context.Process(target=write, daemon=True, args=(
                socket_path, number, random.Random(dice.random()), serial, theirs))
            process.start()
            theirs.close()
            self.ends.append(end)
            self.processes.append(process)
        # A connection that still waits in the backlog would outlive this daemon and be served by the next one.
        for end in self.ends:
            if end.recv() != "served":
                raise AssertionError("a writer was not served")

    def finish(self):
        """When the daemon is gone: of each [what was answered], [what was not], and its next serial."""
        told = [end.recv() for end in self.ends]
        for process in self.processes:
            process.join()
        return told


def fill(client, oracle, writers):
    """Creates the arenas that the writers use, and tells the oracle."""
    for name in ["bank", "ballast"] + [f"w{number}" for number in range(writers)]:
        client.call("CreateArena", name=name, maxBytes=32 << 20)
        oracle.created(name, 32 << 20)
    accounts = [{"op": "put", "key": f"account{i}", "value": BALANCE} for i in range(ACCOUNTS)]
    ballast = [{"op": "put", "key": f"k{i}", "value": "y" * 4000} for i in range(500)]
    for arena, operations in (("bank", accounts), ("ballast", ballast)):
        revision = client.call("Apply", arena=arena, operations=operations)["revision"]
        oracle.shared_update(revision, arena, operations)
