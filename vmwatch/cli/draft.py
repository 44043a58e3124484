"""What `vmwatch init` writes, as text: the configuration's TOML, and channels' URLs by recipes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from vmwatch.settings import Settings, is_shared

CREDENTIALS = "credentials"
"""The folder of the secrets' files, beside the configuration; the files are named as systemd's credentials are."""
SERVICE_CONFIG = Path("/etc/vmwatch/config.toml")
SERVICE_STORE = "sqlite:////var/lib/vmwatch/vmwatch.db"
"""Where the service has its store; said in its configuration, so that a person's verbs look there too."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TLS_PORT = "465"
_SLACK = re.compile(r"(?:https://hooks\.slack\.com/services/)?(\w+)/(\w+)/(\w+)/?")
_BOT_TOKEN = re.compile(r"(?:bot)?(\d+):([\w-]+)")
_ANY_LINE = {"number": "+4571919998", "pin": "0000"}
_BLANKS = re.compile(r"[\s\u00a0.()/-]+")

Answers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that makes a first configuration."""

    name: str
    number: str
    pin: str = field(repr=False)
    channels: Mapping[str, str] = field(repr=False)
    """URLs by name."""
    label: str = ""
    base_url: str | None = None
    store_url: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> dict[str, str]:
        """What each secret's file holds, by its name."""
        urls = {f"channels__{name}__url": url for name, url in self.channels.items()}
        store = {"store__url": self.store_url} if self.store_url and is_shared(self.store_url) else {}
        return {f"lines__{self.name}__pin": self.pin, **urls, **store}


def config_text(draft: Draft) -> str:
    """The configuration's file: no secret is in it."""
    tables: dict[str, Mapping[str, str | None]] = {
        f"lines.{draft.name}": _line(draft),
        **{f"channels.{name}": {"url_file": f"{CREDENTIALS}/channels__{name}__url"} for name in draft.channels},
        "operator": {"base_url": draft.base_url},
        "store": _store(draft),
    }
    return "\n".join([_HEAD, *(_table(name, values) for name, values in tables.items() if any(values.values()))])


_HEAD = f"""\
# What vmwatch watches, and whom it tells. config.example.toml explains every key there is.
# The secrets are in {CREDENTIALS}/, a file each, which nobody else may read.
"""


def _line(draft: Draft) -> dict[str, str | None]:
    return {"number": draft.number, "label": draft.label, "pin_file": f"{CREDENTIALS}/lines__{draft.name}__pin"}


def _store(draft: Draft) -> dict[str, str | None]:
    if "store__url" in draft.secrets:
        return {"url_file": f"{CREDENTIALS}/store__url"}
    return {"url": draft.store_url}


def _table(name: str, values: Mapping[str, str | None]) -> str:
    return "".join([f"[{name}]\n", *(f"{key} = {toml_string(value)}\n" for key, value in values.items() if value)])


def toml_string(text: str) -> str:
    """JSON's way to quote is TOML's too, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# ---- what the configuration would say ----


def objection(key: str, value: str) -> str | None:
    """What the configuration has against a line's `name`, `number`, `pin` or `label`, or the operator's `base_url`."""
    name = value if key == "name" else "home"
    line = _ANY_LINE | ({key: value} if key in ("number", "pin", "label") else {})
    operator = {"base_url": value} if key == "base_url" else {}
    try:
        Settings.model_validate({"lines": {name: line}, "operator": operator})
    except ValidationError as error:
        return str(error.errors(include_input=False, include_url=False)[0]["ctx"]["error"])
    return None


def number(text: str) -> str:
    """A number as people write it, without what they put between its digits."""
    return _BLANKS.sub("", text)


# ---- channels ----


@dataclass(frozen=True, slots=True)
class Question:
    key: str
    words: str
    default: str = ""
    hidden: bool = False
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    """The channel's name, where it is the first of its kind."""
    words: str
    questions: tuple[Question, ...]
    url: Callable[[Answers], str]
    """Raises ValueError with a sentence that has no answer in it."""


def _ntfy(answers: Answers) -> str:
    server, topic = answers["server"].strip(), answers["topic"].strip("/ ")
    scheme, _, host = server.rpartition("://")
    login = _login(answers["user"], answers["password"])
    if host.strip("/") == "ntfy.sh" and not login:
        return f"ntfys://{_quoted(topic)}"
    return f"{'ntfy' if scheme == 'http' else 'ntfys'}://{login}{host.strip('/')}/{_quoted(topic)}"


def _login(user: str, password: str) -> str:
    return f"{_quoted(user)}:{_quoted(password)}@" if user else ""


def _mail(answers: Answers) -> str:
    host, _, port = answers["server"].strip().partition(":")
    if not re.fullmatch(r"[\w.-]+", host) or not re.fullmatch(r"\d*", port):
        raise ValueError("the mail server must be like smtp.example.com or smtp.example.com:465")
    plain = host in _LOOPBACK
    mode = "insecure" if plain else "ssl" if port == _TLS_PORT else "starttls"
    login = {"user": answers["user"], "pass": answers["password"]} if answers["user"] else {}
    addresses = {"from": answers["from"] or answers["user"], "to": answers["to"]}
    if not all("@" in address for address in addresses.values()):
        raise ValueError("both addresses must be like you@example.com")
    query = {"smtp": host, "mode": mode, **login, **addresses}
    options = "&".join(f"{key}={_quoted(value)}" for key, value in query.items())
    return f"{'mailto' if plain else 'mailtos'}://{host}{':' + port if port else ''}/?{options}"


def _slack(answers: Answers) -> str:
    found = _SLACK.fullmatch(answers["webhook"].strip())
    if found is None:
        raise ValueError("must be like https://hooks.slack.com/services/T…/B…/…")
    return f"slack://{found[1]}/{found[2]}/{found[3]}"


def _telegram(answers: Answers) -> str:
    found = _BOT_TOKEN.fullmatch(answers["token"].strip())
    if found is None:
        raise ValueError("the bot's token must be like 123456789:AAE…, as @BotFather told it")
    return f"tgram://{found[1]}:{found[2]}/{_quoted(answers['chat'].strip())}"


def _other(answers: Answers) -> str:
    return answers["url"].strip()


def _quoted(text: str) -> str:
    """With every special character as a URL has it, `@` as `%40`."""
    return quote(text, safe="")


RECIPES = (
    Recipe(
        "ntfy",
        "ntfy: push to a phone, without an account",
        (
            Question(
                "topic", "Topic, which nobody must guess; subscribe to it in the ntfy app", default="vmwatch-{random}"
            ),
            Question("server", "Server", default="ntfy.sh"),
            Question("user", "User there (none: Enter)", needed=False),
            Question("password", "Password there (none: Enter)", hidden=True, needed=False),
        ),
        _ntfy,
    ),
    Recipe(
        "mail",
        "e-mail",
        (
            Question("server", "Mail server (smtp.example.com, or with a port smtp.example.com:465)"),
            Question("user", "User there, often the address (none: Enter)", needed=False),
            Question("password", "Password, often an app password (none: Enter)", hidden=True, needed=False),
            Question("from", "From which address (Enter: the user)", needed=False),
            Question("to", "To which address"),
        ),
        _mail,
    ),
    Recipe("slack", "Slack", (Question("webhook", "Address of an incoming webhook", hidden=True),), _slack),
    Recipe(
        "telegram",
        "Telegram",
        (Question("token", "The bot's token", hidden=True), Question("chat", "The chat's id")),
        _telegram,
    ),
    Recipe("phone", "any other Apprise URL", (Question("url", "Apprise URL", hidden=True),), _other),
)
