"""`python -m bequeath` and the command `bequeath`."""

from __future__ import annotations

from bequeath._run import main

if __name__ == "__main__":
    # No name of this module is looked up after the call: the program's own main module takes
    # this module's place and its dictionary.
    raise SystemExit(main())
