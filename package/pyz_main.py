"""Which of the two programs the zipapp is: by the name it is called by (hapolicyctl), or by a first word ``ctl``."""

import sys
from pathlib import PurePath


def _main() -> int:
    if sys.argv[1:2] == ["ctl"]:
        del sys.argv[1]
    elif not PurePath(sys.argv[0]).name.startswith("hapolicyctl"):
        from hapolicy.cli import main

        return main()
    from hapolicy.admin.control.commands import main as main_ctl

    return main_ctl()


sys.exit(_main())
