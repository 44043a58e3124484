"""What can be done at a tap: a `tel:` link (RFC 3966) that calls back, and our own links about a voicemail.

Put into a text, or into a channel's URL, where the service can carry them. A call is only ever made of a number in
E.164, whatever else a caller wrote: of anything else, nothing is made. Our own links are told by their whole text,
which nobody else can write, for nobody else can sign them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, quote, urlsplit

from vmwatch.wording import Tap, Text, is_e164

Spell = Callable[[str], str]
"""How a text stands in a body: escaped, or with what a service would act on taken out."""

_PLAIN_WORDS = re.compile(r"[A-Za-z0-9 ]{1,40}")
_OTHERWISE = "Call back"


def in_markdown(body: str, number: str) -> str:
    return _linked(body, number, f"[{number}](tel:{number})")


def in_html(body: str, number: str) -> str:
    """`body` is HTML already."""
    return _linked(body, number, f'<a href="tel:{number}">{number}</a>')


def _linked(body: str, number: str, link: str) -> str:
    if not is_e164(number):
        return body
    return re.sub(rf"(?<![\w+!]){re.escape(number)}(?!\w)", link, body)


def spared(text: Text, spoilt: Spell) -> str:
    """The body with our own links whole again; what made it harmless did not spare them."""
    body = text.body
    for tap in text.taps:
        body = body.replace(spoilt(tap.url), tap.url)
    return body


def taps_in_markdown(text: Text) -> str:
    return _tapped(text, str, lambda tap: f"[{tap.label}]({tap.url})")


def taps_in_html(text: Text, escaped: Spell) -> str:
    """The body is HTML already, in which our words stand as `escaped` spells them."""
    return _tapped(text, escaped, lambda tap: f'<a href="{escaped(tap.url)}">{escaped(tap.label)}</a>')


def _tapped(text: Text, spelled: Spell, link: Callable[[Tap], str]) -> str:
    """`Acknowledge: URL`, and the URL alone as a template may have it, as one link."""
    body = text.body
    for tap in text.taps:
        said, bare = re.escape(spelled(f"{tap.label}: ")), re.escape(spelled(tap.url))
        made = link(tap)
        body = re.sub(f"(?:{said})?{bare}", lambda _, made=made: made, body)  # type: ignore[misc] # bound at once
    return body


def in_ntfy_url(url: str, text: Text) -> str:
    """The channel's URL, with a tap that calls and with buttons; what a person wrote there themselves stays."""
    wanted = {"click": f"tel:{text.call}"} if is_e164(text.call) and "click" not in _written(url) else {}
    if buttons := ntfy_buttons(url, text):
        wanted["actions"] = "; ".join(f"view, {tap.label}, {tap.url}" for tap in buttons)
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in wanted.items())
    return f"{url}{'&' if '?' in url else '?'}{added}" if added else url


def ntfy_buttons(url: str, text: Text) -> tuple[Tap, ...]:
    """Up to ntfy's three; none where a person wrote some into the URL.

    ntfy takes a button's label in a header: what is not ASCII is said in English.
    """
    if "actions" in _written(url):
        return ()
    call = (Tap(text.call_label, f"tel:{text.call}", _OTHERWISE),) if is_e164(text.call) else ()
    taps = (*call, *text.taps)
    return tuple(tap if _PLAIN_WORDS.fullmatch(tap.label) else replace(tap, label=tap.in_english) for tap in taps)


def _written(url: str) -> set[str]:
    return {name.lower() for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}


def without_lines(text: Text) -> Text:
    """The text without the lines of our own links, for they are buttons beside it."""
    body = text.body
    for tap in text.taps:
        body = body.replace(f"\n{tap.label}: {tap.url}", "")
    return replace(text, body=body)
