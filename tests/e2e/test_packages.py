"""The zipapp and the Debian package on a machine that has nothing but Debian's python3: they install, work, and go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare import Bare, bare_archive
from tests.e2e.manager import has_event
from tests.e2e.need import need
from tests.support.client import PolicyClient, request
from tests.support.procs import Process
from tests.support.sample import Sample

PACKAGE = Path(__file__).resolve().parents[2] / "package"
# What dpkg and systemd-sysusers note down: their logs, and the user, whose number is never given to another.
NOTES = re.compile(r"etc/(passwd|group|shadow|gshadow)-?|etc/\.pwd\.lock|var/(log|cache|lib/(dpkg|systemd))(/.*)?")
BARELY = ("--clear-groups", "--no-new-privs", "--bounding-set=-all")
UNIT_USER = ("setpriv", "--reuid=hapolicy", "--regid=hapolicy", *BARELY)
# Not nobody: whoever has that number is never let in at the control socket.
PLAIN_USER = ("setpriv", "--reuid=daemon", "--regid=daemon", *BARELY)
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", *BARELY)


def build(script: str, target: Path) -> None:
    """Have one of the package scripts make its file."""
    done = subprocess.run([sys.executable, PACKAGE / script, target], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp."""
    path = tmp_path_factory.mktemp("pyz") / "hapolicy.pyz"
    build("pyz.py", path)
    return path


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    """A bare Debian; each test but the last leaves it as it was."""
    with Bare(bare_archive()) as machine:
        yield machine


def started_at(daemon: Process) -> str:
    """Where a daemon listens, once it does."""
    daemon.wait_for(has_event(daemon, "daemon.started"), "the daemon's start")
    return str(next(event["listen"][0] for event in daemon.events if event["event"] == "daemon.started"))


def test_the_zipapp_needs_python_alone(bare: Bare, pyz: Path) -> None:
    """One file, no pip, no venv: daemon, status page and hapolicyctl, as a plain user; it is unpacked nowhere."""
    bare.run("python3", "-c", "import pip", status=1)
    program = bare.put(pyz, "/usr/sbin")
    bare.path("/usr/sbin/hapolicyctl").symlink_to("hapolicy.pyz")
    bare.run("install", "-d", "-o", "daemon", "/run/hapolicy")
    before = bare.files()
    with Sample("A") as a:
        options = ("--listen", "127.0.0.1:0", "--log", "stderr", "--http", "127.0.0.1:0")
        control = "unix:/run/hapolicy/control.sock"
        daemon = bare.start(*PLAIN_USER, program, *options, "--control", control, "-s", a.service())
        with PolicyClient(started_at(daemon)) as client:
            assert "DUNNO A z1" == client.ask(instance="z1")
        page = next(event["http"][0] for event in daemon.events if event["event"] == "daemon.started")
        for path, text in (("/", b"<html"), ("/metrics", b"hapolicy_")):
            with urllib.request.urlopen(f"http://{page}{path}", timeout=10) as reply:
                assert text in reply.read()
        assert "DUNNO A z2" in bare.run(*PLAIN_USER, "hapolicyctl", "query", "instance=z2")
        assert re.search(r"\bA\b.*\bup\b", bare.run("python3", program, "ctl", "status"))
        assert (0, []) == (daemon.stop(), daemon.noise)
    assert before == bare.files()
    assert "no service defined" in bare.run(*NOBODY, program, "--check", status=78)
    bare.run("rm", "-r", "/usr/sbin/hapolicyctl", program, "/run/hapolicy")


def test_nothing_of_the_building_machine_is_in_the_package(deb: Path, tmp_path: Path) -> None:
    """No path of ours, no machine code, and each file owned by root with a time of its own."""
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tmp_path], check=True)
    listed = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True).stdout
    assert {"root/root"} == {line.split()[1] for line in listed.splitlines()}
    ours = {os.fsencode(path) for path in (sys.prefix, PACKAGE.parent, Path(sys.executable).resolve().parent)}
    ours -= {b"/usr/bin"}  # Debian's own Python lies there, here and everywhere
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not content.startswith(b"\x7fELF"), path
            assert [] == [here for here in ours if here + b"/" in content], path


