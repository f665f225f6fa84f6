"""cli.top and cli.who: what is shown, in which order, on 80 columns; what a key does."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from appliance.cli import kick, top, who
from appliance.cli.top import View, arrange, draw, keys, measure, press
from appliance.errors import ApplianceError


def one(**changes: Any) -> dict[str, Any]:
    row = {
        "service": "tftp", "worker": 0, "number": 5, "client": "192.0.2.1", "port": 1069, "verb": "RRQ",
        "file": "linux/vmlinuz", "path": "", "layer": "static", "release": "", "mac": "", "note": "",
        "bytes": 1 << 20, "size": 4 << 20, "percent": 25, "seconds": 10.0, "rate": 104857, "blksize": 1428,
        "windowsize": 64, "retransmits": 0, "silent_s": 0.1,
    }  # fmt: skip
    return {**row, **changes}


ROWS = [
    one(number=1, client="192.0.2.1", rate=100, file="b"),
    one(number=2, client="192.0.2.20", rate=300, file="c", percent=None, size=None),
    one(number=3, client="192.0.2.3", rate=200, file="a", percent=90, seconds=99.0),
    one(number=4, client="192.0.2.4", service="ftp", verb="", rate=0, file="", note="idle", blksize=None, port=7),
]


def numbers(view: View) -> list[int]:
    return [row["number"] for row in arrange(ROWS, view)]


@pytest.fixture
def view() -> View:
    made = View()
    measure(ROWS, 100.0, made)
    return made


def screen(view: View, width: int = 80, height: int = 24, live: list[dict[str, Any]] | None = None) -> list[str]:
    console = Console(width=width, height=height, highlight=False)
    with console.capture() as captured:
        console.print(draw(arrange(ROWS if live is None else live, view), 4, view, (width, height)), end="")
    return captured.get().split("\n")


@pytest.mark.parametrize(
    ("presses", "order"),
    [("", [2, 3, 1, 4]), ("s", [1, 3, 4, 2]), ("ss", [4, 3, 1, 2]), ("sss", [3, 1, 4, 2]), ("ssss", [3, 1, 2, 4]),
     ("sssss", [2, 3, 1, 4]), ("r", [4, 1, 3, 2])],
)  # fmt: skip
def test_s_sorts_otherwise_and_r_turns_the_order(view: View, presses: str, order: list[int]) -> None:
    for key in presses:
        press(key, view, ROWS, "")
    assert numbers(view) == order


def test_a_filter_is_typed_kept_by_enter_and_taken_away_by_escape(view: View) -> None:
    for key in ["/", "F", "T", "P", "x", "backspace", "q"]:
        press(key, view, ROWS, "")
    assert (view.typing, view.wanted) == (True, "FTPq")
    press("backspace", view, ROWS, "")
    press("enter", view, ROWS, "")
    assert (numbers(view), view.typing) == ([2, 3, 1, 4], False)
    view.wanted = "192.0.2.2"
    assert numbers(view) == [2]
    press("escape", view, ROWS, "")
    assert view.wanted == ""
    press("/", view, ROWS, "")
    press("x", view, ROWS, "")
    press("escape", view, ROWS, "")
    assert (view.wanted, view.typing) == ("", False)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 5)])
def test_the_screen_is_filled_and_never_exceeded(view: View, width: int, height: int) -> None:
    lines = screen(view, width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)


def test_80_columns_show_client_file_progress_and_rate(view: View) -> None:
    long = one(number=9, file="debian/dists/bookworm/main/installer-amd64/current/images/netboot/initrd.gz")
    measure([long], 100.0, view)
    text = "\n".join(screen(view, live=[long]))
    for word in ("192.0.2.1:1069", "tftp RRQ", "initrd.gz", "25%", "102.4 KiB/s", "10s", "q quit"):
        assert word in text


def test_the_selection_stays_on_its_row_when_the_order_changes(view: View) -> None:
    screen(view)
    press("down", view, arrange(ROWS, view), "")
    assert view.chosen == "tftp.0:3"
    press("s", view, ROWS, "")
    screen(view)
    assert (view.chosen, view.place) == ("tftp.0:3", 1)
    for _ in range(9):
        press("page down", view, arrange(ROWS, view), "")
    assert view.place == len(ROWS) - 1
    press("page up", view, arrange(ROWS, view), "")
    assert view.place == 0


def test_a_kick_asks_first(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(kick, "end", lambda run_dir, row: ended.append(f"{run_dir} {kick.name(row)}") or "")
    screen(view)
    press("K", view, arrange(ROWS, view), "/run/x")
    assert "End 192.0.2.20:1069" in view.asked
    press("n", view, arrange(ROWS, view), "/run/x")
    assert (ended, view.asked, view.said) == ([], "", "not ended")
    press("K", view, arrange(ROWS, view), "/run/x")
    press("y", view, arrange(ROWS, view), "/run/x")
    assert (ended, view.said) == (["/run/x tftp.0:2"], "ended")


def test_nobody_on_is_a_screen_too(view: View) -> None:
    lines = screen(View(), live=[])
    assert "0 of 4 shown" in lines[0]
    press("K", View(), [], "")
    press("down", View(), [], "")


def test_a_rate_is_what_moved_in_the_last_seconds() -> None:
    view = View()
    measure([one(bytes=1000, rate=7)], 100.0, view)
    assert view.rates == {"tftp.0:5": 7}
    measure([one(bytes=3000, rate=7)], 102.0, view)
    assert view.rates == {"tftp.0:5": 1000.0}
    measure([one(bytes=10, rate=7)], 103.0, view)  # another transfer of the same session
    assert view.rates == {"tftp.0:5": 7}


def test_a_client_that_takes_in_lumps_has_one_rate() -> None:
    view, rates = View(), []
    for second in range(20):
        measure([one(bytes=6_000_000 * (second // 3), rate=0)], 100.0 + second, view)
        rates.append(view.rates["tftp.0:5"])
    assert all(1_000_000 < rate < 3_000_000 for rate in rates[5:]), rates
    assert len(view.before["tftp.0:5"]) <= 7


def test_between_seldom_looks_the_rate_is_that_since_the_last() -> None:
    view = View()
    for look in range(3):
        measure([one(bytes=60_000 * look, rate=0)], 100.0 + 60 * look, view)
    assert view.rates == {"tftp.0:5": 1000.0}


def test_keys_come_by_their_names_and_unknown_ones_do_nothing() -> None:
    assert list(keys(b"s\x1b[A\x1b[B\x1b[5~/\r\x7f\x03")) == [
        "s", "up", "down", "page up", "/", "enter", "backspace", "q",
    ]  # fmt: skip
    assert list(keys(b"\x1b")) == ["escape"]
    assert list(keys(b"\x1b[17~")) == []


def test_something_that_stands_still_is_told_from_something_that_moves() -> None:
    assert top.stuck(one(silent_s=6.0))
    assert not top.stuck(one(silent_s=1.0))
    assert not top.stuck(one(verb="", silent_s=100.0))


def test_who_aligns_and_shows_a_session_that_does_nothing() -> None:
    head, first, *_rest, last = who.lines(ROWS)
    assert head.split() == ["client", "what", "file", "done", "moved", "rate", "for", "options", "again"]
    assert first.split()[:4] == ["192.0.2.1:1069", "tftp", "RRQ", "b"]
    assert last.split() == ["192.0.2.4:7", "ftp", "-", "25%", "1.0", "MiB", "-", "10s", "idle", "-"]
    assert who.lines([]) == []
    assert who.cells(one(client="2001:db8::1", seconds=3700.0, retransmits=3))[0::6] == ("[2001:db8::1]:1069", "1h01m")
    assert who.span(200) == "3m20s"


@pytest.mark.parametrize(
    ("whom", "meant"), [("192.0.2.0/27", [1, 2, 3, 4]), ("192.0.2.3", [3]), ("tftp.0:2", [2]), ("ftp.0:4", [4])]
)
def test_whom_is_an_address_a_network_or_a_name(whom: str, meant: list[int]) -> None:
    assert [row["number"] for row in kick.chosen(ROWS, whom)] == meant


def test_what_is_neither_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ApplianceError, match=r"192\.0\.2\.0/24"):
        kick.chosen(ROWS, "nobody")
    assert kick.chosen([one(client="?")], "192.0.2.0/24") == []
