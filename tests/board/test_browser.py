"""The page in a real browser: what a person sees, and what hostile names do not do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.board.assets import load
from appliance.board.feed import of_dhcp
from appliance.board.live import Live
from appliance.board.story import Fact
from tests.board.browser import Browser, browser
from tests.board.serving import Running, running

HOSTILE = "<img src=x onerror=document.title='owned'>" + "x" * 150
FILES = (
    ("shimx64.efi", 900_000),
    ("grubx64.efi", 2_000_000),
    ("grub.cfg", 400),
    ("linux", 8_000_000),
    ("initrd.gz", 35_000_000),
)
ROWS = "return document.querySelectorAll('.machine').length"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


def boot(live: Live, number: int, files: int = len(FILES), now: float = 0) -> None:
    """Machine `number` has fetched so many files."""
    client, mac = f"192.0.2.{number % 250}", f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"
    for place, (file, size) in enumerate(FILES[:files]):
        at = (now or time.time()) - 20 + place
        live.tell(Fact(at, "start", client, file, mac, size=size, blksize=1468, windowsize=16))
        live.tell(Fact(at + 0.5, "done", client, file, mac, bytes=size, size=size))


def opened(live: Live, board: Running, one: Browser, width: int = 1280, height: int = 900) -> None:
    one.size(width, height)
    one.open(f"http://localhost:{board.port}/")
    one.until("return document.getElementById('link').textContent === 'live'")


def serving(live: Live) -> Any:
    return running(lambda: live.snapshot(time.time()), live.story, assets=load())


def tick(live: Live, board: Running) -> None:
    board.call(lambda: board.server.broadcast(live.tick(time.time())))


def test_sixty_four_machines_boot_before_the_eyes_of_an_operator(chromium: Browser, tmp_path: Path) -> None:
    live = Live({"52:54:00:00:00:05": "lab-05"})
    with serving(live) as board:
        opened(live, board, chromium)
        assert "No machine has asked" in chromium.run("return document.getElementById('none').textContent")
        for files in range(1, len(FILES) + 1):
            for number in range(64):
                board.call(boot, live, number, files)
            tick(live, board)
        chromium.until("return document.getElementById('counts').textContent.includes('64 booted')")
        assert chromium.run(ROWS) == 50
        assert "page 1 of 2, 64 machines" in chromium.run("return document.getElementById('where').textContent")
        chromium.run("document.getElementById('next').click()")
        chromium.until("return document.querySelectorAll('.machine').length === 14")
        marks = chromium.run("return [...document.querySelector('.marks').children].map((m) => m.textContent)")
        assert marks == ["loader \u2713", "config \u2713", "kernel \u2713", "initrd \u2713"]
        assert chromium.shot(tmp_path / "board.png").stat().st_size > 10_000
        assert chromium.log() == []


def test_a_room_of_which_each_machine_is_somewhere_else(chromium: Browser, tmp_path: Path) -> None:
    live, now = Live({"52:54:00:00:00:05": "lab-05"}), time.time()
    for number in range(64):
        client, mac = f"192.0.2.{number}", f"52:54:00:00:00:{number:02x}"
        live.tell(of_dhcp(now - 25, client, mac, "", boots=True))
        if number % 8 != 7:  # those were told what to load, and never asked
            boot(live, number, 1 + number % 5, now - 4)
        if number % 8 == 3:
            live.tell(Fact(now, "progress", client, "initrd.gz", mac, bytes=15_000_000, size=35_000_000))
        if number % 8 == 5:
            live.tell(Fact(now, "failed", client, "linux", mac, bytes=9_000, size=8_000_000, cause="timed out"))
    with serving(live) as board:
        opened(live, board, chromium, 1280, 1600)
        tick(live, board)
        chromium.until("return document.getElementById('where').textContent.includes('64 machines')")
        texts = chromium.run("return [...document.querySelectorAll('.marks')].map((one) => one.textContent)")
        assert all(text.startswith("DHCP \u2713") for text in texts), texts
        whole = chromium.run("return document.body.textContent")
        assert "told by DHCP what to load, and never asked for it" in whole and "lab-05" in whole
        assert chromium.shot(tmp_path / "room.png").stat().st_size > 10_000


def test_a_name_made_of_markup_is_shown_as_the_text_it_is(chromium: Browser) -> None:
    live = Live()
    live.tell(Fact(time.time(), "failed", "192.0.2.1", HOSTILE, blksize=1468, retransmits=9, cause=HOSTILE))
    with serving(live) as board:
        opened(live, board, chromium)
        chromium.until(ROWS + " === 1")
        chromium.run("document.querySelector('.who').click()")
        chromium.until("return document.querySelector('.story td')")
        assert chromium.run("return document.images.length") == 0
        assert chromium.run("return document.title") == "Boot board"
        assert HOSTILE in chromium.run("return document.querySelector('.story').textContent")
        assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_machine_in_trouble_stands_first_and_says_what_mends_it(chromium: Browser) -> None:
    live = Live()
    for number in range(60):
        boot(live, number)
    live.tell(Fact(time.time(), "refused", "198.51.100.1", "pub/initrd.gx", "52:54:00:aa:00:01"))
    with serving(live) as board:
        opened(live, board, chromium)
        chromium.until(ROWS + " === 50")
        first = "return document.querySelector('.machine').textContent"
        assert "it asked for pub/initrd.gx, which is not here" in chromium.run(first)
        chromium.run("document.querySelector('.who').focus()")
        chromium.keys("\ue007")  # Enter
        chromium.until("return document.querySelector('.who').getAttribute('aria-expanded') === 'true'")
        chromium.until("return document.querySelector('.story')")
        assert "boot explain" in chromium.run("return document.querySelector('.story').textContent")


def test_find_and_filter_narrow_the_machines(chromium: Browser) -> None:
    live = Live({"52:54:00:00:00:07": "kiosk"})
    for number in range(20):
        boot(live, number, 5 if number else 2)
    type_in = (
        "const box = document.getElementById(arguments[0]); box.value = arguments[1]; "
        "box.dispatchEvent(new Event('input'))"
    )
    with serving(live) as board:
        opened(live, board, chromium)
        chromium.until(ROWS + " === 20")
        chromium.run(type_in, "find", "kiosk")
        assert chromium.run(ROWS) == 1
        chromium.run(type_in, "find", "no such thing")
        assert chromium.run("return document.getElementById('none').textContent") == "No machine fits."
        chromium.run(type_in, "find", "")
        chromium.run(type_in, "state", "booting")
        assert chromium.run(ROWS) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways_and_every_text_can_be_read(chromium: Browser, scheme: str) -> None:
    live = Live()
    for number in range(4):
        boot(live, number, number + 1)
    live.tell(Fact(time.time() - 60, "start", "192.0.2.9", "initrd.gz", size=100))
    live.tell(Fact(time.time() - 59, "progress", "192.0.2.9", "initrd.gz", bytes=43, size=100))
    live.health = {
        "services": {"tftp": "ok", "custody": "degraded"},
        "problems": [{"severity": "error", "what": "w" * 300, "remedy": "r"}],
        "waiting": 1,
    }
    with serving(live) as board:
        chromium.devtools(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        opened(live, board, chromium, 390, 844)
        board.call(live.tick, time.time())
        chromium.until("return document.querySelectorAll('.machine').length >= 5")
        assert "1 upload waits to be looked at" in chromium.run(
            "return document.getElementById('problems').textContent"
        )
        assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")
        assert chromium.run(_FAINT) == []


# texts whose contrast with what they stand on is below 4.5 (WCAG 2.2, 1.4.3)
_FAINT = """
const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (; node; node = node.parentElement) {
  const c = colour(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); }
  return [255, 255, 255]; };
