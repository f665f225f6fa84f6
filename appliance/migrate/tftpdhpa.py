"""/etc/default/tftpd-hpa and its map file (in.tftpd(8)) to our settings. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from appliance.migrate.common import Imported, Left, listens
from appliance.migrate.mapfile import remap

_VARIABLE = re.compile(r"\s*(?:export\s+)?([A-Z_]+)=(.*)")
_WITH_VALUE = {
    "a": "address", "u": "user", "U": "umask", "P": "pidfile", "t": "timeout", "T": "retransmit", "m": "map-file",
    "r": "refuse", "B": "blocksize", "R": "port-range",
}  # fmt: skip
_SWITCHES = {
    "l": "listen", "L": "foreground", "c": "create", "s": "secure", "p": "permissive", "v": "verbose", "4": "ipv4",
    "6": "ipv6",
}  # fmt: skip
_OURS = {  # said by us otherwise, so that there is nothing to tell
    "listen", "foreground", "verbose", "verbosity", "pidfile", "secure", "ipv4", "ipv6",
}  # fmt: skip
_LEFT = {
    "user": "the workers have an account of their own, appliance-tftp: files must be readable for everybody",
    "umask": "uploads belong to the keeper of uploads, and are closed to others",
    "timeout": "only inetd had a use for it",
    "permissive": "files that not everybody may read are not served: chmod a+r, or world_readable_only: false",
}
_UPLOADS = (
    "uploads go into one folder, tftp.uploads.path, and are read back by nobody unless tftp.uploads.readable says so; "
    "files that were uploaded before stay where they are"
)
_REFUSABLE = ("blksize", "tsize", "timeout", "utimeout", "windowsize", "rollover")


def convert(name: str, text: str, read: Callable[[str], str | None]) -> Imported:
    """From the text of the file; `read` gives the text of a map file, None when it cannot be read."""
    made = Imported()
    made.put("ftp.enabled", False)
    lines = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (found := _VARIABLE.match(line)) and not line.lstrip().startswith("#"):
            lines[found[1]] = (number, " ".join(shlex.split(found[2], comments=True)))
    options = _Options(made, name, read)
    number, value = lines.get("TFTP_OPTIONS", (0, ""))
    families = options.take(value.split(), number)
    number, value = lines.get("TFTP_DIRECTORY", (0, "/srv/tftp"))
    folders = value.split() or ["/srv/tftp"]
    made.put("tftp.root", folders[0])
    for folder in folders[1:]:
        made.left.append(
            Left(name, number, folder, "there is one root: put it inside, or serve it by a second instance")
        )
    if not options.secure:
        why = f"without --secure clients ask with the whole path; a rule takes {folders[0]} off it"
        made.left.append(Left(name, lines.get("TFTP_OPTIONS", (0, ""))[0], "no --secure", why))
        made.put(
            "tftp.remap", [{"match": f"^{re.escape(folders[0].strip('/'))}/", "to": ""}, *made.get("tftp.remap", [])]
        )
    _listen(made, lines.get("TFTP_ADDRESS", (0, ":69"))[1] or options.address or ":69", families)
    if "TFTP_USERNAME" in lines:
        made.left.append(Left(name, lines["TFTP_USERNAME"][0], "TFTP_USERNAME", _LEFT["user"]))
    return made


def _listen(made: Imported, text: str, families: set[str]) -> None:
    found = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\w+))?", text)
    address, port = (found[1].strip("[]"), found[2] or "69") if found else ("", "69")
    number = int(port) if port.isdigit() else 69
    texts = listens("" if address in {"0.0.0.0", "::"} and not families else address, number)
    if families == {"ipv4"}:
        texts = [one for one in texts if not one.startswith("[")]
    elif families == {"ipv6"}:
        texts = [one for one in texts if one.startswith("[")]
    made.put("tftp.listen", texts)


class _Options:
    """The words of TFTP_OPTIONS, one after the other."""

    def __init__(self, made: Imported, name: str, read: Callable[[str], str | None]) -> None:
        self._made, self._name, self._read = made, name, read
        self.secure = False
        self.address = ""
        self._create = False

    def take(self, words: list[str], number: int) -> set[str]:
        """Carry every option over or say why not; returns the families that are asked for, none for both."""
        families: set[str] = set()
        for option, value in _options(words):
            if option in {"ipv4", "ipv6"}:
                families.add(option)
            self._one(option, value, number)
        return families

    def _one(self, option: str, value: str, number: int) -> None:
        put = self._made.put
        if option == "secure":
            self.secure = True
        elif option == "address":
            self.address = value
        elif option == "create":
            put("tftp.uploads.mode", "replace")
            put("tftp.uploads.bare_names", "into_path")
            self._say(number, "--create", _UPLOADS)
        elif option == "port-range" and re.fullmatch(r"\d+:\d+", value):
            put("tftp.port_range", value.replace(":", "-"))
        elif option == "blocksize" and value.isdigit():
            put("tftp.blksize_max", max(8, min(65464, int(value))))
        elif option == "retransmit" and value.isdigit():
            put("tftp.timeout", f"{max(10, int(value) // 1000)}ms")
        elif option == "refuse" and value in _REFUSABLE:
            self._refuse(value)
        elif option == "refuse" and value == "blksize2":
            pass  # we do not know it, and so refuse it
        elif option == "map-file":
            self._map(value, number)
        elif option not in _OURS:
            self._say(
                number, f"--{option} {value}".strip(), _LEFT.get(option, "not an option of in.tftpd that we know")
            )

    def _refuse(self, option: str) -> None:
        networks = self._made.get("tftp.networks") or [
            {"net": net, "refuse_options": []} for net in ("0.0.0.0/0", "::/0")
        ]
        for network in networks:
            network["refuse_options"].append(option)
        self._made.put("tftp.networks", networks)

    def _map(self, path: str, number: int) -> None:
        text = self._read(path)
        if text is None:
            self._say(number, f"--map-file {path}", "the file cannot be read: its rules are missing")
            return
        rules, left = remap(path, text)
        self._made.put("tftp.remap", rules)
        self._made.left += left

    def _say(self, number: int, what: str, why: str) -> None:
        self._made.left.append(Left(self._name, number, what, why))


def _options(words: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            takes = option in _WITH_VALUE.values() or option == "verbosity"
            found.append((option, value if equals else rest.pop(0) if takes and rest else ""))
        elif word.startswith("-"):
            for index, letter in enumerate(word[1:], 2):
                if letter in _WITH_VALUE:
                    found.append((_WITH_VALUE[letter], word[index:] or (rest.pop(0) if rest else "")))
                    break
                found.append((_SWITCHES.get(letter, letter), ""))
    return found
