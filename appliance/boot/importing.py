"""Lists of machines that others keep: CSV, dnsmasq's hosts and leases, ISC dhcpd's hosts and leases. Pure.

A list is read as far as it can be: what is no machine is told with its line and left out. Invariant: what comes out
passed the same checks as what a person writes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from appliance.boot.model import ARCHES, Machine, Var
from appliance.boot.reading import one_of, plain_name, printable, uuid, variable_name
from appliance.errors import Problem
from appliance.settings import forms
from appliance.settings.forms import Unfit
from appliance.settings.yamltext import Place

FORMATS = ("csv", "dnsmasq", "isc")
MOST = 200_000  # machines of one list
_LEASE = re.compile(r"\s*(?P<what>lease|host)\s+(?P<name>\S+)\s*\{(?P<body>[^{}]*)\}", re.ASCII)
_STATEMENT = re.compile(r'(?:"[^"]*"|[^;"])+;')
_COMMENT = re.compile(r'("[^"\n]*")|#[^\n]*')
_TIMED = re.compile(r"([0-9]+[smhdw]?|infinite|ignore)", re.ASCII)
_NO_NAMES = ("set:", "tag:", "id:", "[", "net:")
_UNNAMED = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class Listed:
    """The machines of a list, and what in it is none."""

    machines: list[Machine] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    """One line of a list, as texts."""

    line: int
    values: dict[str, str]
    macs: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


def read(form: str, name: str, text: str) -> Listed:
    """The machines of a list in one of FORMATS."""
    found = Listed()
    seen: dict[str, int] = {}
    for row in _READERS[form](name, text, found.problems):
        place = Place(name, row.line, 1)
        machine = _machine(row, place, found.problems)
        if machine is None:
            continue
        keys = [*machine.macs, *filter(None, (machine.uuid, machine.serial, machine.ip))]
        before = next((seen[key] for key in keys if key in seen), None)
        if before is not None and form == "isc":
            continue  # a lease is written again for each renewal
        if before is not None:
            found.problems.append(
                place.problem(f"the same machine as in line {before}", "left out", severity="warning")
            )
            continue
        if f"name {machine.name}" in seen:  # two machines that call themselves alike
            machine = replace(machine, name=_name(f"{machine.name[:40]}-{keys[0].replace(':', '')}", (), {}))
        seen |= dict.fromkeys([*keys, f"name {machine.name}"], row.line)
        found.machines.append(machine)
        if len(found.machines) >= MOST:
            found.problems.append(place.problem(f"more than {MOST} machines", "split the list"))
            break
    return found


def _machine(row: _Row, place: Place, problems: list[Problem]) -> Machine | None:
    checks: dict[str, Callable[[str], str]] = {
        "uuid": uuid,
        "serial": printable,
        "ip": forms.ipv4,
        "arch": one_of(tuple(ARCHES)),
        "profile": plain_name,
    }
    try:
        macs = tuple(dict.fromkeys(forms.mac(mac) for mac in row.macs))
        texts = {key: checks[key](value) for key, value in row.values.items() if value and key in checks}
        if not (macs or texts.keys() & {"uuid", "serial", "ip"}):
            raise Unfit("nothing tells this machine from others", "left out")
        name = _name(row.values.get("name", ""), macs, texts)
        labels = tuple(Var(variable_name(key), printable(value)) for key, value in row.labels.items())
        values = tuple(Var(variable_name(key), printable(value)) for key, value in row.variables.items())
    except Unfit as error:
        problems.append(place.problem(error.what, "left out", severity="warning"))
        return None
    ids, serial, ip, arch, profile = (texts.get(key, "") for key in ("uuid", "serial", "ip", "arch", "profile"))
    return Machine(name, macs, ids, serial, ip, arch, labels, profile, values, None, f"{place.file}:{place.line}")


def _name(given: str, macs: tuple[str, ...], texts: dict[str, str]) -> str:
    """Its name made fit, else what it is known by."""
    wanted = given or next(iter(macs), "").replace(":", "-") or next(iter(texts.values()))
    return plain_name(_UNNAMED.sub("-", wanted).strip("-._")[:63])


def _csv(name: str, text: str, problems: list[Problem]) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text), strict=True)
    columns: list[str] = []
    known = {"name", "mac", "uuid", "serial", "ip", "arch", "profile"}
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                continue
            if not columns:
                columns = [cell.strip().lower() for cell in cells]
                strange = [one for one in columns if one not in known and not one.startswith(("label:", "var:"))]
                if strange or not known & set(columns):
                    what = f"no column is called {strange[0]}" if strange else "no column says which machine"
                    remedy = "name, mac, uuid, serial, ip, arch, profile, label:NAME and var:NAME are columns"
                    problems.append(Place(name, reader.line_num, 1).problem(what, remedy))
                    return
                continue
            row = _Row(reader.line_num, {})
            for column, cell in zip(columns, (cell.strip() for cell in cells), strict=False):
                _cell(row, column, cell)
            yield row
    except csv.Error as error:
        problems.append(Place(name, reader.line_num, 1).problem(f"not CSV: {error}", "mend the quotes of this line"))


def _cell(row: _Row, column: str, cell: str) -> None:
    kind, colon, name = column.partition(":")
    if not cell:
        return
    if column == "mac":
        row.macs += cell.replace(";", " ").split()
    elif colon:
        (row.labels if kind == "label" else row.variables)[name] = cell
    else:
        row.values[column] = cell


def _dnsmasq(name: str, text: str, problems: list[Problem]) -> Iterator[_Row]:
    """Lines `dhcp-host=…` of a configuration, lines of a dhcp-hostsfile, and lines of a leases file."""
    del name, problems
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.partition("#")[0].strip()
        if plain.startswith("dhcp-host="):
            yield _reserved(number, plain.removeprefix("dhcp-host="))
        elif "=" in plain.partition(",")[0] or plain.startswith("duid ") or not plain:
            continue  # other options, and DHCPv6 leases
        elif len(parts := plain.split()) >= 4 and parts[0].isdigit():  # expiry, MAC, address, name, client
            yield _Row(number, {"ip": parts[2], "name": parts[3] if parts[3] != "*" else ""}, [parts[1]])
        else:
            yield _reserved(number, plain)


def _reserved(number: int, text: str) -> _Row:
    """`MAC,MAC,IP,name,lease time` in any order, with tags and client identifiers (dnsmasq(8), --dhcp-host)."""
    row = _Row(number, {})
    for part in (part.strip() for part in text.split(",")):
        if re.fullmatch("([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", part):
            row.macs.append(part)
        elif re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", part):
            row.values["ip"] = part
        elif part and not part.startswith(_NO_NAMES) and not _TIMED.fullmatch(part):
            row.values["name"] = part
    return row


def _isc(name: str, text: str, problems: list[Problem]) -> Iterator[_Row]:
    """`lease IP { … }` of dhcpd.leases and `host NAME { … }` of dhcpd.conf; of an address the last lease counts."""
    del name, problems
    plain = _COMMENT.sub(lambda match: match[1] or "", text)
    rows: dict[str, _Row] = {}
    line, at = 1, 0
    for match in _LEASE.finditer(plain):
        line += plain.count("\n", at, match.start("what"))
        at = match.start("what")
        said = _statements(match["body"])
        if said.get("binding state", "active") not in ("active", "static"):
            rows.pop(match["name"], None)
            continue
        address = match["name"] if match["what"] == "lease" else said.get("fixed-address", "").partition(",")[0]
        called = match["name"] if match["what"] == "host" else said.get("client-hostname", "")
        mac = said.get("hardware ethernet", "")
        rows[match["name"]] = _Row(line, {"ip": address, "name": called.strip('"')}, [mac] if mac else [])
    yield from sorted(rows.values(), key=lambda row: row.line, reverse=True)


def _statements(body: str) -> dict[str, str]:
    found = {}
    for statement in _STATEMENT.findall(body):
        plain = " ".join(statement.strip().removesuffix(";").split())
        for key in ("hardware ethernet", "binding state", "client-hostname", "fixed-address"):
            if plain.startswith(f"{key} "):
                found[key] = plain.removeprefix(f"{key} ")
    return found


_READERS: dict[str, Callable[[str, str, list[Problem]], Iterator[_Row]]] = {
    "csv": _csv,
    "dnsmasq": _dnsmasq,
    "isc": _isc,
}
