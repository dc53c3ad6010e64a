"""Loops: what they yield, what they count, and how little they keep."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from patience import standing_clock

import activitysmith_track as at
from activitysmith_track import iteration
from activitysmith_track.simulator import Simulator


class Sized:
    """An iterable that says what a test wants about its length."""

    def __init__(self, length: Any, items: int = 3) -> None:
        self._length, self._items = length, items

    def __iter__(self) -> Iterator[int]:
        return iter(list(range(self._items))) if self._length is not None else (n for n in range(self._items))

    def __len__(self) -> int:
        if isinstance(self._length, BaseException):
            raise self._length
        return int(self._length or 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold grey ends for a moment only."""
    monkeypatch.setattr(iteration, "SPEAK_SECONDS", 0.1)


def shown(phone: Simulator, key: str = "job") -> Any:
    """Wait for everything to be delivered and return the card."""
    assert at.flush(60)
    return phone.cards[key]


@pytest.mark.parametrize(
    ("iterable", "items"),
    [
        ([1, 2, 3], [1, 2, 3]),
        (range(3), [0, 1, 2]),
        ({"a": 1}, ["a"]),
        ("ab", ["a", "b"]),
        ((n for n in (1, 0, None, "")), [1, 0, None, ""]),
        ([], []),
        (map(str, [1, 2]), ["1", "2"]),
    ],
)
def test_items_come_through(phone: Simulator, iterable: Any, items: list[Any]) -> None:
    """A loop yields what its iterable yields, falsy items included."""
    assert list(at.track(iterable, "job")) == items
    assert shown(phone).color == "green"


def test_sequences_without_iter(phone: Simulator) -> None:
    """What has only `__getitem__` is iterable too."""

    class Old:
        def __getitem__(self, index: int) -> int:
            if index > 2:
                raise IndexError
            return index

    assert list(at.track(Old(), "job")) == [0, 1, 2]  # type: ignore[call-overload]


def test_what_is_not_iterable() -> None:
    """A number is refused where the loop is made."""
    with pytest.raises(TypeError, match="takes an iterable, not 'int'"):
        at.track(3, "job")  # type: ignore[call-overload]


def test_arguments_the_wrong_way_round() -> None:
    """A name in the place of the items is told what comes first."""
    with pytest.raises(at.InvalidRequest, match=r"comes first, track\(items, 'reindex'\)"):
        at.track("reindex", [1, 2])  # type: ignore[call-overload]


def test_the_other_kind_of_loop() -> None:
    """`for` over what is async names `async for`, and the other way round; neither opens anything."""

    async def pages() -> Any:
        yield 1

    async def main() -> None:
        with pytest.raises(TypeError, match="of 'list' is gone through with 'for'"):
            async for _ in at.track([1], "job"):
                pass

    with pytest.raises(TypeError, match="of 'async_generator' is gone through with 'async for'"):
        for _ in at.track(pages(), "job"):
            pass
    asyncio.run(main())


@pytest.mark.parametrize(
    ("length", "total", "kind"),
    [(3, None, "progress"), (None, 3, "progress"), (9, 3, "progress"), (ValueError("no"), None, "progress")],
)
def test_lengths(phone: Simulator, length: Any, total: Any, kind: str) -> None:
    """The length is the one given, or told by the iterable, or by its iterator."""
    assert [item for item in at.track(Sized(length), "job", total=total)] == [0, 1, 2]  # noqa: C416  # list() asks for a length
    card = shown(phone)
    assert (card.type, card.percentage) == (kind, 100)


def test_a_length_that_is_wrong(phone: Simulator) -> None:
    """A loop that is exhausted before its length is done, at its true percentage."""
    assert len(list(at.track(Sized(10), "job"))) == 3
    card = shown(phone)
    assert (card.percentage, card.subtitle, card.color) == (30, "Done, 3 of 10", "green")


def test_len() -> None:
    """A tracked sequence has the sequence's length; a generator has none."""
    assert len(at.track([1, 2], "job", disable=True)) == 2
    with pytest.raises(TypeError):
        len(at.track((n for n in ()), "job", disable=True))


def test_the_running_item_is_not_counted(phone: Simulator) -> None:
    """While the body works on the last item the loop is not at its end."""
    seen = []
    for _ in at.track(range(4), "job", initial=4, total=8):
        handle = next(each for each in at.activities._stack.get() if isinstance(each, iteration._Loop))
        seen.append((handle.items(), handle.snapshot().body["content_state"]["percentage"]))  # type: ignore[union-attr]
    assert seen == [(0, 50), (1, 63), (2, 75), (3, 88)]


def test_a_loop_is_looked_at(phone: Simulator) -> None:
    """The percentage moves while the loop runs, without a call in its body."""
    for item in at.track(range(10), "job"):
        if item == 5:
            assert phone.wait_for(lambda sim: "job" in sim.cards and sim.cards["job"].percentage == 50)
    assert shown(phone).percentage == 100


def test_titles(phone: Simulator) -> None:
    """`desc` and `description` are other words for the title."""
    for word in ("title", "desc", "description"):
        options: Any = {word: f"My {word}"}
        assert list(at.track([1], word, **options)) == [1]
    assert at.flush(60)
    assert {card.title for card in phone.cards.values()} == {"My title", "My desc", "My description"}


def test_wrapped_in_others(phone: Simulator) -> None:
    """enumerate, zip and comprehensions around a loop change nothing."""
    assert [pair for pair in enumerate(at.track("ab", "a"))] == [(0, "a"), (1, "b")]  # noqa: C416
    assert list(zip(at.track([1, 2], "b"), at.track([3, 4], "c"), strict=True)) == [(1, 3), (2, 4)]
    assert at.flush(60)
    assert {key: card.color for key, card in phone.cards.items()} == {"a": "green", "b": "green"}


