"""The seed of an image: one small YAML file that is read at the first boot. Pure.

It holds keys of the configuration and public keys of SSH, and nothing that could be run: every part of it that names a
program is refused, and so is every key that is not known.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.errors import ConfigError, Problem
from appliance.settings.yamltext import Node, parse

LARGEST = 64 << 10  # bytes of a seed
MOST_KEYS = 32
KEYS = ("configuration", "ssh_keys")
SECTIONS = ("drain_timeout", "tftp", "ftp", "boot", "observe")  # folders and confinement are the image's own
RUNS = ("command", "hooks", "run", "scan")  # keys of the configuration below which programs are named
TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_COMMENT = re.compile(r"[A-Za-z0-9@._+ -]{0,100}")


@dataclass(frozen=True, slots=True)
class Seed:
    """`configuration`: the text of a file in conf.d, empty when there is none. `ssh_keys`: lines of authorized_keys."""

    configuration: str = ""
    ssh_keys: tuple[str, ...] = ()


def read(name: str, content: bytes) -> Seed:
    """What a seed says. Raises ConfigError with everything that is wrong; then nothing of it counts."""
    if len(content) > LARGEST:
        raise ConfigError((Problem("error", f"more than {LARGEST >> 10} KiB", "a seed is a short file", file=name),))
    document = parse(name, content)
    problems = list(document.problems)
    root = document.root
    if root is None or not isinstance(root.value, dict):
        if not problems:
            what = "this is no seed"
            problems.append(Problem("error", what, f"write the keys {' and '.join(KEYS)}, or one of them", file=name))
        raise ConfigError(tuple(problems))
    for key, node in root.value.items():
        if key not in KEYS:
            problems.append(node.key.problem("unknown key", f"the keys here are {', '.join(KEYS)}", key))
    said = root.value.get("configuration")
    given = root.value.get("ssh_keys")
    problems += _configured(said) if said else ()
    found = list(_keys(given)) if given else []
    problems += [one for one in found if isinstance(one, Problem)]
    if problems:
        raise ConfigError(tuple(problems))
    text = json.dumps(_plain(said), indent=1, ensure_ascii=False) + "\n" if said and said.value is not None else ""
    return Seed(text, tuple(one for one in found if isinstance(one, str)))


def _configured(node: Node) -> Iterator[Problem]:
    """What a configuration that comes from a seed may not say; what its keys may hold is looked at by who loads it."""
    if node.value is None:
        return
    if not isinstance(node.value, dict):
        yield node.place.problem("no keys of the configuration", "write NAME: VALUE lines below it", "configuration")
        return
    for name, section in node.value.items():
        key = f"configuration.{name}"
        if name not in SECTIONS:
            yield section.key.problem("not for a seed", f"a seed may have {', '.join(SECTIONS)}", key)
        else:
            yield from _running(section, key)


def _running(node: Node, key: str) -> Iterator[Problem]:
    """Every place where a program would be named."""
    if isinstance(node.value, dict):
        for name, below in node.value.items():
            if name in RUNS:
                yield below.key.problem("a seed holds no commands", "write it on the machine", f"{key}.{name}")
            else:
                yield from _running(below, f"{key}.{name}")
    elif isinstance(node.value, list):
        for number, item in enumerate(node.value):
            yield from _running(item, f"{key}[{number}]")


def _keys(node: Node) -> Iterator[Problem | str]:
    if not isinstance(node.value, list) or len(node.value) > MOST_KEYS:
        yield node.place.problem(f"no list of at most {MOST_KEYS} keys", "write - KEY lines below it", "ssh_keys")
        return
    for number, item in enumerate(node.value):
        line = public_key(item.value)
        remedy = "one line of a .pub file: TYPE BASE64 COMMENT, without options"
        yield line or item.place.problem("no public key of SSH", remedy, f"ssh_keys[{number}]")


def public_key(text: object) -> str:
    """A line for authorized_keys made anew from a public key (RFC 4253 section 6.6), empty for anything else."""
    words = text.strip().split(" ", 2) if isinstance(text, str) else []
    if len(words) < 2 or words[0] not in TYPES:
        return ""
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return ""
    length = struct.unpack_from(">I", blob)[0] if len(blob) >= 4 else 0
    comment = words[2].strip() if len(words) > 2 else ""
    if blob[4 : 4 + length] != words[0].encode() or len(blob) <= 4 + length or not _COMMENT.fullmatch(comment):
        return ""
    return " ".join(filter(None, (words[0], words[1], comment)))


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {name: _plain(below) for name, below in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value
