"""Where a configuration is found, what its sources add up to, and what it is once it is accepted."""

from __future__ import annotations

import json
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import apprise
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch import config, languages
from vmwatch.config import Loaded, shape
from vmwatch.errors import ConfigError
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, WORDED, Alert, Kind
from vmwatch.redaction import Redaction
from vmwatch.settings import LONGEST, Settings, duration, spelled

GOOD = '[lines.home]\nnumber = "+4571919998"\npin = "8352"\n[channels.phone]\nurl = "ntfys://hidden-topic"\n'
EXAMPLE = Path(__file__).parent.parent / "config.example.toml"


def fine(url: str) -> str | None:
    return None


def loaded(folder: Path, text: str | bytes = GOOD, environ: Mapping[str, str] | None = None) -> Loaded:
    file = folder / "config.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return config.load(file, environ or {}, fine)


def pin(one: Loaded) -> str:
    return one.settings.lines["home"].pin.get_secret_value()


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return folder


# Which file.


def test_a_named_file_comes_before_the_variable_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.toml", "b.toml", "config.toml"):
        Path(name).touch()
    assert config.find("a.toml", {"VMWATCH_CONFIG": "b.toml"}) == Path("a.toml")
    assert config.find(None, {"VMWATCH_CONFIG": "b.toml"}) == Path("b.toml")
    assert config.find(None, {"VMWATCH_CONFIG": ""}) == Path("config.toml")
    assert config.find(None, {}) == Path("config.toml")


