"""The Debian package under a real systemd, all hardening on: started, reloaded, restarted, watched, removed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare import Bare, bare_archive
from tests.e2e.booted import Booted
from tests.support.procs import wait_until

ARGUMENTS = "/etc/hapolicy/hapolicy.args"
# Takes requests and never answers.
HUNG = """\
import socket, time
listening = socket.create_server(("127.0.0.1", 10032))
while True:
    kept = listening.accept()
"""
KNOCK_AT_HUNG = "import socket; socket.create_connection(('127.0.0.1', 10032))"
# Asks, and waits for the answer.
ASKING = """\
import socket
link = socket.create_connection(("127.0.0.1", 10060), 20)
link.sendall(b"request=smtpd_access_policy\\n\\n")
print("asked", flush=True)
link.recv(100)
"""
# Connects as fast as it can until a file appears; prints how often it did, or fails when refused.
KNOCKER = """\
import os, socket
knocked = 0
while not os.path.exists("/run/enough"):
    socket.create_connection(("127.0.0.1", 10060), 20).close()
    knocked += 1
print(knocked)
"""


@pytest.fixture(scope="module")
def machine(deb: Path) -> Iterator[Booted]:
    """A booted Debian with the package, one policy service, and hapolicy enabled and started."""
    with Bare(bare_archive()) as bare, Booted(bare) as booted:
        booted.run("dpkg", "--install", bare.put(deb))
        assert "inactive" == booted.try_to("systemctl", "is-active", "hapolicy").stdout.strip()
        booted.serve_policy(10031)
        bare.path(ARGUMENTS).write_text("-s A=127.0.0.1:10031 -l\n")
        booted.run("systemctl", "enable", "--now", "hapolicy.socket", "hapolicy.service")
        yield booted


def has_replaced(machine: Booted, former: str) -> bool:
    """Whether another process than the former is hapolicy now, and ready: both properties of one moment."""
    state = machine.run("systemctl", "show", "hapolicy", "--property=ActiveState,MainPID")
    return "ActiveState=active" in state.split() and f"MainPID={former}" not in state.split()


def test_it_serves_with_all_the_hardening(machine: Booted) -> None:
    """Ready for systemd, with a status line, as its own user, filtered; it answers, and its log has its fields."""
    assert "1 of 1 service up" in machine.show("hapolicy", "StatusText")
    pid = machine.show("hapolicy", "MainPID")
    rights = dict(
        line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert ("1", "2", 0) == (rights["NoNewPrivs"], rights["Seccomp"], int(rights["CapBnd"], 16))
    assert "DUNNO inside" in machine.run("hapolicyctl", "query", "instance=m1")
    found = machine.run("journalctl", "-o", "json", "HAPOLICY_EVENT=daemon.started", f"_PID={pid}")
    started = json.loads(found)
    assert ("hapolicy", "2") == (started["SYSLOG_IDENTIFIER"], started["SYSLOG_FACILITY"])
    assert ["127.0.0.1:10060"] == json.loads(started["MESSAGE"])["listen"]


def test_an_entry_longer_than_a_datagram_reaches_the_journal(machine: Booted) -> None:
    """The way to journald takes lines of any length, and values of several lines."""
    text = "x" * 300_000 + "\nsecond line"
    program = (
        "from hapolicy.log.journald import encoded, send;"
        " send(encoded(MESSAGE='x' * 300_000 + '\\nsecond line', HAPOLICY_TEST=1))"
    )
    machine.run("/usr/lib/hapolicy/bin/python3", "-I", "-c", program)
    wait_until(lambda: machine.try_to("journalctl", "-o", "cat", "HAPOLICY_TEST=1").stdout, "the entry")
    assert text + "\n" == machine.run("journalctl", "--all", "-o", "cat", "HAPOLICY_TEST=1")


def test_the_group_gets_in_and_nobody_else(machine: Booted) -> None:
    """hapolicyctl works for a member of the group hapolicy, behind the service's own user namespace, too."""
    plain = ("setpriv", "--reuid=nobody", "--regid=nogroup")
    assert "A" in machine.run(*plain, "--groups=hapolicy", "hapolicyctl", "status")
    machine.run(*plain, "--clear-groups", "hapolicyctl", "status", status=77)


def test_reload_is_done_or_refused(machine: Booted) -> None:
    """``systemctl reload`` takes over a good file; with a bad one it fails, says why, and nothing changes."""
    arguments = machine.bare.path(ARGUMENTS)
    good = arguments.read_text()
    arguments.write_text(good + "-s B=127.0.0.1:10031\n")
    machine.run("systemctl", "reload", "hapolicy")
    wait_until(lambda: "B" in machine.run("hapolicyctl", "status", "--names").split(), "the new service")
    arguments.write_text(good + "-s bad\n")
    machine.run("systemctl", "reload", "hapolicy", status=1)
    assert "hapolicy.args:2:" in machine.log()
    assert ["A", "B"] == sorted(machine.run("hapolicyctl", "status", "--names").split())
    arguments.write_text(good)
    machine.run("systemctl", "reload", "hapolicy")


