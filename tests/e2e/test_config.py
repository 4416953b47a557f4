"""The example files in ``config/`` do what they say: a real Postfix and hapolicy itself run with them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.postfix import Postfix
from tests.e2e.services import Postgrey
from tests.e2e.smtp import ask_recipient
from tests.e2e.snippets import blocks
from tests.e2e.spawnable import spawnable_hapolicy
from tests.support.daemon import Daemon
from tests.support.procs import free_port, hapolicy
from tests.support.sample import Sample

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLE_ADDRESS = "127.0.0.1:10060"
EXAMPLE_COMMAND = "/usr/sbin/hapolicy -l -s GREY1=10.0.0.1:10031:10 -s GREY2=10.0.0.2:10031:10"
ANSWER = "REJECT {name} was asked"


def parts(name: str, **replaced: str) -> tuple[str, str]:
    """The main.cf and the master.cf part of an example file, with the addresses of this test in them."""
    text = (CONFIG / name).read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    main, marker, master = text.partition("# ---- master.cf ----\n")
    assert marker
    return main, master


@pytest.fixture
def address() -> str:
    """A free address to stand for the example's."""
    return f"127.0.0.1:{free_port()}"


def test_daemon_example_asks_hapolicy_and_passes_mail_when_it_is_gone(folder: Path, address: str) -> None:
    """With postfix-daemon.cf in main.cf hapolicy decides; mail still flows once it is stopped."""
    postfix = Postfix(folder)
    main, master = parts("postfix-daemon.cf", **{EXAMPLE_ADDRESS: address})
    postfix.add_text(main, master)
    port = postfix.add_smtpd()
    with postfix:
        with Sample("A", "--answer", ANSWER) as service, Daemon("--listen", address, "-s", service.service()):
            assert "A was asked" in ask_recipient(port).text
        assert 250 == ask_recipient(port).code


def test_greylisting_and_spf_side_by_side_as_the_documents_have_them(folder: Path) -> None:
    """docs/services.md to the letter but for its ports: a real Postfix asks SPF, then one of two greylisters."""
    snippets = blocks(CONFIG.parent / "docs/services.md")
    files = {
        name: next(s for s in snippets if s.startswith(f"# /etc/hapolicy/{name}.args")) for name in ("grey", "spf")
    }
    restrictions = next(s for s in snippets if "unix:hapolicy/spf" in s)
    master, main = next(s for s in snippets if s.startswith("# master.cf")).split("# main.cf\n")
    with Postgrey("one", folder) as one, Postgrey("two", folder) as two:
        moved = {"127.0.0.1:10023": one.address, "127.0.0.1:10024": two.address}
        moved |= {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (10070, 10071)}
        grey, spf, main, master = (replaced(text, moved) for text in (files["grey"], files["spf"], main, master))
        postfix = Postfix(folder)
        postfix.add_text(restrictions + main, master)
        port = postfix.add_smtpd()
        with postfix:
            (postfix.queue / "hapolicy").mkdir()
            with (
                hapolicy_of(grey, folder / "grey.args", postfix),
                hapolicy_of(spf, folder / "spf.args", postfix) as asked,
            ):
                first = ask_recipient(port, client="127.0.0.9")  # of this host: SPF needs no name server for it
                assert (450, True) == (first.code, "Greylisted by" in first.text)
                time.sleep(1.5)
                assert 250 == ask_recipient(port, client="127.0.0.9").code
                assert "SPF" in asked.wait_event("request.answered", nth=2)["action"]
            assert [] == [line for line in postfix.warnings() if "policy" in line]


def replaced(text: str, words: dict[str, str]) -> str:
    """Each word in the place of another."""
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def hapolicy_of(arguments: str, path: Path, postfix: Postfix) -> Daemon:
    """A hapolicy with an argument file, on the socket that hapolicy@.socket would have."""
    path.write_text(arguments)
    return Daemon("--listen", f"unix:{postfix.queue}/hapolicy/{path.stem}:0666", "-l", f"@{path}")


def test_spawn_example_starts_hapolicy(folder: Path, address: str) -> None:
    """With both parts of postfix-spawn.cf Postfix starts hapolicy itself, here the installed one."""
    postfix = Postfix(folder)
    with Sample("GREY1", "--answer", ANSWER) as service:
        command = " ".join([*spawnable_hapolicy(folder), "-l", "-s", service.service(":10")])
        main, master = parts("postfix-spawn.cf", **{EXAMPLE_ADDRESS: address, EXAMPLE_COMMAND: command})
        assert command in master
        postfix.add_text(main, master)
        port = postfix.add_smtpd()
        with postfix:
            assert "GREY1 was asked" in ask_recipient(port).text
            assert [] == postfix.warnings()


def test_example_arguments_pass_the_check() -> None:
    """``hapolicy --check @hapolicy.args`` accepts the example without a warning."""
    checked = hapolicy("--check", f"@{CONFIG / 'hapolicy.args'}")
    assert (0, "") == (checked.returncode, checked.stderr)
    assert ["GREY1", "GREY2", "SPARE"] == [name for name in ("GREY1", "GREY2", "SPARE") if name in checked.stdout]
