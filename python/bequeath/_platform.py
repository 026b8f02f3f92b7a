"""Refuses, in one sentence, a system that the engine does not run on."""

import sys

if sys.platform != "linux":
    raise ImportError(
        f"bequeath runs on Linux only (this is {sys.platform}); use multiprocessing here"
    )