@pytest.mark.parametrize(
    ("named", "environ", "sentence"),
    [
        ("nowhere.toml", {}, "nowhere.toml: there is no such file, but --config names it"),
        (None, {"VMWATCH_CONFIG": "nowhere.toml"}, "nowhere.toml: there is no such file, but $VMWATCH_CONFIG names it"),
        ("config.toml/a", {}, "config.toml/a: there is no such file, but --config names it"),
    ],
)
def test_a_named_file_that_is_missing_is_an_error(
    named: str | None, environ: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").touch()
    with pytest.raises(ConfigError) as caught:
        config.find(named, environ)
    assert caught.value.objections == (sentence,)


@pytest.mark.skipif(Path("/etc/vmwatch/config.toml").exists(), reason="this machine has a configuration")
def test_without_any_file_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.find(None, {})
    assert caught.value.objections == (
        "no configuration: looked for config.toml and /etc/vmwatch/config.toml; copy config.example.toml to "
        "./config.toml and change it, name another file with --config, or try vmwatch without one: vmwatch demo",
    )


# Which source counts.


def test_two_tables_suffice(tmp_path: Path) -> None:
    one = loaded(tmp_path)
    assert pin(one) == "8352"
    assert one.settings.recipients_of("home")[0].name == "phone"
    assert one.path == tmp_path / "config.toml"
    assert one.warnings == ()


def test_the_environment_counts_more_than_credentials_and_those_more_than_the_file(
    tmp_path: Path, credentials: Path
) -> None:
    (credentials / "lines__home__pin").write_text("2222")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert pin(loaded(tmp_path, GOOD)) == "8352"
    assert pin(loaded(tmp_path, GOOD, environ)) == "2222"
    assert pin(loaded(tmp_path, GOOD, environ | {"VMWATCH_LINES__HOME__PIN": "1111"})) == "1111"


def test_a_configuration_can_come_from_the_environment_alone(tmp_path: Path) -> None:
    environ = {
        "VMWATCH_LINES__HOME__NUMBER": "+4571919998",
        "VMWATCH_LINES__HOME__PIN": "0123",
        "vmwatch_channels__phone__url": "ntfys://hidden-topic",
        "VMWATCH_CHANNELS__PHONE__EVENTS": "voicemail, line.locked",
        "VMWATCH_LINES__HOME__CHANNELS": '["phone"]',
        "VMWATCH_LINES__HOME__ENABLED": "false",
        "VMWATCH_POLLING__INTERVAL": "30s",
        "VMWATCH_POLLING__JITTER": "0.2",
        "VMWATCH_POLLING__ERROR_BACKOFF__MAX": "120",
        "VMWATCH_OPERATOR__CONCURRENCY": "5",
        "VMWATCH_CONFIG": "elsewhere.toml",
        "VMWATCH_TEST_POSTGRES": "whatever",
        "OTHER": "whatever",
    }
    one = loaded(tmp_path, "", environ).settings
    assert one.lines["home"].pin.get_secret_value() == "0123"
    assert one.channels["phone"].events == ("voicemail", "line.locked")
    assert one.lines["home"].channels == ("phone",)
    assert one.lines["home"].enabled is False
    assert (one.polling.interval, one.polling.jitter) == (30 * SECOND, 0.2)
    assert (one.polling.error_backoff.initial, one.polling.error_backoff.max) == (30 * SECOND, 2 * MINUTE)
    assert one.operator.concurrency == 5


def test_only_the_given_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMWATCH_LINES__HOME__PIN", "1111")
    monkeypatch.setenv("VMWATCH_NONSENSE", "1111")
    monkeypatch.setenv("TREE", "1111")
    monkeypatch.setenv("STATE_DIRECTORY", "/nowhere")
    one = loaded(tmp_path)
    assert pin(one) == "8352"
    assert one.store_url == f"sqlite:///{tmp_path}/vmwatch.db"


@pytest.mark.parametrize("digits", ["0123", "1234", "0000000000"])
def test_a_pin_from_the_environment_stays_as_it_was_written(tmp_path: Path, digits: str) -> None:
    assert pin(loaded(tmp_path, GOOD, {"VMWATCH_LINES__HOME__PIN": digits})) == digits


@pytest.mark.parametrize("name", ["_home", "home_", "h_o_m_e", "0"])
def test_a_line_with_an_unusual_name_can_be_addressed(tmp_path: Path, name: str) -> None:
    text = GOOD.replace("home", name)
    one = loaded(tmp_path, text, {f"VMWATCH_LINES__{name.upper()}__PIN": "1111"})
    assert one.settings.lines[name].pin.get_secret_value() == "1111"


@pytest.mark.parametrize("name", ["lines__home__pin", "vmwatch_lines__home__pin", "LINES__HOME__PIN"])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_credential_is_read_without_its_newline(tmp_path: Path, credentials: Path, name: str, ending: str) -> None:
    (credentials / name).write_bytes(f"0123{ending}".encode())
    assert pin(loaded(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(credentials)})) == "0123"


def test_credentials_of_others_are_left_alone(tmp_path: Path, credentials: Path) -> None:
    (credentials / "tls.key").write_bytes(b"\xff")
    (credentials / "folder").mkdir()
    assert pin(loaded(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(credentials)})) == "8352"


# Secrets in files of their own.

IN_FILES = (
    '[lines.home]\nnumber = "+4571919998"\npin_file = "secrets/home.pin"\n[channels.phone]\nurl_file = "phone.url"\n'
)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_pin_and_a_url_can_lie_beside_the_configuration(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "home.pin").write_bytes(f"0123{ending}".encode())
    (tmp_path / "phone.url").write_bytes(f"ntfys://hidden{ending}".encode())
    one = loaded(tmp_path, IN_FILES)
    assert one.secrets == {"0123", "ntfys://hidden"}


def test_a_file_can_be_named_by_its_whole_path_and_by_a_variable(tmp_path: Path, credentials: Path) -> None:
    (credentials / "pin").write_text("0123\n")
    environ = {"VMWATCH_LINES__HOME__PIN_FILE": str(credentials / "pin")}
    assert pin(loaded(tmp_path, GOOD, environ)) == "0123"


