"""Finding and loading: every problem with its exact place, key, text and remedy."""

from __future__ import annotations

import os
import pwd
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.settings import describe, load
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpNetwork, TftpRemap

ROOT = Path(__file__).parents[2]


def lines(*texts: str) -> list[str]:
    """The problems of a.yaml, b.yaml ... as the operator reads them."""
    documents = [(f"{chr(97 + i)}.yaml", text.encode()) for i, text in enumerate(texts)]
    with pytest.raises(ConfigError) as caught:
        load.load(documents)
    return [str(problem) for problem in caught.value.problems]


def loaded(*texts: str) -> Settings:
    settings, warnings = load.load([(f"{i}.yaml", text.encode()) for i, text in enumerate(texts)])
    assert warnings == []
    return settings


BLKSIZE = "write mtu, or a whole number from 8 to 65464"
WORKERS = "write auto, or a whole number from 1 to 64"
SIZE = "write a size like 512KiB, 64MiB or 1GB"
DURATION = "write a duration like 250ms, 30s, 5m, 2h or 30d"
NETWORKS = "a list, each item a network like 192.0.2.0/24 or 2001:db8::/32, or an address"
TOP = "the keys here are state_dir, run_dir, confinement, drain_timeout, tftp, ftp, boot, observe"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # keys
        (
            "tftp:\n  blksize_maxx: 8\n",
            "a.yaml:2:3: tftp.blksize_maxx: unknown key (did you mean blksize_max?)",
        ),
        ("root: /srv\n", "a.yaml:1:1: root: unknown key (did you mean tftp.root or ftp.root?)"),
        ("quota: 1GB\n", "a.yaml:1:1: quota: unknown key (did you mean tftp.uploads.quota or ftp.incoming.quota?)"),
        ("zzz: 1\n", f"a.yaml:1:1: zzz: unknown key ({TOP})"),
        ("observe:\n  lgo: {a: 1}\n", "a.yaml:2:3: observe.lgo: unknown key (did you mean log?)"),
        # units
        ("tftp: {limits: {memory: 64 MB/s}}\n", f"a.yaml:1:25: tftp.limits.memory: 64 MB/s is not a size ({SIZE})"),
        (
            "tftp: {limits: {memory: 64Mb}}\n",
            "a.yaml:1:25: tftp.limits.memory: 64Mb is not a size (write 64MB)",
        ),
        (
            "ftp:\n  limits:\n    idle_timeout: 300\n",
            "a.yaml:3:19: ftp.limits.idle_timeout: 300 has no unit (write 300s, or another of ms, s, m, h, d)",
        ),
        ("drain_timeout: 1w\n", f"a.yaml:1:16: drain_timeout: 1w is not a duration ({DURATION})"),
        # ranges
        ("tftp:\n  blksize_max: 7\n", f"a.yaml:2:16: tftp.blksize_max: 7 is out of range ({BLKSIZE})"),
        ("tftp:\n  blksize_max: 65465\n", f"a.yaml:2:16: tftp.blksize_max: 65465 is out of range ({BLKSIZE})"),
        ("ftp: {workers: 65}\n", f"a.yaml:1:16: ftp.workers: 65 is out of range ({WORKERS})"),
        (
            "ftp: {limits: {sessions: 0}}\n",
            "a.yaml:1:26: ftp.limits.sessions: 0 is out of range (write a whole number from 1 to 100000)",
        ),
        (
            "tftp: {limits: {memory: 1MB}}\n",
            "a.yaml:1:25: tftp.limits.memory: 1MB is out of range (write a size from 1MiB to 64GiB)",
        ),
        (
            "drain_timeout: 25h\n",
            "a.yaml:1:16: drain_timeout: 25h is out of range (write a duration from 0s to 1d)",
        ),
        (
            "ftp: {incoming: {retention: 59s}}\n",
            "a.yaml:1:29: ftp.incoming.retention: 59s is out of range (write a duration from 1m to 3650d, or 0)",
        ),
        (
            "ftp: {limits: {idle_timeout: 0}}\n",
            "a.yaml:1:30: ftp.limits.idle_timeout: 0 is out of range (write a duration from 1s to 1d)",
        ),
        (
            "ftp: {banner: ''}\n",
            "a.yaml:1:15: ftp.banner: a text of 0 characters (write a text of 1 to 200 characters)",
        ),
        ("ftp: {listen: []}\n", "a.yaml:1:15: ftp.listen: a list of 0 items (write a list of 1 to 64 items)"),
        (
            f"ftp: {{listen: [{', '.join('0.0.0.0:0' for _ in range(65))}]}}\n",
            "a.yaml:1:15: ftp.listen: a list of 65 items (write a list of 1 to 64 items)",
        ),
        # kinds
        ("ftp: {root: [/srv]}\n", "a.yaml:1:13: ftp.root: a list where a text belongs (write an absolute path)"),
        ("ftp: {root: {a: 1}}\n", "a.yaml:1:13: ftp.root: a section where a text belongs (write an absolute path)"),
        (
            "ftp: {listen: 0.0.0.0:21}\n",
            'a.yaml:1:15: ftp.listen: a text where a list belongs (write ["0.0.0.0:21"])',
        ),
        ("ftp: {hide: .git}\n", "a.yaml:1:13: ftp.hide: a text where a list belongs (write [.git])"),
        ("ftp: {hide: 7}\n", "a.yaml:1:13: ftp.hide: a number where a list belongs (write [7])"),
        ("ftp: {deny: {a: 1}}\n", f"a.yaml:1:13: ftp.deny: a section where a list belongs (write {NETWORKS})"),
        ("ftp: {deny: }\n", f"a.yaml:1:12: ftp.deny: no value (write {NETWORKS}, or take the key out)"),
        (
            "ftp: [a]\n",
            "a.yaml:1:6: ftp: a list where a section belongs (write the keys of ftp below it, indented)",
        ),
        (
            "ftp: true\n",
            "a.yaml:1:6: ftp: true where a section belongs (write the keys of ftp below it, indented)",
        ),
        ("ftp: {workers: true}\n", f"a.yaml:1:16: ftp.workers: true is not one of the choices ({WORKERS})"),
        (
            "ftp: {limits: {sessions: true}}\n",
            "a.yaml:1:26: ftp.limits.sessions: true is not a whole number (write a whole number from 1 to 100000)",
        ),
        (
            "ftp: {limits: {sessions: 1.5}}\n",
            "a.yaml:1:26: ftp.limits.sessions: 1.5 is not a whole number (write a whole number from 1 to 100000)",
        ),
        (
            "ftp: {limits: {sessions: many}}\n",
            "a.yaml:1:26: ftp.limits.sessions: many is not a whole number (write a whole number from 1 to 100000)",
        ),
        ("tftp: {limits: {memory: true}}\n", f"a.yaml:1:25: tftp.limits.memory: true is not a size ({SIZE})"),
        ("tftp: {enabled: off}\n", "a.yaml:1:17: tftp.enabled: off is not true or false (write false)"),
        ("tftp: {enabled: Yes}\n", "a.yaml:1:17: tftp.enabled: Yes is not true or false (write true)"),
        ("tftp: {enabled: 1}\n", "a.yaml:1:17: tftp.enabled: 1 is not true or false (write true or false)"),
        (
            'tftp: {enabled: "true"}\n',
            'a.yaml:1:17: tftp.enabled: "true" in quotes is a text (write true without quotes)',
        ),
        (
            "observe: {log: syslog}\n",
            "a.yaml:1:16: observe.log: syslog is not one of the choices (write journal, json or text)",
        ),
        ("ftp: {hide: [7]}\n", 'a.yaml:1:14: ftp.hide[0]: 7 without quotes is not a text (write "7")'),
        ("state_dir: 7\n", "a.yaml:1:12: state_dir: 7 is not a text (write an absolute path)"),
        ("state_dir:\n", "a.yaml:1:11: state_dir: no value (write an absolute path, or take the key out)"),
        (
            "ftp: {passive_address: 3}\n",
            "a.yaml:1:24: ftp.passive_address: 3 is not one of the choices (write an IPv4 address like 192.0.2.7 "
            "or a host name like ftp.example.org, "
            "or a list, each item {networks, address}, or null)",
        ),
        # forms
        (
            "tftp:\n  listen:\n    - 0.0.0.0:69\n    - 0.0.0.0\n",
            "a.yaml:4:7: tftp.listen[1]: 0.0.0.0 has no port (write 0.0.0.0:PORT)",
        ),
        (
            "tftp: {listen: ['localhost:69']}\n",
            "a.yaml:1:17: tftp.listen[0]: localhost:69: localhost is not a numeric address "
            "(write 127.0.0.1:69 for IPv4 and [::1]:69 for IPv6)",
        ),
        (
            "ftp: {allow: [10.0.0.1/8]}\n",
            "a.yaml:1:15: ftp.allow[0]: 10.0.0.1/8 has bits set beyond its prefix (write 10.0.0.0/8)",
        ),
        (
            "ftp: {passive_ports: 65535-61000}\n",
            "a.yaml:1:22: ftp.passive_ports: 65535-61000 runs backwards (write 61000-65535)",
        ),
        (
            "ftp: {incoming: {path: ../x}}\n",
            'a.yaml:1:24: ftp.incoming.path: ../x leaves the root (write a path inside the root, without "..")',
        ),
        (
            "ftp: {incoming: {path: .}}\n",
            "a.yaml:1:24: ftp.incoming.path: . is the root itself (write the name of a folder inside the root)",
        ),
        (
            "ftp: {user: root}\n",
            "a.yaml:1:13: ftp.user: workers never run as root (write another account, or take the key out)",
        ),
        (
            'ftp: {banner: "a\\nb"}\n',
            "a.yaml:1:15: ftp.banner: characters that cannot be printed (write one line of printable characters)",
        ),
        # keys against each other
        (
            "tftp:\n  enabled: false\nftp:\n  enabled: false\n",
            "a.yaml:4:12: ftp.enabled: both services are off (write enabled: true for tftp or ftp)",
        ),
        (
            "ftp:\n  listen: ['0.0.0.0:21', '127.0.0.1:21']\n",
            "a.yaml:2:26: ftp.listen[1]: 127.0.0.1:21 is taken by ftp.listen[0], 0.0.0.0:21 "
            "(remove one of the two, or change its port)",
        ),
        (
            "ftp: {listen: ['0.0.0.0:61000']}\n",
            "a.yaml:1:16: ftp.passive_ports: 61000-65535 contains port 61000, which ftp.listen[0] listens on "
            "(write a range without it, or change that port)",
        ),
        (
            "tftp: {timeout: 20s}\n",
            "a.yaml:1:17: tftp.give_up_after: 1m is less than 5 times the timeout of 20s (write at least 100s)",
        ),
        (
            "ftp: {incoming: {enabled: true, max_size: 20GiB}}\n",
            "a.yaml:1:43: ftp.incoming.max_size: 20GiB is more than the quota of 10GiB "
            "(write at most 10GiB, or raise the quota)",
        ),
        (
            "run_dir: /var/lib/appliance\n",
            "a.yaml:1:10: run_dir: run_dir is the same folder as state_dir "
            "(write /var/lib/appliance/run, or another folder)",
        ),
        (
            "tftp: {root: /}\n",
            "a.yaml:1:14: tftp.root: the root folder of the machine would be served "
            "(name the folder to serve, like /srv/appliance/tftp)",
        ),
        (
            "ftp: {incoming: {enabled: true, path: .git}}\n",
            "a.yaml:1:39: ftp.incoming.path: .git is hidden by ftp.hide, .git, so no client reaches it "
            "(write a name that is not hidden, like incoming)",
        ),
        (
            "tftp: {uploads: {mode: create, path: up/.releases}}\n",
            "a.yaml:1:38: tftp.uploads.path: up/.releases: .releases belongs to what is published "
            "(name another folder inside the root)",
        ),
        # whole files
        ("- a\n", "a.yaml:1:1: this is not a list of keys (write KEY: VALUE lines)"),
        ("just words\n", "a.yaml:1:1: this is not a list of keys (write KEY: VALUE lines)"),
    ],
)
def test_a_problem_names_place_key_trouble_and_remedy(text: str, expected: str) -> None:
    assert lines(text) == [expected]


