"""custody.ledger: quotas hold whatever happens, at each limit and one beyond; versions and replaced files count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from appliance.custody import versions
from appliance.custody.ledger import LARGEST_STEP, SMALLEST_CHARGE, STEP, Ledger, Limits, Upload
from appliance.custody.wire import Reason

LOTS = 1 << 50
TIGHT = 64 * STEP  # so little room that steps are the shortest


def ledger(**limits: Any) -> Ledger:
    return Ledger(Limits(**{"max_size": LOTS, "quota": LOTS, "per_client": LOTS, "max_files": 1000, **limits}))


def reserve(book: Ledger, name: bytes, client: str, declared: int, free: int) -> Upload | Reason:
    allowed = book.assess(name, client, declared, free)
    return allowed if isinstance(allowed, Reason) else book.begin(name, client, allowed)


def begun(book: Ledger, name: bytes = b"a", client: str = "c", declared: int = 0, free: int = LOTS) -> Upload:
    upload = reserve(book, name, client, declared, free)
    assert isinstance(upload, Upload)
    return upload


def test_an_upload_is_promised_one_step_and_charged_what_it_was() -> None:
    book = ledger()
    upload = begun(book)
    assert upload.allowed == book.total == book.clients["c"] == STEP
    book.commit(upload, 100)
    assert book.total == book.clients["c"] == SMALLEST_CHARGE
    assert book.files == {b"a": (SMALLEST_CHARGE, "c")}


def test_a_cancelled_upload_leaves_no_trace() -> None:
    book = ledger()
    book.cancel(begun(book))
    assert (book.total, book.clients, book.files, book.uploads) == (0, {}, {}, {})


def test_a_name_that_exists_or_is_under_way_is_taken() -> None:
    book = ledger()
    upload = begun(book)
    assert reserve(book, b"a", "d", 0, LOTS) is Reason.UNDER_WAY
    book.commit(upload, 1)
    assert reserve(book, b"a", "d", 0, LOTS) is Reason.EXISTS


def test_the_declared_size_is_refused_up_front() -> None:
    assert reserve(ledger(max_size=10), b"a", "c", 11, LOTS) is Reason.SIZE
    assert isinstance(reserve(ledger(max_size=10), b"a", "c", 10, LOTS), Upload)
    assert reserve(ledger(quota=10000), b"a", "c", 10001, LOTS) is Reason.QUOTA
    assert reserve(ledger(per_client=10000), b"a", "c", 10001, LOTS) is Reason.CLIENT_QUOTA
    assert reserve(ledger(), b"a", "c", 10001, 10000) is Reason.DISK


def test_the_number_of_files_counts_uploads_under_way() -> None:
    book = ledger(max_files=2)
    book.commit(begun(book, b"a"), 1)
    begun(book, b"b")
    assert reserve(book, b"c", "c", 0, LOTS) is Reason.FILES


def test_an_empty_file_is_charged_four_kib() -> None:
    book = ledger(quota=2 * SMALLEST_CHARGE)
    book.commit(begun(book, b"a"), 0)
    book.commit(begun(book, b"b"), 0)
    assert reserve(book, b"c", "c", 0, LOTS) is Reason.QUOTA


def test_an_extension_grants_a_step_beyond_what_came() -> None:
    book = ledger(quota=TIGHT)
    upload = begun(book)
    assert book.extend(upload, STEP // 2, LOTS) is None
    assert upload.allowed == STEP // 2 + STEP
    assert book.promised() == STEP


@pytest.mark.parametrize(
    ("received", "step"),
    [(4 * STEP, STEP), (4 * STEP + 4, STEP + 1), (4 * LARGEST_STEP, LARGEST_STEP), (1 << 40, LARGEST_STEP)],
)
def test_steps_grow_with_what_came_so_a_long_file_asks_seldom_and_holds_little(received: int, step: int) -> None:
    book = ledger()
    upload = begun(book)
    upload.allowed = received
    assert book.extend(upload, received, TIGHT) is None
    assert upload.allowed - received == step


@pytest.mark.parametrize(
    ("room", "step"),
    [
        (TIGHT, STEP),
        (64 * STEP + 64, STEP + 1),
        (64 * LARGEST_STEP, LARGEST_STEP),
        (64 * LARGEST_STEP + 64, LARGEST_STEP),
    ],
)
def test_steps_are_long_from_the_beginning_where_there_is_much_room(room: int, step: int) -> None:
    book = ledger()
    upload = begun(book)
    assert book.extend(upload, STEP // 2, book.promised() - STEP // 2 + room) is None
    assert upload.allowed - STEP // 2 == step


def test_long_steps_of_many_uploads_leave_room_for_the_next() -> None:
    book = ledger(quota=10 << 30)
    for number in range(60):
        upload = begun(book, b"%d" % number)
        assert book.extend(upload, STEP // 2, LOTS) is None
    assert book.total < (10 << 30) * 2 // 3
    assert begun(book, b"one more").allowed == STEP


def test_an_extension_stops_at_the_largest_size() -> None:
    book = ledger(max_size=STEP + 1)
    upload = begun(book)
    assert book.extend(upload, STEP, LOTS) is None
    assert upload.allowed == STEP + 1
    assert book.extend(upload, STEP + 1, LOTS) is Reason.SIZE


def test_an_extension_is_refused_when_others_hold_the_rest() -> None:
    book = ledger(quota=STEP + SMALLEST_CHARGE)
    first, second = begun(book, b"a"), begun(book, b"b")
    assert second.allowed == SMALLEST_CHARGE
    assert book.extend(first, STEP, LOTS) is Reason.QUOTA
    book.cancel(second)
    assert book.extend(first, STEP, LOTS) is None
    assert first.allowed == STEP + SMALLEST_CHARGE


def test_an_extension_is_refused_by_the_disk_and_by_the_share_of_one_client() -> None:
    book = ledger(per_client=STEP)
    upload = begun(book)
    assert book.extend(upload, STEP, LOTS) is Reason.CLIENT_QUOTA
    book = ledger()
    upload = begun(book)
    assert book.extend(upload, STEP, 0) is Reason.DISK


def test_a_worker_that_lies_about_what_came_gains_nothing() -> None:
    book = ledger(quota=TIGHT)
    upload = begun(book)
    book.extend(upload, LOTS, LOTS)
    assert upload.received == STEP and upload.allowed == 2 * STEP
    book.extend(upload, 0, LOTS)
    assert upload.received == STEP


def test_what_is_promised_and_unwritten_is_not_free_for_others() -> None:
    book = ledger()
    begun(book, b"a", free=STEP)
    assert reserve(book, b"b", "c", 0, STEP) is Reason.DISK


def test_the_folder_is_believed_and_known_files_keep_their_client() -> None:
    book = ledger()
    book.commit(begun(book, b"a"), 9000)
    under_way = begun(book, b"b", "d")
    book.rebuild({b"a": (9000, ""), b"found": (1, ""), b"told": (1, "e")})
    assert book.files == {b"a": (9000, "c"), b"found": (SMALLEST_CHARGE, ""), b"told": (SMALLEST_CHARGE, "e")}
    assert book.total == 9000 + 2 * SMALLEST_CHARGE + under_way.charge
    assert book.clients == {"c": 9000, "d": under_way.charge, "e": SMALLEST_CHARGE}
    book.rebuild({})
    assert book.files == {} and book.clients == {"d": under_way.charge}


def test_asking_holds_nothing() -> None:
    book = ledger(max_files=1)
    for _ in range(3):
        assert book.assess(b"a", "c", 0, LOTS) == STEP
    assert (book.total, book.clients, book.uploads) == (0, {}, {})


def test_bytes_that_the_custodian_before_still_receives_are_not_given_out_again() -> None:
    book = ledger(quota=10000)
    book.rebuild({}, strangers=5000)
    assert reserve(book, b"a", "c", 5001, LOTS) is Reason.QUOTA
    assert isinstance(reserve(book, b"a", "c", 5000, LOTS), Upload)


# --- names that are there already


def stored(book: Ledger, name: bytes = b"a", size: int = 10000, client: str = "c", version: bytes = b"") -> None:
    upload = begun(book, name, client)
    assert book.settle(upload) is None
    book.commit(upload, size, version)


@pytest.mark.parametrize(
    ("mode", "there", "reason"),
    [
        ("create", True, Reason.EXISTS),
        ("create", False, None),
        ("existing", True, None),
        ("existing", False, Reason.ABSENT),
        ("replace", True, None),
        ("replace", False, None),
    ],
)
def test_the_mode_says_which_names_are_taken(mode: str, there: bool, reason: Reason | None) -> None:
    book = ledger(mode=mode)
    if there:
        book.see(b"a", 1, "c")
    outcome = book.assess(b"a", "c", 0, LOTS)
    assert outcome is reason if reason else outcome == STEP


def test_a_replaced_file_stays_charged_until_the_other_has_its_name() -> None:
    book = ledger(mode="replace", quota=25000)
    stored(book)
    assert reserve(book, b"a", "d", 15001, LOTS) is Reason.QUOTA
    upload = begun(book, client="d", declared=15000)
    assert book.clients == {"c": 10000, "d": 15000}
    book.commit(upload, 12000)
    assert book.files == {b"a": (12000, "d")}
    assert (book.total, book.clients) == (12000, {"d": 12000})


def test_a_version_is_charged_to_who_had_uploaded_it() -> None:
    book = ledger(mode="replace", keep_versions=1)
    stored(book)
    version = versions.name(b"a", 0, b"")
    stored(book, size=20000, client="d", version=version)
    assert book.files == {b"a": (20000, "d"), version: (10000, "c")}
    assert book.clients == {"c": 10000, "d": 20000}
    assert book.latest(b"a") == version
    assert (book.latest(b"b"), book.surplus(b"b")) == (b"", [])


def test_versions_beyond_those_kept_are_surplus_the_oldest_first() -> None:
    book = ledger(mode="replace", keep_versions=2)
    stored(book)
    made = []
    for second in range(4):
        made.append(versions.name(b"a", second * 10**9, book.latest(b"a")))
        stored(book, version=made[-1])
    assert book.surplus(b"a") == made[:2]
    for name in made[:2]:
        book.see(name, None)
    assert (book.surplus(b"a"), book.versions) == ([], {b"a": made[2:]})
    for name in made[2:]:
        book.see(name, None)
    assert book.versions == {}


def test_a_full_box_still_replaces_what_makes_it_no_fuller() -> None:
    book = ledger(mode="replace", max_files=1)
    stored(book)
    assert reserve(book, b"b", "c", 0, LOTS) is Reason.FILES
    stored(book)
    kept = ledger(mode="replace", max_files=2, keep_versions=1)
    stored(kept)
    first = versions.name(b"a", 0, b"")
    stored(kept, version=first)
    second = versions.name(b"a", 0, first)
    stored(kept, version=second)
    assert kept.surplus(b"a") == [first]


def test_a_version_needs_room_for_one_more_file() -> None:
    book = ledger(mode="replace", max_files=1, keep_versions=1)
    stored(book)
    assert reserve(book, b"a", "c", 0, LOTS) is Reason.FILES


def test_what_changed_under_an_upload_is_judged_again_when_it_is_complete() -> None:
    book = ledger(mode="existing")
    book.see(b"a", 1)
    upload = begun(book)
    book.see(b"a", None)
    assert book.settle(upload) is Reason.ABSENT
    book = ledger(mode="replace", max_files=1)
    book.see(b"a", 1)
    upload = begun(book)
    book.see(b"a", None)
    book.see(b"b", 1)
    assert book.settle(upload) is Reason.FILES


def test_the_folder_is_believed_about_one_name() -> None:
    book = ledger(mode="replace")
    stored(book)
    book.see(b"a", 5000)
    assert book.files == {b"a": (5000, "c")}
    book.see(b"a", 6000, "d")
    assert (book.files, book.total, book.clients) == ({b"a": (6000, "d")}, 6000, {"d": 6000})
    book.see(b"a", None)
    book.see(b"a", None)
    assert (book.files, book.total, book.clients) == ({}, 0, {})


class Books(RuleBasedStateMachine):
    """Any order of uploads by any clients: the sums are right and no quota is exceeded."""

    limits = Limits(max_size=3 * STEP, quota=5 * STEP, per_client=4 * STEP, max_files=6)
    names = 1001
    uploads: Bundle[Upload] = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.book = Ledger(self.limits)

    @rule(
        target=uploads,
        number=st.integers(0, 1000),
        client=st.sampled_from("abc"),
        declared=st.sampled_from([0, 1, STEP, 3 * STEP, 4 * STEP]),
        free=st.sampled_from([0, STEP, 99 * STEP]),
    )
    def reserve(self, number: int, client: str, declared: int, free: int) -> object:
        outcome = reserve(self.book, b"%d" % (number % self.names), client, declared, free)
        return outcome if isinstance(outcome, Upload) else multiple()

    @rule(upload=uploads, received=st.integers(0, 4 * STEP), free=st.sampled_from([0, STEP, 99 * STEP]))
    def extend(self, upload: Upload, received: int, free: int) -> None:
        before = upload.allowed
        refused = self.book.extend(upload, received, free)
        assert (upload.allowed > before) is (refused is None)

    @rule(upload=consumes(uploads), share=st.floats(0, 1))
    def commit(self, upload: Upload, share: float) -> None:
        book = self.book
        if book.settle(upload) is not None:
            book.cancel(upload)
            return
        kept = self.limits.keep_versions and upload.name in book.files
        version = versions.name(upload.name, 0, book.latest(upload.name)) if kept else b""
        book.commit(upload, int(upload.allowed * share), version)
        for name in book.surplus(upload.name):
            book.see(name, None)
        assert len(book.versions.get(upload.name, ())) <= self.limits.keep_versions

    @rule(upload=consumes(uploads))
    def cancel(self, upload: Upload) -> None:
        self.book.cancel(upload)

    @rule(keep=st.integers(0, 6))
    def rebuild(self, keep: int) -> None:
        self.book.rebuild(dict(list(self.book.files.items())[:keep]))

    @rule(which=st.integers(0, 5))
    def remove(self, which: int) -> None:
        for name in list(self.book.files)[which : which + 1]:
            self.book.see(name, None)

    @invariant()
    def sums_are_right_and_within_the_limits(self) -> None:
        book = self.book
        charges = [charge for charge, _client in book.files.values()] + [u.charge for u in book.uploads.values()]
        assert book.total == sum(charges) <= self.limits.quota
        assert all(0 < held <= self.limits.per_client for held in book.clients.values())
        assert len(book.files) + sum(u.slots for u in book.uploads.values()) <= self.limits.max_files
        assert sorted(v for known in book.versions.values() for v in known) == sorted(filter(versions.base, book.files))
        assert all(u.received <= u.allowed <= self.limits.max_size for u in book.uploads.values())


class ReplacingBooks(Books):
    """The same where few names are replaced again and again."""

    limits = Limits(3 * STEP, 5 * STEP, 4 * STEP, max_files=6, mode="replace", keep_versions=2)
    names = 3


class ReplacingWithoutVersions(Books):
    limits = Limits(3 * STEP, 5 * STEP, 4 * STEP, max_files=3, mode="replace")
    names = 4


TestBooks = Books.TestCase
TestReplacingBooks = ReplacingBooks.TestCase
TestReplacingWithoutVersions = ReplacingWithoutVersions.TestCase
