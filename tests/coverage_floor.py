"""The floor: pure rooms are covered to the last branch. Reads coverage's XML; ends with 1 and the gaps."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

from tests.test_layers import PURE

DATA = {"settings.types", "confine.syscalls", "settings.boot"}  # nothing to branch on


def main() -> int:
    tree = ET.parse(sys.argv[1])
    gaps = []
    for item in tree.iter("class"):
        name = item.get("filename", "").removeprefix("appliance/").removesuffix(".py").replace("/", ".")
        if name in PURE and name not in DATA:
            lines, branches = float(item.get("line-rate", 0)), float(item.get("branch-rate", 0))
            has_branches = any(line.get("branch") == "true" for line in item.iter("line"))
            if lines < 1 or (has_branches and branches < 1):
                missed = [
                    line.get("number")
                    for line in item.iter("line")
                    if line.get("hits") == "0" or "(50%" in line.get("condition-coverage", "")
                ]
                gaps.append(
                    f"{name}: lines {lines:.0%}, branches {branches:.0%}, see {', '.join(filter(None, missed))}"
                )
    for gap in gaps:
        print(f"coverage floor: {gap}", file=sys.stderr)
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.path[:0] = ["."]
    sys.exit(main())
