"""The judgement: what a poll, a delivery or a person's word comes to. It decides; it does nothing.

Pure functions from values to values: no I/O, no clock, no randomness. What `poll`, `deliver` and the command
line do around them is in those files, none of which decides.
"""

from vmwatch.decide.delivery import after_delivery
from vmwatch.decide.follow_ups import Steps, followed_up, heard, heard_of, steps_of
from vmwatch.decide.hold import DIGESTED, Patience, digest, hold, holds, patience_of
from vmwatch.decide.line import (
    asked,
    claimed,
    configured,
    is_blocked,
    is_paused,
    obstacle,
    paused,
    pin_tag,
    released,
    restored,
    resumed,
    shown,
    stopped,
    wanted,
)
from vmwatch.decide.poll import after_poll
from vmwatch.decide.route import Route, Telling, Why, route, ways_of
from vmwatch.decide.rules import Rules, grid_of, rules_by_line, rules_of

__all__ = [
    "DIGESTED",
    "Patience",
    "Route",
    "Rules",
    "Steps",
    "Telling",
    "Why",
    "after_delivery",
    "after_poll",
    "asked",
    "claimed",
    "configured",
    "digest",
    "followed_up",
    "grid_of",
    "heard",
    "heard_of",
    "hold",
    "holds",
    "is_blocked",
    "is_paused",
    "obstacle",
    "patience_of",
    "paused",
    "pin_tag",
    "released",
    "restored",
    "resumed",
    "route",
    "rules_by_line",
    "rules_of",
    "shown",
    "steps_of",
    "stopped",
    "wanted",
    "ways_of",
]
