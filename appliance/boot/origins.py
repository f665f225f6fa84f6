"""Read the `sources` of a manifest: where each comes from, and the one way in which it is shown to be genuine. Pure."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from appliance.boot import model
from appliance.boot.draft import Draft
from appliance.boot.model import Source
from appliance.boot.reading import Section, address, printable
from appliance.settings import forms
from appliance.settings.forms import Unfit
from appliance.settings.units import shown

_UNPACKED = {"deb": (("deb", "grub"), "deb")}
_SCHEMES = ("https", "http", "ftp", "tftp")
_SHA256 = re.compile("[0-9a-f]{64}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,120}(:[a-z0-9]{2,20})?")  # Debian Policy 5.6.1, with an architecture


def sources(top: Section, draft: Draft) -> None:
    """The sources that a document names."""
    for name, section in top.named("sources"):
        draft.places["source", name] = section.place
        if (source := _source(name, section, draft)) is not None:
            draft.sources[name] = source
        section.done()


def _source(name: str, section: Section, draft: Draft) -> Source | None:
    kind, at = _origin(section)
    sums = _sums(section, at) if section.has("sums") else None
    source = Source(
        name,
        cast("model.Kind", kind),
        at,
        cast("Any", section.choice("unpack", *_UNPACKED.get(kind, (("none", "tar", "iso", "deb"), "none")))),
        section.text("sha256", _digest),
        sums,
        section.flag("unverified"),
        section.size("max_size", 1, 1 << 40, 8 << 30),
        section.texts("redirects", address),
        section.text("experimental", printable) or draft.experimental,
    )
    if not kind or not at:
        return None
    _verified(source, section)
    return source


def _origin(section: Section) -> tuple[str, str]:
    given = [key for key in ("deb", "url", "file", "dir") if section.has(key)]
    if len(given) != 1:
        section.problem("one of deb, url, file and dir says where it comes from", "write one of them")
        for key in given:
            section.text(key)
        return "", ""
    if given[0] == "url":
        at = section.text("url", _url)
        return at.partition(":")[0], at
    return given[0], section.text(given[0], _package if given[0] == "deb" else forms.path)


def _package(text: str) -> str:
    if not _PACKAGE.fullmatch(text):
        raise Unfit(f"{shown(text)} is not the name of a Debian package", "write a name like pxelinux")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text) if text.isascii() and text.isprintable() and " " not in text else urlsplit("")
    if parts.scheme not in _SCHEMES or not parts.hostname or not parts.path.strip("/"):
        raise Unfit(f"{shown(text)} is not the address of a file", f"write {', '.join(_SCHEMES)}://HOST/PATH")
    if parts.username is not None or parts.fragment:
        remedy = "write the address alone: what stands in a manifest is stored with each release"
        raise Unfit("a user, a password or a fragment in an address", remedy)
    return text


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise Unfit(f"{shown(text)} is not a SHA-256 digest", "write 64 hexadecimal digits, as sha256sum prints them")
    return text.lower()


def _sums(section: Section, at: str) -> model.Sums:
    below = section.section("sums")

    def beside(text: str) -> str:
        return _url(urljoin(at, text))

    found = model.Sums(below.text("url", beside), below.text("signature", beside), below.text("keyring", forms.path))
    if not found.url or not found.keyring:
        remedy = "write url, signature (unless the list itself is clear-signed) and keyring"
        below.problem("a list of digests needs its address and the keys that sign it", remedy)
    below.done()
    return found


def _verified(source: Source, section: Section) -> None:
    """Each source is verified in exactly one way, or says that it is in none."""
    ways = [source.kind == "deb", bool(source.sha256), source.sums is not None, source.unverified]
    if sum(ways) == 0:
        remedy = "write sha256, or sums with a signature and a keyring; unverified: true takes whatever comes"
        if source.kind == "dir":
            remedy = "write unverified: true: a folder of this machine is taken as it is"
        section.problem("nothing says what makes it genuine", remedy)
    if sum(ways) > 1:
        section.problem("verified in more than one way", "keep one of deb, sha256, sums and unverified")
    if source.kind == "dir" and (source.sha256 or source.sums or source.unpack != "none"):
        section.problem("a folder has no digest and is not unpacked", "write dir and unverified: true alone")
    if source.sums is not None and source.kind not in _SCHEMES:
        section.problem("a list of digests is for what has an address", "write sha256", "sums")