return [...document.querySelectorAll('main *, header *')].filter((n) => n.checkVisibility() &&
  [...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim())).map((n) => {
  const a = light(colour(getComputedStyle(n).color).slice(0, 3)), b = light(ground(n));
  return [n.className + ' ' + n.textContent.slice(0, 20), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
  .filter(([, ratio]) => ratio < 4.5);
"""


def test_a_thousand_machines_do_not_choke_the_page(chromium: Browser) -> None:
    live = Live(machines=1000)
    for number in range(1000):
        boot(live, number)
    with serving(live) as board:
        opened(live, board, chromium)
        chromium.until("return document.getElementById('counts').textContent.includes('booted')")
        chromium.until(ROWS + " === 50")
        for _ in range(10):
            for number in range(1000):
                board.call(
                    live.tell,
                    Fact(
                        time.time(),
                        "progress",
                        f"192.0.2.{number % 250}",
                        "x",
                        f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
                    ),
                )
            tick(live, board)
        chromium.until("return rows.size === 1000 && !due")
        assert chromium.run(ROWS) == 50
        assert chromium.run("return document.querySelectorAll('*').length") < 3000  # what is not looked at is not built


def test_a_lost_connection_is_said_and_mended(chromium: Browser) -> None:
    live = Live()
    with serving(live) as board:
        opened(live, board, chromium)
        board.call(lambda: [stream._writer.transport.abort() for stream in board.server.streams])
        chromium.until("return document.getElementById('link').className.includes('lost')")
        chromium.until("return document.getElementById('link').textContent === 'live'")
