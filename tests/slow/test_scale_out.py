"""The benchmark of several processes runs, and none of them claims or polls a line that another one did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


def test_four_processes_share_a_backlog_without_one_line_done_twice(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.scale_out", "--quick", "--json", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=360, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    figures = json.loads(file.read_text())["figures"]
    for what in ("claims", "polls"):
        assert [(one["processes"], one["twice"]) for one in figures[what]] == [(1, 0), (2, 0), (4, 0)]
    assert figures["failover"]["last"] < 60
