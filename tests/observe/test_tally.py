"""tally: caps over several workers, whatever a sibling says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.observe import tally as module
from appliance.observe.tally import BUCKET, MAGIC, SIZE, SLOTS, Tally

SALT = b"sixteen bytes ok"
HEAD = 8


def table(salt: bytes = SALT) -> memoryview:
    raw = bytearray(SIZE)
    raw[16:32] = salt
    return memoryview(raw).cast("Q")


def family(count: int, tables: list[memoryview] | None = None) -> list[Tally]:
    """Workers that see each other."""
    tables = tables or [table() for _ in range(count)]
    found = [Tally(own) for own in tables]
    for number, member in enumerate(found):
        for other, memory in enumerate(tables):
            if other != number:
                member.link(other, memory.toreadonly())
    return found


def test_alone_a_cap_is_kept_exactly() -> None:
    for alone in (Tally(), Tally(table())):
        for _ in range(3):
            assert not alone.full(3) and not alone.full_for("a", 3)
            alone.take("a")
        assert alone.full(3) and alone.full_for("a", 3) and not alone.full_for("b", 3)
        alone.give("a")
        assert not alone.full(3) and alone.mine("a") == 2 and alone.mine("b") == 0


@pytest.mark.parametrize("cap", [1, 2, 7, 15])
def test_a_cap_below_the_reserve_is_exact_over_workers_wherever_the_clients_land(cap: int) -> None:
    one, two = family(2)
    for number in range(cap):
        assert not one.full(cap) and not two.full_for("a", cap)
        (one, two)[number % 2].take("a")
    assert one.full(cap) and two.full(cap) and one.full_for("a", cap) and two.full_for("a", cap)
    one.give("a")
    assert not two.full(cap) and not two.full_for("a", cap)


def test_one_transfer_counts_once_under_all_its_names() -> None:
    one, two = family(2)
    one.take("192.0.2.1", " 192.0.2.0/24")
    one.take("192.0.2.2", " 192.0.2.0/24")
    assert two.full_for(" 192.0.2.0/24", 2) and not two.full_for("192.0.2.1", 2) and two.full(2) and not two.full(3)
    one.give("192.0.2.1", " 192.0.2.0/24")
    assert not two.full_for(" 192.0.2.0/24", 2) and not two.full(2)


def test_the_share_of_a_sibling_that_is_gone_is_free_again() -> None:
    one, two = family(2)
    two.take("a")
    assert one.full(1) and one.full_for("a", 1)
    one.unlink(1)
    one.unlink(1)
    assert not one.full(1) and not one.full_for("a", 1)


def test_a_table_of_another_form_is_left_out() -> None:
    one, other = Tally(table()), table()
    other[0], other[1] = MAGIC + 1, 9
    one.link(7, other)
    assert not one.full(1)


def test_names_leave_nothing_behind() -> None:
    memory = table()
    one = Tally(memory)
    for number in range(200):
        one.take(f"client{number}")
    assert sum(word != 0 for word in memory[HEAD:]) == 200
    for number in range(200):
        one.give(f"client{number}")
    assert not any(memory[HEAD:]) and memory[1] == 0
    with pytest.raises(KeyError):
        one.give("client0")


def test_where_a_name_stands_depends_on_the_salt() -> None:
    def place(salt: bytes) -> list[int]:
        memory = table(salt)
        Tally(memory).take("192.0.2.1")
        return [index for index, word in enumerate(memory[HEAD:]) if word]

    assert place(SALT) == place(SALT) != place(bytes(16))


def test_a_name_without_a_slot_is_counted_by_its_own_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "_place", lambda _self, name: (HEAD, int(name)))  # everybody into one bucket
    one, two = family(2)
    for number in range(BUCKET + 1):
        one.take(str(number))
    assert two.full_for("0", 1) and two.full_for(str(BUCKET - 1), 1)
    assert not two.full_for(str(BUCKET), 1) and one.full_for(str(BUCKET), 1)
    one.give("0")
    one.take(str(BUCKET))  # finds the slot that became free, with its whole count
    assert two.full_for(str(BUCKET), 2) and not two.full_for("0", 1)
    one.give(str(BUCKET))
    one.give(str(BUCKET))
    assert not two.full_for(str(BUCKET), 1)


def test_a_name_without_a_slot_goes_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "_place", lambda _self, name: (HEAD, int(name)))
    memory = table()
    one = Tally(memory)
    for number in range(BUCKET + 1):
        one.take(str(number))
    one.give(str(BUCKET))
    assert (one.mine(str(BUCKET)), memory[1], sum(word != 0 for word in memory[HEAD:])) == (0, BUCKET, BUCKET)


@given(st.integers(1, 70000), st.integers(2, 9), st.lists(st.integers(0, (1 << 64) - 1), min_size=8, max_size=8))
def test_a_sibling_that_lies_leaves_a_worker_an_eighth_of_its_even_share(
    cap: int, workers: int, lie: list[int]
) -> None:
    class Liar:
        """A table in which every slot says whatever is worst."""

        def __getitem__(self, key: int | slice) -> object:
            return MAGIC if key == 0 else self if isinstance(key, slice) else lie[0]

        def tolist(self) -> list[int]:
            return lie

    honest = Tally(table())
    for number in range(workers - 1):
        honest.link(number, Liar())  # type: ignore[arg-type]
    for _ in range(min(cap // (8 * workers), 50)):
        assert not honest.full(cap) and not honest.full_for("a", cap)
        honest.take("a")
    assert 1 / (8 * workers) <= honest.share() <= 1 and 1 / (8 * workers) <= honest.share_for("a") <= 1


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_the_shares_of_all_who_count_add_up_to_one(counts: list[int]) -> None:
    members = family(len(counts))
    for member, count in zip(members, counts, strict=True):
        for _ in range(count):
            member.take("a")
    active = [member for member in members if member.taken]
    if active:
        assert sum(member.share() for member in active) == pytest.approx(1)
        assert sum(member.share_for("a") for member in active) == pytest.approx(1)
    else:
        assert members[0].share() == members[0].share_for("a") == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans()), max_size=200))
def test_what_the_siblings_count_is_what_a_sum_over_everything_gives(steps: list[tuple[int, int, bool]]) -> None:
    members = family(3)
    held: list[tuple[int, str]] = []
    for who, client, leaves in steps:
        key = (who, f"client{client}")
        if leaves and key in held:
            held.remove(key)
            members[who].give(key[1])
        elif not leaves:
            held.append(key)
            members[who].take(key[1])
    for client in {name for _, name in held}:
        count = sum(name == client for _, name in held)
        for member in members:
            assert member.full_for(client, count) and not member.full_for(client, count + 1)
    assert all(member.full(len(held)) and not member.full(len(held) + 1) for member in members)


def test_counts_stop_at_what_their_word_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COUNT_MAX", 3)
    memory = table()
    one = Tally(memory)
    for _ in range(9):
        one.take("a")
    assert [word & 0xFFFFFF for word in memory[HEAD:] if word] == [3]


def test_a_thousand_clients_find_their_slots() -> None:
    memory = table()
    one = Tally(memory)
    for number in range(4096):
        one.take(f"10.0.{number >> 8}.{number & 255}")
    assert sum(word != 0 for word in memory[HEAD:]) >= 4090  # 16384 slots: hardly any bucket is full
    assert SLOTS == 16384


def test_the_memory_of_places_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PLACES_MAX", 2)
    one, two = family(2)
    for name in "abcde":
        one.take(name)
    assert len(one._places) <= 2 and all(two.full_for(name, 1) for name in "abcde")
    for name in "abcde":
        one.give(name)
    assert not any(two.full_for(name, 1) for name in "abcde")
