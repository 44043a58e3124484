"""`vmwatch init`: what it asks, tries and writes; and that it writes whole or nothing, and never over anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import apprise
import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import MailServer, Webhook, closed_port
from world import PATIENCE_S, PIN, WRONG_PIN, Ran, World, number_of, until, world_in

from vmwatch import config
from vmwatch.channels import asset, objection
from vmwatch.cli import beginning, draft, placing
from vmwatch.cli.draft import RECIPES, Draft
from vmwatch.errors import UsageError

NUMBER = number_of(0)
SECRET_PATH = "wren-of-the-north-7261"
NASTY = "p@ss/:&%w+ #?=ü'\"\\"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.operator.add_line(NUMBER, PIN)
        found.numbers["home"] = NUMBER
        (tmp_path / "pin").write_text(f"{PIN}\n")
        (tmp_path / "wrong").write_text(f"{WRONG_PIN}\n")
        yield found


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        (tmp_path / "url").write_text(f"{webhook.url}{SECRET_PATH}\n")
        yield webhook


def flags(world: World, pin: str = "pin", url: str = "url", **more: str) -> list[str]:
    given = {"directory": "new", "number": NUMBER, "pin-file": pin, "channel-url-file": url} | more
    given["base-url"] = world.operator.base_url
    return ["init", *(part for flag, value in given.items() for part in (f"--{flag}", value))]


async def init(world: World, *arguments: str) -> Ran:
    return await world.vmwatch(*arguments, config=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- the text of it ----


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_the_toml_that_it_is_written_as(text: str) -> None:
    assert tomllib.loads(f"key = {draft.toml_string(text)}") == {"key": text}


def test_the_file_says_what_was_given_and_no_secret() -> None:
    drafted = Draft(
        "home", NUMBER, PIN, {"phone": f"json://{SECRET_PATH}/"}, 'Mette\'s "H\\ome"', None, "sqlite:///x.db"
    )
    text = draft.config_text(drafted)
    assert tomllib.loads(text) == {
        "lines": {"home": {"number": NUMBER, "label": 'Mette\'s "H\\ome"', "pin_file": "credentials/lines__home__pin"}},
        "channels": {"phone": {"url_file": "credentials/channels__phone__url"}},
        "store": {"url": "sqlite:///x.db"},
    }
    assert PIN not in text
    assert SECRET_PATH not in text + repr(drafted)


def test_a_shared_stores_url_is_written_as_a_secret() -> None:
    url = f"postgresql://vmwatch:{SECRET_PATH}@db.example.com/vmwatch"
    drafted = Draft("home", NUMBER, PIN, {}, "", None, url)
    assert drafted.secrets["store__url"] == url
    assert tomllib.loads(draft.config_text(drafted))["store"] == {"url_file": "credentials/store__url"}
    assert SECRET_PATH not in draft.config_text(drafted) + repr(drafted)


async def test_a_stores_password_is_not_taken_from_the_command_line(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        ran = await world.vmwatch("init", "--store", f"postgresql://u:{SECRET_PATH}@127.0.0.1/v", config=False)
    assert (ran.status, "leave the password out" in ran.err, SECRET_PATH in ran.err) == (2, True, False)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("number", "123", "E.164"),
        ("number", "+4571919", "possible phone number"),
        ("pin", "12", "4 to 10 digits"),
        ("name", "Home", "a-z, 0-9 and _"),
        ("label", "a\nb", "control characters"),
        ("base_url", "http://example.com", "must be https"),
    ],
)
def test_init_objects_to_what_the_configuration_would_object_to(key: str, value: str, words: str) -> None:
    found = draft.objection(key, value)
    assert found is not None
    assert words in found


@pytest.mark.parametrize(
    "typed", ["+4571919998", " +45 71 91 99 98", "+45-7191-9998", "+45 (71) 91.99.98", "+45\u00a071919998"]
)
def test_a_number_may_be_written_as_people_do(typed: str) -> None:
    assert draft.number(typed) == "+4571919998"


def url_of(recipe: str, **answers: str) -> str:
    (found,) = (one for one in RECIPES if one.name == recipe)
    blank = {question.key: "" for question in found.questions}
    return found.url(blank | answers)


SLACK = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MAIL = {"server": "smtp.example.com", "user": "me@example.com", "password": NASTY, "to": "you@example.org"}
TOKEN = "123456789:AAH-abcdefghij_klmnopqrstuvwxyz12345"


@pytest.mark.parametrize(
    ("recipe", "answers", "attributes"),
    [
        ("ntfy", {"server": "ntfy.sh", "topic": "a-topic"}, {"mode": "cloud", "topics": ["a-topic"], "secure": True}),
        (
            "ntfy",
            {"server": "ntfy.example.com:8443", "topic": "t", "user": "me", "password": NASTY},
            {
                "host": "ntfy.example.com",
                "port": 8443,
                "user": "me",
                "password": NASTY,
                "topics": ["t"],
                "secure": True,
            },
        ),
        ("ntfy", {"server": "http://127.0.0.1:81/", "topic": "t"}, {"host": "127.0.0.1", "port": 81, "secure": False}),
        (
            "mail",
            MAIL,
            {"smtp_host": "smtp.example.com", "user": "me@example.com", "password": NASTY, "port": 587}
            | {"secure_mode": "starttls", "targets": [(False, "you@example.org")]}
            | {"from_addr": (False, "me@example.com")},
        ),
        ("mail", MAIL | {"server": "smtp.example.com:465"}, {"port": 465, "secure_mode": "ssl", "password": NASTY}),
        (
            "mail",
            {"server": "localhost", "from": "v@example.com", "to": "you@example.org"},
            {"smtp_host": "localhost", "user": None, "secure_mode": "insecure", "from_addr": (False, "v@example.com")},
        ),
        ("slack", {"webhook": f"https://hooks.slack.com/services/{SLACK}"}, {"token_a": "T1JJ3T3L2", "mode": "hook"}),
        ("slack", {"webhook": f"{SLACK}/"}, {"token_c": "TIiajkdnlazkcOXrIdevi7FQ"}),
        ("telegram", {"token": TOKEN, "chat": "-1001234"}, {"bot_token": TOKEN, "targets": [(-1001234, None)]}),
        ("telegram", {"token": f"bot{TOKEN}", "chat": "42"}, {"bot_token": TOKEN}),
        ("phone", {"url": " json://example.com/x "}, {"host": "example.com"}),
    ],
)
def test_apprise_reads_from_a_recipe_what_was_answered(
    recipe: str, answers: dict[str, str], attributes: dict[str, Any]
) -> None:
    url = url_of(recipe, **answers)
    assert objection(url) is None
    plugin = apprise.Apprise.instantiate(url, asset=asset())
    assert {name: getattr(plugin, name) for name in attributes} == attributes


@pytest.mark.parametrize(
    ("recipe", "answers"),
    [
        ("mail", MAIL | {"server": "https://smtp.example.com/"}),
        ("mail", MAIL | {"to": "mette"}),
        ("mail", MAIL | {"user": "me", "from": ""}),
        ("slack", {"webhook": "https://example.com/hook-of-mine"}),
        ("telegram", {"token": "token-of-mine", "chat": "42"}),
    ],
)
def test_a_recipe_says_what_it_needs_and_repeats_no_answer(recipe: str, answers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be like") as refused:
        url_of(recipe, **answers)
    assert not any(answer in str(refused.value) for answer in answers.values() if len(answer) > 2)


def test_the_service_has_its_store_where_systemd_keeps_it_and_its_own_next_steps() -> None:
    assert any("run" in step for step in beginning._next_steps(Path("a/config.toml"), has_unit=False))
    bare = beginning._next_steps(draft.SERVICE_CONFIG, has_unit=False)
    assert "  vmwatch systemd-unit > /etc/systemd/system/vmwatch.service" in bare
    packaged = beginning._next_steps(draft.SERVICE_CONFIG, has_unit=True)
    assert "  systemctl enable --now vmwatch" in packaged
    assert not any("systemd-unit" in step for step in packaged)


# ---- from flags ----


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_from_flags_it_tests_the_channel_logs_in_once_and_writes_private_files(
    world: World, hook: Webhook, umask: int
) -> None:
    before = os.umask(umask)
    try:
        process = await cold(world, *flags(world, number="+45 71 91 99 98", label="At home"))
        out, err = await asyncio.wait_for(process.communicate(), 2 * PATIENCE_S)
    finally:
        os.umask(before)
    assert process.returncode == 0, err
    assert out.decode().splitlines() == [
        "channel phone: a test alert was sent",
        "Written: new/config.toml, and the secrets in new/credentials.",
        "home: ok, 0 new",
        "Next, watch:",
        "  vmwatch --config new/config.toml run",
    ]
    assert [request.path for request in hook.record] == [f"/{SECRET_PATH}"]
    assert [login.pin_ok for login in world.logins("home")] == [True]
    new = world.folder / "new"
    assert sorted(path.name for path in new.iterdir()) == ["config.toml", "credentials", "vmwatch.db"]
    secrets = sorted((new / "credentials").iterdir())
    assert [path.name for path in secrets] == ["channels__phone__url", "lines__home__pin"]
    assert [mode(path) for path in (new / "config.toml", new / "credentials", *secrets)] == [0o644, 0o700, 0o600, 0o600]
    loaded = config.load(new / "config.toml", {}, objection)
    assert loaded.settings.lines["home"].pin.get_secret_value() == PIN
    assert loaded.settings.label_of("home") == "At home"
    assert PIN not in (new / "config.toml").read_text() + out.decode() + err.decode()


async def test_what_the_first_login_saw_is_told_by_whatever_runs_next(world: World, hook: Webhook) -> None:
    world.operator.leave(NUMBER)
    assert (await init(world, *flags(world))).status == 0
    assert len(hook.record) == 1
    assert (await init(world, "--config", "new/config.toml", "poll")).status == 0
    assert [request.body["title"] for request in hook.record[1:]] == ["Voicemail from Donald Duck"]


async def test_a_wrong_pin_costs_one_login_until_its_file_is_corrected(world: World, hook: Webhook) -> None:
    ran = await init(world, *flags(world, pin="wrong"))
    assert ran.status == 1
    assert "Correct it in new/credentials/lines__home__pin: that allows one more try." in ran.out
    for _ in range(2):
        assert (await init(world, "--config", "new/config.toml", "poll")).status == 1
    assert [login.pin_ok for login in world.logins("home")] == [False]
    again = await init(world, *flags(world))
    assert again.status == 2
    store = world.folder / "new" / "vmwatch.db"
    right = world.folder / "new" / "credentials" / "lines__home__pin"
    right.write_text(PIN)
    await init(world, "--config", "new/config.toml", "poll")
    tried = len(world.logins("home"))
    assert tried == 2 or same_tag(store), "a corrected PIN allows one try"
    assert WRONG_PIN not in ran.out + ran.err


def same_tag(store: Path) -> bool:
    """Once in 256 times the two PINs can't be told apart."""
    from contextlib import closing
    from sqlite3 import connect

    from vmwatch.pins import tag

    with closing(connect(store)) as connection:
        ((salt,),) = connection.execute("SELECT value FROM meta WHERE key = 'salt'").fetchall()
    key = bytes.fromhex(salt)
    base_url = config.load(store.parent / "config.toml", {}, objection).settings.operator.base_url
    return tag(key, base_url, NUMBER, PIN) == tag(key, base_url, NUMBER, WRONG_PIN)


