"""The shape of a configuration: every key, its default and what it may hold. Pure; `config` finds the values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import phonenumbers
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    create_model,
    model_validator,
)

from vmwatch import hours
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Duration, Kind, Privacy, Recipient

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_PIN = re.compile(r"[0-9]{4,10}")
_NAME = re.compile(r"[a-z0-9_]+")
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9a-z.]+)):([0-9]{1,5})")
_LAST_PORT = 65535
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_TOKEN = re.compile(r"[!-~]{16,200}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_NUMBERS = re.compile(r"\+[1-9][0-9]{0,13}\*")
WITHHELD, UNKNOWN = "withheld", "unknown"
_GROUPS = frozenset(kind.group for kind in Kind)
_KINDS = frozenset(kind.value for kind in Kind)
LONGEST: Duration = 36_500 * DAY
MOST_STEPS = 20
"""Of reminders, and of escalations, for one line."""
LONGEST_LABEL = 80
"""Characters."""


def duration(value: Any) -> Duration:
    """`"90s"`, `"1h30m"`, or a number of seconds, as milliseconds. Raises ValueError with a sentence."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError('must be a duration such as "90s", "5m" or "1h30m", or a number of seconds')
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        found = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(value))
    else:
        found = _seconds(value) * SECOND
    if not 0 <= found <= LONGEST:
        raise ValueError("must be a duration from 0 to 100 years")
    return round(found)


def _seconds(value: int | float | str) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
    except ValueError:
        raise ValueError('must be a duration such as "90s", "5m" or "1h30m", or a number of seconds') from None


