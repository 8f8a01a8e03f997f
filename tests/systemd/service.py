"""holdfastd as a service of a real systemd: the units, the rights of other users, reload, what status and journal show, a
checkpoint's child, the watchdog, a full disk, stopping, two instances. One container for all of it."""

import re

from machine import Machine, SERVICE, SOCKET, equal, eventually, expect_error, run, test

CONFIG = "/etc/holdfast/holdfastd.conf.d/test.conf"


def configure(machine, text):
    """Puts a drop-in of the configuration there, and reloads."""
    machine.write(CONFIG, text)
    machine.systemctl("reload", SERVICE)


def child_of(machine):
    """The number of the process that writes an image."""
    with machine.client() as client:
        running = client.call("GetStatus")["status"].get("runningCheckpoint")
    if not running:
        return None
    children = machine.run("ps", "-o", "pid=", "--ppid", str(machine.main_pid()), check=False).split()
    return (children[0], running) if children else None


def can_raise_limits():
    """True with CAP_SYS_RESOURCE."""
    with open("/proc/self/status", encoding="ascii") as file:
        return bool(int(re.search(r"CapEff:\s*(\w+)", file.read())[1], 16) & 1 << 24)


def oom_score(machine, pid):
    return int(machine.run("cat", f"/proc/{pid}/oom_score_adj"))


def fill(client, arena, mebibytes):
    client.call("CreateArena", name=arena)
    for part in range(mebibytes):
        client.call("Apply", arena=arena, operations=[
            {"op": "put", "key": f"k{part}.{i}", "value": "x" * 65500} for i in range(16)])


@test("systemctl enable --now holdfastd.socket holdfastd.service is all that it takes")
def _():
    m = Machine.booted()
    m.systemctl("enable", "--now", "holdfastd.socket", SERVICE)
    equal(m.property("ActiveState"), "active", "the service")
    equal(m.systemctl("is-enabled", "holdfastd.socket", SERVICE).split(), ["enabled", "enabled"], "enabled")
    equal(m.status()["state"], "serving", "the state")
    equal(m.run("stat", "-c", "%U %G %a", SOCKET).strip(), "root holdfast 660", "the socket")
    equal(m.run("stat", "-c", "%U %G %a", "/var/lib/holdfast").strip(), "holdfast holdfast 700", "the state directory")
    equal(m.run("ps", "-o", "user=", "-p", str(m.main_pid())).strip(), "holdfast", "the daemon's user")


@test("the service has the properties that the unit promises")
def _():
    m = Machine.booted()
    for name, expected in {"Type": "notify", "KillMode": "mixed", "Restart": "on-failure", "OOMPolicy": "continue",
                           "OOMScoreAdjust": "-500", "FileDescriptorStoreMax": "257", "LimitNOFILE": "65536",
                           "RestartPreventExitStatus": "64 65 78"}.items():
        equal(m.property(name), expected, name)
    # Where the machine around the container may not raise limits, systemd passes over them.
    if can_raise_limits():
        limits = m.run("cat", f"/proc/{m.main_pid()}/limits")
        equal(re.search(r"Max open files\s+(\d+)", limits)[1], "65536", "the daemon's limit of descriptors")
        equal(oom_score(m, m.main_pid()), -500, "the daemon's oom_score_adj")
    level = m.run("systemd-analyze", "security", "--no-pager", SERVICE).splitlines()[-1]
    if float(re.search(r": ([0-9.]+) ", level)[1]) > 1.0:
        raise AssertionError(level)


@test("users of the group holdfast have their own arenas, others can't connect")
def _():
    m = Machine.booted()
    ctl = "holdfastctl"
    m.run(ctl, "create", "notes", "--mode=0600", user="alice")
    m.run(ctl, "put", "notes", "a", "1", user="alice")
    equal(m.run(ctl, "get", "notes", "a", user="alice").strip(), "1", "what alice reads")
    equal([arena["uid"] for arena in m.call("ListArenas")["arenas"] if arena["name"] == "notes"], [2001], "its owner")
    m.run(ctl, "create", "roots")
    m.run(ctl, "put", "roots", "a", "2")
    for denied in ("get roots a", "drop roots", "reload", "checkpoint roots"):
        said = m.fails(ctl, *denied.split(), user="alice")
        if "io.holdfast.NoSuch" in said or not re.search(r"PermissionDenied", said):
            raise AssertionError(f"{denied} by alice: {said}")
    said = m.fails(ctl, "status", user="bob")
    if "status 77" not in said:
        raise AssertionError(f"bob, who is not in the group, is told {said}")
    m.run(ctl, "drop", "roots")
    m.run(ctl, "drop", "notes", user="alice")


