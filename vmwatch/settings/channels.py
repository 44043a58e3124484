"""Where alerts go, when, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr, create_model

from vmwatch.models import WORDED, Kind, Privacy
from vmwatch.settings.table import AS_TEXT, HIDDEN, Table, event, not_empty, or_none
from vmwatch.settings.times import Budget, QuietWindow, TimeOfDay, leaving_time, read_budget, time_of_day


class Alerts(Table):
    language: str = "en"
    timezone: str | None = None
    """A name such as `Europe/Copenhagen`; None: the machine's own."""


class Template(Table):
    """What is said in place of the built-in words, in Jinja2's language; None: those."""

    title: str | None = None
    body: str | None = None


def _templates(kinds: Sequence[str]) -> type[Table]:
    """A table with a template for each kind, those with a dot in a table of their group: `templates.voicemail.new`."""
    fields: dict[str, Any] = {kind: (Template, Template()) for kind in kinds if kind and "." not in kind}
    for group in dict.fromkeys(kind.partition(".")[0] for kind in kinds if "." in kind):
        inner = _templates([kind.partition(".")[2] for kind in kinds if kind.startswith(f"{group}.")])
        fields[group] = (inner, inner())
    return create_model("Templates", __base__=Table, **fields)


Templates = _templates([kind.value for kind in WORDED])


class Channel(Table):
    url: Annotated[SecretStr, AfterValidator(not_empty), HIDDEN]
    events: tuple[Annotated[str, BeforeValidator(event)], ...] = ("voicemail", "line", "channel")
    language: str | None = None
    """None: alerts.language."""
    timezone: str | None = None
    """None: alerts.timezone."""
    privacy: Privacy = Privacy.FULL
    templates: Templates = Templates()  # type: ignore[valid-type]
    quiet: Annotated[tuple[QuietWindow, ...], AfterValidator(leaving_time)] = ()
    """When alerts are held, in the channel's time zone."""
    digest: Annotated[TimeOfDay | None, BeforeValidator(or_none(time_of_day)), AS_TEXT] = None
    """When voicemails are told, all at once; None: each at once."""
    budget: Annotated[Budget | None, BeforeValidator(or_none(read_budget)), AS_TEXT] = None
    """None: as many as there are."""
    urgent: tuple[Annotated[str, BeforeValidator(event)], ...] = ()
    """Kinds or groups that are never held."""
    update_in_place: bool = True
    """At ntfy: a reminder replaces the announcement, and what was heard is cleared."""

    def template(self, kind: Kind) -> Template:
        return reduce(getattr, kind.value.split("."), self.templates)
