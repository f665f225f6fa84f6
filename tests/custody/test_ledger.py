"""custody.ledger: quotas hold whatever happens, at each limit and one beyond."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from appliance.custody.ledger import SMALLEST_CHARGE, STEP, Ledger, Limits, Upload
from appliance.custody.wire import Reason

LOTS = 1 << 50


def ledger(**limits: int) -> Ledger:
    return Ledger(Limits(**{"max_size": LOTS, "quota": LOTS, "per_client": LOTS, "max_files": 1000, **limits}))


def begun(book: Ledger, name: bytes = b"a", client: str = "c", declared: int = 0, free: int = LOTS) -> Upload:
    upload = book.reserve(name, client, declared, free)
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
    assert book.reserve(b"a", "d", 0, LOTS) is Reason.EXISTS
    book.commit(upload, 1)
    assert book.reserve(b"a", "d", 0, LOTS) is Reason.EXISTS


def test_the_declared_size_is_refused_up_front() -> None:
    assert ledger(max_size=10).reserve(b"a", "c", 11, LOTS) is Reason.SIZE
    assert isinstance(ledger(max_size=10).reserve(b"a", "c", 10, LOTS), Upload)
    assert ledger(quota=10000).reserve(b"a", "c", 10001, LOTS) is Reason.QUOTA
    assert ledger(per_client=10000).reserve(b"a", "c", 10001, LOTS) is Reason.CLIENT_QUOTA
    assert ledger().reserve(b"a", "c", 10001, 10000) is Reason.DISK


def test_the_number_of_files_counts_uploads_under_way() -> None:
    book = ledger(max_files=2)
    book.commit(begun(book, b"a"), 1)
    begun(book, b"b")
    assert book.reserve(b"c", "c", 0, LOTS) is Reason.FILES


def test_an_empty_file_is_charged_four_kib() -> None:
    book = ledger(quota=2 * SMALLEST_CHARGE)
    book.commit(begun(book, b"a"), 0)
    book.commit(begun(book, b"b"), 0)
    assert book.reserve(b"c", "c", 0, LOTS) is Reason.QUOTA


def test_an_extension_grants_a_step_beyond_what_came() -> None:
    book = ledger()
    upload = begun(book)
    assert book.extend(upload, STEP // 2, LOTS) is None
    assert upload.allowed == STEP // 2 + STEP
    assert book.promised() == STEP


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
    book = ledger()
    upload = begun(book)
    book.extend(upload, LOTS, LOTS)
    assert upload.received == STEP and upload.allowed == 2 * STEP
    book.extend(upload, 0, LOTS)
    assert upload.received == STEP


def test_what_is_promised_and_unwritten_is_not_free_for_others() -> None:
    book = ledger()
    begun(book, b"a", free=STEP)
    assert book.reserve(b"b", "c", 0, STEP) is Reason.DISK


def test_the_folder_is_believed_and_known_files_keep_their_client() -> None:
    book = ledger()
    book.commit(begun(book, b"a"), 9000)
    under_way = begun(book, b"b", "d")
    book.rebuild({b"a": 9000, b"found": 1})
    assert book.files == {b"a": (9000, "c"), b"found": (SMALLEST_CHARGE, "")}
    assert book.total == 9000 + SMALLEST_CHARGE + under_way.charge
    assert book.clients == {"c": 9000, "d": under_way.charge}
    book.rebuild({})
    assert book.files == {} and book.clients == {"d": under_way.charge}


class Books(RuleBasedStateMachine):
    """Any order of uploads by any clients: the sums are right and no quota is exceeded."""

    limits = Limits(max_size=3 * STEP, quota=5 * STEP, per_client=4 * STEP, max_files=6)
    uploads: Bundle[Upload] = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.book = Ledger(self.limits)
        self.names = 0

    @rule(
        target=uploads,
        client=st.sampled_from("abc"),
        declared=st.sampled_from([0, 1, STEP, 3 * STEP, 4 * STEP]),
        free=st.sampled_from([0, STEP, 99 * STEP]),
    )
    def reserve(self, client: str, declared: int, free: int) -> object:
        self.names += 1
        outcome = self.book.reserve(str(self.names).encode(), client, declared, free)
        return outcome if isinstance(outcome, Upload) else multiple()

    @rule(upload=uploads, received=st.integers(0, 4 * STEP), free=st.sampled_from([0, STEP, 99 * STEP]))
    def extend(self, upload: Upload, received: int, free: int) -> None:
        before = upload.allowed
        refused = self.book.extend(upload, received, free)
        assert (upload.allowed > before) is (refused is None)

    @rule(upload=consumes(uploads), share=st.floats(0, 1))
    def commit(self, upload: Upload, share: float) -> None:
        self.book.commit(upload, int(upload.allowed * share))

    @rule(upload=consumes(uploads))
    def cancel(self, upload: Upload) -> None:
        self.book.cancel(upload)

    @rule(keep=st.integers(0, 6))
    def rebuild(self, keep: int) -> None:
        self.book.rebuild({name: charge for name, (charge, _client) in list(self.book.files.items())[:keep]})

    @invariant()
    def sums_are_right_and_within_the_limits(self) -> None:
        book = self.book
        charges = [charge for charge, _client in book.files.values()] + [u.charge for u in book.uploads.values()]
        assert book.total == sum(charges) <= self.limits.quota
        assert all(0 < held <= self.limits.per_client for held in book.clients.values())
        assert len(charges) <= self.limits.max_files
        assert all(u.received <= u.allowed <= self.limits.max_size for u in book.uploads.values())


TestBooks = Books.TestCase