@test("systemctl status shows the line of status")
def _():
    m = Machine.booted()
    with m.client() as client:
        client.call("CreateArena", name="a")
        client.call("Put", arena="a", key="k", value=1)
        client.call("TakeCheckpoint", label="status")
    line = eventually(lambda: re.search(r'Status: "(1 arenas?, [^"]* revision [^"]*; last checkpoint [^"]*pause [^"]*)"',
                                        m.systemctl("status", SERVICE)), "the line of status")[1]
    print(f"# {line}")


@test("the journal has the message ids with their fields, and journalctl -x explains them")
def _():
    m = Machine.booted()
    started = m.journal("MESSAGE_ID=5abfcdae00116cd94655369758c974f9")
    equal(started[0]["_SYSTEMD_UNIT"], SERVICE, "the unit that says it has started")
    equal(started[0]["PRIORITY"], "6", "its priority")
    recovered = m.journal("MESSAGE_ID=d4b758b8d175fd6f207ab0463d5ada64")
    if not int(recovered[0]["DURATION_USEC"]) < 60_000_000 or int(recovered[0]["REVISION"]) < 0:
        raise AssertionError(f"fields of a recovery: {recovered[0]}")
    complete = m.journal("MESSAGE_ID=fc8bbfcf3c3d288c155cc57efeaa482b")
    listed = m.call("ListCheckpoints")["checkpoints"]
    equal(complete[-1]["CHECKPOINT_ID"], listed[-1]["id"], "the checkpoint")
    equal(int(complete[-1]["REVISION"]), listed[-1]["revision"], "its revision")
    equal(complete[-1]["ARENA"], "a", "its arena")
    m.run("journalctl", "--update-catalog")  # what distributions do when a package brings one
    explained = m.run("journalctl", "--no-pager", "-x", "MESSAGE_ID=fc8bbfcf3c3d288c155cc57efeaa482b")
    if f"Checkpoint {listed[-1]['id']} is complete" not in explained or "let go" not in explained:
        raise AssertionError(f"journalctl -x:\n{explained}")


@test("a reload is synchronous, and fails with the error where the configuration is wrong")
def _():
    m = Machine.booted()
    configure(m, "[Arenas]\nArenaBytesMax=3M\n")
    equal(m.call("CreateArena", name="small")["arena"]["maxBytes"], 3 << 20, "maxBytes after the reload")
    m.write(CONFIG, "[Arenas]\nArenaBytesMax=much\n")
    m.fails("systemctl", "reload", SERVICE)
    equal(m.property("ActiveState"), "active", "the service after a wrong configuration")
    equal(m.call("CreateArena", name="small2")["arena"]["maxBytes"], 3 << 20, "maxBytes after a wrong configuration")
    said = m.run("journalctl", "--no-pager", "--unit", SERVICE, "--lines=30")
    if "ArenaBytesMax=much" not in said.replace("Arenas.", ""):
        raise AssertionError(f"the journal does not tell what is wrong:\n{said}")
    configure(m, "")
    for name in ("small", "small2"):
        m.call("DropArena", name=name)


