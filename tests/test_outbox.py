"""What is owed, on disk: nothing lost, nothing twice, and no harm to the job whatever the disk does."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import internals
import pytest
from fuzzing import BASE_URL, NOW, clean, damage, owed, sound_files, tamper, use
from owed import is_drained
from patience import PATIENCE

from activitysmith_track.delivery import outbox_file, outbox_tables
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.newer_card import NewerCard
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.state import Hold
from activitysmith_track.payloads import check_body

KEY = "key-that-nobody-may-see"


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    """An outbox in a directory of its own that is not there yet."""
    return Outbox(tmp_path / "state", clock=lambda: NOW)


def claim(box: Outbox, owner: str = "a", now: float = NOW, seconds: float = 60, **options: int) -> list[Entry]:
    """Claim what there is for the account of all these tests."""
    return box.claim("fingerprint", BASE_URL, owner, now, seconds, **options)


def push(number: int = 0, **changes: object) -> Entry:
    """Make a push."""
    return replace(Entry("push", "fingerprint", BASE_URL, {"title": f"T{number}"}, NOW), **changes)  # type: ignore[arg-type]


def end(number: int = 0, **changes: object) -> Entry:
    """Make the end of a card."""
    body = {"content_state": {"title": f"T{number}", "subtitle": "Done in 3 min"}}
    return replace(Entry("end", "fingerprint", BASE_URL, body, NOW, "job"), **changes)  # type: ignore[arg-type]


def ids(entries: list[Entry]) -> list[str]:
    """Name entries."""
    return [entry.id for entry in entries]


def edit(box: Outbox, change: str, *values: object) -> None:
    """Change the file behind the outbox's back."""
    with contextlib.closing(sqlite3.connect(box.path())) as base:
        base.execute(change, values)
        base.commit()


def unmeasured() -> dict[str, str]:
    """Return an environment in which no coverage is taken: a process that is killed leaves its file damaged."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


# ---------------------------------------------------------------------------------------------------- in and out


def test_what_is_put_is_claimed(box: Outbox) -> None:
    """Entries come back as they were, what is on the screen and what is new first, and are gone once delivered."""
    entries = [push(1), end(stream_key="one"), push(2), end(stream_key="two")]
    assert box.put(entries)
    assert box.exists()
    assert claim(box) == [entries[3], entries[1], entries[2], entries[0]]
    assert box.delivered(ids(entries))
    assert is_drained(box)
    assert claim(box) == []
    assert box.exists()  # what became of them is known for some minutes
    assert claim(box, now=NOW + outbox_tables.MARK_SECONDS + 1.0) == []
    assert not box.exists()


def test_nothing_is_written_while_all_goes_well(box: Outbox) -> None:
    """Looking, claiming and cancelling make no file, and neither does putting nothing."""
    assert not box.exists()
    assert claim(box) == []
    assert box.hold_back_ends("fingerprint", BASE_URL, "job", "a", 60) == {}
    assert box.put([])
    assert box.delivered([])
    assert box.release([])
    assert not box.delivered(["x"])
    assert box.begin("x", "a", 60) is not Hold.MINE
    assert not box.path().parent.exists()


def test_nothing_is_imported_while_all_goes_well(tmp_path: Path) -> None:
    """A process that owes nothing never loads SQLite, nor platformdirs where it is told the directory."""
    code = (
        "import sys; already = set(sys.modules)  # coverage has a use for SQLite\n"
        "from activitysmith_track.delivery.outbox import Outbox; box = Outbox(sys.argv[1])\n"
        "print(box.exists(), box.claim('h', 'b', 'o', 0.0, 1.0))\n"
        "print({'sqlite3', 'platformdirs'} & set(sys.modules) - already)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "[]", "set()"]


def test_the_file_is_private(box: Outbox) -> None:
    """Directory and file are the user's alone, and the journal is gone after each call."""
    assert box.put([push()])
    assert box.path().stat().st_mode & 0o777 == 0o600
    assert box.path().parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(box.path().parent) == [box.path().name]


def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory it lies in the user's state directory."""
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    path = Outbox().path()
    assert path.is_absolute()
    assert path.is_relative_to(tmp_path)
    assert "activitysmith-track" in path.parts


