"""How alerts are worded for one channel: in which language, by which clock, and how much of the caller they show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo

from vmwatch.models import Alert, Instant, Privacy
from vmwatch.texts import ENGLISH, Texts
from vmwatch.wording import plain


@dataclass(frozen=True, slots=True)
class Tap:
    """Something that can be done at a tap."""

    label: str
    url: str = field(repr=False)
    in_english: str = ""
    """The label where only ASCII is understood."""


@dataclass(frozen=True, slots=True)
class Text:
    title: str
    body: str
    call: str = ""
    """The number in E.164 that calls back; empty where there is none, or where it is not to be shown."""
    call_label: str = ""
    """What a button says that calls it."""
    taps: tuple[Tap, ...] = ()
    """Our own links; in the built-in words each has a line, `LABEL: URL`."""


@dataclass(frozen=True, slots=True)
class Style:
    zone: tzinfo
    texts: Texts = ENGLISH
    privacy: Privacy = Privacy.FULL

    @property
    def is_open(self) -> bool:
        """Whether everything may be shown."""
        return self.privacy is Privacy.FULL

    def gettext(self, text: str, **facts: object) -> str:
        """A text with facts put into it; what the facts hold is not looked at again."""
        return self.texts.gettext(text).format(**facts)

    def ngettext(self, one: str, many: str, count: int, **facts: object) -> str:
        return self.texts.ngettext(one, many, count).format(count=count, **facts)

    def moment(self, instant: Instant) -> str:
        return plain.moment(instant, self.zone, self.texts)

    def number(self, foreign: str | None) -> str:
        """As much of a number as is to be seen."""
        if not foreign or self.privacy is Privacy.MINIMAL:
            return ""
        return plain.number(foreign) if self.is_open else plain.masked(foreign)

    def line(self, alert: Alert) -> str:
        """The label of an alert's line, or what else it is known by."""
        return plain.one_line(alert.subject) or self.number(alert.number) or self.gettext("your line")

    def line_in_full(self, alert: Alert) -> str:
        return ", ".join(filter(None, (plain.one_line(alert.subject), self.number(alert.number))))

    def detail(self, alert: Alert) -> str:
        """What the operator said: in its own words, so that nobody knows what is in them."""
        return plain.one_line(alert.detail) if self.is_open else ""
