"""The floors of the house: imports point down only, and each outside thing has one file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmwatch

ROOT = Path(vmwatch.__file__).parent
FLOORS = {
    0: {"models", "texts"},
    1: {"errors", "backoff", "settings", "reading", "wording", "pins", "redaction", "tally", "samples", "templates"}
    | {"vcards", "multistatus", "hours", "sequences", "links"},
    2: {"calls", "decide", "condition", "voice", "book"},
    3: {
        "config",
        "ledger",
        "telecomx",
        "channels",
        "contacts",
        "heartbeat",
        "languages",
        "lifesign",
        "signals",
        "systemd",
        "simulator",
        "logs",
        "ntfy",
        "tasks",
        "terminal",
    },
    4: {"adopt", "attempt", "poll", "deliver", "follow", "presence", "shapes", "stale", "store_trouble", "wishes"},
    5: {"web"},
    6: {"daemon"},
    7: {"demo"},
    8: {"cli"},
    9: {"__main__"},
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
NEIGHBOURS = {
    ("poll", "attempt"),
    ("reading", "errors"),
    ("config", "languages"),
    ("settings", "hours"),
    ("decide", "book"),
    ("channels", "ntfy"),
    ("ledger", "tasks"),
}
"""A round begins attempts, what can't be read is a Trouble, a language must be there, times of day are settings,
who is in the contacts counts for what becomes of a message, ntfy is one of the ways that a channel speaks, and very
many lines are looked at in turns with everything else."""

IMPURE = frozenset(
    {"aiohttp", "aiosqlite", "apprise", "apscheduler", "asyncio", "fcntl", "glob", "http", "io", "logging", "os"}
    | {"pathlib", "random", "rich", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl"}
    | {"subprocess", "sys", "tempfile", "threading", "time", "tzlocal", "urllib3", "uuid"}
)
OWNERS = {
    "apscheduler": {"heartbeat"},
    "aiosqlite": {"ledger/sqlite"},
    "asyncpg": {"ledger/postgres"},
    "sqlite3": {"ledger/sqlite", "ledger/turns"},
    "apprise": {"channels"},
    "aiohttp": {"telecomx", "lifesign", "simulator/server", "simulator/odd", "terminal", "web/listener", "demo/phone"}
    | {"contacts/carddav", "ntfy"},
    "babel": {"languages"},
    "jinja2": {"templates", "web/drawing"},
    "random": {"heartbeat", "simulator/callers", "simulator/exchange", "demo/__init__", "demo/hand"},
}
LEFT_OUTSIDE = {"manager", "handler", "helper", "util", "service", "processor", "data", "info", "job", "notification"}
WORD = re.compile(r"[A-Z]?[a-z]+")

FILES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {name: path for name, path in FILES.items() if name != "__init__"}


def top(name: str) -> str:
    return name.partition("/")[0]


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """Names of our own modules and folders that a file imports."""
    dotted = [name.split(".") for name in imports(path) if name.startswith("vmwatch.")]
    return {parts[1] for parts in dotted if parts[1] != "__version__"}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_floor(name: str) -> None:
    assert top(name) in FLOOR_OF, "give it a place in FLOORS"


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down_and_neighbours_are_strangers(name: str) -> None:
    here = top(name)
    up = {
        other
        for other in own_imports(MODULES[name])
        if other != here and FLOOR_OF[other] >= FLOOR_OF[here] and (here, other) not in NEIGHBOURS
    }
    assert up == set()


@pytest.mark.parametrize("name", [name for name in MODULES if FLOOR_OF.get(top(name), 9) <= 2])
def test_the_lower_floors_are_pure(name: str) -> None:
    assert {imported.partition(".")[0] for imported in imports(MODULES[name])} & IMPURE == set()


@pytest.mark.parametrize("outside", OWNERS)
def test_each_outside_thing_has_its_place(outside: str) -> None:
    users = {name for name, path in FILES.items() if any(found.partition(".")[0] == outside for found in imports(path))}
    assert users <= OWNERS[outside]


@pytest.mark.parametrize("name", FILES)
def test_words_that_name_nothing_are_left_outside(name: str) -> None:
    classes = [node.name for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.ClassDef)]
    words = {word.lower().removesuffix("s") for part in [name, *classes] for word in WORD.findall(part)}
    assert words & LEFT_OUTSIDE == set()
