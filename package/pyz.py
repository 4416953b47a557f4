"""Makes the zipapp: hapolicy and hapolicyctl in one file that wants nothing but a python3 from 3.11 on.

Python imports straight from the file. Unlike shiv and pex it is unpacked nowhere, so it needs no home, no cache and
no writable folder, and works as any user below any ProtectSystem=.
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import IO

from bundle import HERE, BuildError, built_at, make_bundle

# -I: neither the caller's folder nor PYTHON* decide what is imported. -S: nor what is installed.
_SHEBANG = b"#!/usr/bin/python3 -IS\n"


def make_pyz(target: Path) -> None:
    """Write `target`. Raises `BuildError`."""
    with tempfile.TemporaryDirectory(prefix="hapolicy-pyz-") as name:
        folder = Path(name) / "content"
        make_bundle(folder)
        shutil.copy(HERE / "pyz_main.py", folder / "__main__.py")
        _compile(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as file:
            file.write(_SHEBANG)
            _write_zip(file, folder)
    target.chmod(0o755)


def _compile(folder: Path) -> None:
    """Bytecode beside each module, where zipimport looks for it. Another Python than this one ignores it."""
    compiled = compileall.compile_dir(
        folder,
        stripdir=str(folder),
        quiet=2,
        legacy=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise BuildError("a module does not compile")


def _write_zip(file: IO[bytes], folder: Path) -> None:
    when = time.gmtime(built_at())[:6]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), when)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def main() -> str | None:
    """Make the zipapp; returns what went wrong."""
    parser = argparse.ArgumentParser(description="Make hapolicy's zipapp.")
    parser.add_argument("target", type=Path, help="such as dist/hapolicy.pyz")
    try:
        make_pyz(parser.parse_args().target)
    except BuildError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
