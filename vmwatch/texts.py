"""What people read, in their language: a text of the source is looked up, and stands for itself where it has no other.

Named as gettext names it, so that Babel, Jinja2 and translators find what they know. Pure: `languages` reads the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""A context, "" where there is none, and the text as it stands in the source."""


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for it
    """Marks a text that is looked up later."""
    return text


def english_form(count: int) -> int:
    """Which of the two texts in the source suits a count."""
    return 0 if count == 1 else 1


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language. Every lookup is total: what has no translation is said in English.

    `forms` has a text's plurals in the order of the language's own rule, which is `form`: from a count to a place.
    """

    language: str = "en"
    said: Mapping[Key, str] = field(default_factory=dict, repr=False)
    forms: Mapping[Key, tuple[str, ...]] = field(default_factory=dict, repr=False)
    form: Callable[[int], int] = field(default=english_form, repr=False)

    def gettext(self, text: str) -> str:
        return self.pgettext("", text)

    def pgettext(self, context: str, text: str) -> str:
        """A text whose translation depends on where it is said: `May` the month."""
        return self.said.get((context, text), text)

    def ngettext(self, one: str, many: str, count: int) -> str:
        return self.npgettext("", one, many, count)

    def npgettext(self, context: str, one: str, many: str, count: int) -> str:
        """The text for this many, as the language counts."""
        forms = self.forms.get((context, one))
        return (one, many)[english_form(count)] if forms is None else forms[self.form(count)]


ENGLISH = Texts()
"""The language of the source."""