def test_all_problems_are_told_in_the_order_of_their_places() -> None:
    text = "tftp:\n  workers: 0\n  workers: 1\n  blksiz: 8\nftp:\n  listen: [a, 1]\n  user: &u x\n"
    text += "run_dir: /var/lib/appliance\n"
    assert [line.split(" ")[0] for line in lines(text, "ftp: {workers: 0}\n")] == [
        "a.yaml:2:12:",
        "a.yaml:3:3:",
        "a.yaml:4:3:",
        "a.yaml:6:12:",
        "a.yaml:6:15:",
        "a.yaml:7:9:",
        "a.yaml:8:10:",
        "b.yaml:1:16:",
    ]


def test_a_file_that_cannot_be_read_to_its_end_is_not_judged_as_a_whole() -> None:
    texts = ("tftp: {enabled: false}\n", "ftp: {enabled: false, workers: 0}\n", "ftp: [\n")
    assert [line.split(" ")[0] for line in lines(*texts)] == ["b.yaml:1:32:", "c.yaml:2:1:"]


def test_a_key_that_is_wrong_by_itself_silences_what_it_takes_part_in() -> None:
    assert len(lines("tftp: {timeout: 20s, give_up_after: 1w}\n")) == 1
    assert len(lines("ftp: {listen: ['0.0.0.0:61000', x]}\n")) == 1


