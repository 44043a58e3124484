"""Every benchmark runs, prints its table and writes its figures. How fast anything is, it does not judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("poll_cost", ()),
        ("alert_latency", ()),
        ("lateness", ()),
        ("footprint", ()),
        ("pace", ()),
        ("lever", ("import gc",)),
        ("growth", ()),
    ],
)
def test_a_benchmark_runs(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--quick", "--json", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "| --- |" in ran.stdout
    assert json.loads(file.read_text())["figures"]
