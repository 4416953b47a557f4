"""The units: systemd understands them, they give away little, and what they take away hapolicy does not miss."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.journal import in_own_mounts, mounts_allowed
from tests.e2e.need import missing, need, need_root
from tests.e2e.spawnable import USER, spawnable_hapolicy
from tests.support.client import PolicyClient
from tests.support.procs import Process
from tests.support.sample import Sample

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
SERVICES = ("hapolicy.service", "hapolicy@.service")
UNITS = (*SERVICES, "hapolicy.socket", "hapolicy@.socket")
EXPOSURE_MAX = 1.5

# As much of the unit's hardening as a shell can have: all file systems read-only, then no root, no capability, no
# way back. $0 is the user, "$@" the program.
HARDENED = """\
awk '{ print $5 }' /proc/self/mountinfo | while read -r mounted; do
    mount -o remount,bind,ro "$mounted" 2>/dev/null || true
done
exec setpriv --reuid="$0" --regid=nogroup --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


def directives(unit: str) -> list[str]:
    """A unit's lines that are no comments."""
    lines = (CONFIG / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_systemd_verifies_the_units_in_silence(tmp_path: Path) -> None:
    """``systemd-analyze verify`` finds nothing to say about the four units, the templates as an instance."""
    analyze = need("systemd-analyze", "systemd")
    units = []
    for unit in UNITS:
        path = tmp_path / unit.replace("@", "@other")
        # The program is looked for, and need not be installed here.
        path.write_text((CONFIG / unit).read_text().replace("/usr/sbin/hapolicy", sys.executable))
        units.append(str(path))
    done = subprocess.run([analyze, "--man=no", "verify", *units], capture_output=True, text=True, check=False)
    # It reads the units around these as well, those of other packages too: what it says of them is theirs.
    others = re.compile(rf"/(?!{re.escape(str(tmp_path)[1:])}/)\S+:\d+: ")
    said = [line for line in done.stderr.splitlines() if not others.match(line)]
    assert (0, "", []) == (done.returncode, done.stdout, said)


@pytest.mark.parametrize("unit", SERVICES)
def test_the_services_expose_little(unit: str, tmp_path: Path) -> None:
    """``systemd-analyze security`` rates them no worse than 1.5 (0 is nothing at all, 10 all there is)."""
    analyze = need("systemd-analyze", "systemd")
    path = tmp_path / unit
    shutil.copy(CONFIG / unit, path)
    command = [analyze, "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rated = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert rated, done.stdout + done.stderr
    assert float(rated[1]) <= EXPOSURE_MAX


def test_the_template_is_the_service_for_each_name() -> None:
    """hapolicy@.service differs from hapolicy.service in the names that tell instances apart, in nothing else."""
    for_one = [
        line.replace(" (%i)", "").replace("/%i.args", "/hapolicy.args").replace("hapolicy-%i", "hapolicy")
        for line in directives("hapolicy@.service")
    ]
    assert directives("hapolicy.service") == for_one


def test_the_manual_pages_are_whole(tmp_path: Path) -> None:
    """man(1) has no warning about them, and each long option of the programs has its place in them."""
    man = need("man", "man-db")
    subprocess.run([sys.executable, ROOT / "package" / "man.py", tmp_path], check=True, timeout=60)
    for program, module in (("hapolicy", "hapolicy"), ("hapolicyctl", "hapolicy.admin.control.commands")):
        command = [man, "--warnings", "--encoding=UTF-8", "--local-file", str(tmp_path / f"{program}.8")]
        environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (0, "") == (done.returncode, done.stderr)
        shown = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
        for option in set(re.findall(r"^  .*?(--[a-z-]+)", shown.stdout, re.MULTILINE)) - {"--help"}:
            assert option in done.stdout, option
        for section in ("EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"):
            assert section in done.stdout


def test_every_exit_status_of_hapolicyctl_is_told_wherever_they_are() -> None:
    """The same in its --help, in its manual page, and in docs/operating.md."""
    shown = subprocess.run(
        [sys.executable, "-m", "hapolicy.admin.control.commands", "--help"], capture_output=True, text=True, check=True
    )
    told = re.findall(r"(\d+)\s[a-zC]", shown.stdout.partition("Exit status: ")[2])
    page = (ROOT / "package" / "man" / "hapolicyctl.8.in").read_text()
    readme = (ROOT / "docs/operating.md").read_text().partition("| exit status | meaning |")[2].partition("\n\n")[0]
    assert ["0", "1", "64", "69", "74", "77", "130"] == told
    assert told == re.findall(r"^\.B (\d+)$", page, re.MULTILINE)
    assert told == re.findall(r"^\| (\d+) \|", readme, re.MULTILINE)


def test_hapolicy_serves_without_what_the_unit_takes_away(folder: Path) -> None:
    """As a plain user without capabilities or new privileges, on a root that nobody can write: it serves, reloads,
    and ends in peace."""
    need_root()
    need("setpriv", "util-linux")
    if not mounts_allowed():
        missing("the right to mount (for a read-only root)", "util-linux")
    arguments = folder / "hapolicy.args"
    program = spawnable_hapolicy(folder)
    assert subprocess.run(in_own_mounts(HARDENED, USER, "touch", str(folder / "x")), check=False).returncode
    with Sample("A") as a, Sample("B") as b:
        arguments.write_text(f"--listen 127.0.0.1:0 --log stderr -s {a.service()}\n")
        daemon = Process(in_own_mounts(HARDENED, USER, *program, f"@{arguments}"))
        started = daemon.wait_for(
            lambda: [event for event in daemon.events if event["event"] == "daemon.started"], "the start"
        )[0]
        rights = dict(line.split(":\t", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines())
        assert ("1", 0, 0) == (rights["NoNewPrivs"], int(rights["CapEff"], 16), int(rights["CapBnd"], 16))
        assert "0" not in rights["Uid"].split()
        with PolicyClient(started["listen"][0]) as client:
            assert "DUNNO A i1" == client.ask(instance="i1")
            arguments.write_text(arguments.read_text().replace(a.service(), b.service()))
            daemon.signal(signal.SIGHUP)
            daemon.wait_for(lambda: [e for e in daemon.events if e["event"] == "daemon.reloaded"], "the reload")
            assert "DUNNO B i2" == client.ask(instance="i2")
        assert (0, []) == (daemon.stop(), daemon.noise)
