"""Makes README's pictures of `vmwatch demo`: demo.svg as a terminal shows it, demo.png as a browser does.

Run: python docs/picture.py. It needs the extra [test] and the machine's own chromium, on Debian: apt install chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from rich.console import Console
from rich.text import Text

SECONDS = 13
COLUMNS = 100
# rich's own frame without its web fonts: nothing is fetched from anywhere.
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


CALLER = "Ada Lovelace"
SIZE = {"width": 1440, "height": 940}


def terminal() -> None:
    surroundings = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    command = [sys.executable, "-m", "vmwatch", "demo", "--seconds", str(SECONDS)]
    shown = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout  # noqa: S603
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown))
    picture = console.export_svg(title="vmwatch demo", code_format=FRAME, unique_id="demo")
    Path(__file__).with_name("demo.svg").write_text(picture, encoding="utf-8")


def browser() -> None:
    with demo() as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE, locale="en-GB", color_scheme="light")
        page.goto(address)
        use(page)
        page.screenshot(path=Path(__file__).with_name("demo.png"))
        chromium.close()


@contextmanager
def demo() -> Iterator[str]:
    """A demo's address, while it runs."""
    command = [sys.executable, "-u", "-m", "vmwatch", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield next(filter(None, (re.search(r"http://\S+/", line) for line in process.stdout or ())))[0]
        finally:
            process.terminate()


def use(page: Page) -> None:
    """Leave a message once the demo's own callers have left some, and wait until it was told."""
    phone = page.frame_locator("iframe >> nth=0")
    messages = page.frame_locator("iframe >> nth=1").locator("#messages tbody tr")
    expect(messages.nth(3)).to_be_visible(timeout=60_000)
    phone.get_by_label("Your name").fill(CALLER)
    phone.get_by_role("button", name="Leave a voicemail").click()
    told = messages.filter(has_text=CALLER).filter(has_text="phone: sent").filter(has_text="pager: sent")
    expect(told).to_be_visible(timeout=60_000)


def main() -> None:
    terminal()
    browser()


if __name__ == "__main__":
    main()
