"""The promises that the documents make about the sources themselves."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked(*patterns: str) -> list[Path]:
    listed: list[str] = []
    # An unpacked archive has no history, and not every machine has git.
    with contextlib.suppress(FileNotFoundError):
        listed = subprocess.run(
            ["git", "ls-files", *patterns], capture_output=True, text=True, cwd=ROOT
        ).stdout.split()
    found = [ROOT / name for name in listed] or [
        path
        for pattern in patterns
        for path in ROOT.rglob(pattern)
        if not {"target", ".venv", "sid"} & set(path.relative_to(ROOT).parts)
    ]
    return [path for path in found if path.is_file()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def product(paths: list[Path]) -> list[Path]:
    aside = {"tests", "benches", "examples", "scripts", "fuzz", "bequeath-testing"}
    return [path for path in paths if not aside & set(path.relative_to(ROOT).parts)]


def lines(paths: list[Path]) -> int:
    return sum(bool(line.strip()) for path in paths for line in path.read_text().splitlines())


def test_safety_names_every_file_with_unsafe_code() -> None:
    listed = set(re.findall(r"^\| `(crates/[^`]+\.rs)`", (ROOT / "SAFETY.md").read_text(), re.M))
    allowed = {
        name(path)
        for path in tracked("*.rs")
        if re.search(r"^#!\[allow\(.*\bunsafe_code\b", path.read_text(), re.M)
    }
    assert allowed, "the search finds nothing: it looks for the wrong thing"
    assert listed == allowed


def test_every_file_with_unsafe_code_states_its_invariants() -> None:
    missing = [
        name(path)
        for path in product(tracked("*.rs"))
        if re.search(r"^#!\[allow\(.*\bunsafe_code\b", path.read_text(), re.M)
        and "Safety invariants" not in path.read_text()
    ]
    assert not missing


def test_there_is_more_rust_than_python() -> None:
    rust, python = product(tracked("*.rs")), product(tracked("*.py"))
    assert lines(rust) > lines(python)


def test_the_package_never_imports_multiprocessing() -> None:
    pattern = re.compile(r"^\s*(?:import|from)\s+multiprocessing\b", re.M)
    found = [name(path) for path in tracked("*.py") if "python/bequeath" in str(path)]
    assert found
    found = [one for one in found if pattern.search((ROOT / one).read_text())]
    assert not found


def test_no_paths_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.$}])/(?:root|home/\w+|work|tmp/wt)/")
    texts = tracked("*.md", "*.toml", "*.rs", "*.py", "*.sh", "*.yml", "Makefile", ".ci/*")
    found = [
        name(path)
        for path in texts
        if path != Path(__file__).resolve() and pattern.search(path.read_text())
    ]
    assert not found


def test_only_the_lowest_floor_names_the_kernel() -> None:
    """libc and rustix are bequeath-os's alone; the test crate may name libc for ptrace."""
    allowed = {"bequeath-os", "bequeath-testing"}
    found = [
        path.parent.name
        for path in (ROOT / "crates").glob("*/Cargo.toml")
        if path.parent.name not in allowed
        and re.search(
            r"^(?:libc|rustix)\b", path.read_text().partition("[dev-dependencies]")[0], re.M
        )
    ]
    assert not found


def test_refusals_point_at_a_section_that_exists() -> None:
    anchors = set(re.findall(r'<a id="([\w-]+)">', (ROOT / "docs" / "why.md").read_text()))
    pointers = {
        (name(path), anchor)
        for path in product(tracked("*.rs", "*.py"))
        for anchor in re.findall(r"why\.md#([\w-]+)", path.read_text())
    }
    assert pointers
    assert not {(place, anchor) for place, anchor in pointers if anchor not in anchors}


def test_each_promise_that_is_proved_names_tests_that_there_are() -> None:
    promises = (ROOT / "docs" / "proof.md").read_text().partition("\n## Promise by promise\n")[2]
    rows = re.findall(r"^\| .*", promises, re.M)[1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([\w/.-]+)::(\w+)`", row)
        assert named, row
        for file, test in named:
            (path,) = [path for top in ("tests", "crates") if (path := ROOT / top / file).exists()]
            assert re.search(rf"(fn|def) {test}\(", path.read_text()), (file, test)


def test_documents_name_files_that_there_are() -> None:
    files = {name(path) for path in tracked("*")}
    folders = {str(parent) for file in files for parent in Path(file).parents}
    pattern = re.compile(r"`([\w./-]*[\w-]\.(?:rs|py|sh|md|toml))(?:::\w+)?`|`([\w./-]+)/`")
    # The standard library's own.
    named, missing = {"popen_spawn_win32.py"}, []
    for document in tracked("*.md"):
        for file, folder in pattern.findall(document.read_text()):
            ends = {one for one in (files if file else folders) if one.endswith(file or folder)}
            if any(f"/{one}".endswith(f"/{file or folder}") for one in ends):
                named.add(file or folder)
            elif file not in named:
                missing.append((name(document), file or folder))
    assert len(named) > 50, "the search finds nothing: it looks for the wrong thing"
    assert not missing


def test_documents_link_to_what_there_is() -> None:
    missing = []
    for document in tracked("*.md"):
        for file, place in re.findall(r"\]\(([^)#\s:]*)(?:#([^)\s]*))?\)", document.read_text()):
            target = document.parent / file if file else document
            if not target.exists():
                missing.append((name(document), file))
            elif place:
                text = target.read_text()
                headings = re.findall(r"^#+ (.*)$", text, re.M)
                places = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
                if place not in places | set(re.findall(r'<a id="([\w-]+)">', text)):
                    missing.append((name(document), f"{file}#{place}"))
    assert not missing


def test_architecture_has_a_row_for_each_crate() -> None:
    rows = re.findall(r"^\| `(bequeath[\w-]*)` \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    crates = {path.parent.name for path in (ROOT / "crates").glob("*/Cargo.toml")}
    assert {*rows, "bequeath-testing"} == crates