def test_a_file_that_does_not_count_is_not_read(tmp_path: Path) -> None:
    environ = {"VMWATCH_LINES__HOME__PIN": "1111", "VMWATCH_CHANNELS__PHONE__URL": "ntfys://other"}
    assert pin(loaded(tmp_path, IN_FILES, environ)) == "1111"


def test_the_stores_url_can_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "store.url").write_text("sqlite:////var/lib/a.db\n")
    assert loaded(tmp_path, f'{GOOD}[store]\nurl_file = "store.url"').store_url == "sqlite:////var/lib/a.db"


POSTGRES = "postgresql://vmwatch:h%40rd%2Fword@db.example.com/vmwatch?passfile=/etc/p"


@pytest.mark.parametrize("given", [POSTGRES, POSTGRES.replace("postgresql:", "postgres:")])
def test_a_shared_stores_url_is_taken_as_it_is_and_is_a_secret(tmp_path: Path, given: str) -> None:
    (tmp_path / "store.url").write_text(f"{given}\n")
    found = loaded(tmp_path, f'{GOOD}[store]\nurl_file = "store.url"', {"STATE_DIRECTORY": "/var/lib/vmwatch"})
    assert found.store_url == config.load_store(tmp_path / "config.toml", {}) == given
    assert (found.store_shown, config.redacted(found)["store"]["url"]) == ("<secret>", "<secret>")
    assert {"h%40rd%2Fword", "h@rd/word"} <= found.secrets
    for text in (repr(found), repr(found.settings), str(found.settings), json.dumps(config.redacted(found))):
        assert "rd%2Fword" not in text
    log = Redaction(found.secrets, found.names)
    assert log(f"cannot connect to {given}, password h@rd/word").count("<secret>") == 2
    assert log("vmwatch: the database db.example.com/vmwatch") == "vmwatch: the database db.example.com/vmwatch"


# What is accepted.


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_files_of_windows_are_read(tmp_path: Path, text: bytes) -> None:
    assert pin(loaded(tmp_path, text)) == "8352"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://operator.example.com/", "https://operator.example.com"),
        ("https://operator.example.com:8443/api/", "https://operator.example.com:8443/api"),
        ("HTTPS://operator.example.com", "HTTPS://operator.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://LOCALHOST", "http://LOCALHOST"),
    ],
)
def test_the_operator_is_reached_by_https_or_on_this_machine(tmp_path: Path, url: str, kept: str) -> None:
    assert loaded(tmp_path, f'{GOOD}[operator]\nbase_url = "{url}"').settings.operator.base_url == kept


def test_a_label_may_be_what_people_write(tmp_path: Path) -> None:
    text = GOOD.replace("[channels", 'label = " Mormor 👩‍👧 Ærø "\n[channels')
    assert loaded(tmp_path, text).settings.label_of("home") == "Mormor 👩‍👧 Ærø"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('polling.interval = "14s"\n', "1: polling.interval: is below 15s, and every poll is a login at the operator"),
        (
            "lines.home.interval = 1\n",
            "1: lines.home.interval: is below 15s, and every poll is a login at the operator",
        ),
        ("lines.home.channels = []\n", "1: lines.home.channels: is empty: nobody will be told"),
        ("channels.phone.events = []\n", "1: channels.phone.events: is empty: it will get test alerts only"),
        (
            'callers.boss.channels = []\ncallers.boss.numbers = ["+4520304050"]\n',
            "1: callers.boss.channels: is empty: nobody will be told; mute = true says so too",
        ),
        (
            'callers.strangers.numbers = ["withheld", "unknown"]\n',
            "1: callers.strangers.numbers: every number is unknown: there are no contacts: "
            "set contacts.vcards or contacts.carddav.url",
        ),
    ],
)
def test_what_is_unwise_is_accepted_with_a_warning(tmp_path: Path, text: str, sentence: str) -> None:
    good = 'lines.home.number = "+4571919998"\nlines.home.pin = "8352"\nchannels.phone.url = "ntfys://hidden-topic"\n'
    assert loaded(tmp_path, text + good).warnings == (f"{tmp_path}/config.toml:{sentence}",)


