"""Loops: what they yield, what they count, and how little they keep."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from patience import standing_clock

import activitysmith_track as at
from activitysmith_track import iteration
from activitysmith_track.blocks import context
from activitysmith_track.blocks.handle import Provider
from activitysmith_track.simulator import Simulator
from activitysmith_track.testing import Phone, capture

SPEAK_SECONDS = iteration.SPEAK_SECONDS


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


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """A phone on a clock that stands until it is moved; gray ends are held as long as in a job."""
    monkeypatch.setattr(iteration, "SPEAK_SECONDS", SPEAK_SECONDS)
    with capture() as captured:
        yield captured


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
    for _ in at.track(range(4), "job", initial=2, total=6):
        handle = next(each for each in context.stack.get() if getattr(each, "is_loop", False))
        seen.append((handle.counter.items(), Provider(handle).snapshot().body["content_state"]["percentage"]))  # type: ignore[union-attr]
    assert seen == [(0, 33), (1, 50), (2, 67), (3, 83)]


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


# -- how a loop ended: told on a clock that stands until it is moved


def left(error: BaseException | None = None, *, name: str = "job", **options: Any) -> None:
    """Leave a loop at its second item, by a break or an exception."""
    for item in at.track(range(4), name, **options):
        if item == 1:
            if error is not None:
                raise error
            break


async def left_async(error: BaseException) -> None:
    """Leave an async loop at its second item by an exception."""

    async def pages() -> Any:
        for number in range(4):
            yield number

    async for item in at.track(pages(), "job", total=4):
        if item == 1:
            raise error


def run_again(error: BaseException, depth: int) -> None:
    """Raise from a stack of many frames."""
    if depth:
        run_again(error, depth - 1)
    raise error


def test_a_loop_that_is_left_waits_a_second_for_its_reason(still: Phone) -> None:
    """A `break` is shown in gray, with what was done, once a second has passed without an exception."""
    left()
    still.advance(0.9)
    assert not still.card("job").ended
    still.advance(0.2)
    card = still.card("job")
    assert (card.ended, card.color, card.percentage) == (True, "gray", 25)


@pytest.mark.parametrize(("seconds", "color"), [(0.0, "red"), (0.9, "red"), (1.5, "gray")])
def test_an_exception_explains_what_was_left_within_the_second(still: Phone, seconds: float, color: str) -> None:
    """An exception that leaves the function of the loop soon after it is how the loop ended; a later one is not."""
    loops = []

    def job() -> None:
        for _ in at.track(range(4), "job"):
            loops.append(running_loop())
            break
        still.advance(seconds)
        raise ValueError("broke")

    with pytest.raises(ValueError), at.notify("outer"):
        job()
    still.advance(5)
    assert still.card("job").color == color
    assert [loop.outcome.kind for loop in loops] == ["failed" if color == "red" else "stopped"]  # type: ignore[union-attr]


def test_an_exception_from_elsewhere_explains_no_loop(still: Phone) -> None:
    """Where the traceback does not go through the function of the loop, the loop ended as it did."""

    def job() -> None:
        left()
        run_again(ValueError("broke"), 40)

    with pytest.raises(ValueError), at.notify("outer"):
        job()
    still.advance(5)
    assert still.card("job").color == "gray"


@pytest.mark.parametrize(
    ("error", "options", "color"),
    [
        (ValueError("no"), {}, "red"),
        (ValueError("no"), {"ignore": (ValueError,)}, "gray"),
        (KeyboardInterrupt(), {}, "gray"),
        (KeyboardInterrupt(), {"cancelled": "failure"}, "red"),
        (SystemExit(3), {}, "red"),
        (SystemExit(0), {}, "gray"),
    ],
    ids=repr,
)
def test_what_is_no_failure_of_a_block_is_none_of_a_loop(
    still: Phone, error: BaseException, options: Any, color: str
) -> None:
    """An exception is judged for a loop as for a block: ignored ones, Ctrl-C and a good exit do not make it red."""
    with pytest.raises(type(error)), at.notify("outer"):
        left(error, **options)
    still.advance(5)
    assert still.card("job").color == color


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_end_of_a_failed_loop_says_what_and_where(still: Phone, asynchronous: bool) -> None:
    """A loop that an exception left ends red at once, at what was done, and its push names the exception."""
    error = ValueError("broke")
    with pytest.raises(ValueError), at.notify("outer"):
        asyncio.run(left_async(error)) if asynchronous else left(error)
    card = still.card("job")
    assert (card.ended, card.color, card.percentage) == (True, "red", 25)
    assert "ValueError: broke" in still.push().message


def test_a_disabled_loop_that_fails(still: Phone, caplog: pytest.LogCaptureFixture) -> None:
    """The exception leaves a loop that shows nothing, and nothing is logged or sent for it."""
    with pytest.raises(ValueError), at.notify("outer"):
        left(ValueError("broke"), disable=True)
    assert [push.title for push in still.pushes] == ["outer failed"]
    assert not still.cards
    assert caplog.text == ""


def test_an_exception_that_nobody_catches_fails_the_loop(still: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's hook tells the loop, and the hook before it is called with the same arguments."""
    calls: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: calls.append(arguments))
    with pytest.raises(ValueError) as caught:
        left(ValueError("broke"))
    arguments = (ValueError, caught.value, caught.value.__traceback__)
    sys.excepthook(*arguments)
    assert calls == [arguments]
    assert still.card("job").color == "red"


