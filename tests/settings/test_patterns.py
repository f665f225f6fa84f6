"""patterns: what is taken, what it can cost at most, and what a replacement is made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.settings import patterns
from appliance.settings.patterns import STEPS_MAX, PatternError, groups, parts, steps


@pytest.mark.parametrize(
    "text",
    [
        "^pxelinux.cfg/[0-9A-F]{8}$", "^(.*)/(.*)$", r"(.*)\.0$", "^(?P<mac>([0-9a-f]{2}-){5}[0-9a-f]{2})", "(?i)^BOOT",
        "^a|^b", "a|b", "", "[]a]", "[^]/]+", r"[\]\\]", "x??", "x{,3}", "x{2,}", "x{3}?", r"\d\D\w\W\s\S\A\b\B\Z",
        "(?:ab)*", "((((a))))",
    ],
)  # fmt: skip
def test_what_rules_need_is_taken_and_python_reads_it_too(text: str) -> None:
    assert 0 < steps(text) <= STEPS_MAX
    assert re.compile(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+$", "(a*)*$", "(a|a)*$", "(a|aa)+$", "^(?:/[^/]+)*$", "(.*)(.*)x", "^(.*)(.*)(.*)x", "^(a?){40}a{40}",
        "^((a|b)(c|d)){30}", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "a*" * 4,
    ],
)  # fmt: skip
def test_a_pattern_that_could_run_away_is_refused_before_it_is_run(text: str) -> None:
    with pytest.raises(PatternError) as caught:
        steps(text)
    assert "busy" in caught.value.what
    assert "begin with ^" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (r"(a)\1", "not taken"), (r"\x41", "not taken"), ("a\\", "not taken"), ("(?=a)", "kind that is not taken"),
        ("(?<=a)b", "kind that is not taken"), ("(?>a)", "kind that is not taken"), ("a(?i)b", "kind that"),
        ("a**", "two quantifiers"), ("a*+", "two quantifiers"), ("a+{2}", "two quantifiers"), ("*a", "nothing before"),
        ("(+a)", "nothing before"), ("a{x", "nothing before"), ("a{300}", "number of times"), ("a{,}", "number of"),
        ("(a", "without its )"), ("a)", "without its ("), ("[a", "without its ]"), ("[a[b]", "inside [...]"),
        ("[a--b]", "inside [...]"), ("[a&&b]", "inside [...]"), ("é", "not ASCII"), ("a" * 501, "501 characters"),
        ("(" * 21 + ")" * 21, "too deep"), ("[z-a]", "bad character range"), ("(?P<a>x)(?P<a>y)", "redefinition"),
        ("a{3,2}", "min repeat greater than max"), (r"[\b]", "not taken"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_named(text: str, what: str) -> None:
    with pytest.raises(PatternError) as caught:
        steps(text)
    assert what in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(("times", "fits"), [(254, True), (255, True), (256, False)])
def test_a_piece_repeats_at_most_255_times(times: int, fits: bool) -> None:
    if fits:
        assert steps(f"^a{{{times}}}") > times
    else:
        with pytest.raises(PatternError):
            steps(f"^a{{{times}}}")


def test_a_pattern_has_at_most_500_characters() -> None:
    assert steps("^" + "a" * 499)
    with pytest.raises(PatternError):
        steps("^" + "a" * 500)


def paths(pattern: list[tuple[int, int]], length: int) -> int:
    """What a matcher tries on `a` * length, counted the slow way: a chain of a{low,high} that never finds its end."""
    tried, frontier = 1, {0: 1}
    for low, high in pattern:
        following: dict[int, int] = {}
        for at, ways in frontier.items():
            for count in range(low, min(high, length - at) + 1):
                following[at + count] = following.get(at + count, 0) + ways
                tried += ways
        frontier = following
    return tried


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(4, 12)), min_size=1, max_size=4))
def test_the_bound_is_never_below_what_a_matcher_can_try(chain: list[tuple[int, int]]) -> None:
    text = "^" + "".join(f"a{{{low},{high}}}" for low, high in chain)
    try:
        bound = steps(text)
    except PatternError:
        bound = STEPS_MAX
    assert min(paths(chain, patterns.NAME_MAX), STEPS_MAX) <= bound


@given(st.text("ab.*+?{}()[]|^$\\,-:<>P=!123&~\n", max_size=24))
def test_nothing_but_a_refusal_or_a_pattern_that_python_takes_comes_out(text: str) -> None:
    try:
        cost = steps(text)
    except PatternError:
        return
    assert cost <= STEPS_MAX
    re.compile(text.encode()).search(b"a/b" * 85)


def test_a_replacement_is_made_of_texts_groups_and_the_address() -> None:
    assert parts(r"a/\1-\g<mac>\g<012>\\i\i\x") == (
        ("text", "a/"), ("group", "1"), ("text", "-"), ("group", "mac"), ("group", "12"), ("text", "\\"), ("text", "i"),
        ("address", ""), ("hex", ""),
    )  # fmt: skip
    assert parts("") == ()
    assert parts(r"\0\g<00>") == (("group", "0"), ("group", "0"))


@pytest.mark.parametrize("text", [r"\q", "\\", r"\g<", r"\g<a b>", r"\g", "a" * 256])
def test_a_replacement_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parts(text)
    assert parts("a" * 255)


def test_the_groups_of_a_pattern_have_numbers_and_names() -> None:
    assert groups("^(a)(?P<mac>b)(?:c)") == {"0", "1", "2", "mac"}