def test_fifteen_seconds_are_not_worth_a_warning(tmp_path: Path) -> None:
    assert loaded(tmp_path, f"{GOOD}[polling]\ninterval = 15").warnings == ()


def test_a_warning_names_the_variable(tmp_path: Path) -> None:
    (sentence,) = loaded(tmp_path, GOOD, {"VMWATCH_POLLING__INTERVAL": "2"}).warnings
    assert sentence.startswith("environment variable VMWATCH_POLLING__INTERVAL: is below 15s")


def test_every_url_is_shown_to_the_channels_once(tmp_path: Path) -> None:
    seen: list[str] = []
    file = tmp_path / "config.toml"
    file.write_text(GOOD)
    config.load(file, {}, seen.append)
    assert seen == ["ntfys://hidden-topic"]


# The store.


@pytest.mark.parametrize(
    ("url", "state", "resolved"),
    [
        ("sqlite:///vmwatch.db", "", "{folder}/vmwatch.db"),
        ("sqlite:///a/../b.db", "", "{folder}/b.db"),
        ("sqlite:///vmwatch.db", "/var/lib/vmwatch", "/var/lib/vmwatch/vmwatch.db"),
        ("sqlite:///vmwatch.db", "/var/lib/one:/var/lib/two", "/var/lib/one/vmwatch.db"),
        ("sqlite:////srv/vmwatch.db", "/var/lib/vmwatch", "/srv/vmwatch.db"),
        ("sqlite://///srv/vmwatch.db", "", "/srv/vmwatch.db"),
    ],
)
def test_the_stores_path_is_made_absolute(tmp_path: Path, url: str, state: str, resolved: str) -> None:
    environ = {"STATE_DIRECTORY": state} if state else {}
    expected = "sqlite:///" + resolved.format(folder=tmp_path)
    assert loaded(tmp_path, f'{GOOD}[store]\nurl = "{url}"', environ).store_url == expected
    assert config.load_store(tmp_path / "config.toml", environ) == expected


def test_a_relative_name_of_the_file_gives_an_absolute_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded(tmp_path)
    assert config.load_store(Path("config.toml"), {}) == f"sqlite:///{Path.cwd()}/vmwatch.db"