async def test_a_channel_that_fails_is_told_and_the_files_are_written_all_the_same(world: World) -> None:
    (world.folder / "url").write_text(f"json://127.0.0.1:{closed_port()}/{SECRET_PATH}")
    ran = await init(world, *flags(world))
    assert ran.status == 1
    assert "channel phone: the test alert was not sent: could not connect" in ran.out
    assert (world.folder / "new" / "config.toml").exists()
    assert SECRET_PATH not in ran.out + ran.err


async def test_nothing_is_sent_where_nothing_is_wanted(world: World, hook: Webhook) -> None:
    assert (await init(world, *flags(world), "--no-test", "--no-online")).status == 0
    assert hook.record == []
    assert not world.logins("home")
    assert not (world.folder / "new" / "vmwatch.db").exists()


async def test_the_pin_may_come_by_standard_input_and_several_channels_by_name(world: World, hook: Webhook) -> None:
    arguments = [*flags(world, url="anna=url", name="office"), "--channel-url-file", "otto=url", "--pin-stdin"]
    del arguments[arguments.index("--pin-file") : arguments.index("--pin-file") + 2]
    process = await cold(world, *arguments)
    out, err = await asyncio.wait_for(process.communicate(f"{PIN}\n".encode()), 2 * PATIENCE_S)
    assert process.returncode == 0, err
    settings = config.load(world.folder / "new" / "config.toml", {}, objection).settings
    assert (list(settings.channels), list(settings.lines)) == (["anna", "otto"], ["office"])
    assert len(hook.record) == 2
    assert b"office: ok" in out


