"""A bare Debian in a folder: minbase, python3 and systemd. Nothing of this machine's Python is there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.need import missing, need, need_root
from tests.e2e.once import made_once
from tests.support.procs import Process

# Made once and kept between runs where the sources lie (`make clean` removes it); a fresh clone makes its own.
CACHE = Path(__file__).resolve().parents[2] / "build" / "bare"
INCLUDED = "python3,systemd"
BOOTSTRAP_MAX_S = 300
# Half of it all, and nobody reads it. What is installed later has its pages, as anywhere.
UNWANTED = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "locale", "man")]
UNWANTED += ["--customize-hook=rm $1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"]
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_PLAIN: dict[str, Any] = {"env": ENVIRONMENT, "cwd": "/"}


def bare_archive() -> Path:
    """A tar file with a bare Debian of this machine's release."""
    need_root()
    mmdebstrap = need("mmdebstrap", "mmdebstrap")
    release, mirror = _release_and_mirror()

    def bootstrap(archive: Path) -> None:
        command = [mmdebstrap, "--variant=minbase", f"--include={INCLUDED}", *UNWANTED, "--format=tar"]
        command += [release, str(archive), mirror]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOOTSTRAP_MAX_S, check=False)
        assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-2000:]

    return made_once(CACHE / f"{release}.tar", bootstrap)


def _release_and_mirror() -> tuple[str, str]:
    """This machine's release and where apt gets it from."""
    os_release = Path("/etc/os-release").read_text().splitlines()
    release = next((line.partition("=")[2] for line in os_release if line.startswith("VERSION_CODENAME=")), "")
    apt = need("apt-get", "apt")
    command = [apt, "indextargets", "--format", "$(REPO_URI)", f"Release: {release}", "Component: main"]
    done = subprocess.run([*command, "Created-By: Packages"], capture_output=True, text=True, check=False)
    mirrors = done.stdout.split()
    if not release or not mirrors:
        missing("a Debian mirror among apt's sources", "apt")
    return release, mirrors[0]


class Bare:
    """A bare Debian of its own, until the end of ``with``."""

    def __init__(self, archive: Path) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hapolicy-bare-"))
        self.root.chmod(0o755)
        subprocess.run(["tar", "-C", self.root, "--numeric-owner", "-xpf", archive], check=True)

    def run(self, *words: str, status: int = 0) -> str:
        """Run a program in there to its end; returns what it printed. It has to end with that status."""
        command = self.command(*words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **_PLAIN)
        assert status == done.returncode, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *words: str) -> Process:
        """Start a program in there."""
        return Process(self.command(*words), **_PLAIN)

    def command(self, *words: str) -> list[str]:
        """The command line that runs a program in there."""
        return [need("chroot", "coreutils"), str(self.root), *words]

    def path(self, inside: str) -> Path:
        """A path in there as it is called out here."""
        return self.root / inside.lstrip("/")

    def put(self, file: Path, folder: str = "/root") -> str:
        """Copy a file in there; returns its path in there."""
        shutil.copy(file, self.path(folder))
        return f"{folder}/{file.name}"

    def files(self) -> set[str]:
        """All that is in there."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