def test_an_exception_that_ends_a_thread_fails_the_loop(still: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the hook of threads, which is put in place once; an end without an exception is passed on."""
    calls: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: calls.append(given.exc_value))
    left(name="before", disable=True)
    ours = threading.excepthook
    error = ValueError("broke")
    thread = threading.Thread(target=left, args=(error,))
    thread.start()
    thread.join()
    assert threading.excepthook is ours
    assert calls == [error]
    assert still.card("job").color == "red"
    threading.excepthook(types.SimpleNamespace(exc_value=None))
    assert calls == [error, None]


def test_a_loop_that_was_left_keeps_its_count_and_not_its_items(still: Phone) -> None:
    """While its end waits for a reason, the items are free, and what their list does no longer counts."""

    class Item:
        pass

    def job(items: list[Any]) -> weakref.ref[Item]:
        third = weakref.ref(items[2])
        for item in at.track(items, "job"):
            if item is third():
                break
        items += [Item()] * 96
        return third

    held = job([Item() for _ in range(4)])
    gc.collect()
    assert held() is None
    still.advance(5)
    assert (still.card("job").percentage, still.card("job").color) == (50, "gray")


def test_a_loop_released_by_a_dying_interpreter_is_left_alone(still: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the modules are cleared already nothing is decided and nothing raised."""

    def job() -> None:
        loop = iter(at.track(range(4), "job"))
        next(loop)
        with monkeypatch.context() as patch:
            patch.setattr(iteration, "sys", None)
            del loop

    contextvars.copy_context().run(job)
    still.advance(5)
    assert not still.card("job").ended


# -- what a loop shows


@pytest.mark.parametrize("empty", [[], Sized(0, 0), iter(())])
def test_an_empty_iterable_has_a_length(still: Phone, empty: Any) -> None:
    """A length of 0 is known: the card is a percentage, and done at once."""
    assert list(at.track(empty, "job")) == []
    card = still.card("job")
    assert (card.type, card.percentage, card.color) == ("progress", 100, "green")


def test_no_length_is_a_clock(still: Phone) -> None:
    """Where neither the iterable nor its iterator tells a length, or both fail, the card is a clock."""

    class Failing:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            raise StopIteration

        def __length_hint__(self) -> int:
            raise ValueError

    for iterable in ((n for n in ()), Failing()):
        assert list(at.track(iterable, "job")) == []
        assert still.card("job").type == "timer"


def test_a_count_of_a_loop_without_a_length(still: Phone) -> None:
    """A loop of unknown length tells how many items it had."""
    ends = []
    assert list(at.track((n for n in range(3)), "job", on_success=lambda outcome, _: ends.append(outcome))) == [
        0,
        1,
        2,
    ]
    assert [outcome.completed for outcome in ends] == [3]


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"title": "T", "desc": "D", "description": "E"}, "T"),
        ({"desc": "D", "description": "E"}, "D"),
        ({"desc": "", "description": "E"}, "E"),
    ],
)
def test_one_title_of_several(still: Phone, options: Any, title: str) -> None:
    """Where several words for the title are given, `title` counts, then `desc`, then `description`."""
    list(at.track([1], "job", **options))
    assert still.card("job").title == title


