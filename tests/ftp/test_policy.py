"""ftp.policy: every verb in every place, generated from the command table; parsing and resolving of hostile lines."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ftp.policy import (
    AT_ONCE,
    FOREIGN,
    SYNONYMS,
    VERBS,
    Argument,
    Command,
    Rules,
    State,
    Use,
    at_once,
    decide,
    judge,
    parse,
    resolve,
    span,
    without_flags,
)
from appliance.ftp.rulings import (
    ARGUMENT,
    BAD_ARGUMENT,
    DENIED,
    EPSV_ONLY,
    MISSING,
    NO_ARGUMENT,
    NO_DATA,
    NO_FOLDERS,
    NO_REIN,
    NO_RESUME,
    NOT_LOGGED_IN,
    STAYS_PRIVATE,
    STAYS_SECURE,
    TLS_ALREADY,
    TLS_FIRST,
    TLS_FOR_DATA,
    TLS_TO_LOG_IN,
    UNKNOWN,
    Drop,
    Place,
    Refuse,
    Run,
)

RULES = Rules((".git", ".ht*"), "incoming")
NO_BOX = Rules((), None)
IN = State(logged_in=True, data=True)
PLACES = {
    Place.TREE: "/pub/file",
    Place.BOX: "/incoming",
    Place.IN_BOX: "/incoming/file",
    Place.DEEP: "/incoming/folder/file",
    Place.HIDDEN: "/pub/.git/config",
}
READS = {Use.ENTER, Use.LIST, Use.STATUS, Use.FACTS, Use.FETCH, Use.ABOUT, Use.SUM}
SHOWN_IN = {
    Use.ENTER: {Place.TREE, Place.BOX},
    Use.LIST: {Place.TREE, Place.BOX},
    Use.STATUS: {Place.TREE, Place.BOX},
    Use.FACTS: {Place.TREE, Place.BOX},
    Use.FETCH: {Place.TREE},
    Use.ABOUT: {Place.TREE},
    Use.SUM: {Place.TREE},
    Use.STORE: {Place.IN_BOX},
}
PYFTPDLIB_WRITES = {"APPE", "DELE", "MFMT", "MKD", "RMD", "RNFR", "RNTO", "SITE", "STOR", "STOU", "XMKD", "XRMD"}


@pytest.mark.parametrize(("verb", "place"), [*itertools.product(VERBS, PLACES)], ids=str)
def test_every_verb_in_every_place(verb: str, place: Place) -> None:
    row = VERBS[verb]
    verdict = decide(Command(verb, PLACES[place]), IN, RULES)
    if row.use is Use.WRITE:
        assert verdict == DENIED
    elif row.use is Use.TLS:
        assert verdict == UNKNOWN
    elif row.argument is Argument.NONE:
        assert verdict == ARGUMENT
    elif row.use in (Use.CONTROL, Use.SETUP):
        assert verdict == Run()
    elif place in SHOWN_IN[row.use]:
        assert verdict == Run(PLACES[place], place)
    else:
        assert isinstance(verdict, Refuse)
        assert verdict.code in (550, 553)


@pytest.mark.parametrize(("verb", "place"), [*itertools.product(VERBS, PLACES)], ids=str)
def test_no_verb_writes_when_there_is_no_drop_box(verb: str, place: Place) -> None:
    verdict = decide(Command(verb, PLACES[place]), IN, NO_BOX)
    if VERBS[verb].use in (Use.WRITE, Use.STORE):
        assert verdict == DENIED


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", [verb for verb, row in VERBS.items() if row.login])
def test_every_verb_with_login_is_refused_without_it(verb: str, place: Place) -> None:
    assert decide(Command(verb, PLACES[place]), State(logged_in=False), RULES) == NOT_LOGGED_IN


@pytest.mark.parametrize("verb", VERBS)
def test_control_bytes_in_an_argument_are_refused_for_every_verb(verb: str) -> None:
    wanted = {Use.WRITE: DENIED, Use.TLS: UNKNOWN}.get(VERBS[verb].use, BAD_ARGUMENT)
    for byte in "\x00\x01\x0a\x1f\x7f":
        assert decide(Command(verb, f"a{byte}b"), IN, RULES) == wanted


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_are_demanded_as_the_table_says(verb: str) -> None:
    verdict = decide(Command(verb, ""), IN, RULES)
    if VERBS[verb].use is Use.WRITE:
        assert verdict == DENIED
    elif VERBS[verb].use is Use.TLS:
        assert verdict == UNKNOWN
    elif VERBS[verb].argument is Argument.REQUIRED:
        assert verdict == NO_ARGUMENT
    else:
        assert isinstance(verdict, Run)


def test_every_verb_that_pyftpdlib_knows_is_judged_here() -> None:
    import pyftpdlib.ioloop  # noqa: F401  silences the warning of asynchat

    # isort: split
    from pyftpdlib.handlers.ftp.control import proto_cmds

    plain = {verb for verb in proto_cmds if " " not in verb}
    assert plain <= set(VERBS) | set(SYNONYMS)
    for verb in plain & PYFTPDLIB_WRITES - {"STOR"}:
        assert VERBS[SYNONYMS.get(verb, verb)].use is Use.WRITE


def test_a_write_is_refused_with_one_text_whether_or_not_the_place_exists() -> None:
    texts = {decide(Command("DELE", path), IN, RULES) for path in (*PLACES.values(), "", "\x00")}
    assert texts == {DENIED}


def test_a_hidden_path_and_one_in_the_box_read_as_missing() -> None:
    for path in (PLACES[Place.HIDDEN], PLACES[Place.IN_BOX], PLACES[Place.DEEP], "/.htpasswd", "/.git"):
        for verb in ("RETR", "SIZE", "MDTM", "MLST", "CWD"):
            assert decide(Command(verb, path), IN, RULES) == MISSING


def test_a_transfer_needs_a_data_connection_first() -> None:
    nothing = State(logged_in=True)
    for verb, path in (("RETR", "/a"), ("LIST", "/"), ("NLST", "/"), ("MLSD", "/"), ("STOR", "/incoming/a")):
        assert decide(Command(verb, path), nothing, RULES) == NO_DATA


def test_an_upload_goes_into_no_folder_and_resumes_nothing() -> None:
    assert decide(Command("STOR", "/incoming/a/b"), IN, RULES) == NO_FOLDERS
    assert decide(Command("STOR", "/incoming"), IN, RULES) == DENIED
    assert decide(Command("STOR", "x"), IN._replace(cwd="/incoming", rest=True), RULES) == NO_RESUME
    assert decide(Command("STOR", "x"), IN._replace(cwd="/incoming"), RULES) == Run("/incoming/x", Place.IN_BOX)


def test_an_upload_that_broke_off_is_there_for_its_own_session_to_be_continued() -> None:
    own = State(True, "/", data=True, rest=True, kept="/incoming/a")
    for verb, name, there in (("STOR", "a", True), ("STOR", "b", False), ("SIZE", "a", True), ("SIZE", "b", False)):
        verdict = decide(Command(verb, f"incoming/{name}"), own, RULES)
        assert isinstance(verdict, Run) is there, (verb, name)
    for verb in ("RETR", "MDTM", "MLST", "HASH", "CWD", "LIST"):
        assert decide(Command(verb, "incoming/a"), own, RULES) == MISSING


def test_a_hidden_name_in_the_box_is_for_the_custodian_to_refuse() -> None:
    assert decide(Command("STOR", "/incoming/.git"), IN, RULES) == Run("/incoming/.git", Place.IN_BOX)
    assert decide(Command("STOR", "/pub/.git"), IN, RULES) == DENIED


def test_after_epsv_all_only_epsv_sets_up() -> None:
    state = IN._replace(epsv_all=True)
    for verb, argument in (("PASV", ""), ("PORT", "1,2,3,4,5,6"), ("EPRT", "|1|1.2.3.4|5|")):
        assert decide(Command(verb, argument), state, RULES) == EPSV_ONLY
    assert decide(Command("EPSV", ""), state, RULES) == Run()


def test_stat_of_a_path_needs_a_login_and_stat_alone_does_not() -> None:
    assert decide(Command("STAT", ""), State(logged_in=False), RULES) == Run()
    assert decide(Command("STAT", "/"), State(logged_in=False), RULES) == NOT_LOGGED_IN


def test_cwd_without_argument_goes_to_the_root_and_cdup_up() -> None:
    assert decide(Command("CWD", ""), IN._replace(cwd="/pub/deep"), RULES) == Run("/")
    assert decide(Command("CDUP", ""), IN._replace(cwd="/pub/deep"), RULES) == Run("/pub")


CLEAR = State(logged_in=False)
SECURE = IN._replace(secure=True)
PRIVATE = SECURE._replace(private=True)


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize(("verb", "place"), [*itertools.product(VERBS, PLACES)], ids=str)
def test_under_tls_every_verb_in_every_place_is_judged_as_in_the_clear(verb: str, place: Place, mode: str) -> None:
    rules = Rules((".git", ".ht*"), "incoming", mode)
    command = Command(verb, PLACES[place])
    if VERBS[verb].use is not Use.TLS and verb != "REIN":
        assert decide(command, PRIVATE, rules) == decide(command, IN, RULES)


@pytest.mark.parametrize("mode", ["off", "optional", "required"])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("line", ["AUTH TLS", "AUTH TLS-C", "PBSZ 0", "PROT P", "PROT C", "PROT c", "CCC", "REIN"])
def test_every_verb_of_tls_in_every_mode_and_state(line: str, secure: bool, private: bool, mode: str) -> None:
    rules = Rules((), None, mode)
    verdict = decide(parse(line.encode()), IN._replace(secure=secure, private=private), rules)
    verb, _, argument = line.partition(" ")
    if verb == "REIN":
        assert verdict == (NO_REIN if secure else Run())
    elif mode == "off":
        assert verdict == UNKNOWN
    elif verb == "AUTH":
        assert verdict == (TLS_ALREADY if secure else Run())
    elif not secure:
        assert verdict == TLS_FIRST
    elif verb == "CCC":
        assert verdict == STAYS_SECURE
    elif argument.upper() == "C" and mode == "required":
        assert verdict == STAYS_PRIVATE
    else:
        assert verdict == Run()


@pytest.mark.parametrize("verb", VERBS)
def test_where_tls_is_required_nobody_logs_in_or_moves_data_in_the_clear(verb: str) -> None:
    rules = Rules((), "incoming", "required")
    path = "/incoming/x" if verb == "STOR" else "" if VERBS[verb].argument is Argument.NONE else "/x"
    if verb in ("USER", "PASS"):
        assert decide(Command(verb, path), CLEAR, rules) == TLS_TO_LOG_IN
        assert decide(Command(verb, path), CLEAR._replace(secure=True), rules) == Run()
    if VERBS[verb].use in (Use.LIST, Use.FETCH, Use.STORE):
        assert decide(Command(verb, path), SECURE, rules) == TLS_FOR_DATA
        assert isinstance(decide(Command(verb, path), PRIVATE, rules), Run)


@pytest.mark.parametrize("verb", sorted(FOREIGN))
def test_a_verb_of_http_drops_the_connection(verb: str) -> None:
    assert decide(Command(verb, "/ HTTP/1.1"), State(logged_in=False), RULES) == Drop()


@pytest.mark.parametrize(
    "line", [b"", b" ", b"AUTH TLS", b"CCC", b"XYZZY", b"\x16\x03\x01", b"\xc0\xc1", b"USER\x00 a"]
)
def test_a_verb_nobody_knows_is_not_understood(line: bytes) -> None:
    assert decide(parse(line), IN, RULES) == UNKNOWN


@pytest.mark.parametrize(
    "line", [b"ABOR", b"abor", b"\xff\xf4\xff\xf2ABOR", b"\xf2ABOR", b"\xff\xf4\xffABOR", b"\xff\xfb\x01ABOR"]
)
def test_telnet_sequences_before_a_verb_are_dropped(line: bytes) -> None:
    assert parse(line).verb == "ABOR"


def test_obsolete_names_mean_the_verbs_of_today() -> None:
    assert [parse(name.encode()).verb for name in SYNONYMS] == list(SYNONYMS.values())


def test_what_is_answered_at_once_moves_no_data() -> None:
    assert all(VERBS[verb].use in (Use.CONTROL, Use.STATUS) for verb in AT_ONCE)
    assert all(at_once(parse(line)) for line in (b"ABOR", b"NOOP", b"NOOP x", b"stat", b"STAT "))
    assert not any(at_once(parse(line)) for line in (b"STAT pub", b"LIST", b"QUIT", b""))


@given(st.binary(max_size=60))
def test_any_line_gets_a_verdict_and_its_argument_keeps_its_bytes(line: bytes) -> None:
    command = parse(line)
    assert decide(command, IN, RULES) is not None
    if b" " in line and line[:1] not in (b"\xff", b"\xf2"):
        sent = line.partition(b" ")[2].replace(b"\xff\xff", b"\xff")  # RFC 854: 255 is doubled
        assert command.argument.encode("utf-8", "surrogateescape") == sent


@given(st.text(alphabet="/.a\udce9", max_size=30), st.sampled_from(["/", "/a", "/a/b"]))
def test_a_resolved_path_is_absolute_and_never_climbs(name: str, cwd: str) -> None:
    path = resolve(cwd, name)
    assert path.startswith("/")
    assert path == "/" or not {"", ".", ".."} & set(path[1:].split("/"))
    assert resolve("/", path) == path


def test_dots_are_taken_lexically_and_stop_at_the_root() -> None:
    assert resolve("/a/b", "../../../../c/./d/..//e") == "/c/e"
    assert resolve("/a", "/x") == "/x"
    assert resolve("/a", "b") == "/a/b"


def test_places_are_told_by_whole_names() -> None:
    assert RULES.place("/incoming2/a") is Place.TREE
    assert RULES.place("/pub/incoming") is Place.TREE
    nested = Rules((), "pub/in/")
    assert [nested.place(p) for p in ("/pub", "/pub/in", "/pub/in/a", "/pub/in/a/b")] == [
        Place.TREE,
        Place.BOX,
        Place.IN_BOX,
        Place.DEEP,
    ]
    assert NO_BOX.place("/incoming/a") is Place.TREE
    assert not NO_BOX.hides(".git")


@pytest.mark.parametrize(
    ("typed", "path"), [("-la", ""), ("-la pub", "pub"), ("-a -l  pub x", "pub x"), ("", ""), ("./-a", "./-a")]
)
def test_flags_of_ls_are_dropped(typed: str, path: str) -> None:
    assert without_flags(typed) == path


@pytest.mark.parametrize(
    ("verb", "argument", "name", "start", "end"),
    [
        ("HASH", "a 1 2", "a 1 2", 0, None),
        ("HASH", '"a"', '"a"', 0, None),
        ("XCRC", "a", "a", 0, None),
        ("XCRC", "disk 2", "disk 2", 0, None),
        ("XCRC", "disk 2 10 20", "disk 2", 10, 20),
        ("XMD5", '"disk 2"', "disk 2", 0, None),
        ("XMD5", '"disk 2" 5', "disk 2", 5, None),
        ("XSHA256", '"disk 2"  5  9', "disk 2", 5, 9),
        ("XSHA256", 'a "b" 5 9', 'a "b"', 5, 9),
        ("XCRC", "a 1 99999999999999999999", "a 1 99999999999999999999", 0, None),
        ("XCRC", "a \u0661 \u0662", "a \u0661 \u0662", 0, None),
    ],
)
def test_the_span_of_a_checksum(verb: str, argument: str, name: str, start: int, end: int | None) -> None:
    assert span(Command(verb, argument)) == (name, start, end)
    assert decide(Command(verb, argument), IN, RULES) == Run(resolve("/", name))


def test_a_checksum_needs_a_name_and_is_refused_where_the_name_may_not_be_read() -> None:
    assert decide(Command("XCRC", '""'), IN, RULES) == NO_ARGUMENT
    assert decide(Command("XCRC", '".htaccess" 1 2'), IN, RULES) == MISSING
    assert decide(Command("XCRC", "incoming/a 1 2"), IN, RULES) == MISSING


@pytest.mark.parametrize(
    "argument",
    ["a" + " " * 4000 + "x", '"' + " " * 4000 + "x", "a" + " " * 2000 + "1" + " " * 2000 + "x", "a" + " 1" * 2000 + "x",
     '"' * 4000 + "x", '" ' * 2000 + "x"],
)  # fmt: skip
def test_a_line_of_spaces_does_not_keep_a_worker_busy(argument: str) -> None:
    began = time.process_time()
    for _ in range(32):
        span(Command("XCRC", argument))
    assert time.process_time() - began < 0.5  # it was half a second for one of them


@given(st.text('a"1 ', max_size=12))
def test_a_span_is_cut_as_by_hand(argument: str) -> None:
    name, start, end = span(Command("XCRC", argument))
    words = argument.split(" ")
    numbers = [word for word in words if word]
    if argument.startswith('"') or len(numbers) < 3 or not (numbers[-1] + numbers[-2]).isdigit() or words[-1] == "":
        return
    assert (start, end) == (int(numbers[-2]), int(numbers[-1]))
    assert name == argument[: len(argument.rstrip("1").rstrip(" ").rstrip("1").rstrip(" "))]


def test_a_byte_255_of_a_name_may_be_doubled_or_not() -> None:
    assert parse(b"RETR \xff\xffa\xff") == parse(b"RETR \xffa\xff")
    assert parse(b"RETR \xffa").argument == "\udcffa"


def test_telnet_sequences_without_end_are_cut_off_after_some() -> None:
    assert parse(b"\xff\xf2" * 40 + b"ABOR").verb == "ABOR"
    assert parse(b"\xff\xf2" * 2000 + b"ABOR").verb != "ABOR"


@pytest.mark.parametrize(
    "line", [b"RETR pub/file", b"STOR incoming/x", b"NOSUCH", b"RETR " + b"a" * 300, b"\xff\xfe", b""]
)
@pytest.mark.parametrize("state", [IN, State(logged_in=False)])
def test_a_judgement_that_is_remembered_is_the_one_that_would_be_made(line: bytes, state: State) -> None:
    made = (parse(line), decide(parse(line), state, RULES))
    assert judge(line, state, RULES) == made
    assert judge(line, state, RULES) == made  # from memory, where it is kept
    assert judge(line, state, NO_BOX) == (parse(line), decide(parse(line), state, NO_BOX))