async def test_an_operator_that_is_not_there_is_trouble_and_the_files_are_written(world: World, hook: Webhook) -> None:
    ran = await init(world, *flags(world)[:-1], f"http://127.0.0.1:{closed_port()}")
    assert ran.status == 1
    assert "home: failing" in ran.out
    assert (world.folder / "new" / "config.toml").exists()


async def test_a_store_of_one_s_own_choice_is_written_down_and_used(world: World, hook: Webhook) -> None:
    """As for the service, whose store lies elsewhere."""
    store = world.folder / "var" / "vmwatch.db"
    assert (await init(world, *flags(world), "--store", f"sqlite:///{store}")).status == 0
    assert store.exists()
    assert mode(store.parent) == 0o700
    status = await init(world, "--config", "new/config.toml", "status", "--json")
    assert status.json["lines"][0]["state"] == "ok"


# ---- what is refused, before anything is asked or sent ----


def nothing(folder: Path) -> None:
    """The folder is not there yet."""


def with_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.toml").write_text("mine")


def with_dangling_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.toml").symlink_to("elsewhere")


def with_secret(folder: Path) -> None:
    (folder / "credentials").mkdir(parents=True, mode=0o700)
    (folder / "credentials" / "lines__home__pin").write_text("mine")


def with_open_credentials(folder: Path) -> None:
    (folder / "credentials").mkdir(parents=True)
    (folder / "credentials").chmod(0o755)