def test_lintian_finds_nothing_more_than_the_overrides_say(deb: Path) -> None:
    """Debian's own check of packages is silent."""
    command = [need("lintian", "lintian"), "--allow-root", deb]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout), done.stdout + done.stderr


def test_the_package_installs_works_and_goes_without_a_trace(bare: Bare, deb: Path) -> None:
    """Installed on a bare Debian, run as its unit would run it, asked, removed and purged."""
    package = bare.put(deb)
    before = bare.files()
    bare.run("dpkg", "--install", package)
    assert "hapolicy" in bare.run("id", "hapolicy")
    assert bare.path("/usr/lib/hapolicy/lib/python3/site-packages/hapolicy/__pycache__").is_dir()
    for page in ("hapolicy", "hapolicyctl"):
        assert bare.path(f"/usr/share/man/man8/{page}.8.gz").is_file()

    bare.run("install", "-d", "-o", "hapolicy", "-g", "hapolicy", "/run/hapolicy")
    with Sample("A") as a:
        bare.path("/etc/hapolicy/hapolicy.args").write_text(f"--listen 127.0.0.1:0 -s {a.service()}\n")
        unit = bare.path("/usr/lib/systemd/system/hapolicy.service").read_text().replace("%t", "/run")
        check, start = (re.search(rf"^{key}=(.*)$", unit, re.MULTILINE) for key in ("ExecStartPre", "ExecStart"))
        assert check
        assert start
        bare.run(*UNIT_USER, *check[1].split())
        daemon = bare.start(*UNIT_USER, *start[1].split(), "--log", "stderr")
        with PolicyClient(started_at(daemon)) as client:
            assert "DUNNO A d1" == client.ask(instance="d1")
        assert "DUNNO A d2" in bare.run(*UNIT_USER, "hapolicyctl", "query", "instance=d2")
        bare.run(*NOBODY, "hapolicyctl", "status", status=77)
        assert (0, []) == (daemon.stop(), daemon.noise)
    bare.run("rmdir", "/run/hapolicy")

    bare.run("dpkg", "--remove", "hapolicy")
    assert {"etc/hapolicy", "etc/hapolicy/hapolicy.args"} == left(before, bare)
    bare.run("dpkg", "--purge", "hapolicy")
    assert set() == left(before, bare)
    assert before <= bare.files()


def test_the_package_takes_the_place_of_the_perl_script(bare: Bare, deb: Path, tmp_path: Path) -> None:
    """Over Debian's hapolicy 1 it is an upgrade: the old files go, a spawn(8) entry's command line works on."""
    apt = [need("apt-get", "apt"), "download", "hapolicy=1.*"]
    done = subprocess.run(apt, cwd=tmp_path, capture_output=True, text=True, check=False)
    old = next(tmp_path.glob("hapolicy_1*.deb"), None)
    assert old, done.stderr
    # perl is not here; that it could not run is no matter.
    bare.run("dpkg", "--force-depends", "--install", bare.put(old))
    assert "#!/usr/bin/perl" in bare.path("/usr/sbin/hapolicy").read_text()[:40]
    bare.run("dpkg", "--install", bare.put(deb))
    assert not bare.path("/usr/share/man/man1/hapolicy.1.gz").exists()
    with Sample("A") as a:
        command = bare.command("/usr/sbin/hapolicy", "-l", "-d", "dunno", "-s", a.service(":10:1:30"), "--stdio")
        asked = subprocess.run(command, input=request(instance="s1"), capture_output=True, timeout=30, check=False)
    assert (0, b"action=DUNNO A s1\n\n") == (asked.returncode, asked.stdout)


def left(before: set[str], bare: Bare) -> set[str]:
    """What is in there now and was not before, but for notes."""
    return {path for path in bare.files() - before if not NOTES.fullmatch(path)}
