"""HTML by Jinja2, which escapes whatever comes from outside; drawn anew only where something changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vmwatch.ledger import DaemonView
from vmwatch.models import LineState
from vmwatch.shapes import IN_TROUBLE
from vmwatch.texts import Texts
from vmwatch.web.needs import needs
from vmwatch.web.rows import LINES, Words
from vmwatch.web.sight import Sight
from vmwatch.web.view import View

FOLDER = Path(__file__).parent / "templates"
MOST_REMEMBERED = 4000
"""Pieces that are kept to be used again: those of some pages of lines in every language."""


@dataclass(frozen=True)
class Parts:
    """The page's pieces that change, by the id of the element that each is the inside of."""

    sections: Mapping[str, str]
    rows: Mapping[str, str]
    """Of the lines' table, which is itself one of the sections."""
    frame: Hashable
    """What of that table stands around its rows."""

    @cached_property
    def version(self) -> str:
        whole = "\0".join(f"{id_}\0{html}" for id_, html in sorted(self.sections.items()))
        return blake2b(whole.encode(), digest_size=9).hexdigest()

    def changed(self, before: Parts) -> dict[str, str]:
        """What has to be put in place to make these of those; single rows where that will do."""
        sections = {id_: html for id_, html in self.sections.items() if before.sections.get(id_) != html}
        if "lines" in sections and self.frame == before.frame and [*self.rows] == [*before.rows]:
            del sections["lines"]
            sections |= {id_: html for id_, html in self.rows.items() if before.rows[id_] != html}
        return sections


class Drawing:
    def __init__(self, texts: Callable[[str], Texts], zone: tzinfo) -> None:
        self._texts = texts
        self._zone = zone
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._drawn: dict[Hashable, tuple[Hashable, str]] = {}

    def whole(self, template: str, language: str, **values: Any) -> str:
        """A template on its own."""
        t = self._texts(language)
        return self._environment.get_template(template).render(
            _=t.gettext, ngettext=t.ngettext, pgettext=t.pgettext, language=language, **values
        )

    def parts(self, sight: Sight, view: View) -> Parts:
        words = Words(self._texts(view.language), self._zone)
        pages = max(1, -(-len(sight.lines) // LINES))
        page = min(view.page, pages)
        shown = sight.lines[(page - 1) * LINES : page * LINES]
        rows = {
            f"line-{line.name}": self._part(view, f"line-{line.name}", "line.html", row=words.line(line, sight))
            for line in shown
        }
        labels = {line.name: line.label for line in sight.lines}
        messages = tuple(words.message(message, labels, sight) for message in sight.messages)
        of_channels = tuple(words.channel(channel, sight.until) for channel in sight.channels)
        dead = tuple(words.dead(owed, labels, sight.until) for owed in sight.dead)
        frame = page, pages, len(sight.lines), sum(line.state is LineState.OK for line in sight.lines)
        sections = {
            "needs": self._part(view, "needs", "needs.html", needs=needs(sight, words.t)),
            "news": self._part(view, "news", "news.html", latest=messages[0] if messages else None),
            "summary": self._part(view, "summary", "summary.html", summary=_summary(sight)),
            "lines": self._lines(view, rows, frame),
            "messages": self._part(view, "messages", "messages.html", messages=messages),
            "channels": self._part(view, "channels", "channels.html", channels=of_channels),
            "dead": self._part(view, "dead", "dead.html", dead=dead),
        }
        return Parts(sections, rows, frame)

    def _lines(self, view: View, rows: Mapping[str, str], frame: tuple[int, int, int, int]) -> str:
        page, pages, count, read = frame
        marked = [(id_, Markup(html)) for id_, html in rows.items()]  # noqa: S704 - drawn, and escaped, just before
        return self.whole("lines.html", view.language, rows=marked, page=page, pages=pages, count=count, read=read)

    def _part(self, view: View, id_: str, template: str, **values: Hashable) -> str:
        key, content = (view.language, id_), tuple(values.values())
        found = self._drawn.get(key)
        if found is not None and found[0] == content:
            return found[1]
        html = self.whole(template, view.language, **values)
        if len(self._drawn) >= MOST_REMEMBERED:
            self._drawn.clear()
        self._drawn[key] = content, html
        return html


@dataclass(frozen=True, slots=True)
class _Summary:
    daemon: DaemonView
    count: int
    read: int
    troubled: int


def _summary(sight: Sight) -> _Summary:
    states: Iterable[LineState] = [line.state for line in sight.lines]
    return _Summary(
        sight.daemon,
        len(sight.lines),
        sum(state is LineState.OK for state in states),
        sum(state in IN_TROUBLE for state in states),
    )
