"""The verb that writes a first configuration: init. It asks, tries, writes, and says how to go on."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from vmwatch import config, logs
from vmwatch.adopt import adopt
from vmwatch.channels import objection as object_to_url
from vmwatch.channels import prepare
from vmwatch.cli import desk, draft, placing
from vmwatch.cli.acting import whole_store
from vmwatch.cli.asking import Answers, ask
from vmwatch.cli.draft import CREDENTIALS, RECIPES, SERVICE_CONFIG, SERVICE_STORE, Draft, Question, Recipe
from vmwatch.cli.parser import Options
from vmwatch.cli.questions import ask as question
from vmwatch.cli.questions import ask_choice, can_ask
from vmwatch.cli.trying import send_test
from vmwatch.config.files import UnreadableError, read_secret
from vmwatch.errors import ConfigError, LedgerError, UsageError
from vmwatch.ledger import Ledger, path_of
from vmwatch.models import Alert, DeliveryState, Kind, LineState
from vmwatch.settings import Settings, is_shared, passwords_of

_UNITS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_PIN_BYTES = 64


async def init(options: Options) -> int:
    file = _target(options)
    _object_to_flags(options)
    given = _channels_given(options.channel_url_file)
    placing.refuse(file, (f"lines__{options.name}__pin", *(f"channels__{name}__url" for name in given)))
    prepare()
    try:
        drafted, in_trouble = await _Asking(options, file).draft(given)
    except KeyboardInterrupt:
        desk.say("\nStopped; nothing was written.")
        raise
    placing.write(file, drafted, object_to_url)
    desk.out().print(f"Written: {file}, and the secrets in {file.parent / CREDENTIALS}.", markup=False)
    if not options.no_online:
        in_trouble |= await _check(file, drafted)
    _say_how_to_go_on(file)
    return int(in_trouble)


def _target(options: Options) -> Path:
    if options.directory is not None and options.config is not None:
        raise UsageError("--directory and --config: give one of them")
    if options.directory is not None:
        return Path(options.directory, "config.toml")
    named = options.config or os.environ.get("VMWATCH_CONFIG")
    return Path(named) if named else SERVICE_CONFIG if os.geteuid() == 0 else Path("config.toml")


def _object_to_flags(options: Options) -> None:
    """What is wrong with what was given, all at once. Raises ConfigError, and UsageError for what is not given."""
    given = {"name": options.name, "label": options.label, "number": options.number, "base_url": options.base_url}
    against = {key: draft.objection(key, value) for key, value in given.items() if value is not None}
    if options.number is not None:
        against["number"] = draft.objection("number", draft.number(options.number))
    objections = tuple(f"--{key.replace('_', '-')}: {words}" for key, words in against.items() if words is not None)
    if objections:
        raise ConfigError(objections)
    if passwords_of(options.store or ""):
        raise UsageError(
            "--store: everybody on this machine may see a command's words: leave the password out, "
            f"and write it into {CREDENTIALS}/store__url afterwards"
        )
    wanted = {"--number": options.number, "--pin-file": options.pin_file or options.pin_stdin}
    missing = [flag for flag, value in (wanted | {"--channel-url-file": options.channel_url_file}).items() if not value]
    if missing and not can_ask():
        raise UsageError(f"there is no terminal to ask at: give {desk.listed(missing)} too (see `vmwatch init --help`)")


# ---- what was given ----


def _channels_given(entries: Iterable[str]) -> dict[str, str]:
    """URLs by name. Raises ConfigError."""
    channels: dict[str, str] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        name, file = (name, file) if equals else ("phone", entry)
        if name in channels:
            raise UsageError(f"--channel-url-file: there are two channels called {name}: give each its NAME=")
        channels[name] = _read(file, "--channel-url-file")
        against = draft.objection("name", name) or object_to_url(channels[name])
        if against is not None:
            raise ConfigError((f"--channel-url-file: {against}",))
    return channels


def _read(file: str, flag: str) -> str:
    try:
        return read_secret(Path(file))
    except UnreadableError as error:
        raise ConfigError((f"{flag}: {file} {error}",)) from None


def _pin_given(options: Options) -> str | None:
    if options.pin_file is not None:
        pin, flag = _read(options.pin_file, "--pin-file"), "--pin-file"
    elif options.pin_stdin:
        pin, flag = sys.stdin.readline(_PIN_BYTES).rstrip("\r\n"), "--pin-stdin"
    else:
        return None
    against = draft.objection("pin", pin)
    if against is not None:
        raise ConfigError((f"{flag}: {against.removesuffix(', in quotes')}",))
    return pin


# ---- what is asked ----


class _Asking:
    """One conversation; without a terminal it only puts together what was given."""

    def __init__(self, options: Options, file: Path) -> None:
        self._options = options
        self._file = file
        self._in_trouble = False

    async def draft(self, given: dict[str, str]) -> tuple[Draft, bool]:
        """What to write, and whether a channel is in trouble. Raises ConfigError, UsageError."""
        options = self._options
        pin = _pin_given(options)
        if options.number is None or pin is None or not given:
            desk.say(
                f"This writes {self._file} and the secrets' files beside it. Ctrl-C ends it, and nothing is written."
            )
        number = draft.number(options.number) if options.number is not None else _ask_number()
        pin = pin if pin is not None else _ask_pin()
        store = options.store or (SERVICE_STORE if self._file == SERVICE_CONFIG else None)
        channels = await self._given_tried(given) if given else await self._asked()
        return Draft(options.name, number, pin, channels, options.label, options.base_url, store), self._in_trouble

    async def _given_tried(self, channels: dict[str, str]) -> dict[str, str]:
        for name, url in channels.items():
            self._in_trouble |= await self._fails(name, url)
        return channels

    async def _asked(self) -> dict[str, str]:
        channels: dict[str, str] = {}
        while True:
            recipe = RECIPES[ask_choice("How do you want to be told?", [recipe.words for recipe in RECIPES])]
            name = self._free_name(recipe, channels)
            url = _ask_url(recipe)
            if await self._fails(name, url):
                if not _yes("Keep it all the same?"):
                    continue
                self._in_trouble = True
            channels[name] = url
            if not _yes("Is there somebody else to tell, or another way?"):
                return channels

    def _free_name(self, recipe: Recipe, taken: dict[str, str]) -> str:
        names = (recipe.name if place == 1 else f"{recipe.name}_{place}" for place in range(1, 1000))
        folder = self._file.parent / CREDENTIALS
        return next(name for name in names if name not in taken and not (folder / f"channels__{name}__url").exists())

    async def _fails(self, name: str, url: str) -> bool:
        """Whether a test alert did not get through; without a word if none is wanted."""
        if self._options.no_test:
            return False
        trouble = await _test(name, url)
        if trouble is None:
            desk.out().print(f"channel {name}: a test alert was sent", markup=False)
            return False
        desk.out().print(f"channel {name}: the test alert was not sent: {trouble}", markup=False)
        return True


def _ask_number() -> str:
    def against(answer: str) -> str | None:
        return draft.objection("number", draft.number(answer))

    return draft.number(question("Number of the line (+4571919998)", against=against))


def _ask_pin() -> str:
    def against(answer: str) -> str | None:
        words = draft.objection("pin", answer)
        return words and words.removesuffix(", in quotes")

    return question("PIN of its voicemail (not shown)", hidden=True, against=against)


def _ask_url(recipe: Recipe) -> str:
    """Ask until the answers make the URL of one channel."""
    while True:
        answers = {one.key: _ask_one(one) for one in recipe.questions}
        try:
            url = recipe.url(answers)
        except ValueError as error:
            desk.say(f"  {error}")
            continue
        against = object_to_url(url)
        if against is None:
            return url
        desk.say(f"  this {against}")


def _ask_one(one: Question) -> str:
    def against(answer: str) -> str | None:
        return None if answer or not one.needed else "is needed"

    words = f"{one.words} (not shown)" if one.hidden else one.words
    return question(words, default=one.default.format(random=secrets.token_hex(6)), hidden=one.hidden, against=against)


def _yes(words: str) -> bool:
    def against(answer: str) -> str | None:
        return None if answer.lower() in ("y", "yes", "n", "no") else "y or n"

    return question(f"{words} (y/n)", default="n", against=against).lower().startswith("y")


# ---- trying it ----


async def _test(name: str, url: str) -> str | None:
    """Send a test alert on the way that every alert goes, from a ledger made for it; what went wrong, if anything."""
    logs.set_up(logs.Redaction(frozenset({url}), (name,)), level="error")
    settings = Settings.model_validate({"channels": {name: {"url": url}}})
    with tempfile.TemporaryDirectory(prefix="vmwatch-init-") as folder:
        loaded = config.Loaded(settings, None, f"sqlite:///{folder}/vmwatch.db")
        ledger = await Ledger.open(loaded.store_url, create=True)
        try:
            await adopt(ledger, settings, await desk.now(ledger))
            alert_id = await ledger.outbox.owe(Alert(Kind.TEST, (name,)), await desk.now(ledger))
            (owed,) = await send_test(ledger, loaded, alert_id, (name,))
        finally:
            await ledger.close()
    return None if owed.state is DeliveryState.SENT else owed.last_error or "no answer in time"


async def _check(file: Path, drafted: Draft) -> bool:
    """Poll the line once, as `vmwatch check --online` does; returns whether there is trouble."""
    try:
        answers = await _polled(file, drafted.number)
    except (ConfigError, LedgerError, UsageError) as error:
        desk.out().print(f"The PIN was not tried: {error}", markup=False)
        return True
    except asyncio.CancelledError:
        desk.say("\nStopped; the files are written. See what became of the PIN: vmwatch status")
        raise
    answers.show()
    if any(line.state is LineState.REJECTED for line in answers.lines):
        secret = file.parent / CREDENTIALS / f"lines__{drafted.name}__pin"
        sentence = f"The PIN was tried once and is not tried again. Correct it in {secret}: that allows one more try."
        desk.out().print(sentence, markup=False)
    return bool(answers.status)


async def _polled(file: Path, number: str) -> Answers:
    loaded = desk.load(str(file))
    if not is_shared(loaded.store_url):
        path_of(loaded.store_url).parent.mkdir(mode=0o700, exist_ok=True)
    async with whole_store(loaded) as ledger:
        if (await ledger.daemon()).running:
            raise LedgerError("a vmwatch daemon runs on this store with another configuration; restart it")
        return await ask(ledger, loaded, (number,), deliver=False)


def _say_how_to_go_on(file: Path) -> None:
    for sentence in _next_steps(file, has_unit=any(Path(folder, "vmwatch.service").exists() for folder in _UNITS)):
        desk.out().print(sentence, markup=False)


def _next_steps(file: Path, *, has_unit: bool) -> list[str]:
    if file != SERVICE_CONFIG:
        return ["Next, watch:", f"  vmwatch --config {file} run"]
    unit = (
        []
        if has_unit
        else ["  vmwatch systemd-unit > /etc/systemd/system/vmwatch.service", "  systemctl daemon-reload"]
    )
    return ["Next, have it run as a service:", *unit, "  systemctl enable --now vmwatch", "  systemctl status vmwatch"]