def test_restart_and_upgrade_refuse_nobody(machine: Booted) -> None:
    """While it is restarted, killed and installed anew, whoever connects gets in."""
    knocker = subprocess.Popen(machine.command("python3", "-c", KNOCKER), stdout=subprocess.PIPE, text=True)
    try:
        machine.run("systemctl", "restart", "hapolicy")
        before = machine.show("hapolicy", "MainPID")
        machine.run("systemctl", "kill", "--signal=KILL", "hapolicy")
        wait_until(lambda: has_replaced(machine, before), "its being started again")
        before = machine.show("hapolicy", "MainPID")
        machine.run("sh", "-c", "dpkg --install /root/hapolicy_*.deb")
        assert machine.show("hapolicy", "MainPID") not in ("0", before)
        machine.run("touch", "/run/enough")
        assert int(knocker.communicate(timeout=20)[0]) > 0
        assert 0 == knocker.returncode
    finally:
        knocker.kill()
        knocker.wait()


def test_a_daemon_that_hangs_is_replaced(machine: Booted) -> None:
    """Stopped by a signal it misses its WATCHDOG=1; systemd kills it, and the next one serves."""
    drop_in = machine.bare.path("/etc/systemd/system/hapolicy.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "quick.conf").write_text("[Service]\nWatchdogSec=3\nRestartSec=100ms\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", "hapolicy")
    machine.run("systemctl", "restart", "hapolicy")
    hung = machine.show("hapolicy", "MainPID")
    machine.run("systemctl", "kill", f"--signal={signal.SIGSTOP.value}", "hapolicy")
    wait_until(lambda: has_replaced(machine, hung), "another daemon")
    assert "DUNNO inside" in machine.run("hapolicyctl", "query", "instance=m2")
    assert "Watchdog timeout" in machine.run("journalctl", "-u", "hapolicy", "-o", "cat")


def test_a_long_drain_is_not_cut_short(machine: Booted) -> None:
    """TimeoutStopSec= may be shorter than --drain: the service manager is told how long the end may take."""
    arguments = machine.bare.path(ARGUMENTS)
    usual = arguments.read_text()
    (machine.bare.path("/etc/systemd/system/hapolicy.service.d") / "stop.conf").write_text(
        "[Service]\nTimeoutStopSec=1\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemd-run", "--unit=hung", "python3", "-c", HUNG)
    wait_until(lambda: machine.try_to("python3", "-c", KNOCK_AT_HUNG).returncode == 0, "the service to listen")
    arguments.write_text("-s HUNG=127.0.0.1:10032 --hedge off --drain 3\n")
    machine.run("systemctl", "restart", "hapolicy")
    with subprocess.Popen(machine.command("python3", "-c", ASKING), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert "asked\n" == client.stdout.readline()
        machine.run("systemctl", "stop", "hapolicy.socket", "hapolicy.service")
        client.wait(10)
    assert "success" == machine.show("hapolicy", "Result")
    assert '"drained": false' in machine.run("journalctl", "-u", "hapolicy", "-o", "cat", "-n", "5")
    arguments.write_text(usual)
    machine.run("systemctl", "start", "hapolicy.socket", "hapolicy.service")


def test_an_instance_has_its_own_files(machine: Booted) -> None:
    """hapolicy@other reads other.args, listens on its own unix socket, and is told apart by hapolicyctl -i."""
    machine.bare.path("/etc/hapolicy/other.args").write_text("-s O=127.0.0.1:10031\n")
    machine.run("systemctl", "enable", "--now", "hapolicy@other.socket", "hapolicy@other.service")
    assert "O" == machine.run("hapolicyctl", "-i", "other", "status", "--names").strip()
    listening = machine.show("hapolicy@other.socket", "Listen")
    assert listening.startswith("/var/spool/postfix/hapolicy/other ")


def test_purged_it_leaves_no_unit_running_and_no_file(machine: Booted) -> None:
    """Removing stops the daemons and their sockets; purging takes what was enabled, edited and configured."""
    machine.run("dpkg", "--remove", "hapolicy")
    assert "" == machine.run("systemctl", "list-units", "--no-legend", "--plain", "--state=active", "hapolicy*").strip()
    machine.run("dpkg", "--purge", "hapolicy")
    found = machine.run("sh", "-c", "find / -xdev -name '*hapolicy*' -not -path '/var/log/*' -not -path '/root/*'")
    assert ["/var/spool/postfix/hapolicy"] == found.split()
