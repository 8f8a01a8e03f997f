"""holdfastd as a service of a real systemd: the units, the rights of other users, reload, stop, restart, the watchdog,
and what status and journal show. One container for all of it; the tests build on each other where they say so."""

from machine import DEADLINE, SERVICE, SOCKET, Machine, Skip, equal, eventually, expect_error, run, test

machine = None


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


run()
