"""A wheel, installed where there is no compiler and no checkout, runs README's first example."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_examples import first_example

ROOT = Path(__file__).resolve().parent.parent


def check(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=540, env=environment, cwd="/"
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.limit(600)
def test_wheel_runs_the_first_example_without_cargo(tmp_path: Path) -> None:
    if importlib.util.find_spec("maturin") is None:
        pytest.skip("maturin is not installed in this environment")
    wheels, environment = tmp_path / "wheels", tmp_path / "environment"
    check(ROOT / "scripts" / "wheel.sh", sys.prefix, str(wheels))
    (wheel,) = wheels.glob("bequeath-*.whl")
    check(sys.executable, "-m", "venv", str(environment))
    # Nothing on PATH but the environment: no cargo, no compiler.
    bare = {"PATH": str(environment / "bin"), "HOME": str(tmp_path)}
    kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    for file in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"):
        if file.exists() and "PIP_CONFIG_FILE" not in kept:
            kept["PIP_CONFIG_FILE"] = str(file)
    python = environment / "bin" / "python"
    check(python, "-m", "pip", "install", "--quiet", str(wheel), environment={**bare, **kept})
    script = tmp_path / "first.py"
    script.write_text(first_example())
    direct = check(python, script, environment=bare)
    assert direct
    installed = check(python, "-c", "import bequeath; print(bequeath.__file__)", environment=bare)
    assert installed.startswith(str(environment))
    command = environment / "bin" / "bequeath"
    assert check(command, "run", str(script), environment=bare) == direct