def test_hundreds_of_problems_are_counted() -> None:
    found = lines("".join(f"key{i}: 1\n" for i in range(150)))
    assert len(found) == 101
    assert found[-1] == "a.yaml: 50 more problems (mend these first)"


def test_warnings_do_not_stop_a_configuration() -> None:
    text = "ftp: {incoming: {enabled: true, per_client_quota: 11GiB}}\n"
    settings, warnings = load.load([("a.yaml", text.encode())])
    assert settings.ftp.incoming.per_client_quota == 11 << 30
    assert [str(warning) for warning in warnings] == [
        "a.yaml:1:51: warning: ftp.incoming.per_client_quota: 11GiB is more than the quota of 10GiB, "
        "so it limits nobody (write less than 10GiB)"
    ]


def test_an_empty_file_is_all_defaults_with_a_warning() -> None:
    settings, warnings = load.load([("a.yaml", b"# nothing\n")])
    assert settings == Settings()
    assert [str(warning) for warning in warnings] == [
        "a.yaml: warning: the file says nothing: every key has its default "
        "(appliance config show --commented lists every key)"
    ]


def test_later_files_override_key_by_key() -> None:
    settings = loaded(
        "tftp:\n  workers: 2\n  limits: {transfers: 10, per_client: 5}\n  allow: [10.0.0.0/8, 192.0.2.0/24]\n",
        "tftp:\n  limits: {transfers: 20}\n  allow: [198.51.100.0/24]\n",
    )
    assert (settings.tftp.workers, settings.tftp.limits.transfers, settings.tftp.limits.per_client) == (2, 20, 5)
    assert settings.tftp.allow == ("198.51.100.0/24",)


