"""Which modules a template has loaded, and later, in a child, which are new.

To look at a module's name is to count a reference to it, which makes the memory that it lies in,
shared with the template until then, the child's own. What is new is at the end of `sys.modules`:
only that is looked at.
"""

from __future__ import annotations

import sys


class Loaded:
    """The modules that are loaded at this moment."""

    def __init__(self) -> None:
        self._names = frozenset(sys.modules)
        self._newest = next(reversed(sys.modules))

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def since(self) -> list[str]:
        """The names of those that came since, oldest first."""
        names = []
        for name in reversed(sys.modules):
            if name == self._newest:
                break
            if name not in self._names:  # one may have been loaded anew
                names.append(name)
        names.reverse()
        return names
