"""Installs vmwatch in bare Debians by every way that docs/install.md describes, and tells what held.

    packaging/try-install               all of them, one after the other
    packaging/try-install venv-13 deb-12

It exits with 0 if all that was tried held, with 1 if something did not, with 77 if this machine can't try it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import blocks
from dockerfile import Build, Image
from newcomer import HOME, FailedError, Machine, Mounts, machine
from roots import DEBIANS, PROJECT, UnavailableError

CANT_TRY = 77
_PROBE = (Path(__file__).with_name("probe.py")).read_text()
_DOCKERFILE = PROJECT / "packaging/Dockerfile"
_LEFT = "find /opt /usr/local /etc/systemd -name 'vmwatch*'"
_NEWER_PACKAGE = """\
dpkg-deb --raw-extract dist/*.deb /tmp/newer
sed -i '/^Version: /s/-1+/-2+/' /tmp/newer/DEBIAN/control
mkdir newer
dpkg-deb -Znone --build /tmp/newer newer
"""
Sentences = Iterator[str]


# ---- the ways ----


def by_venv(release: int) -> Sentences:
    yield from _as_written(release, "A virtual environment in /opt")


def by_pipx(release: int) -> Sentences:
    yield from _as_written(release, "pipx" if release >= 13 else "pipx before 1.5 (Debian 12)")


def by_uv(release: int) -> Sentences:
    yield from _as_written(release, "uv")


def by_package(release: int) -> Sentences:
    """Built on one machine, installed on another, which has only what the package depends on."""
    with machine(DEBIANS[release]) as builder:
        builder.run(blocks.commands("Build the Debian package"))
        builder.run(_NEWER_PACKAGE)
        built = [found for folder in ("dist", "newer") for found in builder.path(f"{HOME}/{folder}").glob("*.deb")]
        yield f"a package is built: {built[0].name}"
        with machine(DEBIANS[release]) as new:
            _bring(built, new)
            yield from _life_of_a_package(new)
        yield from _life_under_systemd(release, built)
        yield from _lint("lintian", "--fail-on", "error", str(built[0]))


def by_dockerfile(release: int) -> Sentences:
    assert release == 13
    yield from _lint("hadolint", str(_DOCKERFILE))
    with ExitStack() as stack:
        image = Build(_DOCKERFILE, PROJECT, stack).image()
        yield "every step of the Dockerfile is carried out"
        assert image.said["HEALTHCHECK"] == ["vmwatch", "health"], image.said
        (volume,) = image.said["VOLUME"]
        binds = {volume: _volume(image, volume, stack.enter_context(_folder()))}
        binds |= {folder: stack.enter_context(_folder()) for folder in ("/etc/vmwatch", "/run/secrets")}
        mounts = Mounts(binds, memory=("/tmp",), read_only=True)
        script = f"python3 - container {image.user} {shlex.join(image.said['ENTRYPOINT'] + image.said['CMD'])}"
        yield from image.machine.run(script, told=_PROBE, environ=image.environ, within="/", mounts=mounts).splitlines()


def _volume(image: Image, where: str, folder: Path) -> Path:
    """A new volume has the owner and the mode of the image's folder in its place."""
    owned = image.machine.path(where).stat()
    assert (f"{owned.st_uid}:{owned.st_gid}", owned.st_mode & 0o777) == (image.user, 0o700), owned
    os.chown(folder, owned.st_uid, owned.st_gid)
    folder.chmod(owned.st_mode & 0o777)
    return folder


# ---- what they share ----


def _as_written(release: int, heading: str) -> Sentences:
    with machine(DEBIANS[release]) as new:
        new.path("/etc/systemd/system").mkdir(parents=True, exist_ok=True)
        new.run(blocks.commands(heading))
        yield "the commands in docs/install.md succeed"
        yield from _works(new)
        new.run(blocks.commands(heading, blocks.UPGRADE))
        yield f"upgraded: {new.run('vmwatch --version').strip()}"
        new.run(blocks.commands(heading, blocks.UNINSTALL))
        left = new.run(_LEFT).strip()
        assert not left, left
        yield "uninstalled: nothing of the program is left"


def _works(new: Machine) -> Sentences:
    version = new.run("vmwatch --version").strip()
    yield f"`vmwatch --version`: {version}"
    yield from new.run("python3 - service", told=_PROBE).splitlines()


def _life_of_a_package(new: Machine) -> Sentences:
    said = new.run(blocks.commands("The Debian package"))
    assert "not configured yet" in said, said
    assert not list(new.path("/etc/systemd/system").glob("*.wants/vmwatch*")), "the service is enabled"
    yield "installed with nothing but what it depends on; neither enabled nor started, and it says so"
    assert not new.run("dpkg --verify vmwatch")
    yield from _works(new)
    before = _kept(new)
    new.run("apt-get install ./newer/vmwatch_*.deb")
    assert _kept(new) == before, _kept(new)
    yield f"upgraded to {_version(new)}: configuration, credentials and store are as before"
    new.run(blocks.commands("The Debian package", blocks.UNINSTALL))
    assert _kept(new) == before, _kept(new)
    assert not new.path("/usr/lib/vmwatch").exists(), "code is left"
    yield "removed: the code is gone; configuration, credentials and store are kept"
    said = new.run("apt-get purge vmwatch")
    assert not new.path("/etc/vmwatch").exists()
    assert new.path("/var/lib/vmwatch/vmwatch.db").exists(), "the store was removed"
    assert "rm -rf /var/lib/private/vmwatch" in said, said
    yield "purged: configuration and credentials are gone; the store is kept, and it says how to remove it"


def _life_under_systemd(release: int, built: list[Path]) -> Sentences:
    script = str(Path(__file__).with_name("packaged.py"))
    samples = filter(None, [os.environ.get("VMWATCH_TEST_SAMPLES")])
    command = [sys.executable, "-B", script, str(release), *map(str, built), *samples]
    ran = subprocess.run(command, text=True, capture_output=True, timeout=400, check=False)
    yield from (f"under systemd: {line}" for line in ran.stdout.splitlines())
    if ran.returncode:
        raise FailedError(ran.stderr)


def _bring(built: list[Path], new: Machine) -> None:
    shutil.rmtree(new.path(HOME))
    for package, folder in zip(built, ("dist", "newer"), strict=True):
        new.path(f"{HOME}/{folder}").mkdir(parents=True)
        shutil.copy(package, new.path(f"{HOME}/{folder}"))


def _kept(new: Machine) -> dict[str, str]:
    script = "find /etc/vmwatch /var/lib/vmwatch -type f -printf '%p %m %U ' -exec md5sum {} ';' | sort"
    return dict(line.split(" ", 1) for line in new.run(script).splitlines())


def _version(new: Machine) -> str:
    return new.run("dpkg-query --show --showformat='${Version}' vmwatch")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vmwatch-newcomer-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _lint(linter: str, *arguments: str) -> Sentences:
    """A linter's silence; it is looked for beside this Python, too."""
    found = shutil.which(linter, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None and os.environ.get("CI"):
        raise FailedError(f"{linter} is not installed")
    if found is None:
        yield f"NOT TRIED: {linter} is not installed here"
        return
    ran = subprocess.run([found, *arguments], text=True, capture_output=True, timeout=300, check=False)
    if ran.returncode:
        raise FailedError(f"{linter}: {ran.stdout}{ran.stderr}")
    yield (
        f"{linter} finds nothing"
        if not ran.stdout
        else f"{linter} finds no error: {'; '.join(ran.stdout.splitlines())}"
    )


WAYS: dict[str, Callable[[], Sentences]] = {
    "venv-12": partial(by_venv, 12),
    "venv-13": partial(by_venv, 13),
    "pipx-12": partial(by_pipx, 12),
    "pipx-13": partial(by_pipx, 13),
    "uv-12": partial(by_uv, 12),
    "uv-13": partial(by_uv, 13),
    "deb-12": partial(by_package, 12),
    "deb-13": partial(by_package, 13),
    "dockerfile": partial(by_dockerfile, 13),
}


def trying(name: str) -> bool:
    """Try one way, a line for each thing that held. Raises UnavailableError if this machine can't."""
    began = time.monotonic()
    try:
        for sentence in WAYS[name]():
            print(f"ok      {name}: {sentence}", flush=True)
    except (FailedError, AssertionError, subprocess.TimeoutExpired, LookupError) as error:
        print(f"NOT OK  {name}: {re.sub(chr(10), chr(10) + ' ' * 8, str(error) or repr(error))}", flush=True)
        return False
    print(f"ok      {name}: took {time.monotonic() - began:.0f} s", flush=True)
    return True


def main(names: list[str]) -> int:
    if os.geteuid() != 0:
        print("this needs to be root: it makes roots and enters them", file=sys.stderr)
        return CANT_TRY
    try:
        held = [trying(name) for name in names or WAYS]
    except UnavailableError as error:
        print(f"this machine can't try it: {error}", file=sys.stderr)
        return CANT_TRY
    print(f"{sum(held)} of {len(held)} ways work")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
