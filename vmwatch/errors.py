"""What can go wrong, in the project's own words; no foreign exception travels above the file that met it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `vmwatch --version` needs none of the models, and they take half of its time
    from vmwatch.models import Duration, Reason


class VmwatchError(Exception):
    """One sentence for a person, without a secret in it."""

    status = 1
    """The exit status it ends a command with."""


class UsageError(VmwatchError):
    """The command line asks for something that is not there."""

    status = 2


class LedgerError(VmwatchError):
    """The store is in use by another daemon, or can't be opened, read or written (EX_TEMPFAIL)."""

    status = 75

    def __init__(self, sentence: str, *, passing: bool = False) -> None:
        super().__init__(sentence)
        self.passing = passing
        """Another process holds the store for a moment. Anything else lasts until a person sees to it."""


class ListenError(VmwatchError):
    """An address that was asked for can't be listened on just now: somebody else has it (EX_TEMPFAIL)."""

    status = 75


class ConfigError(VmwatchError):
    """The configuration is refused (EX_CONFIG): every objection at once, a sentence each."""

    status = 78

    def __init__(self, objections: tuple[str, ...]) -> None:
        super().__init__("\n".join(objections))
        self.objections = objections


class Trouble(Exception):  # noqa: N818 - it is a value as much as an exception
    """A poll that brought no mailbox. Raised at the edge, caught once, and a value from there on.

    `detail` is for people and logs: never a URL, never text the operator sent.
    """

    def __init__(self, reason: Reason, detail: str = "", wait: Duration | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
        self.wait = wait
        """How long the operator asked us to wait (Retry-After), in ms."""
