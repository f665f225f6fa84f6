"""Names as `ftp.passive_address`: looked up by a process of its own, followed by running workers, told by `status`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import DEFAULTS, Appliance

NAME = "localhost"  # stands in every /etc/hosts


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    made = Appliance(tmp_path)
    configure(made, f"[{{networks: [127.0.0.0/8], address: {NAME}}}]")
    try:
        yield made.start()
    finally:
        made.stop()


def configure(made: Appliance, told: str) -> None:
    text = DEFAULTS.format(**made.values).replace("  active:", f"  passive_address: {told}\n  active:", 1)
    made.write(text.replace('listen: ["127.0.0.1:0", "[::1]:0"]', 'listen: ["127.0.0.1:0"]'))


def told(made: Appliance) -> str:
    with made.ftp() as client:
        found = re.search(r"\((\d+,\d+,\d+,\d+),", client.sendcmd("PASV"))
        assert found
        return found[1].replace(",", ".")


def problems(made: Appliance) -> list[str]:
    return [problem["what"] for problem in made.status()["problems"] if "passive_address" in problem["what"]]


def test_a_name_is_looked_up_and_workers_that_come_later_know_it_too(running: Appliance) -> None:
    until(lambda: f"address name={NAME} address=127.0.0.1" in running.log.read_text())
    assert problems(running) == []
    assert told(running) == "127.0.0.1"
    (resolver,) = running.workers("resolver")
    assert resolver["jail"].endswith("/empty")


def test_a_name_that_cannot_be_looked_up_is_a_problem_and_a_reload_ends_it(running: Appliance) -> None:
    configure(running, "nowhere.invalid")
    assert running.verb("reload").returncode == 0
    until(lambda: problems(running))
    assert "no address of nowhere.invalid yet" in problems(running)[0]
    assert told(running) == "127.0.0.1"  # what the client reached
    configure(running, "192.0.2.7")
    assert running.verb("reload").returncode == 0
    assert problems(running) == []
    assert told(running) == "192.0.2.7"
    until(lambda: not running.workers("resolver"))