def with_file_in_its_place(folder: Path) -> None:
    folder.write_text("mine")


@pytest.mark.parametrize(
    "prepared", [with_config, with_dangling_config, with_secret, with_open_credentials, with_file_in_its_place]
)
async def test_what_is_there_is_neither_changed_nor_added_to(world: World, hook: Webhook, prepared: Any) -> None:
    prepared(world.folder / "new")
    before = listing(world.folder / "new")
    ran = await init(world, *flags(world))
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert listing(world.folder / "new") == before
    assert hook.record == []
    assert not world.logins("home")


def listing(folder: Path) -> dict[str, str]:
    files = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path): path.read_text() if path.is_file() else "" for path in files if path.exists() or path.is_symlink()
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"number": "71919998"}, "--number: must be a number in E.164 form"),
        ({"name": "Home"}, "--name: a name is made of"),
        ({"label": "\x1b[2J"}, "--label: must not have control characters"),
        ({"pin-file": "url"}, "--pin-file: must be 4 to 10 digits"),
        ({"pin-file": "nowhere"}, "--pin-file: nowhere cannot be read"),
        ({"channel-url-file": "pin"}, "--channel-url-file: is not a URL that Apprise"),
        ({"channel-url-file": "Anna=url"}, "--channel-url-file: a name is made of"),
        ({"channel-url-file": "nowhere"}, "--channel-url-file: nowhere cannot be read"),
        ({"store": "postgresql://x"}, "new/config.toml:"),
    ],
)
async def test_what_the_configuration_would_refuse_is_78_and_nothing_is_written(
    world: World, hook: Webhook, changed: dict[str, str], words: str
) -> None:
    ran = await init(world, *flags(world, **changed))
    assert ran.status == 78
    assert words in ran.err
    assert SECRET_PATH not in ran.err + ran.out
    assert not (world.folder / "new" / "config.toml").exists()
    assert not (world.folder / "new" / "credentials").exists()
    assert not world.logins("home")


