"""bench/RESULTS.md: one section for each benchmark; writing one leaves the others as they are."""

from __future__ import annotations

import os
import platform
from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"
_TITLE = "# Measured\n\nThe last run of each benchmark. Trust ratios inside one table more than absolute figures.\n"


def write_section(heading: str, body: str, file: Path = FILE) -> None:
    """Replace the section `## heading`, or add it at the end."""
    title, *sections = ("\n" + file.read_text() if file.exists() else "\n" + _TITLE).split("\n## ")
    new = f"{heading}\n\n{body.strip()}\n"
    names = [section.partition("\n")[0] for section in sections]
    if heading in names:
        sections[names.index(heading)] = new
    else:
        sections.append(new)
    file.write_text("\n## ".join(text.strip("\n") + "\n" for text in (title, *sections)).lstrip("\n"))


def write_tables(heading: str, preface: str, tables: list[str], file: Path = FILE) -> None:
    """Replace single tables of a section; each is known by its first line. The others, and their order, stay."""
    sections = ("\n" + file.read_text() if file.exists() else "").split("\n## ")
    old = next((text for text in sections if text.partition("\n")[0] == heading), "")
    _preface, *kept = ("\n" + old).split("\n**")
    blocks = {f"**{text}".partition("\n")[0]: f"**{text}".strip() for text in kept}
    blocks |= {text.strip().partition("\n")[0]: text.strip() for text in tables}
    write_section(heading, "\n\n".join((preface.strip(), *blocks.values())), file)


def machine() -> str:
    """What it was measured on."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU"
    )
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    release = platform.release().split("-")[0]
    return f"{os.cpu_count()} x {model}, Linux {release}, {system}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