def test_the_store_is_found_without_pins_and_channels(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('nonsense = 1\n[lines.home]\npin_file = "nowhere"\n[store]\nurl = "sqlite:////srv/a.db"\n')
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere"), "VMWATCH_LINES__HOME__PNI": "1"}
    assert config.load_store(file, environ) == "sqlite:////srv/a.db"
    assert config.load_store(file, environ | {"VMWATCH_STORE__URL": "sqlite:////srv/b.db"}) == "sqlite:////srv/b.db"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[store]\nurl = 5", ":2: store.url: must be text, in quotes"),
        ("store = 5", ":1: store: must be a table"),
        ("[store]\nkep = 5", ":2: store.kep: unknown key; did you mean keep?"),
        ("[store", ":1: is not valid TOML: Expected ']' at the end of a table declaration, at the end of the file"),
    ],
)
def test_a_bad_store_is_refused_even_if_nothing_else_counts(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load_store(file, {})
    assert caught.value.objections == (f"{file}{sentence}",)


# The address that is listened on.


def test_an_address_that_nobody_wrote_is_not_asked_for(tmp_path: Path) -> None:
    default = loaded(tmp_path).settings.web
    assert (default.address, default.is_asked_for, default.token) == (("127.0.0.1", 8480), False, None)
    assert loaded(tmp_path, f'{GOOD}[web]\nlisten = "127.0.0.1:8480"').settings.web.is_asked_for
    assert loaded(tmp_path, GOOD, {"VMWATCH_WEB__LISTEN": "127.0.0.1:8480"}).settings.web.is_asked_for
    assert not loaded(tmp_path, f"{GOOD}[web]\nhosts = ['a.example.com']").settings.web.is_asked_for


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8480", ("127.0.0.1", 8480)),
        ("127.8.9.10:1", ("127.8.9.10", 1)),
        ("[::1]:8480", ("::1", 8480)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_this_machine_s_own_addresses_need_no_token(tmp_path: Path, listen: str, address: tuple[str, int]) -> None:
    web = loaded(tmp_path, f'{GOOD}[web]\nlisten = "{listen}"').settings.web
    assert (web.address, web.token) == (address, None)


@pytest.mark.parametrize(
    ("written", "public_url", "names"),
    [
        ("https://vm.example.com", "https://vm.example.com", ("a.example.com", "vm.example.com")),
        ("https://VM.example.com:8443/", "https://VM.example.com:8443", ("a.example.com", "vm.example.com")),
        ("http://vm.example.com/home/vm/", "http://vm.example.com/home/vm", ("a.example.com", "vm.example.com")),
        ("http://192.0.2.7:8480", "http://192.0.2.7:8480", ("a.example.com", "192.0.2.7")),
        ("https://[2001:db8::1]", "https://[2001:db8::1]", ("a.example.com", "2001:db8::1")),
        ("", "", ("a.example.com",)),
    ],
)
def test_the_public_url_s_host_is_a_name_of_this_server(
    tmp_path: Path, written: str, public_url: str, names: tuple[str, ...]
) -> None:
    web = loaded(tmp_path, f"{GOOD}[web]\nhosts = ['a.example.com']\npublic_url = '{written}'").settings.web
    assert (web.public_url, web.names) == (public_url, names)


def test_a_public_url_where_nobody_listens_is_warned_of(tmp_path: Path) -> None:
    one = loaded(tmp_path, f"{GOOD}[web]\nlisten = ''\npublic_url = 'https://vm.example.com'")
    (warning,) = one.warnings
    assert warning.endswith(': web.public_url: is of no use while web.listen is ""')


@pytest.mark.parametrize(
    ("more", "is_warned"),
    [
        ("", True),
        ("token = 'sixteen-letters-at-least'", False),
        ("public_url = 'http://127.0.0.1:8480'", False),
        ("public_url = ''", False),
    ],
)
def test_a_public_url_by_which_everybody_sees_the_page_is_warned_of(tmp_path: Path, more: str, is_warned: bool) -> None:
    url = "" if "public_url" in more else "public_url = 'https://vm.example.com'"
    warnings = loaded(tmp_path, f"{GOOD}[web]\n{url}\n{more}\n").warnings
    said = "leads to the whole page, not to links alone, if the proxy lets everything pass: set web.token"
    assert [warning.partition(": ")[2] for warning in warnings] == [f"web.public_url: {said}"] * is_warned


@pytest.mark.parametrize("where", ["0.0.0.0:8480", "[::]:8480", "192.0.2.7:8480"])
def test_a_token_can_be_a_credential_and_is_never_shown(tmp_path: Path, credentials: Path, where: str) -> None:
    token = "hidden-token-of-the-page"
    (credentials / "web__token").write_text(f"{token}\n")
    one = loaded(tmp_path, f'{GOOD}[web]\nlisten = "{where}"', {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert one.settings.web.token is not None
    assert one.settings.web.token.get_secret_value() == token
    assert token in one.secrets
    assert config.redacted(one)["web"] == {"listen": where, "token": "<secret>", "hosts": [], "public_url": ""}
    assert token not in repr(one)


def test_the_heartbeat_s_url_is_a_secret(tmp_path: Path) -> None:
    url = "https://hc.example.com/hidden-uuid"
    (tmp_path / "heartbeat.url").write_text(url)
    one = loaded(tmp_path, f'{GOOD}[heartbeat]\nurl_file = "heartbeat.url"')
    assert url in one.secrets
    assert config.redacted(one)["heartbeat"] == {"url": "<secret>"}
    assert config.redacted(loaded(tmp_path))["heartbeat"] == {"url": None}
    assert "hidden" not in repr(one)


def test_a_carddav_password_is_a_secret(tmp_path: Path) -> None:
    (tmp_path / "dav.password").write_text("hidden-password\n")
    url = "https://cloud.example.com/dav/me/"
    table = f'[contacts.carddav]\nurl = "{url}"\nuser = "me"\npassword_file = "dav.password"\n'
    one = loaded(tmp_path, GOOD + table)
    assert "hidden-password" in one.secrets
    shown = config.redacted(one)["contacts"]["carddav"]
    assert shown == {"url": url, "user": "me", "password": "<secret>", "interval": "1h"}
    assert "hidden" not in repr(one)


def a_card_file(folder: Path, name: str = "contacts.vcf") -> Path:
    path = folder / name
    path.write_text("BEGIN:VCARD\nFN:Mette\nTEL:20305071\nEND:VCARD\n")
    return path


def test_files_of_contacts_are_seen_from_the_configuration_and_kept_beside_the_store(tmp_path: Path) -> None:
    a_card_file(tmp_path)
    store = '[store]\nurl = "sqlite:////var/lib/vmwatch/vmwatch.db"\n'
    one = loaded(tmp_path, f'{GOOD}{store}[contacts]\nvcards = ["contacts.vcf"]\n').contacts
    assert one.vcards == (str(tmp_path / "contacts.vcf"),)
    assert one.cache == "/var/lib/vmwatch/contacts.cache"
    assert one.region == "DK"


@pytest.mark.parametrize(
    ("state", "folder"), [({}, "{config}"), ({"STATE_DIRECTORY": "/var/lib/other:/var/lib/more"}, "/var/lib/other")]
)
def test_beside_a_shared_store_they_are_kept_in_the_state_folder(
    tmp_path: Path, state: dict[str, str], folder: str
) -> None:
    (tmp_path / "config.toml").write_text(f'{GOOD}[store]\nurl = "postgresql://db.example.com/vmwatch"\n')
    one = config.load(tmp_path / "config.toml", state, lambda _: None)
    assert one.contacts.cache == f"{folder.format(config=tmp_path)}/contacts.cache"


def test_the_country_of_the_contacts_can_be_given(tmp_path: Path) -> None:
    assert loaded(tmp_path, f'{GOOD}[contacts]\ndefault_region = "se"\n').contacts.region == "SE"


def test_the_contacts_are_found_without_pins_and_channels(tmp_path: Path) -> None:
    a_card_file(tmp_path)
    file = tmp_path / "config.toml"
    file.write_text('[lines.home]\npin_file = "gone.pin"\n[contacts]\nvcards = ["contacts.vcf"]\n')
    one = config.load_contacts(file, {}, ["+4571919998"])
    assert (one.vcards, one.region) == ((str(tmp_path / "contacts.vcf"),), "DK")
    file.write_text('[contacts]\nvcards = ["gone.vcf"]\n')
    with pytest.raises(ConfigError, match=r"config.toml:2: contacts.vcards: entry 1: .*gone.vcf does not exist"):
        config.load_contacts(file, {}, [])


def test_quiet_hours_reminders_and_groups_are_read_as_they_are_shown(tmp_path: Path) -> None:
    quiet, remind = ["22:00-07:00", "sat,sun 00:00-10:00"], ["30m", "2h", "next 08:00"]
    tables = f"[callers.sales]\nnumbers = {json.dumps(['+4570*', 'withheld'])}\nmute = true\nmin_length = 2\n"
    text = (
        f'[channels.phone]\nurl = "ntfys://hidden-topic"\nquiet = {json.dumps(quiet)}\n'
        f'[lines.home]\nnumber = "+4571919998"\npin = "8352"\nremind = {json.dumps(remind)}\n'
        f'escalate = [{{ after = "90m", channels = ["phone"] }}]\n{tables}'
    )
    one = loaded(tmp_path, text)
    shown = config.redacted(one)
    assert shown["channels"]["phone"]["quiet"] == quiet
    assert shown["lines"]["home"]["remind"] == remind
    assert shown["lines"]["home"]["escalate"] == [{"after": "1h30m", "channels": ["phone"]}]
    assert shown["callers"]["sales"]["min_length"] == "2s"
    assert one.warnings == ()


def test_quiet_hours_can_come_from_the_environment(tmp_path: Path) -> None:
    one = loaded(tmp_path, GOOD, {"VMWATCH_CHANNELS__PHONE__QUIET": '["22:00-07:00", "sat,sun 00:00-10:00"]'})
    assert [str(window) for window in one.settings.channels["phone"].quiet] == ["22:00-07:00", "sat,sun 00:00-10:00"]


def test_nothing_is_listened_on_where_that_is_turned_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, f'{GOOD}[web]\nlisten = ""').settings.web.listen == ""


# What is shown of it.


def test_what_counts_is_shown_without_secrets(tmp_path: Path) -> None:
    text = f'{GOOD}[polling]\ninterval = "90m"\n[lines.work]\nnumber = "+4571919999"\npin = "8352"\ninterval = 45\n'
    shown = config.redacted(loaded(tmp_path, text))
    assert shown["polling"]["interval"] == "1h30m"
    assert shown["polling"]["lockout_backoff"] == {"initial": "1h", "max": "1d"}
    assert shown["store"] == {"url": f"sqlite:///{tmp_path}/vmwatch.db", "keep": "365d"}
    assert shown["channels"]["phone"] == {
        "url": "<secret>",
        "events": ["voicemail", "line", "channel"],
        "language": "en",
        "timezone": None,
        "privacy": "full",
        "templates": {},
        "quiet": [],
        "digest": None,
        "budget": None,
        "urgent": [],
        "update_in_place": True,
    }
    assert shown["lines"]["work"]["interval"] == "45s"
    assert shown["lines"]["home"] == {
        "number": "+4571919998",
        "pin": "<secret>",
        "label": "home",
        "channels": ["phone"],
        "interval": "1h30m",
        "enabled": True,
        "remind": [],
        "escalate": [],
    }
    assert not re.search("8352|hidden", json.dumps(shown))


def test_no_secret_stands_in_what_python_shows_or_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")  # logs what every source returns
    caplog.set_level(logging.DEBUG)
    one = loaded(tmp_path)
    assert one.secrets == {"8352", "ntfys://hidden-topic"}
    assert not re.search("8352|hidden", repr(one) + caplog.text)
    assert "_LayerSource" in caplog.text


@given(st.integers(0, LONGEST))
def test_a_duration_is_read_as_it_is_shown(span: int) -> None:
    assert duration(spelled(span)) == span


@pytest.mark.parametrize(
    ("written", "read"),
    [("90s", 90 * SECOND), ("1h30m", 90 * MINUTE), ("1.5h", 90 * MINUTE), ("7d", 7 * DAY), ("250ms", 250),
     (90, 90 * SECOND), (0.5, 500), ("90", 90 * SECOND), ("1d12h", 36 * HOUR), (0, 0)],
)  # fmt: skip
def test_durations(written: object, read: int) -> None:
    assert duration(written) == read


# How alerts are said.

VOICES = f"""{GOOD}
language = "da"
privacy = "masked"
[channels.phone.templates.voicemail.new]
title = "{{{{ caller }}}}"
[channels.phone.templates.test]
body = "Hello"
[channels.mail]
url = "mailto://hidden"
timezone = "America/New_York"
[alerts]
timezone = "Europe/Copenhagen"
"""


def test_each_channel_has_its_own_voice_and_else_the_common_one(tmp_path: Path) -> None:
    shown = config.redacted(loaded(tmp_path, VOICES))
    assert shown["alerts"] == {"language": "en", "timezone": "Europe/Copenhagen"}
    voices = [
        {key: channel[key] for key in ("language", "timezone", "privacy", "templates")}
        for channel in shown["channels"].values()
    ]
    assert voices == [
        {
            "language": "da",
            "timezone": "Europe/Copenhagen",
            "privacy": "masked",
            "templates": {"voicemail": {"new": {"title": "{{ caller }}"}}, "test": {"body": "Hello"}},
        },
        {"language": "en", "timezone": "America/New_York", "privacy": "full", "templates": {}},
    ]


def test_a_voice_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "VMWATCH_ALERTS__LANGUAGE": "da",
        "VMWATCH_CHANNELS__PHONE__PRIVACY": "minimal",
        "VMWATCH_CHANNELS__PHONE__TEMPLATES__VOICEMAIL__NEW__TITLE": "{{ line }}",
        "VMWATCH_CHANNELS__PHONE__TEMPLATES__TEST__BODY": "Hello",
    }
    settings = loaded(tmp_path, GOOD, environ).settings
    assert settings.language_of("phone") == "da"
    assert settings.channels["phone"].privacy == "minimal"
    assert settings.channels["phone"].template(Kind.VOICEMAIL_NEW).title == "{{ line }}"
    assert settings.channels["phone"].template(Kind.TEST).body == "Hello"


@pytest.mark.parametrize("kind", WORDED)
def test_every_kind_can_have_a_template(tmp_path: Path, kind: Kind) -> None:
    text = f'{GOOD}[channels.phone.templates.{kind.value}]\ntitle = "{{{{ title }}}}!"\n'
    (voice,) = languages.voices(loaded(tmp_path, text).settings, UTC).values()
    assert voice.says(Alert(kind, ())).text.title.endswith("!")
    assert [*voice.templates] == [kind]


# The example.


def _target(url: str) -> str | None:
    asset = apprise.AppriseAsset(storage_mode="memory")
    one = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
    return None if one is not None and len(one) == 1 else "is not one target"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # a plug-in of Apprise
def test_the_example_loads_as_it_stands_and_shows_the_defaults(tmp_path: Path) -> None:
    one = config.load(EXAMPLE, {}, _target)
    uncommented = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    other = loaded(tmp_path, uncommented)
    assert tomllib.loads(uncommented).keys() == Settings.model_fields.keys()
    assert config.redacted(one) | {"store": None} == config.redacted(other) | {"store": None}
    assert one.settings.store == other.settings.store
    assert one.warnings == other.warnings == ()


def test_the_example_loads_with_everything_uncommented_and_secrets_in_files(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^(pin|url|##token|##password|##url) = (?!.*addressbooks).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^##", "", text, flags=re.MULTILINE)
    secrets = {"home.pin": "1234", "phone.url": "ntfys://a", "store.url": "sqlite:///a.db", "web.token": "t" * 16}
    secrets |= {"heartbeat.url": "https://hc-ping.com/hidden", "carddav.password": "hidden"}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
    one = loaded(tmp_path, text)
    assert one.settings.lines["home"].pin.get_secret_value() == "1234"
    assert one.settings.web.token is not None
    assert one.contacts.carddav.password is not None


def test_the_example_mentions_every_key() -> None:
    text = re.sub(r"^##?(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    written = set(re.findall(r"(?:^|[{,] *)([a-z_]+) =", text, flags=re.MULTILINE))
    keys = {key[-1] for key in shape.every_key("home")}
    assert keys <= written
    assert written - keys == {"error_backoff", "lockout_backoff", "retry", "after"}


@contextmanager
def not_root() -> Iterator[None]:
    """Root may read everything: for a while, be nobody."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    loaded(tmp_path)
    (tmp_path / "config.toml").chmod(0)
    with not_root(), pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        config.load(tmp_path / "config.toml", {}, fine)