async def test_without_a_terminal_it_says_which_flags_are_missing(world: World) -> None:
    ran = await init(world, "init", "--directory", "new", "--number", NUMBER)
    assert (ran.status, ran.out) == (2, "")
    assert "give --pin-file, --channel-url-file too" in ran.err
    assert not (world.folder / "new").exists()


async def test_of_two_people_one_writes_and_the_other_is_told(world: World, hook: Webhook) -> None:
    (world.folder / "other").write_text(f"{WRONG_PIN}\n")
    quiet = ("--no-test", "--no-online")
    both = await asyncio.gather(
        *(
            init(world, *flags(world, pin, name=name), *quiet)
            for pin, name in (("pin", "home"), ("other", "office")) * 3
        )
    )
    assert sorted(ran.status for ran in both) == [0, 2, 2, 2, 2, 2]
    settings = config.load(world.folder / "new" / "config.toml", {}, objection).settings
    ((name, line),) = settings.lines.items()
    assert line.pin.get_secret_value() == {"home": PIN, "office": WRONG_PIN}[name]
    assert sorted(path.name for path in (world.folder / "new").iterdir()) == ["config.toml", "credentials"]


@pytest.mark.parametrize("folder_was_there", [False, True])
def test_whoever_comes_second_takes_back_what_was_written_already(tmp_path: Path, folder_was_there: bool) -> None:
    """Between looking and writing, somebody else wrote a configuration."""
    (tmp_path / "config.toml").write_text("theirs")
    credentials = tmp_path / "credentials"
    if folder_was_there:
        credentials.mkdir(mode=0o700)
        (credentials / "theirs").write_text("theirs")
    before = listing(tmp_path)
    drafted = Draft("home", NUMBER, PIN, {"phone": "json://example.com/"})
    with pytest.raises(UsageError, match=r"config\.toml: File exists; nothing was written"):
        placing.write(tmp_path / "config.toml", drafted, objection)
    assert listing(tmp_path) == before