def spelled(span: Duration) -> str:
    """Milliseconds as people write them: `"1h30m"`. `duration` reads it back."""
    parts = []
    for unit, size in sorted(_UNITS.items(), key=lambda unit: -unit[1]):
        count, span = divmod(span, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def _at_least(least: Duration, words: str) -> Callable[[Any], Duration]:
    def bounded(value: Any) -> Duration:
        found = duration(value)
        if found < least:
            raise ValueError(f"must be at least {words}")
        return found

    return bounded


def _e164(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\+[1-9][0-9]{4,14}", value):
        raise ValueError('must be a number in E.164 form, like "+4571919998"')
    if not _is_possible(value):
        raise ValueError("is not a possible phone number: check its country code and its length")
    return value


def _is_possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


def _pin(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not _PIN.fullmatch(text):
        raise ValueError("must be 4 to 10 digits, in quotes")
    return SecretStr(text)


def _event(value: Any) -> str:
    if not isinstance(value, str) or value not in _GROUPS | _KINDS:
        raise ValueError(f"must be one of {', '.join(sorted(_GROUPS | _KINDS))}")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or "__" in value:
        raise ValueError("a name is made of a-z, 0-9 and _ (never two _ in a row)")
    return value


def _label(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        raise ValueError("must not have control characters or line breaks")
    if len(value) > LONGEST_LABEL:
        raise ValueError(f"must be at most {LONGEST_LABEL} characters")
    return value.strip()


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("must not be empty")
    return value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _base_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('must be a URL such as "https://operator.example.com"')
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or a password")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("must be https, for the PIN travels in the URL (http only for 127.0.0.1, ::1 or localhost)")
    return value.rstrip("/")


def _split(url: str) -> SplitResult:
    """Raises ValueError with a sentence; urllib's own words would repeat the URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only to have it checked
    except ValueError:
        raise ValueError("has an impossible host or port") from None
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must not have blanks, backslashes or control characters")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return any(ip_address(host) in network for network in _LOOPBACK)
    except ValueError:
        return host == "localhost"


def _store_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    if is_shared(url):
        _check_postgres(url)
    elif url.startswith(_SQLITE) and url.isprintable():
        _check_sqlite(url)
    else:
        raise ValueError('must be like "sqlite:///vmwatch.db" or "postgresql://db.example.com/vmwatch"')
    return secret


def is_shared(store_url: str) -> bool:
    """Whether several processes may share the store; such a URL may hold a password, and is treated as a secret."""
    return store_url.startswith(_POSTGRES)


def _check_sqlite(value: str) -> None:
    file = value.removeprefix(_SQLITE)
    if not file or file.endswith(("/", "/.", "/..")) or file in (".", "..", ":memory:"):
        raise ValueError("must name a file")
    if "?" in file:
        raise ValueError('takes no options after "?"')


def _check_postgres(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has an impossible host") from None
    if not url.isprintable() or " " in url:
        raise ValueError("must not have blanks or control characters")
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.query or "#" in url:
        raise ValueError('has special characters in its password: write "@" as %40, "/" as %2F, "?" as %3F, "#" as %23')
    if not parts.path.strip("/") and "database" not in dict(parse_qsl(parts.query)):
        raise ValueError('must name a database, like "postgresql://db.example.com/vmwatch"')


def passwords_of(store_url: str) -> frozenset[str]:
    """What is secret in a store's URL, as it is written there and as it is meant."""
    if not is_shared(store_url):
        return frozenset()
    parts = urlsplit(store_url)
    login = parts.netloc.rpartition("@")[0].partition(":")[2]
    asked = [value for name, value in parse_qsl(parts.query) if "pass" in name and name != "passfile"]
    return frozenset(filter(None, (login, unquote(login), *asked)))


def address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8480` or `[::1]:8480` as host and port. Raises ValueError with a sentence."""
    found = _ADDRESS.fullmatch(listen)
    host, port = ((found[1] or found[2]), int(found[3])) if found else ("", 0)
    if not _is_address(host) or port > _LAST_PORT:
        raise ValueError('must be an address and a port, like "127.0.0.1:8480" or "[::1]:8480" ("" turns it off)')
    return host, port


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _listen(value: str) -> str:
    if value:
        address(value)
    return value


def _token(value: SecretStr | None, known: ValidationInfo) -> SecretStr | None:
    listen = known.data.get("listen")
    if value is None and listen and not _is_loopback(address(listen)[0]):
        raise ValueError(
            "is missing (or give token_file): who is let in from other machines must know one; "
            "make it with: openssl rand -hex 16"
        )
    if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("must be 16 to 200 letters, digits or signs, without blanks")
    return value


def _ping_url(value: SecretStr | None) -> SecretStr | None:
    parts = _split(value.get_secret_value()) if value is not None else None
    if parts is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError('must be a URL such as "https://hc-ping.com/your-uuid"')
    return value


def _region(value: Any) -> str:
    if not isinstance(value, str) or value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError('must be a country in two letters, like "DK"')
    return value.upper()


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be the name of a file, in quotes")
    return value


def _dav_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            'must be an address book\'s URL, like "https://cloud.example.com/dav/addressbooks/me/contacts/"'
        )
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or a password: set user and password")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("must be https, for the password travels with it (http only for 127.0.0.1, ::1 or localhost)")
    return value


def _window(value: Any) -> hours.Window:
    if not isinstance(value, str):
        raise ValueError('must be text such as "22:00-07:00"')
    return hours.window(value)


def _leaving_time(value: tuple[hours.Window, ...]) -> tuple[hours.Window, ...]:
    if value and hours.covers_the_week(value):
        raise ValueError("covers the whole week: no alert would ever be sent")
    return value


def _time_of_day(value: Any) -> TimeOfDay:
    if not isinstance(value, str):
        raise ValueError('must be a time such as "08:00"')
    return TimeOfDay(hours.clock(value) % hours.DAY_OF_MINUTES)


def _budget(value: Any) -> Budget:
    count, slash, span = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or not _COUNT.fullmatch(count.strip()):
        raise ValueError('must be like "20/1h": at most so many alerts in so long')
    return Budget(int(count), _at_least(MINUTE, '"1m"')(span.strip()))


def _reminder(value: Any) -> Reminder:
    if isinstance(value, str) and value.startswith("next "):
        return Reminder(at=hours.clock(value.removeprefix("next ").strip()) % hours.DAY_OF_MINUTES)
    return Reminder(after=_at_least(MINUTE, '"1m"')(value))


def _later_each(value: tuple[Reminder, ...]) -> tuple[Reminder, ...]:
    waits = [step.after for step in value if step.at is None]
    if waits != sorted(set(waits)) or any(step.at is not None for step in value[: len(waits)]):
        raise ValueError('must be in order: first waits such as "30m", "2h", then times such as "next 08:00"')
    return value


def _longer_each(value: tuple[Escalation, ...]) -> tuple[Escalation, ...]:
    waits = [step.after for step in value]
    if waits != sorted(set(waits)):
        raise ValueError("must be in order: each one's after is longer than that of the one before")
    return value


def _callers(value: Any) -> str:
    if value in (WITHHELD, UNKNOWN) or (isinstance(value, str) and _NUMBERS.fullmatch(value)):
        return str(value)
    if not isinstance(value, str) or not value.startswith("+"):
        raise ValueError('must be a number like "+4571919998", a beginning like "+4570*", "withheld" or "unknown"')
    return _e164(value)


def _host_name(value: Any) -> str:
    if not isinstance(value, str) or not _HOST_NAME.fullmatch(value):
        raise ValueError('must be a host\'s name without a port, like "vmwatch.example.com"')
    return value.lower()


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


@dataclass(frozen=True, slots=True)
class Reminder:
    """So long after the alert, or at the next time of day `at`."""

    after: Duration = 0
    at: hours.Minute | None = None

    def __str__(self) -> str:
        return spelled(self.after) if self.at is None else f"next {self.at // 60:02}:{self.at % 60:02}"


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    minute: hours.Minute

    def __str__(self) -> str:
        return f"{self.minute // 60:02}:{self.minute % 60:02}"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `count` alerts in any time as long as `span`."""

    count: int
    span: Duration

    def __str__(self) -> str:
        return f"{self.count}/{spelled(self.span)}"


_SPELLED = PlainSerializer(spelled, return_type=str, when_used="json")
_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json-unless-none")
_HIDDEN = PlainSerializer(lambda _: "<secret>", return_type=str, when_used="json-unless-none")

Span = Annotated[Duration, BeforeValidator(duration), _SPELLED]
Wait = Annotated[Duration, BeforeValidator(_at_least(1, "1ms")), _SPELLED]
Interval = Annotated[Duration, BeforeValidator(_at_least(SECOND, '"1s": every poll is a login')), _SPELLED]
Leisure = Annotated[Duration, BeforeValidator(_at_least(MINUTE, '"1m"')), _SPELLED]
Name = Annotated[str, BeforeValidator(_name)]
QuietWindow = Annotated[hours.Window, BeforeValidator(_window), PlainSerializer(str, return_type=str, when_used="json")]
ReminderStep = Annotated[Reminder, BeforeValidator(_reminder), PlainSerializer(str, return_type=str, when_used="json")]


class _Table(BaseModel):
    # hide_input_in_errors: a ValidationError prints what it refused, and that may be a PIN.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Backoff(_Table):
    initial: Wait
    max: Wait

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.initial:
            raise ValueError("max must not be shorter than initial")
        return self


class ErrorBackoff(Backoff):
    initial: Wait = 30 * SECOND
    max: Wait = 15 * MINUTE


class LockoutBackoff(Backoff):
    initial: Wait = HOUR
    max: Wait = 24 * HOUR


class Operator(_Table):
    base_url: Annotated[str, AfterValidator(_base_url)] = "https://api.telecomx.dk"
    timeout: Wait = 20 * SECOND
    """One request, in total."""
    concurrency: Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=1000)] = 20
    """Requests under way at once."""


class Polling(_Table):
    interval: Interval = MINUTE
    jitter: Annotated[float, BeforeValidator(_no_truth), Field(ge=0, le=0.5)] = 0.1
    first_poll: Literal["summary", "each", "silent"] = "summary"
    error_backoff: ErrorBackoff = ErrorBackoff()
    lockout_backoff: LockoutBackoff = LockoutBackoff()
    unreachable_after: Span = 30 * MINUTE


class Retry(Backoff):
    initial: Wait = 10 * SECOND
    max: Wait = 6 * HOUR
    give_up_after: Wait = 7 * DAY


class DeliveryPolicy(_Table):
    timeout: Wait = 30 * SECOND
    """One attempt on one channel."""
    retry: Retry = Retry()


class Store(_Table):
    url: Annotated[SecretStr, AfterValidator(_store_url), _HIDDEN] = SecretStr("sqlite:///vmwatch.db")
    keep: Span = 365 * DAY


class Web(_Table):
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8480"
    """Empty: nothing is listened on."""
    token: Annotated[SecretStr | None, AfterValidator(_token), Field(validate_default=True), _HIDDEN] = None
    """Asked of everyone, where there is one."""
    hosts: tuple[Annotated[str, BeforeValidator(_host_name)], ...] = ()
    """Names by which it may be asked, besides addresses and localhost."""

    @property
    def is_asked_for(self) -> bool:
        """Whether a person wrote the address, so that going on without it would not be what they want."""
        return "listen" in self.model_fields_set

    @property
    def address(self) -> tuple[str, int]:
        return address(self.listen)


class Alerts(_Table):
    language: str = "en"
    timezone: str | None = None
    """A name such as `Europe/Copenhagen`; None: the machine's own."""


class LifeSign(_Table):
    url: Annotated[SecretStr | None, AfterValidator(_ping_url), _HIDDEN] = None
    """None: nobody is pinged."""


class Template(_Table):
    """What is said in place of the built-in words, in Jinja2's language; None: those."""

    title: str | None = None
    body: str | None = None


def _templates(kinds: Sequence[str]) -> type[_Table]:
    """A table with a template for each kind, those with a dot in a table of their group: `templates.voicemail.new`."""
    fields: dict[str, Any] = {kind: (Template, Template()) for kind in kinds if kind and "." not in kind}
    for group in dict.fromkeys(kind.partition(".")[0] for kind in kinds if "." in kind):
        inner = _templates([kind.partition(".")[2] for kind in kinds if kind.startswith(f"{group}.")])
        fields[group] = (inner, inner())
    return create_model("Templates", __base__=_Table, **fields)


Templates = _templates([kind.value for kind in Kind])


class Escalation(_Table):
    after: Leisure
    channels: Annotated[tuple[str, ...], Field(min_length=1)]


class CardDav(_Table):
    url: Annotated[str | None, AfterValidator(lambda value: value and _dav_url(value))] = None
    """Of one address book. None: there is none."""
    user: str | None = None
    password: Annotated[SecretStr | None, _HIDDEN] = None
    interval: Leisure = HOUR

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is None and (self.user is not None or self.password is not None):
            raise ValueError("url is missing: set the address book's URL")
        if (self.user is None) != (self.password is None):
            raise ValueError("set both user and password (or password_file), or neither")
        if self.user is not None and ":" in self.user:
            raise ValueError('user must not have a ":"')
        return self


class Contacts(_Table):
    vcards: tuple[Annotated[str, BeforeValidator(_file_name)], ...] = ()
    """Files, seen from the configuration's folder."""
    default_region: Annotated[str | None, BeforeValidator(_region)] = None
    """The country of numbers without one. None: that of most lines."""
    carddav: CardDav = CardDav()


@dataclass(frozen=True, slots=True)
class ContactSources:
    """Where the address book comes from, with absolute paths."""

    vcards: tuple[str, ...] = ()
    region: str = ""
    carddav: CardDav = field(default_factory=CardDav)
    cache: str = ""
    """The file that what CardDAV brought is kept in."""


class Channel(_Table):
    url: Annotated[SecretStr, AfterValidator(_not_empty), _HIDDEN]
    events: tuple[Annotated[str, BeforeValidator(_event)], ...] = ("voicemail", "line", "channel")
    language: str | None = None
    """None: alerts.language."""
    timezone: str | None = None
    """None: alerts.timezone."""
    privacy: Privacy = Privacy.FULL
    templates: Templates = Templates()  # type: ignore[valid-type]
    quiet: Annotated[tuple[QuietWindow, ...], AfterValidator(_leaving_time)] = ()
    """When alerts are held, in the channel's time zone."""
    digest: Annotated[TimeOfDay | None, BeforeValidator(_or_none(_time_of_day)), _AS_TEXT] = None
    """When voicemails are told, all at once; None: each at once."""
    budget: Annotated[Budget | None, BeforeValidator(_or_none(_budget)), _AS_TEXT] = None
    """None: as many as there are."""
    urgent: tuple[Annotated[str, BeforeValidator(_event)], ...] = ()
    """Kinds or groups that are never held."""

    def template(self, kind: Kind) -> Template:
        return reduce(getattr, kind.value.split("."), self.templates)


class Callers(_Table):
    """A group of callers, and what becomes of their messages."""

    numbers: tuple[Annotated[str, BeforeValidator(_callers)], ...] = ()
    """E.164, beginnings (`+4570*`), `withheld`, `unknown`."""
    in_contacts: bool = False
    channels: tuple[str, ...] | None = None
    """None: the line's."""
    urgent: bool = False
    mute: bool = False
    min_length: Span = 0
    """Shorter messages are noted, but not announced."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.numbers and not self.in_contacts:
            raise ValueError("has no callers: set numbers, or in_contacts = true")
        if self.mute and self.urgent:
            raise ValueError("set mute or urgent, not both")
        return self


class Line(_Table):
    number: Annotated[str, BeforeValidator(_e164)]
    pin: Annotated[SecretStr, BeforeValidator(_pin), _HIDDEN]
    label: Annotated[str, AfterValidator(_label)] = ""
    """What people see; `Settings.label_of` falls back to the name."""
    channels: tuple[str, ...] | None = None
    """None: every channel."""
    interval: Interval | None = None
    """None: polling.interval."""
    enabled: bool = True
    remind: Annotated[tuple[ReminderStep, ...], Field(max_length=MOST_STEPS), AfterValidator(_later_each)] = ()
    """When a message that nobody has heard is told again."""
    escalate: Annotated[tuple[Escalation, ...], Field(max_length=MOST_STEPS), AfterValidator(_longer_each)] = ()
    """Who else is told of it."""

    @property
    def follows(self) -> bool:
        return bool(self.remind or self.escalate)


class Settings(_Table):
    """A whole, accepted configuration."""

    operator: Operator = Operator()
    polling: Polling = Polling()
    delivery: DeliveryPolicy = DeliveryPolicy()
    store: Store = Store()
    web: Web = Web()
    alerts: Alerts = Alerts()
    heartbeat: LifeSign = LifeSign()
    contacts: Contacts = Contacts()
    channels: dict[Name, Channel] = {}
    callers: dict[Name, Callers] = {}
    lines: dict[Name, Line] = {}

    def language_of(self, channel: str) -> str:
        return self.channels[channel].language or self.alerts.language

    def timezone_of(self, channel: str) -> str | None:
        return self.channels[channel].timezone or self.alerts.timezone

    def label_of(self, name: str) -> str:
        return self.lines[name].label or name

    def interval_of(self, name: str) -> Duration:
        return self.lines[name].interval or self.polling.interval

    def recipients_of(self, name: str) -> tuple[Recipient, ...]:
        """The channels of a line, in the order of the configuration."""
        wanted = self.lines[name].channels
        return tuple(recipient for recipient in self.recipients() if wanted is None or recipient.name in wanted)

    def recipients(self) -> tuple[Recipient, ...]:
        return tuple(Recipient(name, channel.events) for name, channel in self.channels.items())
