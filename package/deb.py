"""Makes the Debian package: a virtual environment below /usr/lib/hapolicy, units, manual pages, arguments.

The environment is laid by hand: a link to /usr/bin/python3, and packages in one folder that each of Debian's Pythons
from 3.11 on finds under its own name. So one package serves Debian 12 and what follows, on every processor.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle import HERE, ROOT, BuildError, make_bundle, run, set_times, version
from man import make_man

_REVISION = "1"
_HOME = "usr/lib/hapolicy"
_PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")

# Program: the folder where Debian's users look for it, and the module whose main() it is.
_PROGRAMS = {"hapolicy": ("usr/sbin", "hapolicy.cli"), "hapolicyctl": ("usr/bin", "hapolicy.admin.control.commands")}

# -I: neither the caller's folder nor PYTHON* decide what is imported.
_LAUNCHER = """\
#!/usr/lib/hapolicy/bin/python3 -I
import sys

from {module} import main

sys.exit(main())
"""

_UNITS = ("hapolicy.service", "hapolicy.socket", "hapolicy@.service", "hapolicy@.socket")
_ARGUMENTS = "hapolicy.args"
_SYSUSERS = "hapolicy.sysusers"
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/hapolicyctl",
    "zsh": "usr/share/zsh/vendor-completions/_hapolicyctl",
    "fish": "usr/share/fish/vendor_completions.d/hapolicyctl.fish",
}
_SCRIPTS = ("postinst", "prerm", "postrm")


def make_deb(folder: Path) -> Path:
    """Write the package into `folder`; returns its path. Raises `BuildError`."""
    with tempfile.TemporaryDirectory(prefix="hapolicy-deb-") as name:
        tree = Path(name) / "tree"
        _lay_environment(tree)
        _lay_configuration(tree)
        _lay_documentation(tree)
        _lay_control(tree)
        set_times(tree)
        folder.mkdir(parents=True, exist_ok=True)
        package = folder / f"hapolicy_{version()}-{_REVISION}_all.deb"
        # xz: what every dpkg can unpack. One thread: more of them write other bytes.
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", tree, package)
    return package


def _lay_environment(tree: Path) -> None:
    home = tree / _HOME
    make_bundle(home / "lib/python3/site-packages")
    for python in _PYTHONS:
        (home / f"lib/python{python}").symlink_to("python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("../../../bin/python3")
    for name, (folder, module) in _PROGRAMS.items():
        launcher = home / "bin" / name
        launcher.write_text(_LAUNCHER.format(module=module))
        launcher.chmod(0o755)
        (tree / folder).mkdir(parents=True)
        (tree / folder / name).symlink_to(f"../lib/hapolicy/bin/{name}")
    _put(HERE / "debian/hapolicy.rtupdate", tree / "usr/share/python3/runtime.d/hapolicy.rtupdate", mode=0o755)


def _lay_configuration(tree: Path) -> None:
    config = ROOT / "config"
    for unit in _UNITS:
        _put(config / unit, tree / "usr/lib/systemd/system" / unit)
    _put(config / _SYSUSERS, tree / "usr/lib/sysusers.d/hapolicy.conf")
    _put(config / _ARGUMENTS, tree / "etc/hapolicy" / _ARGUMENTS)


def _lay_documentation(tree: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hapolicy-man-") as name:
        make_man(Path(name))
        for page in Path(name).glob("*.8"):
            _put_compressed(page, tree / "usr/share/man/man8" / f"{page.name}.gz")
    documents = tree / "usr/share/doc/hapolicy"
    _put(HERE / "debian/copyright", documents / "copyright")
    _put_compressed(HERE / "debian/changelog", documents / "changelog.Debian.gz")
    _put_compressed(ROOT / "CHANGELOG.md", documents / "changelog.gz")
    _put_compressed(ROOT / "README.md", documents / "README.md.gz")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        _put(page, documents / page.relative_to(ROOT / "docs"))
    for example in sorted((ROOT / "config").iterdir()):
        if example.name not in (*_UNITS, _SYSUSERS, _ARGUMENTS):
            _put(example, documents / "examples" / example.name)
    _put(HERE / "debian/lintian-overrides", tree / "usr/share/lintian/overrides/hapolicy")
    for shell, path in _COMPLETIONS.items():
        (tree / path).parent.mkdir(parents=True)
        (tree / path).write_text(_completion(shell))


def _lay_control(tree: Path) -> None:
    control = tree / "DEBIAN"
    control.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    kib = sum(-(-path.stat().st_size // 1024) for path in files)
    text = (HERE / "debian/control.in").read_text()
    text = text.replace("@VERSION@", f"{version()}-{_REVISION}").replace("@SIZE@", str(kib))
    (control / "control").write_text(text)
    (control / "conffiles").write_text(f"/etc/hapolicy/{_ARGUMENTS}\n")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]
    (control / "md5sums").write_text("".join(sums))
    for script in _SCRIPTS:
        _put(HERE / "debian" / script, control / script, mode=0o755)


def _completion(shell: str) -> str:
    words = [sys.executable, "-m", "hapolicy.admin.control.commands", "--print-completion", shell]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise BuildError(f"{' '.join(words)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def _put(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _put_compressed(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def main() -> str | None:
    """Make the package; returns what went wrong."""
    parser = argparse.ArgumentParser(description="Make hapolicy's Debian package.")
    parser.add_argument("folder", type=Path, help="such as dist")
    try:
        print(make_deb(parser.parse_args().folder))
    except BuildError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