@test("a checkpoint's child steps back, and its death harms nothing")
def _():
    m = Machine.booted()
    before = m.main_pid()
    configure(m, "[Checkpoint]\nWriteBytesPerSecMax=1M\n")
    with m.client() as client:
        fill(client, "large", 8)
        client.send("TakeCheckpoint", {"label": "killed"})
        pid, running = eventually(lambda: child_of(m), "a child writes an image")
        equal(m.run("ps", "-o", "ni=", "-p", pid).strip(), "5", "its nice value")
        equal(m.run("ionice", "-p", pid).strip(), "best-effort: prio 7", "its I/O priority")
        if oom_score(m, pid) <= oom_score(m, before):
            raise AssertionError("its oom_score_adj is not higher than the daemon's")
        m.run("kill", "-KILL", pid)
        with expect_error("CheckpointFailed"):
            client.receive()
        client.call("Put", arena="large", key="after", value=1)
    equal(m.main_pid(), before, "the daemon's process")
    equal((m.property("ActiveState"), m.property("NRestarts")), ("active", "0"), "the service")
    failed = m.journal("MESSAGE_ID=d31061fe78f3c88bd2dba379161e0e4b")
    if not failed or "signal" not in failed[-1]["REASON"].lower() and "kill" not in failed[-1]["REASON"].lower():
        raise AssertionError(f"what the journal says of it: {failed}")
    configure(m, "")
    m.call("TakeCheckpoint", label="fine")


@test("AfterCommand= runs a program of this system from the sandbox")
def _():
    m = Machine.booted()
    configure(m, "[Checkpoint]\nAfterCommand=/bin/sh -c "
                 "'echo \"$HOLDFAST_CHECKPOINT_ID $(id -un)\" >/var/lib/holdfast/after'\n")
    identity = m.call("TakeCheckpoint", label="after")["checkpoint"]["id"]
    path = f"{m.root}/var/lib/holdfast/after"

    def ran():
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""
    equal(eventually(ran, "the command has run").split(), [identity, "holdfast"], "what the command saw")
    configure(m, "")


@test("a socket whose daemon is stopped starts it when a client comes")
def _():
    m = Machine.booted()
    with m.client() as client:
        client.call("Put", arena="a", key="kept", value={"n": 1})
    m.systemctl("stop", SERVICE)
    equal(m.property("ActiveState"), "inactive", "the service")
    equal(m.property("ActiveState", "holdfastd.socket"), "active", "the socket")
    equal(m.call("Get", arena="a", key="kept")["value"], {"n": 1}, "what the client that started it gets")
    equal(m.property("ActiveState"), "active", "the service")


@test("stop takes the final checkpoint with AtStop=yes")
def _():
    m = Machine.booted()
    configure(m, "[Checkpoint]\nAtStop=yes\n")
    revision = m.call("Put", arena="a", key="last", value=1)["revision"]
    m.systemctl("stop", SERVICE)
    equal(m.property("Result"), "success", "the result of the service")
    m.systemctl("start", SERVICE)
    newest = m.call("ListCheckpoints")["checkpoints"][-1]
    equal((newest["revision"], newest["state"]), (revision, "complete"), "the newest checkpoint")
    configure(m, "")


@test("a stuck loop is seen by the watchdog and comes back with its state")
def _():
    m = Machine.booted()
    m.drop_in(SERVICE, "[Service]\nWatchdogSec=2s\n")
    m.systemctl("restart", SERVICE)
    revision = m.call("Put", arena="a", key="watched", value=1)["revision"]
    stuck = m.main_pid()
    m.signal("SIGSTOP")
    m.wait_restarted(stuck)
    equal(m.call("Get", arena="a", key="watched")["revision"], revision, "what was there before")
    equal(m.property("NRestarts"), "1", "restarts")
    if not re.search("watchdog", m.run("journalctl", "--no-pager", f"UNIT={SERVICE}"), re.IGNORECASE):
        raise AssertionError("the journal says nothing of the watchdog")
    m.drop_in(SERVICE, "")


@test("the daemon does not come back where its configuration is wrong")
def _():
    m = Machine.booted()
    m.write(CONFIG, "[Journal]\nSync=sometimes\n")
    m.fails("systemctl", "restart", SERVICE)
    equal(m.property("ActiveState"), "failed", "the service")
    equal((m.property("ExecMainStatus"), m.property("NRestarts")), ("78", "0"), "status and restarts")
    m.write(CONFIG, "")
    m.systemctl("reset-failed", SERVICE)
    m.systemctl("restart", "holdfastd.socket", SERVICE)
    equal(m.call("Get", arena="a", key="watched")["value"], 1, "the state")


