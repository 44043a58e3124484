"""The demo's two windows as HTML: the simulated phone, and the desk on which it lies beside the status page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

LONGEST_NAME = 60
"""Characters that a visitor may give as a name."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the phone's page tells."""

    done: str
    """What came of the last button; empty before the first."""
    new: int
    """Messages in Home's NEW box."""
    is_mistyped: bool
    is_down: bool


def desk(phone: str, status: str) -> str:
    """The two addresses side by side."""
    content = f"""
<header><h1>vmwatch demo</h1>
<p>Press something on the phone and see what vmwatch makes of it.
<a href="{escape(status)}">The status page alone</a></p>
</header>
<iframe src="{escape(phone)}" title="A simulated phone"></iframe>
<iframe src="{escape(status)}" title="vmwatch's status page"></iframe>"""
    return _page("vmwatch demo", "desk", content)


def phone(shown: Shown, token: str) -> str:
    done = f'<p class="done" role="status">{escape(shown.done)}</p>' if shown.done else ""
    forms = "\n".join(_form(*one, token) for one in _deeds(shown))
    content = f"""
<main class="case">
<h1>A simulated phone</h1>
<p>Nothing here is real. Once you press a button, the made-up callers leave the line to you.</p>
{done}
{forms}
</main>"""
    return _page("A simulated phone", "phone", content)


def _deeds(shown: Shown) -> Iterator[tuple[str, str, str, str]]:
    """Per form: its title, what stands below that, the act, and the button's words."""
    name = (
        "<label>Your name, if you like"
        f'<input name="name" maxlength="{LONGEST_NAME}" autocomplete="off" placeholder="somebody made up"></label>'
    )
    yield "Call Home", name, "leave", "Leave a voicemail"
    waiting = "nothing new" if not shown.new else "1 new message" if shown.new == 1 else f"{shown.new} new messages"
    yield "Home’s mailbox", f"<p>It holds {waiting}.</p>", "hear", "Listen to the latest one"
    if shown.is_mistyped:
        yield "The PIN is mistyped", "<p>Home waits for a person now.</p>", "correct", "Correct the PIN"
    else:
        limit = "<p>After three failed logins the operator locks a line.</p>"
        yield "Home’s PIN in vmwatch’s configuration", limit, "mistype", "Mistype the PIN"
    if shown.is_down:
        yield "The operator is down", "<p>It answers every poll with an error.</p>", "bring_up", "Operator up"
    else:
        yield "The operator", "<p>It works.</p>", "take_down", "Operator down"


def _form(title: str, content: str, act: str, words: str, token: str) -> str:
    return f"""<form method="post" action="/phone">
<h2>{title}</h2>
<input type="hidden" name="token" value="{escape(token)}">
{content}
<button name="act" value="{act}">{words}</button>
</form>"""


def _page(title: str, kind: str, content: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/phone.css">
</head>
<body class="{kind}">{content}
</body>
</html>
"""
