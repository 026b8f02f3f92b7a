"""`bequeath doctor`: facilities, limits, confinement, and modules that templates do without."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bequeath

COMMAND = [sys.executable, "-m", "bequeath", "doctor"]


def examined(
    *words: str, limit: Callable[[], object] | None = None, folder: Path | None = None
) -> tuple[int, Any, dict[str, Any]]:
    """Exit status, the whole, and the findings by name."""
    environment = dict(os.environ)
    if folder is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [*COMMAND, "--json", *words],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=environment,
        timeout=50,
    )
    assert not done.stderr, done.stderr
    diagnosis = json.loads(done.stdout)
    return done.returncode, diagnosis, {f["name"]: f for f in diagnosis["findings"]}


def test_each_facility_is_named_with_what_it_means() -> None:
    status, diagnosis, findings = examined()
    assert diagnosis["schema"] == 1
    assert (status == 0) == diagnosis["healthy"]
    assert diagnosis["healthy"] == all(f["level"] != "problem" for f in findings.values())
    wanted = {"memfd_create", "F_OFD_SETLK", "SCM_RIGHTS", "FUTEX_WAKE_OP", "MADV_WIPEONFORK"}
    wanted |= {"pidfd_open", "pidfd_getfd", "clone(CLONE_VFORK)", "F_SETSIG", "/proc"}
    wanted |= {"memory", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_AS", "processors", "processes"}
    wanted |= {"seccomp", "pid namespace", "Yama", "vm.memfd_noexec", "/dev/shm"}
    assert wanted <= findings.keys()
    assert all(finding["found"] and finding["means"] for finding in findings.values())
    # The tests run here, so it must.
    assert findings["memfd_create"]["level"] == findings["SCM_RIGHTS"]["level"] == "good"


def test_the_document_names_what_is_looked_at() -> None:
    document = (Path(__file__).parents[1] / "docs" / "doctor.md").read_text(encoding="utf-8")
    _, diagnosis, _ = examined()
    looked_at = {f["name"] for f in diagnosis["findings"] if f["topic"] != "templates"}
    assert {name for name in looked_at if name not in document} == set()


def test_a_limit_that_leaves_no_room_is_a_problem() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    status, diagnosis, findings = examined(limit=limit)
    assert status == 1 and not diagnosis["healthy"]
    assert findings["RLIMIT_FSIZE"]["level"] == "problem"
    assert findings["RLIMIT_FSIZE"]["found"] == "100000 bytes"
    assert findings["spawn"]["level"] == "problem" and "100000" in findings["spawn"]["found"]


def test_few_descriptors_are_noted() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    _, _, findings = examined(limit=limit)
    assert (findings["RLIMIT_NOFILE"]["level"], findings["RLIMIT_NOFILE"]["found"]) == (
        "note",
        "100",
    )


THREADED = """
import threading
threading.Thread(target=threading.Event().wait, args=(1000,), daemon=True, name="left").start()
"""


def test_a_module_that_templates_do_without_is_named(tmp_path: Path) -> None:
    (tmp_path / "leaves_a_thread.py").write_text(THREADED)
    (tmp_path / "leaves_nothing.py").write_text("value = 1\n")
    status, _, findings = examined("--modules", "leaves_nothing,leaves_a_thread", folder=tmp_path)
    assert status == 0
    assert "leaves_nothing" not in findings
    kept_out = findings["leaves_a_thread"]
    assert (kept_out["topic"], kept_out["level"]) == ("templates", "note")
    assert "left" in kept_out["found"]


def test_the_same_from_inside_and_as_text() -> None:
    inside = bequeath.doctor()
    assert {f["name"] for f in inside["findings"]} >= {"memfd_create", "seccomp"}
    text = str(inside)
    assert text.startswith("kernel\n") and "\nlimits\n" in text and "\nconfinement\n" in text
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=50)
    assert "bequeath works here" in done.stdout or done.returncode == 1
    assert subprocess.run([*COMMAND, "--nonsense"], capture_output=True).returncode == 2


#: How the machine is confined, and what must be noted then.
HIDDEN = {
    "no-procfs": {"/proc"},
    "procfs-of-others": {"/proc"},
    "masked-procfs": set(),
    "seccomp-EPERM": {"pidfd_open", "FUTEX_WAKE_OP"},
    "seccomp-ENOSYS no-procfs": {"/proc", "pidfd_open", "FUTEX_WAKE_OP"},
}


@pytest.mark.parametrize("confinements", HIDDEN)
def test_it_says_what_it_cannot_see(confinements: str) -> None:
    confine = str(Path(__file__).with_name("confined") / "confine.py")
    done = subprocess.run(
        [sys.executable, confine, *confinements.split(), "--", *COMMAND, "--json"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    if "could not be set up" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert not done.stderr, done.stderr
    diagnosis = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in diagnosis["findings"]}
    assert all(finding["found"] and finding["means"] for finding in findings.values())
    seen = {name for name in HIDDEN[confinements] if findings[name]["level"] == "good"}
    assert not seen
    # It works there all the same.
    assert (done.returncode, diagnosis["healthy"]) == (0, True)