def test_each_iteration_is_a_block_of_its_own(phone: Simulator) -> None:
    """The same tracked list can be gone through twice."""
    tracked = at.track([1, 2], "job")
    assert list(tracked) == list(tracked) == [1, 2]
    assert at.flush(60)


def test_an_iterable_that_raises(phone: Simulator) -> None:
    """What the iterable raises comes out untouched, and a block around the loop fails it."""
    error = ValueError("broke")

    def items() -> Iterator[int]:
        yield 1
        raise error

    def go() -> None:
        for _ in at.track(items(), "job"):
            pass

    with standing_clock(), pytest.raises(ValueError) as caught, at.notify("outer"):
        go()
    assert caught.value is error
    assert shown(phone).color == "red"


def test_nothing_is_kept(phone: Simulator) -> None:
    """After the loop neither its items nor its frame are held."""

    class Thing:
        pass

    def go() -> Any:
        things = [Thing() for _ in range(3)]
        for thing in at.track(things, "job"):
            last = thing
        return weakref.ref(last)

    reference = go()
    assert at.flush(60)
    gc.collect()
    assert reference() is None


def test_a_loop_in_a_generator_does_not_hold_its_callers_blocks(phone: Simulator) -> None:
    """What the caller of a generator starts between two items is not a line of the generator's loop."""

    def rows() -> Iterator[int]:
        yield from at.track(range(2), "rows")

    for _ in rows():
        with at.live_progress("mine"):
            pass
    assert at.flush(60)
    assert set(phone.cards) == {"rows", "mine"}


def test_hooks_are_chained_and_stay_chained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our hooks are installed once over what is there, and again over what took their place."""
    calls: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: calls.append("theirs"))
    monkeypatch.setattr(threading, "excepthook", lambda args: calls.append("threads"))
    for _ in range(2):
        list(at.track([1], "job", disable=True))
    ours = sys.excepthook
    list(at.track([1], "job", disable=True))
    assert sys.excepthook is ours
    sys.excepthook(ValueError, ValueError(), None)
    assert calls == ["theirs"]

    def over(*args: Any) -> None:
        calls.append("new")
        ours(*args)

    monkeypatch.setattr(sys, "excepthook", over)
    list(at.track([1], "job", disable=True))
    sys.excepthook(ValueError, ValueError(), None)
    assert calls == ["theirs", "new", "theirs"]


def test_async_items_and_errors(phone: Simulator) -> None:
    """Async iterables come through, and what they raise comes out."""

    async def pages() -> Any:
        yield 1
        raise ValueError("broke")

    async def main() -> list[int]:
        got = []
        with pytest.raises(ValueError):
            async for page in at.track(pages(), "job", total=2):
                got.append(page)
        return got

    assert asyncio.run(main()) == [1]
    assert shown(phone).color == "gray"


def test_disabled(phone: Simulator) -> None:
    """A disabled loop is just a loop."""
    assert list(at.track([1, 2], "job", disable=True)) == [1, 2]
    for _ in at.track([1, 2], "job", disable=True):
        break
    assert at.flush(60)
    assert phone.requests == []


@pytest.mark.parametrize(
    "options",
    [{"badge": "B"}, {"secondary_action": at.Action.open_url("x", "https://a.example")}, {"stall_after": 5}],
    ids=lambda options: next(iter(options)),
)
def test_what_a_clock_cannot_show(phone: Simulator, options: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In a loop of unknown length an option that a clock does not show costs one line, and never the loop."""
    for _ in range(2):
        assert list(at.track((n for n in range(3)), "job", color="blue", **options)) == [0, 1, 2]
    card = shown(phone)
    assert (card.type, card.color) == ("timer", "green")
    assert caplog.text.count(f"{next(iter(options))} is left out: the length is unknown, pass total=") == 1


def test_a_clock_that_is_off_says_nothing(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Where the library is off, the loop is just a loop."""
    with at.override(enabled=False):
        assert list(at.track((n for n in range(3)), "job", badge="B")) == [0, 1, 2]
    assert caplog.text == ""


def test_unknown_options() -> None:
    """An unknown option of `track` names the nearest, its own included."""
    with pytest.raises(TypeError, match="did you mean 'total'"):
        at.track([1], "job", totl=3)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", [list, tuple, range, iter, set, dict.fromkeys, "generator"])
def test_every_kind_of_iterable_is_counted(phone: Simulator, kind: Any) -> None:
    """Whatever holds the items, the loop gets all of them, and the card knows where a `break` left it."""
    items: Any = (
        range(100) if kind is range else (n for n in range(100)) if kind == "generator" else kind(list(range(100)))
    )
    seen = []
    for item in at.track(items, "job", total=100):
        seen.append(item)
        if len(seen) == 43:
            break
    assert at.flush(60)
    assert seen == list(range(43))
    assert (phone.cards["job"].percentage, phone.cards["job"].color) == (42, "gray")


def test_a_list_that_changes_under_the_loop(phone: Simulator) -> None:
    """A list that grows is iterated as without us, and never shown as complete too early."""
    items = [1, 2, 3]
    seen = []
    for item in at.track(items, "job"):
        seen.append(item)
        if len(items) < 10:
            items.append(item + 10)
    assert at.flush(60)
    assert len(seen) == 10
    assert phone.cards["job"].color == "green"


def test_a_loop_that_has_ended_holds_no_items() -> None:
    """What was iterated is free once the loop is over."""

    class Item:
        pass

    items = [Item() for _ in range(3)]
    first = weakref.ref(items[0])
    loop = iter(at.track(items, "job"))
    assert len(list(loop)) == 3
    del items
    gc.collect()
    assert first() is None
