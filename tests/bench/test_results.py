"""bench/RESULTS.md is written piece by piece, and what was not measured stays."""

from __future__ import annotations

from pathlib import Path

from bench import results

OLD = """\
# Measured

## TFTP

old machine

**1. a**

| x |

- **missed**: speed

**2. b**

| y |

## FTP

other

**1. a**
"""


def test_one_table_of_a_section_is_replaced_and_everything_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "R.md"
    file.write_text(OLD)
    results.write_tables(
        "TFTP", "new machine", ["**1. a**\n\n| z |\n\n- **missed**: less\n", "**3. c**\n\n| w |"], file
    )
    text = file.read_text()
    assert text == OLD.replace("old machine", "new machine").replace("| x |", "| z |").replace(
        ": speed", ": less"
    ).replace("| y |\n", "| y |\n\n**3. c**\n\n| w |\n")


def test_a_section_that_is_not_there_is_added(tmp_path: Path) -> None:
    file = tmp_path / "R.md"
    results.write_tables("TFTP", "machine", ["**1. a**\n\n| z |"], file)
    assert file.read_text().endswith("## TFTP\n\nmachine\n\n**1. a**\n\n| z |\n")


def test_the_sections_of_the_real_file_survive_being_written_with_their_own_tables(tmp_path: Path) -> None:
    file = tmp_path / "R.md"
    file.write_text(results.FILE.read_text())
    section = file.read_text().partition("\n## TFTP\n\n")[2].partition("\n## ")[0]
    preface, *tables = section.split("\n**")
    whole = [f"**{table}" for table in tables]
    results.write_tables("TFTP", preface, whole[:1], file)
    assert file.read_text() == results.FILE.read_text()