@test("two instances have a state, a socket and a configuration each")
def _():
    m = Machine.booted()
    m.write("/etc/holdfast-one/holdfastd.conf", "[Arenas]\nArenaBytesMax=5M\n")
    m.systemctl("enable", "--now", "holdfastd@one.socket", "holdfastd@one.service", "holdfastd@two.socket",
                "holdfastd@two.service")
    sockets = {name: f"/run/holdfast-{name}/holdfast.sock" for name in ("one", "two")}
    for name, socket in sockets.items():
        created = m.call("CreateArena", name="same", socket=socket)["arena"]["maxBytes"]
        equal(created == 5 << 20, name == "one", f"maxBytes of instance {name} is its own")
        m.call("Put", arena="same", key="who", value=name, socket=socket)
    m.systemctl("stop", "holdfastd@two.service")
    m.systemctl("restart", "holdfastd@one.service")
    for name, socket in sockets.items():
        equal(m.call("Get", arena="same", key="who", socket=socket)["value"], name, f"the state of {name}")
        equal(m.run("stat", "-c", "%U %a", f"/var/lib/holdfast-{name}").strip(), "holdfast 700", f"its directory")
    equal("same" in [arena["name"] for arena in m.call("ListArenas")["arenas"]], False, "the same arena in the first")
    m.systemctl("reload", "holdfastd@one.service")
    m.systemctl("disable", "--now", *[f"holdfastd@{name}.{kind}" for name in sockets for kind in ("socket", "service")])


@test("on a full disk updates are refused, reads go on, and updates again when there is room")
def _():
    m = Machine.booted()
    unit, socket, state = "holdfastd@full.service", "/run/holdfast-full/holdfast.sock", "/var/lib/holdfast-full"
    m.run("mkdir", "-p", state)
    m.run("mount", "-t", "tmpfs", "-o", "size=64M,mode=0700", "full", state)
    m.run("chown", "holdfast:holdfast", state)
    m.write("/etc/holdfast-full/holdfastd.conf", "[Journal]\nSegmentBytesMax=16M\n")
    m.systemctl("start", "holdfastd@full.socket", unit)
    with m.client(socket) as client, m.client(socket) as other:
        client.call("CreateArena", name="a", maxBytes=64 << 20)
        client.call("Put", arena="a", key="kept", value=1)

        def full():
            """True where it stays full: the daemon gives back what it had made ready, and takes it again."""
            m.run("sh", "-c", f"dd if=/dev/zero of={state}/ballast bs=4K status=none conv=notrunc oflag=append; true")
            return all(other.call("GetStatus")["status"]["state"] == "readonly" for _ in range(300))

        # What was under way when the disk was full is kept and answered when there is room; what comes later is refused.
        sent = 0
        while not full():
            client.send("Put", {"arena": "a", "key": f"k{sent % 8}", "value": "x" * 500_000})
            sent += 1
        with expect_error("ReadOnly"):
            other.call("Put", arena="a", key="refused", value=1)
        equal(other.call("Get", arena="a", key="kept")["value"], 1, "a read on a full disk")
        equal(m.property("ActiveState", unit), "active", "the service on a full disk")
        m.run("rm", f"{state}/ballast")
        answers = [client.receive_message() for _ in range(sent)]
        acknowledged = [answer["parameters"]["revision"] for answer in answers if "error" not in answer]
        eventually(lambda: other.call("GetStatus")["status"]["state"] == "serving", "updates are accepted")
        last = other.call("Put", arena="a", key="again", value=1)["revision"]
        before = m.main_pid(unit)
        m.signal("KILL", unit)
        m.wait_restarted(before, unit)
    found = [entry["revision"] for page in m.pages("List", socket, arena="a") for entry in page["entries"]]
    if not {last, *acknowledged[-1:]} <= set(found):
        raise AssertionError(f"{last} and {acknowledged} were acknowledged, {sorted(found)} are there")
    told = [len(m.journal(f"MESSAGE_ID={identity}", f"_SYSTEMD_UNIT={unit}")) for identity in
            ("3881e26570b74c1c762574b7388ac013", "107e326c1757896c7f99a0d0de662162")]
    if told[0] != told[1] or not 1 <= told[0] <= sent:
        raise AssertionError(f"refused and accepted were told {told} times")
    m.systemctl("stop", "holdfastd@full.socket", unit)
    m.run("umount", state)


run()
