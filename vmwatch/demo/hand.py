"""What a visitor's hand on the simulated phone does, and undoes: to the simulated operator, and to the demo's PIN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from vmwatch.demo.windows import Shown
from vmwatch.models import Box
from vmwatch.simulator import Odd, Simulator, random_caller

HOME, HOME_PIN, WRONG_PIN = "+4571919998", "1234", "1243"
OFFICE = "+4571919999"
SHORTEST_S, LONGEST_S = 3, 90


class Hand:
    """`say` tells the terminal; `reread` has vmwatch read its configuration, with the PIN as it is now, again."""

    def __init__(self, simulator: Simulator, random: Random, say: Callable[[str], None]) -> None:
        self._simulator = simulator
        self._random = random
        self._say = say
        self.reread: Callable[[], None] = lambda: None
        self.has_touched = False
        self.left: list[str] = []
        """The ids of every message that was left on Home."""
        self._is_mistyped = False
        self._failed_before = 0
        self._is_down = False

    @property
    def pin(self) -> str:
        """What stands in vmwatch's configuration for Home."""
        return WRONG_PIN if self._is_mistyped else HOME_PIN

    @property
    def acts(self) -> Mapping[str, Callable[[str], str]]:
        acts = (self.leave, self.hear, self.mistype, self.correct, self.take_down, self.bring_up)
        return {act.__name__: self._told(act) for act in acts}

    def look(self, done: str) -> Shown:
        return Shown(
            done=done,
            new=len(self._new()),
            is_mistyped=self._is_mistyped,
            is_down=self._is_down,
        )

    def _told(self, act: Callable[[str], str]) -> Callable[[str], str]:
        def acting(name: str) -> str:
            self.has_touched = True
            done = act(name)
            self._say(f"you: {done}")
            return done

        return acting

    def call(self, name: str = "") -> str:
        """Somebody leaves a message, by this name if one is given."""
        caller = random_caller(self._random)
        name, length = name or caller.name or "", self._random.randint(SHORTEST_S, LONGEST_S)
        self.left.append(self._simulator.leave(HOME, caller=caller.number, name=name or None, length=length))
        return f"{name or caller.number or 'somebody withheld'} leaves a message of {length} s on Home"

    # ---- the buttons ----

    def leave(self, name: str) -> str:
        return f"{self.call(name)}."

    def hear(self, _: str) -> str:
        new = self._new()
        if not new:
            return "There is nothing new to listen to."
        self._simulator.hear(HOME, new[-1]["_id"])
        return "You listened to the latest message. Two polls later vmwatch calls it no longer new."

    def mistype(self, _: str) -> str:
        self._is_mistyped, self._failed_before = True, self._failed()
        self.reread()
        return "The PIN in vmwatch's configuration is wrong now. One login fails, then Home waits for you."

    def correct(self, _: str) -> str:
        self._is_mistyped = False
        self.reread()
        cost = self._failed() - self._failed_before
        return (
            f"The wrong PIN cost {cost} failed login{'' if cost == 1 else 's'}. It is right again, and tried at once."
        )

    def take_down(self, _: str) -> str:
        self._is_down = True
        self._answer(Odd.INTERNAL_ERROR)
        return "The operator is down. vmwatch tries again, ever less often, and loses nothing."

    def bring_up(self, _: str) -> str:
        self._is_down = False
        self._answer(None)
        return "The operator works again. Home is read at its next poll, or at once if you ask for it."

    def _failed(self) -> int:
        return len(self._simulator.failed_logins(HOME))

    def _new(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._simulator.listing(HOME, Box.NEW)["voicemails"]
        return found

    def _answer(self, what: Odd | None) -> None:
        for number in (HOME, OFFICE):
            self._simulator.odd(number, what)
