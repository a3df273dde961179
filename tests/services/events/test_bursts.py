"""Many uploads become one event, and none is ever lost: laws of the bursts, without a clock."""

import math
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.events.bursts import Burst, PendingBursts
from services.events.roots import Root, Upload, UploadKind

QUIET, LONGEST = 30.0, 300.0
AT = datetime(2026, 1, 1, tzinfo=UTC)
ROOTS = [Root("lab", "bucket", prefix, prefix) for prefix in ("", "one", "two")]


def upload(root: int = 0, kind: UploadKind = UploadKind.PICTURES, key: str = "a.jpg") -> Upload:
    return Upload(ROOTS[root], kind, key)


def bursts() -> PendingBursts:
    return PendingBursts(QUIET, LONGEST)


def only(found: list[Burst]) -> Burst:
    (one,) = found
    return one


def test_a_burst_is_one_event_of_all() -> None:
    waiting = bursts()
    for number in range(500):
        waiting.add(upload(key=f"{number}.jpg"), number * 0.01, AT)
    assert waiting.take(4.99 + QUIET - 0.001) == []
    burst = only(waiting.take(4.99 + QUIET))
    assert (burst.uploads, burst.key) == (500, "499.jpg")
    assert waiting.take(math.inf) == []


def test_an_endless_trickle_is_due_after_the_longest_wait() -> None:
    waiting = bursts()
    for second in range(0, 300, 10):
        waiting.add(upload(), second, AT)
        assert waiting.take(second) == []
    assert only(waiting.take(LONGEST)).uploads == 30


def test_a_burst_put_back_for_later_takes_new_uploads_along_and_delays_no_other() -> None:
    for maybe_posted in (False, True):
        waiting = bursts()
        waiting.add(upload(0), 0, AT)
        tried = only(waiting.take(QUIET))
        waiting.put_back(tried, maybe_posted=maybe_posted, not_before=500)
        waiting.add(upload(0), 40, AT)
        waiting.add(upload(1), 40, AT)
        assert waiting.next_due() == 40 + QUIET
        assert only(waiting.take(499)).root == ROOTS[1]
        assert waiting.next_due() == 500
        again = only(waiting.take(500))
        assert (again.id, again.uploads) == (tried.id, 1 if maybe_posted else 2)
        waiting.put_back(again, maybe_posted=False)  # rests no more
        assert only(waiting.take(501)).id == tried.id
        assert sum(each.uploads for each in waiting.take(math.inf)) == maybe_posted


def test_each_root_and_kind_waits_separately() -> None:
    waiting = bursts()
    waiting.add(upload(0), 0, AT)
    waiting.add(upload(1), 5, AT)
    waiting.add(upload(0, UploadKind.EXPORTS), 7, AT)
    assert waiting.next_due() == QUIET
    assert only(waiting.take(QUIET)).root == ROOTS[0]
    assert {(each.root.prefix, each.kind) for each in waiting.take(math.inf)} == {
        ("one", UploadKind.PICTURES),
        ("", UploadKind.EXPORTS),
    }


def test_a_burst_that_did_not_arrive_takes_later_uploads_along() -> None:
    waiting = bursts()
    waiting.add(upload(key="a.jpg"), 0, AT)
    first = only(waiting.take(math.inf))
    waiting.add(upload(key="b.jpg"), 100, AT)
    waiting.put_back(first, maybe_posted=False)
    again = only(waiting.take(100 + QUIET))
    assert (again.id, again.uploads, again.key, again.began) == (first.id, 2, "b.jpg", 0)


def test_a_burst_that_may_have_arrived_stays_as_it_is_and_goes_first() -> None:
    """Its doubled event is dropped by the server, so nothing may be in it that was not before."""
    waiting = bursts()
    waiting.add(upload(key="a.jpg"), 0, AT)
    first = only(waiting.take(math.inf))
    waiting.add(upload(key="b.jpg"), 100, AT)
    waiting.put_back(first, maybe_posted=True)
    again = only(waiting.take(math.inf))
    assert (again.id, again.uploads, again.key) == (first.id, 1, "a.jpg")
    waiting.put_back(again, maybe_posted=False)  # that attempt did not, an earlier one may have
    assert only(waiting.take(math.inf)).uploads == 1
    assert only(waiting.take(math.inf)).key == "b.jpg"


@given(st.lists(st.floats(0, 60), min_size=1, max_size=60))
def test_due_exactly_quiet_after_the_last_or_longest_after_the_first(gaps: list[float]) -> None:
    waiting = bursts()
    began = latest = now = 0.0
    count = 0
    for gap in gaps:
        now += gap
        due = min(latest + QUIET, began + LONGEST)
        if count and now >= due:
            assert waiting.next_due() == due
            assert waiting.take(math.nextafter(due, 0)) == []
            assert only(waiting.take(due)).uploads == count
            count = 0
        if not count:
            began = now
        latest = now
        count += 1
        waiting.add(upload(), now, AT)
    assert only(waiting.take(math.inf)).uploads == count


class NothingIsLost(RuleBasedStateMachine):
    """Uploads come, and posts succeed or fail in every way, in any order."""

    @initialize()
    def start(self) -> None:
        self.waiting = bursts()
        self.now = 0.0
        self.added = 0
        self.posted: dict[UUID, int] = {}
        self.maybe: dict[UUID, int] = {}

    @rule(root=st.integers(0, 2), kind=st.sampled_from(UploadKind), wait=st.floats(0, 40))
    def add(self, root: int, kind: UploadKind, wait: float) -> None:
        self.now += wait
        self.added += 1
        self.waiting.add(upload(root, kind), self.now, AT)

    @rule(
        fates=st.lists(st.sampled_from(["posted", "away", "answer lost"]), max_size=6),
        hurry=st.booleans(),
        meanwhile=st.integers(0, 2),
    )
    def post(self, fates: list[str], *, hurry: bool, meanwhile: int) -> None:
        taken = self.waiting.take(math.inf if hurry else self.now)
        for root in range(meanwhile):
            self.add(root, UploadKind.PICTURES, 0)
        for number, each in enumerate(taken):
            fate = fates[number] if number < len(fates) else "posted"
            if each.id in self.maybe:
                assert each.uploads == self.maybe[each.id]
            if fate == "answer lost":
                self.maybe[each.id] = each.uploads
            if fate == "posted":
                assert each.id not in self.posted
                self.posted[each.id] = each.uploads
            else:
                self.waiting.put_back(each, maybe_posted=fate == "answer lost")

    @invariant()
    def all_are_posted_or_wait(self) -> None:
        pending = self.waiting.pending
        assert sum(self.posted.values()) + sum(each.uploads for each in pending) == self.added
        assert len(pending) <= 2 * len(ROOTS) * len(UploadKind)


TestNothingIsLost = NothingIsLost.TestCase
