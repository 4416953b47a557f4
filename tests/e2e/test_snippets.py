"""The commands and snippets of README and docs, run as they are written, on a Debian that has booted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare import Bare, bare_archive
from tests.e2e.booted import Booted
from tests.e2e.snippets import blocks
from tests.e2e.test_prometheus import promtool
from tests.support.procs import hapolicy, wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/tutorial.md"]  # as a newcomer reads
PAGES += sorted({*(ROOT / "docs").glob("*.md")} - {*PAGES})

BOOTED = ("adduser", "echo", "for", "hapolicy", "hapolicyctl", "journalctl", "mkdir", "runuser", "sed", "systemctl")
BY_HAND = ("cp", "install", "ln")  # the installation without the package
ELSEWHERE = {
    "make run": "tests/process/test_demo.py",
    "make test": "this",
    "make deb": "tests/e2e/conftest.py",
    "apt install ./dist/hapolicy_2.0.0-1_all.deb": "the machine below",
    "apt install postgrey": "the machine below",
}
PLACEHOLDERS = {"YOU": "nobody", "NAME": "grey", "...": "-s GREY1=10.0.0.1:10031"}

PORTS = (10031, 10070, 10071)  # of the services of the documents but for postgrey


def commands(page: Path) -> list[str]:
    """The command lines of a page, without their comments."""
    programs = (*BOOTED, *BY_HAND, "make", "apt")
    lines = [line for block in blocks(page) if is_of_commands(block) for line in block.splitlines()]
    found = [re.sub(r"\s+#.*", "", line) for line in lines]
    assert {line.split()[0] for line in found} <= set(programs), page
    return found


def is_of_commands(block: str) -> bool:
    """No status table, diagram, argument file or piece of a configuration."""
    others = ("check_policy_service", "spawn\n", "─", "SERVICE  ADDRESS", "scrape_configs")
    return not block.startswith(("-", "#")) and not any(other in block for other in others)


def arguments(page: str) -> list[list[str]]:
    """The argument files of a page, one a block; comments are left out."""
    found = [block.splitlines() for block in blocks(ROOT / page) if block.startswith(("-", "# /etc/hapolicy/"))]
    return [[line for line in lines if line and not line.startswith("#")] for lines in found]


@pytest.fixture(scope="module")
def machine(deb: Path) -> Iterator[Booted]:
    """A booted Debian with the package and postgrey, other services of the documents on their addresses."""
    with Bare(bare_archive()) as bare:
        bare.run("apt-get", "update", "--quiet")
        bare.run("apt-get", "install", "--yes", "--no-install-recommends", "postgrey")
        with Booted(bare) as booted:
            furnish(bare, booted, deb)
            yield booted


def furnish(bare: Bare, booted: Booted, deb: Path) -> None:
    """Install the package, and have what its documents talk of."""
    bare.path("/root/dist").mkdir()
    bare.put(deb, "/root/dist")
    booted.run("sh", "-c", f"cd /root && apt-get install --yes ./dist/{deb.name}")
    for address in ("10.0.0.1", "10.0.0.2"):
        subprocess.run(booted.command_outside("ip", "address", "add", f"{address}/32", "dev", "lo"), check=True)
    booted.serve_policy(*PORTS)
    for shells in ("/etc/bash_completion.d", "/usr/local/share/zsh/site-functions", "/etc/fish/completions"):
        bare.path(shells).mkdir(parents=True, exist_ok=True)
    files = dict(zip(("grey", "spf"), arguments("docs/services.md"), strict=True))
    files["hapolicy"] = ["-l", "-s GREY1=10.0.0.1:10031", "-s GREY2=10.0.0.2:10031"]
    for name, lines in files.items():
        bare.path(f"/etc/hapolicy/{name}.args").write_text("\n".join(lines) + "\n")


def filled_in(command: str) -> str:
    """A command line with something in the place of what the reader is to put there."""
    for placeholder, word in PLACEHOLDERS.items():
        command = command.replace(placeholder, word)
    return command


def test_every_command_is_run_somewhere() -> None:
    """A command that is new in the documents is run here, or it is said where."""
    for page in PAGES:
        for command in commands(page):
            assert command.split()[0] in (*BOOTED, *BY_HAND) or command in ELSEWHERE, (page, command)


def test_commands_on_a_booted_machine(machine: Booted) -> None:
    """In the order of the pages: installed, checked, enabled, ordered about, looked into."""
    found = [line for page in PAGES for line in commands(page) if line.split()[0] in BOOTED]
    started, foreground = [], []
    for line in found:
        serves = re.match(r"hapolicy (?!.*--check|--version)", line)
        (foreground if serves else started).append(line)
    assert len(started) > 15
    assert len(foreground) == 2
    for line in started:
        if " -f " in line:  # it follows the journal until it is ended
            machine.run("sh", "-c", f"timeout 1 {filled_in(line)}", status=124)
        else:
            machine.run("sh", "-c", filled_in(line))
        if line.endswith("enable --now postgrey2"):
            wait_until(lambda: machine.try_to("bash", "-c", ": </dev/tcp/127.0.0.1/10024").returncode == 0, line)
        elif "enable --now" in line:
            wait_until(lambda: "2 of 2 services up" in machine.show("hapolicy", "StatusText"), "both services")
    assert "GREY2" in machine.run("hapolicyctl", "status")
    machine.run("systemctl", "stop", "hapolicy.socket", "hapolicy")
    for line in foreground:
        machine.run("sh", "-c", f"timeout --preserve-status 2 {filled_in(line)}")


def test_commands_of_an_installation_by_hand(tmp_path: Path) -> None:
    """Units, user, argument file and links; systemd is told later."""
    with Bare(bare_archive()) as bare:
        shutil.copytree(ROOT / "config", bare.path("/root/config"))
        bare.path("/root/dist").mkdir()
        bare.path("/root/dist/hapolicy.pyz").write_text("#!/bin/sh\n")
        for line in (line for line in commands(ROOT / "docs/install-and-upgrade.md") if line.split()[0] in BY_HAND):
            bare.run("sh", "-c", f"cd /root && {line}")
        assert bare.path("/etc/hapolicy/hapolicy.args").exists()
        assert bare.path("/usr/local/sbin/hapolicyctl").exists()
        assert "hapolicy" in bare.path("/etc/passwd").read_text()
        assert bare.path("/etc/systemd/system/hapolicy@.service").exists()


@pytest.mark.parametrize("page", ["docs/services.md", "docs/tutorial.md"])
def test_argument_files(page: str, tmp_path: Path) -> None:
    """What is to be written into argument files is understood."""
    found = arguments(page)
    assert found
    for lines in found:
        file = tmp_path / "test.args"
        file.write_text("\n".join(lines) + "\n")
        checked = hapolicy("--check", f"@{file}")
        assert 0 == checked.returncode, checked.stderr


def test_snippets_for_postfix_are_those_of_the_examples() -> None:
    """Which a real Postfix runs with (test_config.py), where it does not run with the snippets themselves."""
    examples = "".join((ROOT / "config" / name).read_text() for name in ("postfix-daemon.cf", "postfix-spawn.cf"))
    known = [" ".join(line.split()) for line in examples.splitlines()]
    found = [block for page in PAGES for block in blocks(page) if "check_policy_service" in block or "spawn\n" in block]
    found = [block for block in found if block not in blocks(ROOT / "docs/services.md")]
    assert len(found) == 4
    for block in found:
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        assert [] == [line for line in lines if " ".join(line.split()) not in known]


def test_the_scrape_configuration_is_understood_by_prometheus(tmp_path: Path) -> None:
    """With the rules where the comment beside it says that they are from."""
    snippet = next(block for block in blocks(ROOT / "docs/monitoring.md") if "scrape_configs" in block)
    rules, example = re.findall(r"rule_files: \[(\S+)\]\s+# (\S+)", snippet)[0]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(snippet.replace(rules, str(ROOT / example)))
    said = promtool("check", "config", str(configuration))
    assert "1 rule files found" in said