def test_no_home(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where no home can be found, nothing is written to the working directory instead."""
    internals.state_directory(monkeypatch, "~/.local/state/x")
    box = Outbox()
    assert not box.exists()
    assert not box.put([push()])
    assert "no home directory" in caplog.text


def test_a_relative_directory_is_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is given may be relative, and stays where it was when the job changes its own."""
    monkeypatch.chdir(tmp_path)
    box = Outbox("here", clock=lambda: NOW)
    assert box.put([push()])
    monkeypatch.chdir("/")
    assert len(claim(box)) == 1
    assert (tmp_path / "here").is_dir()


def test_accounts_are_kept_apart(box: Outbox) -> None:
    """What goes out with another key or to another address is not claimed."""
    assert box.put([push(1), push(2, key_fingerprint="other"), push(3, base_url="https://else.example")])
    assert [entry.body["title"] for entry in claim(box)] == ["T1"]


def test_the_fingerprint_is_not_the_key(box: Outbox) -> None:
    """A key is told from others by its fingerprint, and stands nowhere in the file."""
    assert box.put([push(key_fingerprint=internals.fingerprint(KEY))])
    assert KEY.encode() not in box.path().read_bytes()


def test_what_was_delivered_is_wiped(box: Outbox) -> None:
    """Words that have arrived are not left in unused pages of the file."""
    assert box.put([push(1), push(2, body={"title": "private words"})])
    assert box.delivered(ids(claim(box, most=1)))
    assert b"private words" not in box.path().read_bytes()


def test_the_same_id_is_kept_once(box: Outbox) -> None:
    """Putting again what may have been put already changes nothing, claimed or not."""
    entry = push()
    assert box.put([entry, entry])
    assert claim(box) == [entry]
    assert box.put([entry])
    assert claim(box, "b") == []


def test_a_newer_end_takes_the_place_of_an_older_one(box: Outbox) -> None:
    """Of two ends of one stream only the last one matters; other streams and pushes stay."""
    kept = replace(end(3), kind="keep", body={"content_state": {"title": "T3", "type": "progress"}})
    assert box.put([end(1), push(), end(2, stream_key="other")])
    assert box.put([kept])
    assert box.put([end(4, occurred_at=NOW - 1)])
    assert [entry.body.get("title", entry.kind) for entry in claim(box)] == ["keep", "end", "T0"]
    assert len(box.hold_back_ends("fingerprint", BASE_URL, "job", "a", 60) or ()) == 1


def test_a_newer_run_holds_an_owed_end(box: Outbox) -> None:
    """Ends of the stream change hands, the claimed ones too, and whoever had them is told before sending."""
    entries = [end(), end(stream_key="other"), push()]
    assert box.put(entries)
    assert len(claim(box)) == 3
    held = box.hold_back_ends("fingerprint", BASE_URL, "job", "b", 60)
    assert list(held or ()) == [entries[0].id]
    assert [box.begin(entry.id, "a", 60) for entry in entries] == [Hold.OTHERS, Hold.MINE, Hold.MINE]
    assert box.hold_back_ends("else", BASE_URL, "other", "b", 60) == {}
    assert claim(box) == []
    assert box.release(held or (), "b")
    assert [entry.id for entry in claim(box)] == list(held or ())
    assert box.hold_back_ends("fingerprint", BASE_URL, "job", "b", 60) == held
    assert box.delivered(held or ())
    assert box.hold_back_ends("fingerprint", BASE_URL, "job", "b", 60) == {}


@pytest.mark.parametrize(
    ("began", "counts"), [(-1.0, True), (0.0, True), (0.5, False), (2.0, False), (3_600.0, True)]
)
def test_a_run_that_began_while_the_disk_was_slow_is_no_older_one(box: Outbox, began: float, counts: bool) -> None:
    """One that lies in the future began before the clock was set back."""
    made = end(stream_key="job", run="a", began_at=NOW + began, occurred_at=NOW + began)
    assert box.put([made])
    held = at_time(box, 2.0).hold_back_ends("fingerprint", BASE_URL, "job", "b", 60, began_by=NOW)
    assert list(held or ()) == ([made.id] if counts else [])


@pytest.mark.parametrize(
    "entry",
    [
        push(kind="letter"),
        push(body={}),
        push(body={"title": "T", "payload": {"x": object()}}),
        push(body={"title": "x" * 70_000}),
        push(stream_key="job"),
        end(stream_key=None),
        end(stream_key="no such key"),
        push(occurred_at=float("nan")),
        push(run="x" * 1000),
    ],
)
def test_what_could_not_be_sent_is_not_kept(box: Outbox, entry: Entry, caplog: pytest.LogCaptureFixture) -> None:
    """An entry that the service could not accept is told, and those beside it are kept."""
    assert not box.put([entry, push(7)])
    assert [kept.body["title"] for kept in claim(box)] == ["T7"]
    assert "cannot keep an entry" in caplog.text


# --------------------------------------------------------------------------------------------------------- leases


def test_a_lease_keeps_others_away_until_it_expires(box: Outbox) -> None:
    """What one process claimed another gets only after the lease."""
    entry = push()
    assert box.put([entry])
    assert claim(box, "a") == [entry]
    assert claim(box, "b", NOW + 59) == []
    assert claim(box, "b", NOW + 61) == [entry]
    assert box.begin(entry.id, "a", 60) is not Hold.MINE
    assert box.begin(entry.id, "b", 60) is Hold.MINE


def test_released_entries_can_be_claimed_at_once(box: Outbox) -> None:
    """A failed attempt is counted, and gives the entry back; a lease that somebody else holds is left alone."""
    entry = push()
    assert box.put([entry])
    claim(box, "a")
    assert box.release([entry.id], "a")
    assert claim(box, "b") == [replace(entry, attempts=1)]
    assert box.release([entry.id], "a")
    assert claim(box, "c") == []
    assert box.release([entry.id])
    assert claim(box, "c") == [replace(entry, attempts=2)]


def test_a_lease_of_a_clock_that_was_set_back(box: Outbox) -> None:
    """A lease that would run for longer than any may does not hold an entry for ever."""
    assert box.put([push()])
    assert len(claim(box, "a", NOW + 10 * 3600)) == 1
    assert len(claim(box, "b")) == 1


def test_a_push_that_may_have_arrived_is_not_sent_twice(box: Outbox) -> None:
    """Where its owner died in the middle of an attempt, only a push that must arrive is sent again."""
    success, failure, waiting = push(1, at_least_once=False), push(2), push(3, at_least_once=False)
    assert box.put([success, failure, waiting])
    claim(box)
    assert box.begin(success.id, "a", 60) is Hold.MINE
    assert box.begin(failure.id, "a", 60) is Hold.MINE
    assert claim(box, "b", NOW + 61) == [waiting, failure]


def test_claims_are_bounded(box: Outbox) -> None:
    """As many as can be delivered within a lease are taken at once."""
    assert box.put(owed(7))
    assert [len(claim(box, most=3)) for _ in range(4)] == [3, 3, 1, 0]


# --------------------------------------------------------------------------------------------------------- bounds


def test_entries_are_bounded(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """Of more than a thousand the oldest go first."""
    assert box.put(push(number) for number in range(900))
    assert box.put(push(number) for number in range(900, 1_003))
    titles = [entry.body["title"] for entry in claim(box, most=2_000)]
    assert (len(titles), titles[0], titles[-1]) == (1_000, "T1002", "T3")
    assert "oldest were dropped" in caplog.text


@pytest.mark.parametrize("hours", [25, -25])
def test_entries_age(box: Outbox, hours: int, caplog: pytest.LogCaptureFixture) -> None:
    """After a day, or where the clock was wrong by more than that, an entry is dropped."""
    assert box.put([push(1)])
    assert claim(box, now=NOW + hours * 3600) == []
    assert not box.exists()
    assert box.put([push(2, occurred_at=NOW - hours * 3600), push(3)])
    assert [entry.body["title"] for entry in claim(box)] == ["T3"]
    assert "24 hours" in caplog.text


# ------------------------------------------------------------------------------------------------ what became of it


def at_time(box: Outbox, seconds: float) -> Outbox:
    """Return the same outbox some time later."""
    return Outbox(box.path().parent, clock=lambda: NOW + seconds)


@pytest.mark.parametrize("kind", ["end", "keep", "push"])
def test_who_asks_hears_what_became_of_it(box: Outbox, kind: str) -> None:
    """What another process has delivered is told from what was lost."""
    made = push(1, run="a") if kind == "push" else end(stream_key="job", kind=kind, run="a")
    assert box.put([made], "a", 60)
    assert box.begin(made.id, "a", 60) is Hold.MINE
    assert claim(box, "b", NOW + 61) == [made]
    assert box.begin(made.id, "b", 60) is Hold.MINE
    assert box.delivered([made.id])
    assert box.begin(made.id, "a", 60) is Hold.SETTLED
    assert claim(box, now=NOW + outbox_tables.MARK_SECONDS + 1.0) == []
    assert box.begin(made.id, "a", 60) is not Hold.MINE
    assert not box.exists()
    assert box.put([push(2)])
    assert box.begin(made.id, "a", 60) is Hold.GONE


@pytest.mark.parametrize("owner", ["a", "c"])
def test_what_a_newer_run_has_taken_away_is_known_until_it_is_asked_for(box: Outbox, owner: str) -> None:
    """A process that waits long with its next attempt does not end the newer run's card then, whosever end it is."""
    made = end(stream_key="job", run="a")
    assert box.put([made], owner, 60)
    held = box.hold_back_ends("fingerprint", BASE_URL, "job", "b", 60)
    assert box.delivered(held or ())
    hour = at_time(box, 3_600)
    assert claim(hour, now=NOW + 3_600) == []
    assert hour.begin(made.id, owner, 60) is Hold.SETTLED
    assert claim(hour, now=NOW + 3_600 + outbox_tables.MARK_SECONDS + 1.0) == []
    assert not box.exists()


def test_what_a_newer_end_has_replaced_is_known_until_it_is_asked_for(box: Outbox) -> None:
    """So it is where one process owes both: it had claimed the older one from a process that is gone."""
    made = end(stream_key="job", run="a", began_at=NOW - 9.0)
    assert box.put([made], "c", 60)
    newer = end(stream_key="job", run="c", began_at=NOW - 1.0)
    assert box.put([newer], "c", 60)
    hour = at_time(box, 3_600)
    assert claim(hour, "c", NOW + 3_600) == [newer]  # and drop what is too old
    assert hour.begin(made.id, "c", 60) is Hold.SETTLED


def test_an_end_that_a_newer_one_has_refused(box: Outbox) -> None:
    """What comes too late to be kept is settled, as is what it would have taken the place of."""
    newer, older = (
        end(stream_key="job", run="b", began_at=NOW - 1.0),
        end(stream_key="job", run="a", began_at=NOW - 9.0),
    )
    assert box.put([newer], "b", 60)
    assert box.put([older], "a", 60)
    assert box.begin(older.id, "a", 60) is Hold.SETTLED
    assert box.begin(newer.id, "b", 60) is Hold.MINE
    newest = end(stream_key="job", run="c", began_at=NOW - 0.5)
    assert box.put([newest], "c", 60)
    assert box.begin(newer.id, "b", 60) is Hold.SETTLED


def newer_card(began_at: float, since: float, late: float = 0.0) -> NewerCard:
    return NewerCard("fingerprint", BASE_URL, "job", "b", "b", began_at, since, since + 60.0, late)


@pytest.mark.parametrize("way", ["begun", "put", "left", "delivered"])
def test_a_newer_run_looks_back(box: Outbox, way: str) -> None:
    """It learns when an older end was last sent, and takes away what is owed by now."""

    def look(later: float, since: float) -> float | None:
        return at_time(box, later).look_back(newer_card(NOW, NOW + since))

    assert look(0.0, 0.0) == 0.0
    made = end(stream_key="job", run="a", began_at=NOW - 9.0)
    assert box.put([made, end(stream_key="other", run="a")], "a", 60, sent=way == "put")
    if way == "left":
        assert box.leave([], [(made.id, "a")], [made.id])
    elif way != "put":
        assert box.begin(made.id, "a", 60) is Hold.MINE
    if way == "delivered":
        assert box.delivered([made.id])
    assert look(1.0, 0.0) == (None if way in ("begun", "left") else NOW)
    assert look(8.0, 0.0) == NOW
    assert look(8.0, 1.0) == 0.0
    assert look(-3_600.0, -3_600.0) == 0.0, "it was sent in the future, for the clock was set back"
    assert box.begin(made.id, "a", 60) is Hold.SETTLED


@pytest.mark.parametrize(("tries", "answered"), [(1, True), (2, True), (1, False), (2, False)])
def test_what_was_answered_comes_no_later(box: Outbox, tries: int, answered: bool) -> None:
    """What was sent before a newer run had the card may come behind it, unless it was answered, or never sent."""
    made = end(stream_key="job", run="a", began_at=NOW - 9.0)
    assert box.put([made], "a", 60)
    for number in range(tries):
        assert at_time(box, number).begin(made.id, "a", 60) is Hold.MINE
    if answered:
        assert at_time(box, 2.0).delivered([made.id])
    else:
        assert at_time(box, 2.0).over(made.id, "a", sent=False)

    def look(since: float) -> float | None:
        return at_time(box, 9.0).look_back(newer_card(NOW, NOW + since, late=11.0))

    assert look(1.0) == (NOW + 2.0 if answered else NOW if tries > 1 else 0.0)
    assert look(3.0) == (NOW if tries > 1 else 0.0)
    assert look(12.0) == 0.0


def test_a_newer_run_leaves_alone_what_began_after_it(box: Outbox) -> None:
    """That is a still newer one's."""
    made = end(stream_key="job", run="c", began_at=NOW)
    assert box.put([made], "c", 60)
    assert box.look_back(newer_card(NOW - 1.0, NOW - 1.0)) == 0.0
    assert box.begin(made.id, "c", 60) is Hold.MINE


def test_a_file_of_an_older_version_is_read(box: Outbox) -> None:
    """A file without marks is what this version leaves, too."""
    assert box.put([end(stream_key="job")])
    with contextlib.closing(sqlite3.connect(box.path())) as base:
        assert [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == [
            "entries"
        ]
    assert len(claim(box)) == 1


def test_marks_are_bounded(box: Outbox) -> None:
    """Of more than a thousand the oldest go first."""
    for part in range(2):
        entries = [end(stream_key=f"job-{part}-{number}", run="x") for number in range(600)]
        assert box.put(entries)
        assert box.delivered(ids(entries))
    assert claim(box) == []
    with contextlib.closing(sqlite3.connect(box.path())) as base:
        assert base.execute("SELECT count(*) FROM marks").fetchone() == (outbox_tables.KEPT_ENTRIES,)


# --------------------------------------------------------------------------------------------- what goes wrong


def test_a_file_in_the_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A place that cannot be is told once, and never raised."""
    (tmp_path / "file").write_text("x")
    box = Outbox(tmp_path / "file" / "below")
    for _ in range(3):
        assert not box.put([push()])
        assert not box.exists()
        assert claim(box) == []
    assert caplog.text.count("cannot use its outbox") == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a place where even root cannot write")
def test_a_read_only_home(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be written nothing is, and that is told."""
    assert not Outbox("/proc/self/state").put([push()])
    assert "cannot use its outbox" in caplog.text


def test_a_read_only_file(box: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A file that only lies in the wrong place is not taken for damaged."""
    assert box.put([push()])
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda url, **options: connect(url.replace("=rw", "=ro"), **options))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not box.put([push()])
    assert claim(box) == []
    assert "readonly" in caplog.text
    monkeypatch.undo()
    assert len(claim(box)) == 1


FULL = """
import resource, sys
from activitysmith_track.delivery.outbox import Outbox
from fuzzing import owed
box = Outbox(sys.argv[1], clock=lambda: 1790000000.0)
assert box.put(owed(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (box.path().stat().st_size,) * 2)
print(box.put(owed(900, long=True)))
print(len(box.claim("fingerprint", "https://service.example/api", "a", 1790000000.0, 60.0)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit is refused as a whole; what was there before is still there."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "state")]
    environment = {**unmeasured(), "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)
    assert done.stdout.split() == ["False", "10"], done.stderr
    assert "cannot use its outbox" in done.stderr


def test_a_locked_file(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """A file that somebody else holds is given up soon, and used again later."""
    assert box.put([push()])
    box.file.patience = 0.05
    with contextlib.closing(sqlite3.connect(box.path(), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not box.put([push()])
        assert claim(box) == []
        assert box.hold_back_ends("fingerprint", BASE_URL, "job", "a", 60) == {}
        assert box.begin("x", "a", 60) is not Hold.MINE
    assert "database is locked" in caplog.text
    assert len(claim(box)) == 1


def test_a_reader_that_stays(box: Outbox) -> None:
    """Someone who looks into the file and does not leave holds up the commit, and no longer than that."""
    assert box.put([push()])
    box.file.patience = 0.05
    with contextlib.closing(sqlite3.connect(box.path(), isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM entries").fetchone()
        assert not box.put([push()])
    assert len(claim(box)) == 1


@pytest.mark.parametrize("seconds", [0.01, PATIENCE])
def test_a_thread_in_the_way(
    box: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """While another thread of the process is at it, a call waits for its turn, and no longer than it may."""
    box.file.patience = 0.0  # that of another process's lock is another one
    monkeypatch.setattr(outbox_file, "TURN_SECONDS", seconds)
    begun, done, put = threading.Event(), threading.Event(), []

    def hold() -> None:
        with internals.alone_with_the_outbox():
            begun.set()
            assert done.wait(PATIENCE)

    thread, waiter = threading.Thread(target=hold), threading.Thread(target=lambda: put.append(box.put([push()])))
    thread.start()
    assert begun.wait(PATIENCE)
    waiter.start()
    if seconds == PATIENCE:
        waiter.join(0.1)  # where it did not wait, it would have been refused by then
        done.set()
    waiter.join()
    done.set()
    thread.join()
    assert put == [seconds == PATIENCE]
    assert ("another thread" in caplog.text) is (seconds != PATIENCE)
    assert box.put([push()])


def test_a_signal_handler_in_the_middle(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """A call that interrupts another one of its thread waits not for that, which would be for ever."""
    with internals.alone_with_the_outbox():
        assert not box.put([push()])
    assert "another thread" in caplog.text
    assert box.put([push()])


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 9000, b"\x00" * 5000])
def test_a_damaged_file_is_moved_aside(box: Outbox, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One copy of what cannot be read is kept, and a new file is begun at once."""
    box.path().parent.mkdir(mode=0o700)
    for turn in (1, 2):
        box.path().write_bytes(content)
        Path(f"{box.path()}-journal").write_bytes(b"stale")
        assert box.put([push(turn)])
        assert sorted(os.listdir(box.path().parent)) == [box.path().name, f"{box.path().name}.corrupt"]
        assert [entry.body["title"] for entry in claim(box)] == [f"T{turn}"]
    assert caplog.text.count("moved a damaged outbox aside") == 1


def test_looking_at_a_damaged_file_begins_no_new_one(box: Outbox) -> None:
    """A process that has nothing to put moves the damage aside and leaves it at that."""
    box.path().parent.mkdir(mode=0o700)
    box.path().write_bytes(b"garbage" * 1000)
    assert claim(box) == []
    assert os.listdir(box.path().parent) == [f"{box.path().name}.corrupt"]


def test_another_process_was_quicker(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody else has put in the place of the damaged one is not moved aside too."""
    box.path().parent.mkdir(mode=0o700)
    box.path().write_bytes(b"garbage" * 1000)
    other = Outbox(box.path().parent, clock=lambda: NOW)
    internals.before_it_heals(monkeypatch, lambda: os.unlink(box.path()))
    assert box.put([push(1)])
    assert other.put([push(2)])
    assert len(claim(box)) == 2
    damaged = os.lstat(tmp := box.path().parent)
    internals.set_aside(box, damaged)
    assert os.listdir(tmp) == [box.path().name]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (x)",
        "ALTER TABLE entries ADD COLUMN more",
        "CREATE TABLE marks (x)",
        "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
        "PRAGMA user_version = 7",
    ],
)
def test_a_file_of_something_else(box: Outbox, change: str) -> None:
    """A database that holds more than the outbox's own table is set aside, not trusted."""
    assert box.put([push(1)])
    edit(box, change)
    assert box.put([push(2)])
    assert next(entry.body["title"] for entry in claim(box)) == "T2"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", '{"title": 3}'),
        ("body", "{"),
        ("body", '{"title": "T", "badge": NaN}'),
        ("body", '{"title": "' + "x" * 100_000 + '"}'),
        ("body", b"[1]"),
        ("body", "[" * 50_000),
        ("kind", "letter"),
        ("stream_key", "../x"),
        ("id", b"x"),
        ("run", 7.5),
        ("occurred_at", b"x"),
    ],
)
def test_tampered_rows_are_dropped(box: Outbox, column: str, value: object, caplog: pytest.LogCaptureFixture) -> None:
    """A row that would not pass as a request is told once and dropped, and the others are delivered."""
    assert box.put([push(1), push(2), push(3)])
    edit(box, f"UPDATE entries SET {column} = ? WHERE seq = 2", value)
    if column in ("id", "run") and isinstance(value, float):
        assert len(claim(box)) == 3  # the column makes a text of it
        return
    assert [entry.body["title"] for entry in claim(box)] == ["T3", "T1"]
    assert len([record for record in caplog.records if "dropped" in record.msg]) == 1


def test_odd_leases_do_not_hold_entries_for_ever(box: Outbox) -> None:
    """Whatever stands in the columns of a lease, an entry can be claimed or goes with the day."""
    assert box.put(push(number) for number in range(4))
    edit(box, "UPDATE entries SET owner = x'ff', leased_until = 'later'")
    edit(box, "UPDATE entries SET leased_until = x'ff' WHERE seq = 2")
    edit(box, "UPDATE entries SET leased_until = 1e300, attempts = 'many' WHERE seq = 3")
    assert [entry.attempts for entry in claim(box)] == [0, 0, 0, 0]


@pytest.mark.skipif(os.name != "posix", reason="needs owners and modes")
class TestOthers:
    """What somebody else could have put there is refused, and not touched."""

    def refused(self, box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
        assert not box.put([push()])
        assert claim(box) == []
        assert "belongs to another user" in caplog.text or "is a link" in caplog.text

    def test_writable_directory(self, box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
        """A directory that the group may write to is refused."""
        box.path().parent.mkdir()
        box.path().parent.chmod(0o770)
        self.refused(box, caplog)

    def test_writable_file(self, box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
        """A file that others may write to is refused."""
        assert box.put([push()])
        box.path().chmod(0o602)
        self.refused(box, caplog)

    def test_link_for_a_file(self, box: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A link is not followed, and what it points to is not touched."""
        target = tmp_path / "precious"
        target.write_bytes(b"precious" * 1000)
        box.path().parent.mkdir(mode=0o700)
        box.path().symlink_to(target)
        self.refused(box, caplog)
        assert target.read_bytes() == b"precious" * 1000

    def test_link_for_a_directory(self, box: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Nor is a link to a directory."""
        (tmp_path / "else").mkdir(mode=0o700)
        box.path().parent.symlink_to(tmp_path / "else")
        self.refused(box, caplog)
        assert os.listdir(tmp_path / "else") in ([], [box.path().name])

    def test_pipe_for_a_file(self, box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
        """A pipe, which would hang whoever opens it, is refused."""
        box.path().parent.mkdir(mode=0o700)
        os.mkfifo(box.path())
        self.refused(box, caplog)

    @pytest.mark.parametrize("of", ["file", "directory"])
    def test_foreign_owner(
        self, box: Outbox, of: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What belongs to another user is refused."""
        assert box.put([push()])
        mine = os.geteuid()
        if mine == 0:
            os.chown(box.path() if of == "file" else box.path().parent, 12_345, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        self.refused(box, caplog)


def test_no_sqlite_at_all(box: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A Python that was built without SQLite loses the outbox, not the job."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert not box.put([push()])
    assert "sqlite3" in caplog.text


def test_a_walk_through_a_damaged_file_ends(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite is stopped where it takes more steps than any sound file needs."""
    assert box.put([push()])
    internals.stop_sqlite_at_once(monkeypatch)
    assert not box.put([push()])
    monkeypatch.undo()
    assert box.put([push()])


def test_few_kinds_are_told(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """Even where every failure has words of its own, the log is not flooded."""
    for number in range(300):
        internals.tell(box, ValueError(str(number)))
    assert len(caplog.records) == 100


# ------------------------------------------------------------------------------------------------------- the fuzz


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the disk: thousands of files would take minutes."""
    internals.wait_for_no_disk(monkeypatch)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("files", [200, pytest.param(2_000, marks=pytest.mark.once)])
def test_damaged_files(tmp_path: Path, caplog: pytest.LogCaptureFixture, files: int) -> None:
    """Nothing is raised because of damaged files, and what is still read can be sent."""
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(files)
    sound = sound_files(tmp_path / "sound")
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    for _ in range(files):
        clean(work)
        (work / "outbox-2.sqlite").write_bytes(damage(rng, rng.choice(sound)))
        for entry in use(work):
            assert check_body("send" if entry.kind == "push" else "end_stream", entry.body) == entry.body


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("files", [100, pytest.param(1_000, marks=pytest.mark.once)])
def test_tampered_files(tmp_path: Path, caplog: pytest.LogCaptureFixture, files: int) -> None:
    """Files with odd values in their rows: the same."""
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(files + 1)
    sound = sound_files(tmp_path / "sound")[1]
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    for _ in range(files):
        clean(work)
        (work / "outbox-2.sqlite").write_bytes(sound)
        tamper(rng, work / "outbox-2.sqlite")
        for entry in use(work):
            json.dumps(entry.body, allow_nan=False)


# ------------------------------------------------------------------------------------------------ many at a time

WORKER = f"""
import os, sys, time
from activitysmith_track.delivery.state import Hold
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
directory, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
box = Outbox(directory, patience={PATIENCE})
url, now = "https://service.example/api", time.time()
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    assert box.put([Entry("push", "fingerprint", url, {{"title": f"{{name}}-{{number}}"}}, now, run=name)])
    for entry in box.claim("fingerprint", url, name, now, 600.0, most=2):
        if box.begin(entry.id, name, 60) is Hold.MINE:
            print(entry.body["title"], flush=True)
            assert box.delivered([entry.id])
"""


@pytest.mark.real
def test_processes_at_once(tmp_path: Path) -> None:
    """Four processes that put and deliver at once lose nothing and deliver nothing twice, and leave nothing."""
    count = 60
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "state"), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    delivered = [line for worker in workers for line in worker.communicate(timeout=PATIENCE)[0].split()]
    assert [worker.returncode for worker in workers] == [0] * 4
    box = Outbox(tmp_path / "state")
    delivered += [
        entry.body["title"] for entry in box.claim("fingerprint", BASE_URL, "last", time.time(), 60, most=1_000)
    ]
    assert sorted(delivered) == sorted(f"{name}-{number}" for name in "abcd" for number in range(count))


@pytest.mark.real
def test_threads_at_once(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of one process do not undo each other's locks."""
    box.file.patience = PATIENCE
    monkeypatch.setattr(outbox_file, "TURN_SECONDS", PATIENCE)
    claimed: list[str] = []

    def work(name: str) -> None:
        for number in range(20):
            assert box.put([push(body={"title": f"{name}{number}"})])
            for entry in claim(box, name, most=2):
                claimed.append(entry.body["title"])
                assert box.delivered([entry.id])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed += [entry.body["title"] for entry in claim(box, "last")]
    assert sorted(claimed) == sorted(f"{name}{number}" for name in "abcd" for number in range(20))


KILLED = """
import os, sys, time
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
box = Outbox(sys.argv[1])
for number in range(190):  # a thousand entries are kept
    entries = [Entry("push", "h", "b", {"title": str(number), "message": "x" * 3000}, time.time()) for _ in range(5)]
    if box.put(entries):
        print(number, flush=True)
time.sleep(600)
"""


@pytest.mark.real
def test_killed_in_the_middle(tmp_path: Path) -> None:
    """After kill -9 in the middle of writing, all that was confirmed is there, and each put is whole or not there."""
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=unmeasured())
        assert worker.stdout is not None
        confirmed = [int(worker.stdout.readline()) for _ in range(8)]
        worker.kill()
        confirmed += [int(line) for line in worker.communicate()[0].split()]
        box = Outbox(tmp_path)
        found = [int(entry.body["title"]) for entry in box.claim("h", "b", "a", time.time(), 60, most=1_000)]
        assert set(confirmed) <= set(found)
        assert all(found.count(number) == 5 for number in set(found))
        assert box.delivered(entry.id for entry in box.claim("h", "b", "b", time.time() + 70, 60, most=1_000))
        assert is_drained(box)


def _put_in_child(directory: str, result: multiprocessing.SimpleQueue[bool]) -> None:
    result.put(Outbox(directory, clock=lambda: NOW).put([push()]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.real
def test_a_fork(box: Outbox) -> None:
    """Parent and child both go on using the outbox."""
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    assert box.put([push()])
    child = context.Process(target=_put_in_child, args=(str(box.path().parent), result))
    child.start()
    child.join()
    assert result.get()
    assert box.put([push()])
    assert len(claim(box)) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.real
def test_a_fork_while_a_thread_is_at_it(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child can use the outbox although a thread of its parent was using it."""
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    internals.storing_keeps_no_fork_waiting(monkeypatch)
    with internals.alone_with_the_outbox():
        child = context.Process(target=_put_in_child, args=(str(box.path().parent), result))
        child.start()
    assert result.get()
    child.join()
    assert box.put([push()])
    assert len(claim(box)) == 2
