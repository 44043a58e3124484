"""The shipped units: what systemd itself says of them, and what `vmwatch systemd-unit` prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from vmwatch.cli.installing import SHIPPED_COMMAND, SHIPPED_CONFIG, fitted, out_of_reach, quoted, shipped
from vmwatch.cli.parser import UNITS
from vmwatch.errors import UsageError

ROOT = Path(__file__).parents[1]
SYSTEMD = ROOT / "systemd"
SERVICES = [name for name in UNITS if name.endswith(".service")]
DROP_INS = [name for name in UNITS if name.endswith(".conf")]
FLOOR = 11
"""Tenths of systemd's own exposure level: what a service that talks to arbitrary hosts can't go below."""
HARDENING = re.compile(
    r"(Protect|Private|Restrict|SystemCall|Memory|Tasks|Lock|Limit|Capability|Ambient|NoNew|Remove|Keyring|Device|ReadOnly"
    r"|ProcSubset)\w*="
)


def tool(name: str) -> str:
    """A developer's laptop may lack it; where CI runs, a missing tool is a failure and no reason to skip."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: apt-get install systemd")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install systemd")
    return found


def version() -> int:
    said = subprocess.run([tool("systemd-analyze"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\d+", said)[0])


def vmwatch(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vmwatch", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with both units, as they would be installed here; the command is one that can be run."""
    for name in SERVICES:
        (tmp_path / name).write_text(fitted(shipped(name), quoted(sys.executable, first=True), SHIPPED_CONFIG))
    return tmp_path


def with_drop_in(units: Path, name: str) -> Path:
    folder = units / "vmwatch.service.d"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(shipped(name))
    return units / "vmwatch.service"


def analyzed(units: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # The path's end: the machine's own units are there too, for what ours refer to.
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    command = [tool("systemd-analyze"), "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


# ---- what systemd says ----


@pytest.mark.parametrize("name", ["vmwatch.service", "vmwatch-failed@vmwatch.service"])
def test_systemd_has_nothing_to_say_against_a_unit(units: Path, name: str) -> None:
    if "@v" in name:
        shutil.copy(units / "vmwatch-failed@.service", units / name)
    found = analyzed(units, "verify", units / name)
    assert (found.stdout + found.stderr, found.returncode) == ("", 0)


@pytest.mark.parametrize("name", DROP_INS)
def test_systemd_has_nothing_to_say_against_a_drop_in(units: Path, name: str) -> None:
    found = analyzed(units, "verify", with_drop_in(units, name))
    said = found.stdout + found.stderr
    if name == "notify-reload.conf" and version() < 253:
        assert "Failed to parse service type, ignoring: notify-reload" in said, "as the drop-in itself warns"
        assert len(said.splitlines()) == 1
    else:
        assert (said, found.returncode) == ("", 0)


def test_a_mistake_in_a_unit_would_be_noticed(units: Path) -> None:
    (units / "vmwatch.service").write_text((units / "vmwatch.service").read_text() + "\n[Service]\nProtectHom=yes\n")
    found = analyzed(units, "verify", units / "vmwatch.service")
    assert "ProtectHom" in found.stdout + found.stderr


@pytest.mark.parametrize("name", [*SERVICES, *DROP_INS])
def test_the_exposure_is_at_the_floor(units: Path, name: str) -> None:
    unit = units / name if name.endswith(".service") else with_drop_in(units, name)
    found = analyzed(units, "security", "--offline=true", f"--threshold={FLOOR}", unit)
    assert found.returncode == 0, found.stdout[-2000:]
    (level,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d+)", found.stdout)
    assert float(level) <= FLOOR / 10


@pytest.mark.parametrize("without", ["RestrictNamespaces=yes", "SystemCallFilter=@system-service", "PrivateUsers=yes"])
def test_a_missing_line_would_raise_the_exposure(units: Path, without: str) -> None:
    unit = units / "vmwatch.service"
    assert f"\n{without}\n" in unit.read_text()
    unit.write_text(unit.read_text().replace(f"\n{without}\n", "\n"))
    assert analyzed(units, "security", "--offline=true", f"--threshold={FLOOR}", unit).returncode != 0


# ---- what is in them ----


def test_every_hardening_line_has_a_comment_of_its_own() -> None:
    lines = shipped("vmwatch.service").splitlines()
    hardening = [(above, line) for above, line in pairwise(lines) if HARDENING.match(line)]
    assert len(hardening) > 30
    assert [line for above, line in hardening if not above.startswith("# ")] == []


def test_both_units_have_the_same_sandbox() -> None:
    def sandbox(name: str) -> set[str]:
        return {line for line in shipped(name).splitlines() if HARDENING.match(line)}

    assert sandbox("vmwatch.service") == sandbox("vmwatch-failed@.service")


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=2min",
        "TimeoutStopSec=30",
        "Restart=on-failure",
        "RestartSec=60",
        "RestartPreventExitStatus=2 64 77 78 243",
        "StartLimitIntervalSec=30min",
        "StartLimitBurst=5",
        "DynamicUser=yes",
        "StateDirectory=vmwatch",
        "StateDirectoryMode=0700",
        "LoadCredential=vmwatch:/etc/vmwatch/credentials",
        "SystemCallErrorNumber=EPERM",
        "ReadOnlyPaths=/run",
        "LimitCORE=0",
    ],
)
def test_what_the_promises_rest_on_is_in_the_unit(line: str) -> None:
    assert line in shipped("vmwatch.service").splitlines()


# ---- vmwatch systemd-unit ----


def test_the_verb_knows_every_file_there_is() -> None:
    there = {path.name for path in SYSTEMD.rglob("*") if path.is_file()}
    assert set(UNITS) == there


@pytest.mark.parametrize("name", UNITS)
def test_what_is_printed_is_the_shipped_file_but_for_the_command(name: str, tmp_path: Path) -> None:
    ran = vmwatch("systemd-unit", name, cwd=tmp_path)
    assert ran.returncode == 0
    (file,) = SYSTEMD.rglob(name)
    printed, expected = ran.stdout.splitlines(), file.read_text().splitlines()
    assert len(printed) == len(expected)
    changed = [(new, old) for new, old in zip(printed, expected, strict=True) if new != old]
    assert all(old.startswith(("ExecStart=", "ExecReload=")) for _, old in changed)
    script = Path(sys.executable).with_name("vmwatch")
    command = quoted(str(script), first=True) if script.exists() else f"{quoted(sys.executable, first=True)} -m vmwatch"
    assert [new for new, _ in changed] == [old.replace(SHIPPED_COMMAND, command) for _, old in changed]
    assert len(changed) == {"vmwatch.service": 2, "vmwatch-failed@.service": 1}.get(name, 0)


def test_the_unit_is_printed_unless_something_else_is_named() -> None:
    assert vmwatch("systemd-unit").stdout == vmwatch("systemd-unit", "vmwatch.service").stdout
    assert vmwatch("systemd-unit", "other.conf").returncode == 2


def test_another_configuration_is_named_in_the_unit(tmp_path: Path) -> None:
    printed = vmwatch("--config", "mine.toml", "systemd-unit", cwd=tmp_path).stdout
    assert len(re.findall(rf"^Exec\w+=.* --config {tmp_path}/mine.toml (?:run|reload)", printed, re.MULTILINE)) == 2
    assert not re.search(f"^Exec.*{SHIPPED_CONFIG}", printed, re.MULTILINE)


def test_odd_paths_are_quoted_as_systemd_wants_it(tmp_path: Path) -> None:
    command = tmp_path / "a b; 100% $c"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / "vmwatch.service"
    unit.write_text(fitted(shipped("vmwatch.service"), quoted(str(command), first=True), SHIPPED_CONFIG))
    found = analyzed(tmp_path, "verify", unit)
    assert (found.stdout + found.stderr, found.returncode) == ("", 0)
    assert quoted("/srv/100% $c.toml") == '"/srv/100%% $$c.toml"'
    with pytest.raises(UsageError):
        quoted('/opt/a "b"', first=True)


def test_what_the_unit_cannot_see_is_told() -> None:
    paths = [
        "/root/.pyenv/v/bin/python",
        "/root/.pyenv/v",
        "/opt/vmwatch/bin/python",
        "/home/anna/x",
        "/rooted",
        "/usr",
    ]
    assert out_of_reach(map(Path, paths)) == ("/home/anna/x", "/root/.pyenv/v")


def test_an_installation_in_a_home_directory_is_warned_of() -> None:
    ran = vmwatch("systemd-unit")
    needed = {Path(sys.executable).absolute(), Path(sys.executable).resolve(), ROOT}
    hidden = [path for path in needed if str(path).startswith(("/root/", "/home/"))]
    assert ("203/EXEC" in ran.stderr) == bool(hidden), ran.stderr
    assert "203/EXEC" not in vmwatch("systemd-unit", "lan-only.conf").stderr


def test_an_installed_wheel_prints_them_too_and_has_every_file_of_the_package(tmp_path: Path) -> None:
    """What `pip install .` leaves of the repository: no top-level folder systemd/."""
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", "build", "tests")
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    wheels.mkdir()
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(wheels)], cwd=source, check=True, capture_output=True, timeout=60)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert "vmwatch/locales/da.po" in archive.namelist()
        names = archive.namelist()
        for file in (path for path in SYSTEMD.rglob("*") if path.is_file()):
            assert archive.read(f"vmwatch/units/{file.relative_to(SYSTEMD)}") == file.read_bytes()
    assert not [name for name in names if name.startswith("systemd/")]
    of_the_package = (path for path in (ROOT / "vmwatch").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {str(path.relative_to(ROOT)) for path in of_the_package} <= set(names)
