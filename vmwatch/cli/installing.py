"""`systemd-unit`: the shipped unit, or one of its drop-ins, fitted to this installation."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import vmwatch
from vmwatch.cli import desk
from vmwatch.cli.parser import Options
from vmwatch.errors import UsageError

SHIPPED_COMMAND = "/opt/vmwatch/bin/vmwatch"
SHIPPED_CONFIG = "/etc/vmwatch/config.toml"
_COMMAND = re.compile(rf"^(Exec\w+=){SHIPPED_COMMAND}( |$)(.*)", re.MULTILINE)
_HIDDEN = ("/root", "/home", "/run/user")
"""What ProtectHome= makes empty."""


async def systemd_unit(options: Options) -> int:
    print(fitted(shipped(options.name), command(), _config(options.config)), end="")  # noqa: T201 - the command line
    hidden = out_of_reach(parts()) if options.name.endswith(".service") else ()
    if hidden:
        desk.say(
            f"warning: the unit can't see {desk.listed(hidden)} (ProtectHome=yes), which this installation needs: it "
            "would end with 203/EXEC. Install vmwatch, with a Python that is not there, in /opt/vmwatch for example "
            "(docs/install.md), and print the unit from that installation."
        )
    return 0


def _config(named: str | None) -> str:
    return os.path.abspath(named) if named else SHIPPED_CONFIG


def shipped(name: str) -> str:
    """One of `parser.UNITS`, as it is in systemd/."""
    units = files("vmwatch") / "units"
    return (units / name if name.endswith(".service") else units / "drop-ins" / name).read_text()


def fitted(unit: str, command: str, config: str) -> str:
    """The unit with another command, and another configuration for it; every other line stays as it is."""

    def exchange(found: re.Match[str]) -> str:
        return found[1] + command + found[2] + found[3].replace(SHIPPED_CONFIG, quoted(config))

    return _COMMAND.sub(exchange, unit)


def command() -> str:
    """How systemd is to start this very installation."""
    script = Path(sys.executable).with_name("vmwatch")
    if os.access(script, os.X_OK):
        return quoted(str(script), first=True)
    return f"{quoted(sys.executable, first=True)} -m vmwatch"


def parts() -> Iterator[Path]:
    """What must be there to start: the command, the interpreter behind it (which may be another one's), the code."""
    yield Path(sys.executable).absolute()
    yield Path(sys.executable).resolve()
    yield Path(sys.base_prefix).resolve()
    yield Path(vmwatch.__file__).resolve().parent


def out_of_reach(paths: Iterable[Path]) -> tuple[str, ...]:
    """Those that the unit can't see, each once, and without what lies in another one of them."""
    hidden = sorted({path for path in paths if any(path.is_relative_to(folder) for folder in _HIDDEN)})
    return tuple(str(path) for path in hidden if not any(other in path.parents for other in hidden))


def quoted(path: str, *, first: bool = False) -> str:
    """As one word of a command line in a unit, where `%` has a meaning, and `$` in all but the first.

    Raises UsageError for what systemd refuses in a command.
    """
    if re.search("[\"'\\\\]", path):
        raise UsageError(f"{path}: systemd runs nothing with a quote or a backslash in its path")
    plain = path.replace("%", "%%") if first else path.replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if re.search(r"[\s;]", plain) else plain
