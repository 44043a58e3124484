"""Who calls in the demo: made-up people, some without a name, some without a number."""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Caller(NamedTuple):
    number: str | None
    name: str | None


CALLERS = (
    Caller("+4520305071", "Mette Sørensen"),
    Caller("+4522448160", "Lars Østergaard"),
    Caller("+4551907334", "Åse Kjær"),
    Caller("+4540116627", "Søren Højbjerg"),
    Caller("+4561784490", "Karoline Bæk"),
    Caller("+4586130092", "Tandlægerne ved Åen"),
    Caller("+4533150847", "Blomster & Brød"),
    Caller("+4599778822", "Donald Duck"),
    Caller("+46812345678", "Åke Lindström"),
    Caller("+4570208813", None),
    Caller("+4528669041", None),
    Caller(None, "Skjult Nummer"),
    Caller(None, None),
)


def random_caller(rng: Random) -> Caller:
    return rng.choice(CALLERS)
