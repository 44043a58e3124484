"""The commands of docs/install.md, so that what is tried is what is written there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/install.md"
FOR_SYSTEMD = ("systemctl ", "journalctl ", "systemd-analyze ")
"""How commands begin that need a running systemd; tests/systemd tries those."""
_HEADING = re.compile(r"^#{2,3} (.*)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL, UPGRADE, UNINSTALL = range(3)


def commands(heading: str, block: int = INSTALL) -> str:
    """One of the blocks under that heading, without what needs a running systemd. Raises LookupError without it."""
    lines = _BLOCK.findall(_sections()[heading])[block].splitlines()
    return "\n".join(line for line in lines if not line.startswith(FOR_SYSTEMD))


def _sections() -> dict[str, str]:
    parts = _HEADING.split(PAGE.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))
