"""Proves vmwatch's unit under real systemds: python3 tests/systemd/prove.py [12] [13] [--only WORDS] [--samples FOLDER]

Boots Debian 12 (systemd 252) and Debian 13 (257) in containers without a network, installs vmwatch from this
working tree with its shipped unit, and asserts what README promises of the service, a line for each assertion.
It needs root, Linux, apt with a mirror of Debian (apt-get update must have been run) and pip; it installs nothing.
The roots are kept in $XDG_CACHE_HOME/vmwatch-tests.

Exit status: 0 all of it held; 1 something did not; 77 this machine can't do it, and the last line says why.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import roots
from guest import booted, group, make_room, missing
from house import House, Proof, environment, furnish, program
from roots import DEBIANS, Debian, UnavailableError
from sabotage import SABOTAGES, sabotaged
from service import LIFE
from troubles import AT_BOOT, TROUBLES, Boot
from variants import VARIANTS

CANT = 77
MOST_S = 900
"""A proof that takes longer than this hangs."""
ALONE = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)

S = TypeVar("S", bound=Callable[..., None])
Scenario = Callable[[House, Proof], None]
AtBoot = Callable[[Boot, Proof], None]


def main() -> int:
    asked = _options()
    lack = missing()
    if lack:
        print(lack)
        return CANT
    if not asked.inside:
        running = [_alone(release, sys.argv[1:]) for release in asked.releases or DEBIANS]
        return max(process.wait() for process in running)
    signal.alarm(MOST_S)
    try:
        return _prove(DEBIANS[asked.releases[0]], asked)
    except UnavailableError as error:
        print(f"Debian {asked.releases[0]}: {error}")
        return CANT


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Proves vmwatch's unit under real systemds.")
    parser.add_argument("releases", nargs="*", type=_release, help="releases of Debian: 12, 13 (default: all)")
    parser.add_argument("--only", default="", help="only the scenarios with these words in their names")
    parser.add_argument("--samples", type=Path, help="keep what a person would see in this folder")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _release(text: str) -> int:
    if text not in map(str, DEBIANS):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, DEBIANS))}")
    return int(text)


def _alone(release: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """In mount and process namespaces of its own: whatever is mounted or started ends with it."""
    options = [one for one in arguments if one not in map(str, DEBIANS)]
    command = (*ALONE, sys.executable, "-B", __file__, str(release), "--inside", *options)
    return subprocess.Popen(command)


def _prove(debian: Debian, asked: argparse.Namespace) -> int:
    began = time.monotonic()
    for make in (roots.tools, lambda: roots.root(debian), lambda: roots.wheels(debian)):
        make()
    proof = Proof(f"Debian {debian.release}", asked.samples)
    room = make_room()
    with group():
        base = environment(debian, room)
        layers = (program(debian, room, base), base)
        print(f"Debian {debian.release}: ready to boot after {time.monotonic() - began:.0f} s", flush=True)
        with booted(debian, room, *layers, prepare=furnish) as guest:
            version = guest.run("systemctl", "--version").out.split()[1]
            proof.that(f"systemd {debian.systemd} is what runs", version == str(debian.systemd), version)
            house = House(guest)
            house.settled()
            for scenario in _chosen((*LIFE, *VARIANTS, *TROUBLES), asked.only):
                _play(scenario, house, proof)
            for sabotage in SABOTAGES:
                if asked.only in f"sabotage {sabotage.name}":
                    sabotaged(sabotage, house, proof, _play)
        for at_boot in _chosen(AT_BOOT, asked.only):
            _play_at_boot(at_boot, debian, proof, lambda prepare: booted(debian, room, *layers, prepare=prepare))
    took = time.monotonic() - began
    print(f"Debian {debian.release}, systemd {debian.systemd}, {took:.0f} s")
    print(f"systemd-{debian.systemd}: {len(proof.kept)} passed, {len(proof.broken)} failed", flush=True)
    return 1 if proof.broken else 0


def _chosen(scenarios: tuple[S, ...], words: str) -> list[S]:
    return [scenario for scenario in scenarios if words in scenario.__name__.replace("_", " ")]


def _play(scenario: Scenario, house: House, proof: Proof) -> None:
    began = time.monotonic()
    try:
        scenario(house, proof)
    except (AssertionError, subprocess.SubprocessError) as error:
        proof.that(f"{scenario.__name__.replace('_', ' ')}: it comes to its end", False, error)
    if os.environ.get("VMWATCH_TEST_TIMES"):
        print(f"        {scenario.__name__}: {time.monotonic() - began:.1f} s", flush=True)


def _play_at_boot(scenario: AtBoot, debian: Debian, proof: Proof, boot: Boot) -> None:
    try:
        scenario(boot, proof)
    except (AssertionError, subprocess.SubprocessError) as error:
        proof.that(f"{scenario.__name__.replace('_', ' ')}: it comes to its end", False, error)


if __name__ == "__main__":
    sys.exit(main())
