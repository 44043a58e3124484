"""Every way of installing that docs/install.md describes, tried in bare Debians (packaging/try-install)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import roots

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRY = Path(__file__).parents[1] / "install/try_install.py"
CANT_TRY = 77
SOME = ("deb-12", "venv-13", "pipx-13", "dockerfile")
"""Those that CI tries; each of the others differs from one of these by little. packaging/try-install tries all."""


AT_ONCE = 2
"""They wait for downloads and disks half of the time."""


def _tried(way: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(TRY), way]
    return subprocess.run(command, text=True, capture_output=True, timeout=800, check=False)


@pytest.fixture(scope="module")
def tried() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {way: pool.submit(_tried, way) for way in SOME}


@pytest.mark.parametrize("way", SOME)
def test_what_docs_install_md_says_works_on_a_bare_debian(
    tried: dict[str, Future[subprocess.CompletedProcess[str]]], way: str
) -> None:
    ran = tried[way].result()
    if ran.returncode == CANT_TRY and not os.environ.get("CI"):
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.timeout(30)
def test_what_is_kept_may_be_made_of_something_else_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "CACHE", tmp_path / "cache")

    def make(made: Path) -> None:
        (made / "root").write_text(roots.kept("tools", lambda tools: (tools / "tool").touch()).name)

    assert (roots.kept("root", make) / "root").read_text() == "tools"
    assert (tmp_path / "cache/tools/tool").exists()
