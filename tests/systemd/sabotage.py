"""Units that are not the shipped one any more: the proof must not hold for them, or it proves nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import service
from house import STATE, UNIT, House, Proof

Scenario = Callable[[House, Proof], None]


@dataclass(frozen=True)
class Sabotage:
    name: str
    scenario: Scenario
    falls: str
    """Words of the assertion that must fall."""
    without: str = ""
    """The settings that are taken away, as an expression of their names."""
    also: str = ""
    """Lines that are put in their place."""

    @property
    def unit(self) -> str:
        kept = re.sub(rf"(?m)^({self.without})=.*\n", "", UNIT) if self.without else UNIT
        assert kept != UNIT or self.also, f"there is no {self.without} to be taken away"
        return kept.replace("[Install]", f"{self.also}\n[Install]")


def _restarts_four_times(house: House, proof: Proof) -> None:
    service.spends_one_login(house, proof, restarts=4)


SABOTAGES = (
    Sabotage(
        "without AF_UNIX",
        service.starts,
        "start blocks until READY",
        without="RestrictAddressFamilies",
        also="RestrictAddressFamilies=AF_INET AF_INET6",
    ),
    Sabotage("of Type=simple", service.starts, "start blocks until READY", without="Type", also="Type=simple"),
    Sabotage(
        "with /etc made writable", service.writes_nowhere_else, "mounted so that anybody", also="ReadWritePaths=/etc"
    ),
    Sabotage("without ReadOnlyPaths", service.writes_nowhere_else, "can be written by it", without="ReadOnlyPaths"),
    Sabotage(
        "with a user that others have too",
        service.is_nobody,
        "its user is a dynamic one",
        without="DynamicUser|User",
        also="User=daemon",
    ),
    Sabotage("without CapabilityBoundingSet", service.is_nobody, "no capability", without="CapabilityBoundingSet"),
    Sabotage("with an open state directory", service.is_nobody, "its own, 0700", without="StateDirectoryMode"),
    Sabotage(
        "without RestartPreventExitStatus",
        service.refuses_broken_configuration,
        "is not started again",
        without="RestartPreventExitStatus",
    ),
    Sabotage(
        "with a secret in its environment",
        service.keeps_secrets,
        "no secret is in the environments",
        also="Environment=VMWATCH_LINES__HOME__PIN=%PIN%",
    ),
    Sabotage(
        "that forgets what was tried",
        _restarts_four_times,
        "costs one login",
        also=f"ExecStartPre=+/bin/sh -c 'rm -f {STATE}/vmwatch.db*'",
    ),
)


def sabotaged(sabotage: Sabotage, house: House, proof: Proof, play: Callable[[Scenario, House, Proof], None]) -> None:
    """Play the scenario with the sabotaged unit; the assertion that guards against it must fall."""
    trial = Proof(proof.where)
    trial.quiet, trial.patience_s = True, 5
    house.shipped = sabotage.unit.replace("%PIN%", house.next_pin)
    try:
        play(sabotage.scenario, house, trial)
    finally:
        house.shipped = UNIT
    fell = any(sabotage.falls in sentence for sentence in trial.broken)
    proof.that(f"a unit {sabotage.name} is found out", fell, f"only these fell: {trial.broken}")