def test_options_of_a_loop_are_keywords() -> None:
    """Only the items and the name are given by position, so that tqdm's order of arguments is an error."""
    with pytest.raises(TypeError):
        at.track([1], "job", 3)  # type: ignore[call-overload]
    kinds = {each.name: each.kind for each in inspect.signature(at.track).parameters.values()}
    assert [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == [
        "iterable",
        "name",
    ]
    with pytest.raises(TypeError):
        at.Track([1], "job", 3, 0, "", {})  # type: ignore[misc]


def test_what_is_wrong_is_said_before_the_loop() -> None:
    """An unusable value is an error where the loop is made, whether its length is known or not."""
    with pytest.raises(at.InvalidRequest):
        at.track([1], "job", total=-1)
    with pytest.raises(at.InvalidRequest):
        at.track((n for n in ()), "job", unit=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes an iterable, not 'NoneType'"):
        at.track(None, "job")  # type: ignore[arg-type]
    with pytest.raises(at.InvalidRequest, match="name"):
        at.track([1], 3)  # type: ignore[arg-type]


def test_an_option_that_was_not_given_is_not_left_out(still: Phone, caplog: pytest.LogCaptureFixture) -> None:
    """None stands for the default, of which a clock needs to say nothing."""
    assert list(at.track((n for n in range(3)), "job", badge=None, color="blue")) == [0, 1, 2]
    assert still.card("job").type == "timer"
    assert caplog.text == ""


def test_a_loop_is_looked_at_less_and_less_often(still: Phone) -> None:
    """Ten times a second at first, each fiftieth of its age later, and each ten seconds in the end."""
    loop = iter(at.track(range(4), "job"))
    handle, rests = running_loop(), []
    assert handle.counter.items() == 0
    assert next(loop) == 0
    for seconds in (0, 100, 10_000):
        still.advance(seconds)
        rests.append(Provider(handle).rest(None))
    assert rests == pytest.approx([0.1, 2.0, 10.0], abs=0.01)
    del loop


def running_loop() -> Any:
    """Return the loop that is open here."""
    return next(each for each in context.stack.get() if getattr(each, "is_loop", False))


# -- what is opened inside


def test_a_loop_is_never_the_current_handle(still: Phone) -> None:
    """Inside a loop `current()` is still the handle around it: there is nothing to say to a loop."""
    with at.live_progress("outer") as outer:
        for _ in at.track(range(2), "rows"):
            assert at.current() is outer


def test_a_block_inside_a_loop_is_a_line_of_it(still: Phone) -> None:
    """A loop in a function holds what starts in its body."""
    for _ in at.track(range(2), "rows"):
        with at.live_progress("inner"):
            assert set(still.cards) == {"rows"}


def test_a_block_in_another_thread_is_a_line_of_the_loop_whose_context_it_has(still: Phone) -> None:
    """A loop in a function holds what starts with a copy of its context, on whichever thread."""

    def inner() -> None:
        with at.live_progress("inner"):
            pass

    for _ in at.track(range(2), "rows"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(inner,))
        thread.start()
        thread.join()
    assert set(still.cards) == {"rows"}


def test_a_block_inside_the_generator_of_a_loop_is_a_line_of_it(still: Phone) -> None:
    """A loop in a generator holds what starts in its body, however deep, and not what its caller starts."""

    def helper() -> None:
        with at.live_progress("inner"):
            assert "inner" not in still.cards

    def rows() -> Iterator[int]:
        for row in at.track(range(2), "rows"):
            helper()
            yield row

    for _ in rows():
        with at.live_progress("mine"):
            assert set(still.cards) == {"rows", "mine"}


def test_the_same_for_async_generators(still: Phone) -> None:
    """A loop in an async generator holds what starts in it, and not what its caller starts."""

    async def rows() -> Any:
        for row in at.track(range(2), "rows"):
            with at.live_progress("inner"):
                assert "inner" not in still.cards
            yield row

    async def main() -> None:
        async for _ in rows():
            with at.live_progress("mine"):
                assert set(still.cards) == {"rows", "mine"}

    asyncio.run(main())
