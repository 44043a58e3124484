"""What somebody wants to see of the page: in which language, and which part of many lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmwatch.errors import UsageError
from vmwatch.web.asked import Request
from vmwatch.web.session import cookie_of

MOST_PAGES = 10_000
LANGUAGE = "vmwatch_language"


@dataclass(frozen=True, slots=True)
class View:
    language: str = "en"
    page: int = 1
    """Of the lines, from 1."""

    @property
    def query(self) -> str:
        return f"?lang={self.language}" + (f"&page={self.page}" if self.page > 1 else "")


def view_of(request: Request, languages: Sequence[str], known: Sequence[str] = ()) -> View:
    """What a request asks to see. Besides `lang` and `page`, `known` may stand behind the ?. Raises UsageError."""
    given = dict(request.query)
    if len(given) < len(request.query) or not given.keys() <= {"lang", "page", *known}:
        raise UsageError("this is not understood behind the ?; what is: lang, page")
    language = given.get("lang") or language_of(request, languages)
    if language not in languages:
        raise UsageError(f"lang: must be one of {', '.join(languages)}")
    return View(language, _page(given.get("page", "1")))


def language_of(request: Request, languages: Sequence[str]) -> str:
    """The one that was chosen before, or the one that the browser likes best."""
    return preferred(request.languages, languages, cookie_of(request.cookie, LANGUAGE))


def _page(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= MOST_PAGES:
        raise UsageError(f"page: must be a whole number from 1 to {MOST_PAGES}")
    return number


def preferred(header: str, languages: Sequence[str], chosen: str = "") -> str:
    """The language chosen before, or of those that the browser names (Accept-Language) the one it likes best."""
    if chosen in languages:
        return chosen
    liked = [_liked(part) for part in header.lower().split(",")[:20]]
    ranked = sorted((one for one in liked if one[1] > 0), key=lambda one: -one[1])
    return next((tag for tag, _ in ranked if tag in languages), languages[0])


def _liked(part: str) -> tuple[str, float]:
    """`da-DK;q=0.8` → da, 0.8"""
    tag, _, weight = part.strip().partition(";q=")
    try:
        liking = float(weight or 1)
    except ValueError:
        liking = 0.0
    return tag.strip().partition("-")[0], liking
