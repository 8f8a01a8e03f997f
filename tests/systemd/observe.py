"""What an administrator sees of the service, with a real systemd: the line of status, the journal's messages with their
fields and explanations, and AfterCommand= in the service's sandbox, with the drop-in that lets it write elsewhere."""

import re

from machine import SERVICE, Machine, equal, eventually, run, test

COPY = "/usr/share/holdfast/holdfast-copy-image"
IDS = {"started": "5abfcdae00116cd94655369758c974f9", "complete": "fc8bbfcf3c3d288c155cc57efeaa482b"}


def serving():
    machine = Machine.booted()
    machine.systemctl("start", "holdfastd.socket", SERVICE)
    return machine


def messages(machine, name):
    """The journal's messages of that kind, the oldest first."""
    return machine.journal(f"--unit={SERVICE}", f"MESSAGE_ID={IDS[name]}")


def shown(machine):
    return machine.property("StatusText")


@test("systemctl status shows arenas, memory, revision and the last checkpoint")
def _():
    machine = serving()
    with machine.client() as client:
        client.call("CreateArena", name="seen")
        client.call("Put", arena="seen", key="k", value=1)
        revision = client.call("TakeCheckpoint")["checkpoint"]["revision"]
        eventually(lambda: re.fullmatch(rf"1 arena, \S+ KiB, revision {revision:,}; last checkpoint just now "
                                        r"\(\S+ m?s, pause \S+ [um]s\)", shown(machine)), "the line of status", 30)
    assert "last checkpoint just now" in machine.systemctl("status", SERVICE)


@test("the journal has the messages with their fields, and explains them")
def _():
    machine = serving()
    with machine.client() as client:
        made = client.call("TakeCheckpoint", label="told")["checkpoint"]
    started = messages(machine, "started")[-1]
    equal((started["PRIORITY"], started["RECOVERY"], started["_SYSTEMD_UNIT"]), ("6", "empty", SERVICE))
    complete = messages(machine, "complete")[-1]
    equal((complete["CHECKPOINT_ID"], complete["ARENA"], int(complete["REVISION"]), int(complete["DURATION_USEC"])),
          (made["id"], "seen", made["revision"], made["durationUSec"]))
    machine.run("journalctl", "--update-catalog")
    explained = machine.run("journalctl", "-x", "-q", "-u", SERVICE, f"CHECKPOINT_ID={made['id']}")
    assert f"Checkpoint {made['id']} is complete" in explained, explained


@test("AfterCommand= runs in the sandbox: elsewhere it may write where a drop-in says so, and only there")
def _():
    machine = serving()
    machine.write("/etc/holdfast/holdfastd.conf.d/after.conf",
                  f"[Checkpoint]\nAfterCommand={COPY} /srv/copies 2\n")
    machine.run("install", "-d", "-o", "holdfast", "-g", "holdfast", "/srv/copies")
    machine.systemctl("reload", SERVICE)

    def copied():
        with machine.client() as client:
            made = client.call("TakeCheckpoint")["checkpoint"]["id"]

            def ended():
                found = client.call("GetStatus")["status"].get("afterCommand", {})
                return found if found.get("checkpoint") == made and "durationUSec" in found else None
            return made, eventually(ended, "the command has ended")

    made, found = copied()
    assert found["exitStatus"] != 0, found
    machine.run("journalctl", "--sync")
    assert "Read-only file system" in machine.run("journalctl", "-q", "-u", SERVICE, "--all"), "it is told"
    machine.drop_in(SERVICE, "[Service]\nReadWritePaths=/srv/copies\n")
    machine.systemctl("restart", SERVICE)
    made, found = copied()
    equal(found.get("exitStatus"), 0, found)
    equal(machine.run("ls", "/srv/copies").split(), [f"{made}.image"])
    machine.run("cmp", f"/srv/copies/{made}.image", f"/var/lib/holdfast/images/{made}.image")


run()
