"""Calling back: a `tel:` link (RFC 3966) put into a text, or into a channel's URL, where the service can carry one.

A link is only ever made of a number in E.164, whatever else a caller wrote: of anything else, nothing is made.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlsplit

from vmwatch.wording import Text, is_e164

_PLAIN_WORDS = re.compile(r"[A-Za-z ]{1,40}")
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


def in_ntfy_url(url: str, text: Text) -> str:
    """The channel's URL, with a tap and a button that call; what a person wrote there themselves stays.

    ntfy takes a button's label in a header: what is not ASCII is said in English.
    """
    if not is_e164(text.call):
        return url
    label = text.call_label if _PLAIN_WORDS.fullmatch(text.call_label) else _OTHERWISE
    wanted = {"click": f"tel:{text.call}", "actions": f"view, {label}, tel:{text.call}"}
    written = {name.lower() for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in wanted.items() if name not in written)
    return f"{url}{'&' if '?' in url else '?'}{added}" if added else url
