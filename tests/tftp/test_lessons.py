"""lessons.Lessons: what is offered after what happened, how much is remembered, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.lessons import CLIENTS_MAX, LEAST_WINDOW, MANY_BLOCKS, REMEMBERED_S, Lessons


def tell(
    lessons: Lessons, *, client: str = "a", now: float = 0.0, window: int = 64, blocks: int = 1000, **more
) -> None:
    facts = {"losses": 0, "sliced": False, "interval_s": 0.0, **more}
    lessons.passed(client, now, window=window, blocks=blocks, **facts)


def test_a_client_whose_path_eats_large_blocks_is_offered_less_and_less() -> None:
    lessons = Lessons()
    assert lessons.block_size_max("a", 0.0) is None
    assert [lessons.path_ate("a", 0.0) for _ in range(3)] == [1200, 512, 512]
    assert lessons.block_size_max("a", 1.0) == 512
    assert lessons.block_size_max("b", 1.0) is None


def test_lessons_are_forgotten_after_an_hour_or_when_there_are_too_many() -> None:
    lessons = Lessons()
    lessons.path_ate("a", 0.0)
    assert lessons.block_size_max("a", 3601.0) is None
    for number in range(4096):
        lessons.path_ate(str(number), 0.0)
    assert lessons.block_size_max("a", 0.0) is None
    assert lessons.block_size_max("4095", 0.0) == 1200


@pytest.mark.parametrize(("losses", "offered"), [(78, None), (79, 32)])  # of 1000 blocks: 4.99 and 5.06 in each 64
def test_five_losses_in_each_window_halve_the_next_one(losses: int, offered: int | None) -> None:
    lessons = Lessons()
    tell(lessons, losses=losses)
    assert lessons.window_max("a", 1.0) == offered
    assert lessons.window_max("b", 1.0) is None


def test_the_window_never_gets_smaller_than_what_works() -> None:
    lessons, window = Lessons(), 512
    seen = []
    for _ in range(8):
        tell(lessons, window=window, losses=900)
        window = lessons.window_max("a", 0.0) or window
        seen.append(window)
    assert seen == [256, 128, 64, 32, 16, 16, 16, 16]


@pytest.mark.parametrize("window", [1, 4, LEAST_WINDOW])
def test_small_windows_teach_nothing_about_windows(window: int) -> None:
    lessons = Lessons()
    tell(lessons, window=window, losses=999)
    assert lessons.window_max("a", 0.0) is None


@pytest.mark.parametrize(("losses", "offered"), [(0, 32), (46, 32), (47, None)])  # 47 of 1000: 3.01 in each window
def test_bursts_that_only_arrive_in_slices_halve_the_window_unless_chance_takes_more(
    losses: int, offered: int | None
) -> None:
    lessons = Lessons()
    tell(lessons, losses=losses, sliced=True)
    assert lessons.window_max("a", 0.0) == offered


def test_short_files_are_judged_together() -> None:
    lessons = Lessons()
    for _ in range(3):
        tell(lessons, blocks=80, losses=40)
        assert lessons.window_max("a", 0.0) is None
    tell(lessons, blocks=80, losses=40)
    assert lessons.window_max("a", 0.0) == 32


def test_many_blocks_without_losses_bring_the_window_back() -> None:
    lessons = Lessons()
    tell(lessons, losses=999)
    offered = []
    while (window := lessons.window_max("a", 0.0)) is not None:
        offered.append(window)
        tell(lessons, window=min(window, 64), blocks=MANY_BLOCKS - 1)
        assert lessons.window_max("a", 0.0) == window
        tell(lessons, window=min(window, 64), blocks=1)
    assert offered == [32 << n for n in range(11)]


def test_a_window_that_still_loses_does_not_grow() -> None:
    lessons = Lessons()
    tell(lessons, losses=999)
    for _ in range(20):
        tell(lessons, window=32, blocks=MANY_BLOCKS, losses=MANY_BLOCKS // 20)  # 1.6 in each 32, 3.2 in each 64
    assert lessons.window_max("a", 0.0) == 32


def test_old_losses_count_less() -> None:
    lessons = Lessons()
    tell(lessons, blocks=MANY_BLOCKS, losses=310)  # 4.8 in each window
    tell(lessons, blocks=MANY_BLOCKS, losses=350)  # 5.5; together with half of the older ones 5.2
    assert lessons.window_max("a", 0.0) == 32


def test_the_last_measured_interval_is_remembered() -> None:
    lessons = Lessons()
    assert lessons.interval_s("a", 0.0) == 0
    tell(lessons, interval_s=0.04, window=1)
    tell(lessons, interval_s=0.0)
    assert lessons.interval_s("a", 0.0) == 0.04


def test_what_a_path_was_like_is_forgotten_after_an_hour_without_a_transfer() -> None:
    lessons = Lessons()
    tell(lessons, losses=999, interval_s=0.04)
    assert (lessons.window_max("a", REMEMBERED_S), lessons.interval_s("a", REMEMBERED_S)) == (None, 0)
    tell(lessons, now=REMEMBERED_S, blocks=10)  # begins anew
    assert lessons.window_max("a", REMEMBERED_S) is None


def test_clients_that_are_not_remembered_any_more_are_those_not_seen_for_longest() -> None:
    lessons = Lessons()
    tell(lessons, losses=999)
    tell(lessons, client="b", losses=999)
    tell(lessons, blocks=1)
    for number in range(CLIENTS_MAX - 1):
        tell(lessons, client=str(number), interval_s=0.04)
    assert (lessons.window_max("a", 0.0), lessons.window_max("b", 0.0)) == (32, None)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 65535), st.integers(0, 10_000), st.integers(0, 10_000), st.booleans(), st.floats(0, 5000)
        ),
        max_size=60,
    )
)
def test_what_is_offered_is_nothing_or_a_legal_window_of_at_least_the_least(transfers) -> None:
    lessons, now = Lessons(), 0.0
    for window, blocks, losses, sliced, elapsed in transfers:
        now += elapsed
        limit = lessons.window_max("a", now)
        assert limit is None or LEAST_WINDOW <= limit <= 65535
        agreed = min(window, limit or window)
        tell(lessons, now=now, window=agreed, blocks=blocks, losses=losses, sliced=sliced)
        after = lessons.window_max("a", now)
        assert after is None or after <= max(2 * (limit or 0), agreed // 2, LEAST_WINDOW)
