"""How one channel is spoken to: its language, its clock, its discretion and its own templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo

from vmwatch import samples, wording
from vmwatch.links import samples as samples_of_links
from vmwatch.models import NO_LINKS, Alert, Kind, Links, Privacy
from vmwatch.templates import LONGEST_BODY, LONGEST_TITLE, Filling, TemplateRefusedError, accepted
from vmwatch.texts import ENGLISH, Texts
from vmwatch.wording import Style, Text
from vmwatch.wording.facts import facts

_LONGEST = {"title": LONGEST_TITLE, "body": LONGEST_BODY}
_SAMPLED_BASE = "https://vmwatch.example.com"
_SAMPLED_AT = 1_704_067_200_000


@dataclass(frozen=True, slots=True)
class Said:
    """What a channel is sent; `failed` says what was wrong with its template, where the built-in words stand in."""

    text: Text
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Voice:
    zone: tzinfo
    texts: Texts = ENGLISH
    privacy: Privacy = Privacy.FULL
    templates: Mapping[Kind, Mapping[str, Filling]] = field(default_factory=dict, repr=False)
    """By kind, then `title` or `body`; what has none is said in the built-in words."""

    def says(self, alert: Alert, maybe_repeat: bool = False, links: Links = NO_LINKS) -> Said:
        """An alert in this voice. Total: a template that fails costs its wording, never the alert."""
        built_in = wording.text(alert, self.zone, texts=self.texts, privacy=self.privacy)
        said = self._filled(alert, wording.tappable(built_in, links, self.texts), links)
        return replace(said, text=wording.repeated(said.text, self.texts)) if maybe_repeat else said

    def _filled(self, alert: Alert, built_in: Text, links: Links) -> Said:
        fillings = self.templates.get(alert.kind)
        if not fillings:
            return Said(built_in)
        known = facts(alert, Style(self.zone, self.texts, self.privacy), built_in, links)
        try:
            found = {part: filling.fill(known) for part, filling in fillings.items()}
        except TemplateRefusedError as error:
            return Said(built_in, str(error))
        title = " ".join(found.get("title", built_in.title).split())
        return Said(replace(built_in, title=title or built_in.title, body=found.get("body") or built_in.body))


def filling(part: str, source: str) -> Filling:
    """A template for a `title` or a `body`. Raises TemplateRefusedError."""
    return accepted(source, _LONGEST[part])


def objection(kind: Kind, part: str, source: str) -> str | None:
    """Why a template can't be used, as the end of a sentence: it is tried with all there can be, and with nothing."""
    try:
        found = filling(part, source)
        for alert, style in _tries(kind):
            links = samples_of_links(_SAMPLED_BASE, alert)
            built_in = wording.tappable(wording.text(alert, style.zone, privacy=style.privacy), links, ENGLISH)
            found.fill(facts(alert, style, built_in, links))
    except TemplateRefusedError as error:
        return str(error)
    return None


def _tries(kind: Kind) -> Iterator[tuple[Alert, Style]]:
    for alert in (samples.alert(kind, _SAMPLED_AT), samples.bare(kind)):
        for privacy in Privacy:
            yield alert, Style(UTC, ENGLISH, privacy)