def test_a_section_without_keys_says_nothing() -> None:
    assert loaded("tftp:\nftp:\n  limits:\n") == Settings()
    assert loaded("tftp: {workers: 3}\n", "tftp:\n").tftp.workers == 3


def test_null_takes_an_earlier_value_back() -> None:
    assert loaded("ftp: {passive_address: 192.0.2.1}\n", "ftp: {passive_address: null}\n").ftp.passive_address is None


def test_a_section_that_replaces_a_value_is_judged_where_it_stands() -> None:
    assert lines("tftp: {workers: 2}\n", "tftp: {workers: {a: 1}}\n") == [
        f"b.yaml:1:17: tftp.workers: a section where one of the choices belongs ({WORKERS})"
    ]


def test_values_arrive_in_their_canonical_form() -> None:
    settings = loaded("ftp: {root: /srv//x/}\ntftp: {listen: ['[0::1]:069']}\n")
    assert (settings.ftp.root, settings.tftp.listen) == ("/srv/x", ("[::1]:69",))


def test_a_hardware_address_as_a_value_stays_text() -> None:
    assert loaded("ftp: {hide: [52:54:00:12:34:56, 10:20]}\n").ftp.hide == ("52:54:00:12:34:56", "10:20")


@profile(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_load_or_raise_config_error(content: bytes) -> None:
    load_or_problems(content)


KEYS = sorted(set(re.findall(r"[a-z_]+(?=:)", describe.dump(Settings()))))
VALUES = st.recursive(
    st.sampled_from(
        ["1", "0", "true", "null", "off", "'x'", "1GB", "30s", "0.0.0.0:1", "1.5", '"\\ud800"', "9" * 30, "/", "."]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from([*KEYS, "a"]), inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=12,
)


@profile(deadline=None)
@given(st.dictionaries(st.sampled_from(["tftp", "ftp", "observe", *KEYS]), VALUES, max_size=6))
def test_any_shape_of_known_keys_loads_or_raises_config_error(document: dict[str, str]) -> None:
    load_or_problems("".join(f"{key}: {value}\n" for key, value in document.items()).encode())


def load_or_problems(content: bytes) -> None:
    start = time.process_time()
    found = refused(content)
    assert time.process_time() - start < 5
    if found:
        assert found.problems
        assert all(str(problem).isprintable() and problem.remedy for problem in found.problems)


def refused(content: bytes) -> ConfigError | None:
    try:
        load.load([("f", content)])
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize("name", ["appliance", "pxe-lab", "mirror", "dropbox"])
def test_the_shipped_configurations_load_without_a_warning(name: str) -> None:
    content = (ROOT / "config" / f"{name}.yaml").read_bytes()
    assert load.load([(name, content)])[1] == []


# --- which configuration


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the system's configuration; nothing is there yet."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(load, "SYSTEM_FILE", str(folder / "appliance.yaml"))
    return folder


def test_an_explicit_file_is_read_alone(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("tftp: {workers: 2}\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.yaml").write_text("zzz: 1\n")
    assert load.read(str(file)) == (str(file), [(str(file), b"tftp: {workers: 2}\n")])


def test_an_appliance_yaml_brings_the_folder_beside_it(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("appliance.yaml", "conf.d/20-b.yaml", "conf.d/10-a.yaml", "conf.d/note.txt", "conf.d/.#x.yaml"):
        (tmp_path / name).write_text(f"# {name}\n")
    _, documents = load.read(str(tmp_path / "appliance.yaml"))
    assert [os.path.relpath(name, tmp_path) for name, _ in documents] == [
        "appliance.yaml",
        "conf.d/10-a.yaml",
        "conf.d/20-b.yaml",
    ]


def test_the_systems_file_comes_before_the_embedded_default(system: Path) -> None:
    assert load.read(None)[0] == "embedded default"
    (system / "appliance.yaml").write_text("tftp: {workers: 2}\n")
    assert load.read(None) == (load.SYSTEM_FILE, [(load.SYSTEM_FILE, b"tftp: {workers: 2}\n")])


def test_a_systems_file_that_leads_nowhere_is_an_error_and_not_the_default(system: Path) -> None:
    (system / "appliance.yaml").symlink_to(system / "gone")
    with pytest.raises(ConfigError):
        load.read(None)


def test_a_missing_file_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    name = str(tmp_path / "none.yaml")
    assert unreadable(name) == (
        f"{name}: cannot be read: No such file or directory "
        "(name a file that exists: -c FILE; without -c an embedded default is used)"
    )


def test_a_folder_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    assert unreadable(f"{tmp_path}/") == (
        f"{tmp_path}/: cannot be read: Is a directory (name the file: -c {tmp_path}/appliance.yaml)"
    )


def test_a_name_that_cannot_be_one_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read: embedded null byte" in unreadable("a\0b")


def test_a_file_without_permission_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, mode: str) -> Any:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("builtins.open", refuse)
    assert unreadable("x.yaml") == "x.yaml: cannot be read: Permission denied (chmod a+r x.yaml, or run as root)"


def unreadable(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load.read(name)
    return str(caught.value)


def test_no_more_is_read_than_is_looked_at(tmp_path: Path) -> None:
    assert len(load.read("/dev/zero")[1][0][1]) == (1 << 20) + 1


# --- the embedded default


def default(environ: dict[str, str], uid: int = os.geteuid()) -> Settings:
    settings, warnings = load.load([("embedded default", load.embedded(environ, uid))])
    assert warnings == []
    return settings


def test_the_embedded_default_serves_one_tree_on_unprivileged_ports(tmp_path: Path) -> None:
    settings = default({"HOME": str(tmp_path)})
    state = f"{tmp_path}/.local/state/appliance"
    assert (settings.state_dir, settings.run_dir) == (state, f"{state}/run")
    assert settings.tftp.root == settings.ftp.root == f"{state}/tree"
    assert settings.tftp.listen == ("127.0.0.1:6969", "[::1]:6969")
    assert settings.ftp.listen == ("127.0.0.1:2121", "[::1]:2121")
    assert (settings.ftp.passive_ports, settings.ftp.active.source_port) == ("62000-62999", 0)
    assert settings.ftp.incoming.enabled
    assert (settings.ftp.incoming.max_size, settings.ftp.incoming.quota) == (256 << 20, 1 << 30)
    assert (settings.confinement, settings.observe.log) == ("best-effort", "text")


def test_the_state_folder_follows_the_environment(tmp_path: Path) -> None:
    assert default({"XDG_STATE_HOME": "/x/./state", "HOME": "/h"}).state_dir == "/x/state/appliance"
    assert default({"XDG_STATE_HOME": "state", "HOME": str(tmp_path)}).state_dir == f"{tmp_path}/.local/state/appliance"


@pytest.mark.parametrize("home", ["/does/not/exist", "relative", "/x\udcff", "/x\ny"])
def test_an_unusable_home_is_replaced_by_a_folder_of_the_users_own(home: str) -> None:
    assert default({"HOME": home}, uid=4711).state_dir == "/tmp/appliance-4711"


def test_without_home_the_account_database_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "_home", lambda uid: f"{tmp_path}" if uid == 4711 else "")
    for environ in ({}, {"HOME": ""}):
        assert default(environ, uid=4711).state_dir == f"{tmp_path}/.local/state/appliance"
        assert default(environ, uid=4712).state_dir == "/tmp/appliance-4712"


def test_a_uid_without_account_has_no_home() -> None:
    assert load._home(4_000_000_000) == ""
    assert load._home(0) == pwd.getpwuid(0).pw_dir


def test_the_runtime_folder_is_used_when_it_is_ours(tmp_path: Path) -> None:
    mine = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert default(mine).run_dir == f"{tmp_path}/appliance"
    assert default(mine, uid=os.geteuid() + 1).run_dir == f"{tmp_path}/.local/state/appliance/run"


@pytest.mark.parametrize("folder", ["", "/does/not/exist", ".", "/dev/null", "a\0b"])
def test_a_runtime_folder_that_is_none_is_not_used(folder: str, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": folder}
    assert default(environ, uid=os.stat(folder).st_uid if folder == "." else os.geteuid()).run_dir.endswith("/run")


def test_a_quote_in_the_home_survives(tmp_path: Path) -> None:
    home = tmp_path / 'it\'s "home" \\ {x}'
    home.mkdir()
    assert default({"HOME": str(home)}).state_dir == f"{home}/.local/state/appliance"


# --- sections that are items of a list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tftp:\n  networks:\n    - blksize_max: 512\n",
            "a.yaml:3:7: tftp.networks[0]: net is missing "
            "(write net: a network like 192.0.2.0/24 or 2001:db8::/32, or an address)",
        ),
        (
            "tftp:\n  networks:\n    - net: 10.0.0.0/8\n      blksiz_max: 8\n",
            "a.yaml:4:7: tftp.networks[0].blksiz_max: unknown key (did you mean blksize_max?)",
        ),
        (
            "tftp:\n  networks: [hello]\n",
            "a.yaml:2:14: tftp.networks[0]: a text where a section belongs "
            "(write {net, blksize_max, windowsize_max, refuse_options, root, transfers, rate} below it, indented)",
        ),
        (
            "tftp:\n  sites:\n    - listen: 127.0.0.1:70\n      networks: [{net: 1.0.0.0/8, refuse_options: [tsiz]}]\n",
            "a.yaml:4:52: tftp.sites[0].networks[0].refuse_options[0]: tsiz is not one of the choices "
            "(write blksize, blksize2, windowsize, timeout, utimeout, tsize or rollover)",
        ),
        (
            "tftp:\n  remap:\n    - match: (a+)+\n      to: x\n",
            "a.yaml:3:14: tftp.remap[0].match: (a+)+ could keep the server busy for long on one name "
            "(begin with ^, write fewer * and +, and none around a group that has one)",
        ),
        (
            "tftp:\n  remap:\n    - match: ^a\n      to: '\\q'\n",
            r"a.yaml:4:11: tftp.remap[0].to: \q: \q means nothing (write \0 to \9, \g<name>, \i, \x or \\)",
        ),
        (
            "tftp:\n  remap:\n    - match: ^a\n      to: '\\1'\n",
            "a.yaml:4:11: tftp.remap[0].to: match has no group 1 "
            "(write ( ) or (?P<name> ) in match, or another reference)",
        ),
    ],
)
def test_an_item_that_is_wrong_has_its_place_too(text: str, expected: str) -> None:
    assert lines(text) == [expected]


def test_items_are_values_with_their_defaults() -> None:
    text = "tftp:\n  networks:\n    - {net: 10.0.0.0/8, blksize_max: mtu}\n  remap: [{match: ^a, to: b}]\n"
    settings = loaded(text)
    assert settings.tftp.networks == (TftpNetwork("10.0.0.0/8", blksize_max="mtu"),)
    assert settings.tftp.remap == (TftpRemap("^a", "b"),)
    assert "networks: [{net: 10.0.0.0/8, blksize_max: mtu}]" in describe.dump(settings)
