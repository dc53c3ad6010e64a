"""Decorated functions stay what they were, in every way that a function can be bound."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import standing_clock

import activitysmith_track as at
from activitysmith_track import InvalidRequest
from activitysmith_track.simulator import Simulator

OURS = Path(at.__file__).parent
DECORATORS: dict[str, Callable[[], Any]] = {
    "track_steps bare": lambda: at.track_steps,
    "track_steps": lambda: at.track_steps("job", steps=["a"]),
    "notify bare": lambda: at.notify,
    "notify": lambda: at.notify("job", on="always"),
    "live_progress": lambda: at.live_progress("job", total=3),
    "live_value": lambda: at.live_value("job"),
}


@pytest.fixture(params=DECORATORS)
def decorate(request: pytest.FixtureRequest) -> Any:
    """Each of the decorators."""
    return DECORATORS[request.param]()


@at.track_steps
def plain(a: int, b: str = "x", *, c: float = 1.0) -> str:
    """Join its arguments."""
    return f"{a}{b}{c}"


class Job:
    """Methods of each kind, pickled by name."""

    @at.track_steps("method")
    def method(self, n: int) -> int:
        """Add one."""
        return n + 1


def join(a: int, b: str = "x", *, c: float = 1.0) -> str:
    """Join its arguments."""
    return f"{a}{b}{c}"


class TestFunctions:
    """Plain functions."""

    def test_looks_the_same(self, decorate: Any) -> None:
        """Name, place, docstring, signature and annotations are those of the function."""
        made = decorate(join)
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__defaults__"):
            assert getattr(made, name) == getattr(join, name)
        assert inspect.signature(made) == inspect.signature(join)
        assert inspect.isfunction(made)
        assert made(1, c=2.0) == "1x2.0"

    def test_wrong_arguments(self, decorate: Any) -> None:
        """A wrong call is Python's own error."""
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            decorate(join)()

    def test_pickled_by_name(self) -> None:
        """A decorated function is pickled as functions are, and so copied as itself."""
        assert pickle.loads(pickle.dumps(plain)) is plain
        assert copy.copy(plain) is plain
        assert copy.deepcopy(plain) is plain

    def test_recursion(self, phone: Simulator) -> None:
        """A call inside a call has a handle of its own."""
        seen = []

        @at.live_progress("job", total=9)
        def count(n: int) -> int:
            seen.append(at.current())
            return 0 if n == 0 else 1 + count(n - 1)

        assert count(3) == 3
        assert len({id(each) for each in seen}) == 4

    def test_overlapping_calls(self, phone: Simulator) -> None:
        """Two calls at once share no state."""
        both = threading.Barrier(2)
        seen = []

        @at.live_progress("job", total=9)
        def count(n: int) -> None:
            at.current().advance(n)
            both.wait(60)
            seen.append((n, at.current().completed))  # type: ignore[attr-defined]

        threads = [threading.Thread(target=count, args=[n]) for n in (2, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == [(2, 2), (5, 5)]

    def test_stacked(self, phone: Simulator) -> None:
        """Decorators may stand on each other, and on those of others."""

        @at.notify(on="failure")
        @functools.lru_cache
        @at.track_steps("job")
        def job(n: int) -> int:
            return n

        assert (job(3), job(3)) == (3, 3)
        assert at.flush(60)
        assert len(phone.activities) == 1

    def test_partial_and_lambda(self, decorate: Any) -> None:
        """What is callable can be decorated."""
        assert decorate(functools.partial(join, 1))("y") == "1y1.0"
        assert decorate(lambda: 3)() == 3

    @pytest.mark.parametrize("thing", [int, Job, 3, [1]])
    def test_what_cannot_be_decorated(self, thing: Any) -> None:
        """A class is not a function, and a number even less."""
        for make in DECORATORS.values():
            with pytest.raises(TypeError, match="only functions and methods"):
                make()(thing)


class TestMethods:
    """Methods, class methods and static methods."""

    def test_methods(self, decorate: Any) -> None:
        """A decorated method binds to its object."""

        class Local:
            run = decorate(lambda self, n: (self, n))

        local = Local()
        assert local.run(3) == (local, 3)
        assert Local.run(local, 4) == (local, 4)

    def test_under_and_over_a_classmethod(self, decorate: Any) -> None:
        """The order of the decorators does not matter."""

        class Local:
            @classmethod
            @decorate
            def under(cls, n: int) -> Any:
                return cls, n

            @decorate
            @classmethod
            def over(cls, n: int) -> Any:
                return cls, n

        for bound in (Local.under, Local.over, Local().under, Local().over):
            assert bound(3) == (Local, 3)

    def test_under_and_over_a_staticmethod(self, decorate: Any) -> None:
        """The order of the decorators does not matter here either."""

        class Local:
            @staticmethod
            @decorate
            def under(n: int) -> int:
                return n

            @decorate
            @staticmethod
            def over(n: int) -> int:
                return n

        for bound in (Local.under, Local.over, Local().under, Local().over):
            assert bound(3) == 3

    def test_bound_methods_are_pickled(self) -> None:
        """A bound method is pickled as its object and its name; signature and docstring are there."""
        for method in (
            pickle.loads(pickle.dumps(Job().method)),
            copy.copy(Job().method),
            copy.deepcopy(Job().method),
        ):
            assert method(1) == 2
        assert str(inspect.signature(Job().method)) == "(n: 'int') -> 'int'"
        assert Job.method.__doc__ == "Add one."

    def test_async_classmethod_over(self, phone: Simulator) -> None:
        """A coroutine inside a classmethod is awaited, not merely made."""

        class Local:
            @at.live_progress("job")
            @classmethod
            async def over(cls) -> Any:
                return at.current()

        found = asyncio.run(Local.over())
        assert found.outcome is not None
        assert found.outcome.kind == "done"


class TestCoroutines:
    """Coroutine functions."""

    def test_kind(self, decorate: Any) -> None:
        """A decorated coroutine function is one, and its coroutines have its name."""

        @decorate
        async def job() -> int:
            return 3

        assert inspect.iscoroutinefunction(job)
        coroutine = job()
        assert inspect.iscoroutine(coroutine)
        assert coroutine.__name__ == "job"
        assert asyncio.run(coroutine) == 3

    def test_overlapping_tasks(self, phone: Simulator) -> None:
        """Tasks that overlap have handles of their own."""

        @at.live_progress("job", total=9)
        async def job(n: int) -> float:
            handle = at.current()
            handle.advance(n)
            await asyncio.sleep(0)
            assert at.current() is handle
            return handle.completed  # type: ignore[attr-defined, no-any-return]

        async def main() -> list[float]:
            return await asyncio.gather(job(1), job(2), job(3))

        assert asyncio.run(main()) == [1, 2, 3]


class TestGenerators:
    """Generators: the handle is current only while they run."""

    def test_kind(self, decorate: Any) -> None:
        """A decorated generator function is one."""

        @decorate
        def job() -> Iterator[int]:
            yield 1

        assert inspect.isgeneratorfunction(job)
        generator = job()
        assert generator.__name__ == "job"
        assert list(generator) == [1]

    def test_the_whole_protocol(self, decorate: Any) -> None:
        """What is sent and thrown arrives inside, and what is returned comes out."""

        @decorate
        def job() -> Any:
            got = []
            for number in range(3):
                try:
                    got.append((yield number))
                except ValueError as error:
                    got.append(str(error))
            return got

        generator = job()
        assert next(generator) == 0
        assert generator.send("a") == 1
        assert generator.throw(ValueError("b")) == 2
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == ["a", "b", None]

    def test_nothing_leaks_into_the_caller(self, phone: Simulator) -> None:
        """Between two items the caller has no current handle, also where generators take turns."""

        @at.live_progress("job", total=9)
        def job(n: int) -> Iterator[Any]:
            mine = at.current()
            for _ in range(3):
                assert at.current() is mine
                yield mine
                assert at.current() is mine

        outside = at.current()
        seen = []
        for one, other in zip(job(1), job(2), strict=True):
            assert at.current() is outside
            assert one is not other
            seen.append(one)
        assert at.current() is outside
        assert len(seen) == 3

    def test_closed_early(self, phone: Simulator) -> None:
        """A generator that is closed is stopped; one that was never begun sends nothing."""
        closed = []

        @at.live_steps("job", steps=["a", "b"])
        def job() -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append(at.current())

        job().close()
        generator = job()
        next(generator)
        generator.close()
        assert at.flush(60)
        assert len(closed) == 1
        assert phone.cards["job"].color == "gray"
        assert len(phone.activities) == 1

    def test_thrown_in(self, phone: Simulator) -> None:
        """An exception thrown in comes out as the same object, untouched, and fails the block."""

        @at.live_progress("job")
        def job() -> Iterator[int]:
            yield 1

        generator = job()
        next(generator)
        error = ValueError("thrown")
        with pytest.raises(ValueError) as caught:
            generator.throw(error)
        assert caught.value is error
        assert (error.__context__, error.__cause__) == (None, None)
        assert at.flush(60)
        assert phone.cards["job"].color == "red"

    def test_traceback_gains_one_frame(self, phone: Simulator) -> None:
        """Thrown in or raised inside, the traceback has one frame of ours."""

        @at.live_progress("job")
        def job() -> Iterator[int]:
            yield 1
            raise ValueError("inside")

        for leave in (lambda g: g.throw(ValueError("thrown")), next):
            generator = job()
            next(generator)
            with pytest.raises(ValueError) as caught:
                leave(generator)
            assert sum(OURS in entry.path.parents for entry in caught.traceback) == 1

    def test_a_stop_iteration_inside(self, phone: Simulator) -> None:
        """A StopIteration that escapes a generator is a RuntimeError, as without us."""

        @at.live_progress("job")
        def job() -> Iterator[int]:
            yield 1
            raise StopIteration

        with pytest.raises(RuntimeError):
            list(job())

    def test_ignoring_close(self, decorate: Any) -> None:
        """A generator that goes on after `close` is Python's own error."""

        @decorate
        def job() -> Iterator[int]:
            try:
                yield 1
            except GeneratorExit:
                yield 2

        generator = job()
        next(generator)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            generator.close()


class TestAsyncGenerators:
    """Async generators: the handle is current only while they run."""

    def test_kind_and_protocol(self, decorate: Any) -> None:
        """A decorated async generator function is one, and what is sent and thrown arrives inside."""

        @decorate
        async def job() -> Any:
            got = []
            for number in range(3):
                try:
                    got.append((yield number))
                except ValueError as error:
                    got.append(str(error))
            assert got == ["a", "b", None]

        async def main() -> None:
            generator = job()
            assert generator.__name__ == "job"
            assert await generator.__anext__() == 0
            assert await generator.asend("a") == 1
            assert await generator.athrow(ValueError("b")) == 2
            with pytest.raises(StopAsyncIteration):
                await generator.__anext__()

        assert inspect.isasyncgenfunction(job)
        asyncio.run(main())

    def test_closed_failed_and_leaking(self, phone: Simulator) -> None:
        """Closed it is stopped, an exception fails it, and nothing leaks into the caller."""

        def make(name: str) -> Any:
            @at.live_progress(name, total=9)
            async def job() -> AsyncIterator[Any]:
                mine = at.current()
                yield mine
                assert at.current() is mine
                yield mine
                raise ValueError("inside")

            return job()

        async def main() -> None:
            outside = at.current()
            closed, failed = make("closed"), make("failed")
            assert await closed.__anext__() is not outside
            assert at.current() is outside
            await closed.aclose()
            with pytest.raises(ValueError):
                async for _ in failed:
                    assert at.current() is outside

        asyncio.run(main())
        assert at.flush(60)
        assert (phone.cards["closed"].color, phone.cards["failed"].color) == ("gray", "red")


class TestSetUp:
    """Mistakes are said at decoration time."""

    def test_bad_options(self) -> None:
        """An unknown option names the nearest one, and a bad value is refused where it stands."""
        with pytest.raises(TypeError, match="did you mean 'subtitle'"):
            at.track_steps("job", subtitel="x")  # type: ignore[call-overload]
        with pytest.raises(InvalidRequest, match="color"):
            at.track_steps("job", color="pink")
        with pytest.raises(InvalidRequest, match="steps"):
            at.track_steps("job", steps=0)
        with pytest.raises(InvalidRequest, match="on"):
            at.notify("job", on="never")  # type: ignore[call-overload]
        with pytest.raises(InvalidRequest, match="name"):
            at.notify(" ")
        with pytest.raises(TypeError, match="no 'icon'"):
            at.notify("job", icon="bolt")

    def test_names(self, phone: Simulator) -> None:
        """A bare decorator names the block after the function."""

        @at.track_steps
        def nightly_backup() -> None:
            at.step("x")

        nightly_backup()
        Job().method(1)
        assert at.flush(60)
        assert {card.title for card in phone.cards.values()} == {"nightly_backup", "method"}


def test_notify(phone: Simulator) -> None:
    """`notify` pushes what it was asked for, and shows no card; as a `with` block too."""

    @at.notify(on="success")
    def fine() -> int:
        return 1

    @at.notify
    def broken() -> None:
        raise ValueError("row 3")

    @at.notify("both", on="always", on_failure="my words", title="My title")
    def both(fails: bool) -> None:
        if fails:
            raise ValueError("x")

    with standing_clock():  # so that all of it takes no time
        assert fine() == 1
        for call in (broken, lambda: both(True)):
            with pytest.raises(ValueError):
                call()
        both(False)
        with at.notify("block", on="success"):
            pass
    assert at.flush(60)
    titles = sorted((push.title, (push.message or "").partition("\n")[0]) for push in phone.pushes)
    assert titles == [
        ("My title failed", "my words"),
        ("My title finished", "Done in 0.0 s"),
        ("block finished", "Done in 0.0 s"),
        ("broken failed", "ValueError: row 3"),
        ("fine finished", "Done in 0.0 s"),
    ]
    assert phone.cards == {}


def test_steps_of_a_decorated_function(phone: Simulator) -> None:
    """`step()` anywhere inside, as a call or a block, moves the segments of the function's card."""

    @at.track_steps("Backup", steps=["Snapshot", "Upload", "Verify"])
    def backup() -> None:
        at.step("Upload")
        with at.step("Verify"):
            pass

    backup()
    assert at.flush(60)
    card = phone.cards["backup"]
    assert (card.type, card.current_step, card.number_of_steps) == ("segmented_progress", 3, 3)