async def test_beside_a_daemon_of_another_configuration_the_pin_is_left_untried(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running():
        await until(world.state_is("home", "ok"))
        before = (await world.line_seen("home"))["since"]
        ran = await init(world, *flags(world, pin="wrong", store=f"sqlite:///{world.store}"))
        assert ran.status == 1
        assert "The PIN was not tried: a vmwatch daemon runs on this store" in ran.out
        assert (await world.line_seen("home"))["since"] == before
    assert all(login.pin_ok for login in world.logins("home"))


# ---- at a terminal ----


async def cold(world: World, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | options
    environment = world._environment({})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vmwatch", *arguments, cwd=world.folder, env=environment, **streams
    )


class Dialogue:
    """vmwatch at a pseudo-terminal; `seen` is all that a person could have read there."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process) -> None:
        self.seen = ""
        self._read_to = 0
        self._ours = ours
        self._process = process
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours, self._on_output)

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, world: World, *arguments: str) -> AsyncIterator[Self]:
        ours, theirs = os.openpty()
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        process = await cold(world, *arguments, **streams, preexec_fn=lambda: os.login_tty(theirs))
        os.close(theirs)
        dialogue = cls(ours, process)
        try:
            yield dialogue
        finally:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _on_output(self) -> None:
        try:
            self.seen += os.read(self._ours, 65536).decode()
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._ours)
        self._more.set()

    async def asked(self, words: str) -> None:
        """Wait until it has said so, after all that was waited for before."""
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.seen[self._read_to :]:
                self._more.clear()
                await self._more.wait()
        self._read_to = self.seen.index(words, self._read_to) + len(words)

    async def answer(self, question: str, answer: str) -> None:
        await self.asked(question)
        os.write(self._ours, f"{answer}\n".encode())

    async def interrupt(self) -> None:
        os.write(self._ours, b"\x03")

    async def ended(self) -> int:
        return await asyncio.wait_for(self._process.wait(), 2 * PATIENCE_S)


async def test_at_a_terminal_it_asks_again_with_the_reason_and_shows_no_secret(world: World, hook: Webhook) -> None:
    async with Dialogue.of(world, "init", "--directory", "new", "--base-url", world.operator.base_url) as person:
        await person.answer("Number of the line", "71919998")
        await person.answer("E.164", f"{NUMBER[:3]} {NUMBER[3:]}")
        await person.answer("PIN of its voicemail", "12")
        await person.asked("must be 4 to 10 digits")
        await person.answer("PIN of its voicemail", PIN)
        await person.answer("How do you want to be told?", "9")
        await person.answer("a number from 1 to 5", "5")
        await person.answer("Apprise URL (not shown)", "https://example.com/nothing-of-apprise")
        await person.asked("this is not a URL that Apprise")
        await person.answer("Apprise URL (not shown)", f"{hook.url}{SECRET_PATH}")
        await person.answer("a test alert was sent", "")
        assert await person.ended() == 0
        await person.asked("vmwatch --config new/config.toml run")
    assert PIN not in person.seen.replace(NUMBER, "")
    assert SECRET_PATH not in person.seen
    assert len(hook.record) == 1
    assert [login.pin_ok for login in world.logins("home")] == [True]


async def test_a_wrong_pin_at_a_terminal_is_tried_once(world: World, hook: Webhook) -> None:
    arguments = ("--directory", "new", "--base-url", world.operator.base_url, "--channel-url-file", "url")
    async with Dialogue.of(world, "init", *arguments, "--number", NUMBER) as person:
        await person.answer("PIN of its voicemail", WRONG_PIN)
        assert await person.ended() == 1
    assert re.search(r"rejected.*not tried again", person.seen, re.DOTALL)
    assert WRONG_PIN not in person.seen
    assert [login.pin_ok for login in world.logins("home")] == [False]


async def test_a_mail_recipe_and_a_second_person_are_told_over_real_sockets(world: World, hook: Webhook) -> None:
    arguments = ("--directory", "new", "--base-url", world.operator.base_url, "--number", NUMBER, "--pin-file", "pin")
    async with MailServer() as mail, Dialogue.of(world, "init", *arguments) as person:
        await person.answer("How do you want to be told?", "2")
        await person.answer("Mail server", f"127.0.0.1:{mail.port}")
        await person.answer("User there", "")
        await person.answer("Password", "")
        await person.answer("From which address", "vmwatch@example.com")
        await person.answer("To which address", "anna@example.com")
        await person.answer("somebody else to tell", "y")
        await person.answer("How do you want to be told?", "5")
        await person.answer("Apprise URL (not shown)", f"json://127.0.0.1:{closed_port()}/")
        await person.answer("Keep it all the same?", "n")
        await person.answer("How do you want to be told?", "5")
        await person.answer("Apprise URL (not shown)", hook.url)
        await person.answer("somebody else to tell", "n")
        assert await person.ended() == 0
        (letter,) = await mail.heard(1)
    assert letter.recipients == ("anna@example.com",)
    assert len(hook.record) == 1
    settings = config.load(world.folder / "new" / "config.toml", {}, objection).settings
    assert list(settings.channels) == ["mail", "phone"]


@pytest.mark.parametrize("question", ["Number of the line", "PIN of its voicemail", "How do you want"])
async def test_ctrl_c_at_any_question_leaves_nothing(world: World, question: str) -> None:
    async with Dialogue.of(world, "init", "--directory", "new") as person:
        if question != "Number of the line":
            await person.answer("Number of the line", NUMBER)
        if question == "How do you want":
            await person.answer("PIN of its voicemail", PIN)
        await person.asked(question)
        await asyncio.sleep(0.1)  # until it has switched the echo off and reads
        await person.interrupt()
        assert await person.ended() == 130
        assert "Traceback" not in person.seen
        await person.asked("nothing was written")
    assert not (world.folder / "new").exists()


async def test_an_end_of_input_is_told_and_leaves_nothing(world: World) -> None:
    async with Dialogue.of(world, "init", "--directory", "new") as person:
        await person.asked("Number of the line")
        os.write(person._ours, b"\x04")
        assert await person.ended() == 2
    assert not (world.folder / "new").exists()
