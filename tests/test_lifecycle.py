"""How every kind of block ends, and what the phone shows then."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from patience import PATIENCE, standing_clock

import activitysmith_track as at
from activitysmith_track import Handle, iteration
from activitysmith_track.blocks import option_table
from activitysmith_track.simulator import Simulator

GREEN, RED, GRAY = "green", "red", "gray"
DISMISS = {GREEN: 300, RED: 4 * 3600, GRAY: 60}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold pushes and grey ends for a moment only: how long is not the point here."""
    monkeypatch.setattr("activitysmith_track.delivery.echoes.Echoes.seconds", 0.15)
    monkeypatch.setattr(iteration, "SPEAK_SECONDS", 0.15)


def metrics() -> Handle:
    """Make a handle of readings."""
    return at.live_metrics("job", {"CPU": 3})


KINDS: dict[str, tuple[Callable[..., Any], Callable[[Any], None]]] = {
    "progress": (lambda **o: at.live_progress("job", total=100, **o), lambda p: p.advance(100)),
    "steps": (lambda **o: at.live_steps("job", steps=["a", "b"], **o), lambda p: p.step("b")),
    "timer": (lambda **o: at.live_timer("job", **o), lambda p: None),
    "countdown": (lambda **o: at.live_timer("job", duration=60, **o), lambda p: None),
    "metrics": (lambda **o: at.live_metrics("job", {"CPU": 3}, **o), lambda p: p.set(CPU=4)),
    "stats": (lambda **o: at.live_stats("job", {"CPU": 3}, **o), lambda p: p.set(CPU=4)),
    "value": (lambda **o: at.live_value("job", **o), lambda p: p.set("4 %")),
    "alert": (lambda **o: at.live_alert("job", **o), lambda p: p.set("hello")),
}


class Boom(Exception):
    """A failure of the job's own."""


def raising(error: BaseException) -> Callable[[Any], None]:
    """Leave the block by an exception."""

    def leave(handle: Any) -> None:
        raise error

    return leave


def both(*names: str) -> Callable[[Any], None]:
    """Call one explicit end after the other."""

    def leave(handle: Any) -> None:
        for name in names:
            getattr(handle, name)()

    return leave


def what_left(call: Callable[[], Any]) -> BaseException | None:
    """Call something and return the exception that came out, or `None`."""
    try:
        call()
    except BaseException as error:
        return error
    return None


OUTCOMES: dict[str, tuple[Callable[[Any], None], str, int]] = {
    "success": (lambda p: None, GREEN, 0),
    "exception": (raising(Boom("broke")), RED, 1),
    "exit": (raising(SystemExit()), GREEN, 0),
    "exit 0": (raising(SystemExit(0)), GREEN, 0),
    "exit 3": (raising(SystemExit(3)), RED, 1),
    "exit text": (raising(SystemExit("no disk")), RED, 1),
    "interrupt": (raising(KeyboardInterrupt()), GRAY, 0),
    "cancelled": (raising(asyncio.CancelledError()), GRAY, 0),
    "future cancelled": (raising(concurrent.futures.CancelledError()), GRAY, 0),
    "generator exit": (raising(GeneratorExit()), GRAY, 0),
    "other": (raising(BaseException("odd")), GRAY, 0),
    "finish": (lambda p: p.finish(), GREEN, 0),
    "fail": (lambda p: p.fail("no disk"), RED, 1),
    "cancel": (lambda p: p.cancel(), GRAY, 0),
    "finish, then fail": (both("finish", "fail"), GREEN, 0),
    "fail, then finish": (both("fail", "finish"), RED, 1),
}


def with_block(make: Callable[..., Any], body: Callable[[Any], None]) -> None:
    """Run a body in a `with` block."""
    with make() as handle:
        body(handle)


def async_block(make: Callable[..., Any], body: Callable[[Any], None]) -> None:
    """Run a body in an `async with` block."""

    async def run() -> None:
        async with make() as handle:
            body(handle)

    coroutine = run()
    with contextlib.suppress(StopIteration):  # nothing in it waits, so no loop is needed to see what comes out
        coroutine.send(None)


def decorated(make: Callable[..., Any], body: Callable[[Any], None]) -> None:
    """Run a body in a decorated function."""
    make()(lambda: body(at.current()))()


def decorated_async(make: Callable[..., Any], body: Callable[[Any], None]) -> None:
    """Run a body in a decorated coroutine function."""

    @make()
    async def run() -> None:
        body(at.current())

    with contextlib.suppress(StopIteration):
        run().send(None)


WAYS = [with_block, async_block, decorated, decorated_async]


def shown_color(card: Any) -> str:
    """Return the colour that tells how it ended: stats have it in the icon alone."""
    return str(card.icon["color"] if card.type == "stats" else card.color)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_how_it_ended(phone: Simulator, monkeypatch: pytest.MonkeyPatch, kind: str, way: Callable[..., None]) -> None:
    """Each outcome has its colour, its time on the screen and its push, and its exception comes out untouched."""
    make, use = KINDS[kind]
    monkeypatch.setattr("activitysmith_track.delivery.account.REQUESTS_PER_MINUTE", 1_000)
    phone.service.limits.rates["account"] = 1_000
    monkeypatch.setattr("activitysmith_track.delivery.echoes.Echoes.seconds", 0.0)
    for name, (leave, color, pushes) in OUTCOMES.items():

        def body(handle: Any, leave: Callable[[Any], None] = leave) -> None:
            use(handle)
            leave(handle)

        phone.clear()
        error = _error_of(leave)
        if error is not None:
            error.__traceback__ = None
        left = what_left(lambda body=body: way(make, body))  # type: ignore[misc]
        assert left is error, name
        if left is not None:
            assert (left.__context__, left.__cause__, getattr(left, "__notes__", [])) == (None, None, []), name
            assert _frames_of_ours(left) == (1 if way in (decorated, decorated_async) else 0), name
        assert at.flush(60), name
        card = phone.cards["job"]
        assert (card.ended, shown_color(card)) == (True, color), name
        assert card.dismiss_after == DISMISS[color], name
        assert len(phone.pushes) == pushes, name


def _error_of(leave: Callable[[Any], None]) -> BaseException | None:
    cells = getattr(leave, "__closure__", None) or ()
    return next((each.cell_contents for each in cells if isinstance(each.cell_contents, BaseException)), None)


def _frames_of_ours(error: BaseException) -> int:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return sum("activitysmith_track" in file and "test" not in file.rpartition("/")[2] for file in files)


def end(phone: Simulator, key: str = "job") -> Any:
    """Wait for everything to be delivered and return the card."""
    assert at.flush(60)
    return phone.cards[key]


def test_progress_words(phone: Simulator) -> None:
    """A percentage ends at 100 when it is done, where it stopped otherwise, and says how far it counted."""
    with standing_clock(), at.live_progress("done", total=4) as p:
        p.advance(4)
    with at.live_progress("short", total=100) as p:
        p.advance(42)
    with contextlib.suppress(Boom), at.live_progress("failed", total=100) as p:
        p.advance(42)
        raise Boom("broke")
    with contextlib.suppress(KeyboardInterrupt), at.live_progress("stopped", total=100) as p:
        p.advance(42)
        raise KeyboardInterrupt
    with at.live_progress("nearly", total=1000) as p:
        p.advance(999)
    with contextlib.suppress(Boom), at.live_progress("all but the end", total=10) as p:
        p.advance(10)
        raise Boom
    assert at.flush(60)
    seen = {key: (card.percentage, card.subtitle) for key, card in phone.cards.items()}
    assert seen["done"] == (100, "Done in 0.0 s")
    assert seen["short"] == (42, "Done, 42 of 100")
    assert seen["failed"] == (42, "Failed at 42 %: Boom: broke")
    assert seen["stopped"] == (42, "Stopped at 42 %")
    assert seen["nearly"] == (99, "Done, 999 of 1,000")
    assert seen["all-but-the-end"] == (99, "Failed at 99 %: Boom")


def test_steps_look(phone: Simulator) -> None:
    """The step that failed is red and those before it green; a good end fills them, or says how many there were."""
    with contextlib.suppress(Boom), at.live_steps("failed", steps=["a", "b", "c"]) as s:
        s.step("b")
        raise Boom("broke")
    with at.live_steps("short", steps=["a", "b", "c"]) as s:
        s.step("b")
    with at.live_steps("open") as s:
        s.step("x")
        s.step("y")
    with at.live_steps("none"):
        pass
    card = end(phone, "failed")
    assert (card.current_step, card.number_of_steps, card.step_color) == (2, 3, RED)
    assert (card.step_colors, card.subtitle) == ([GREEN, RED], "Failed in b: Boom: broke")
    card = phone.cards["short"]
    assert (card.current_step, card.number_of_steps, card.subtitle) == (2, 3, "Done, 2 of 3 steps")
    card = phone.cards["open"]
    assert (card.current_step, card.number_of_steps, card.step_color) == (2, 2, None)
    assert (phone.cards["none"].current_step, phone.cards["none"].number_of_steps) == (1, 1)


def test_failure_push_says_what_where_and_after_how_long(phone: Simulator) -> None:
    """The push of a failure is active, and names the error, the place and the time, with nothing secret in it."""
    options: dict[str, Any] = {"channels": "ops, db", "tags": ["n"]}
    with standing_clock(), contextlib.suppress(Boom), at.live_progress("Nightly import", total=10, **options) as p:
        p.advance(4)
        raise Boom("password=hunter2 is wrong for https://u:pw@db.example")
    at.flush(60)
    (push,) = phone.pushes
    assert push.title == "Nightly import failed"
    assert push.interruption_level == "active"
    assert push.message.startswith(
        "Boom: password=*** is wrong for https://***@db.example\nAfter 0.0 s at 40 %, test_"
    )
    assert "test_lifecycle.py:" in push.message
    assert (push.target, push.tags) == ({"channels": ["ops", "db"]}, ["n"])


def test_exception_after_finish_still_pushes(phone: Simulator) -> None:
    """An explicit end stands on the card, and what fails after it is told all the same."""
    with contextlib.suppress(Boom), at.live_progress("job", total=2) as p:
        p.finish("report is ready")
        raise Boom("late")
    card = end(phone)
    assert (card.color, card.subtitle, card.percentage) == (GREEN, "report is ready", 0)
    assert [push.title for push in phone.pushes] == ["job failed"]


def test_fail_then_exception_is_one_push(phone: Simulator) -> None:
    """A block that said that it failed, and then raised, has told its failure."""
    with standing_clock(), contextlib.suppress(Boom), at.live_progress("job") as p:
        p.fail("no disk")
        raise Boom("no disk")
    assert end(phone).subtitle == "Failed after 0.0 s: no disk"
    assert len(phone.pushes) == 1


def test_explicit_end_is_sent_at_once(phone: Simulator) -> None:
    """`finish()` ends the card while the block goes on."""
    with at.live_progress("job") as p:
        p.finish()
        assert at.flush(60)
        assert phone.cards["job"].ended
        requests = len(phone.requests)
        p.advance()
        p.update(percentage=3, important=True)
        assert p.outcome is not None
    assert at.flush(60)
    assert len(phone.requests) == requests


# ------------------------------------------------------------------------------------------------- asyncio for real


def test_cancellation_and_timeouts(phone: Simulator) -> None:
    """A cancelled task stops its block; a timeout fails the block around `wait_for` and stops the one inside."""

    async def forever(name: str) -> None:
        async with at.live_progress(name):
            await asyncio.Event().wait()

    async def around() -> None:
        async with at.live_progress("around", key="around"):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)

    async def main() -> None:
        task = asyncio.create_task(forever("cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(forever("inside"), 0.01)
        with pytest.raises(asyncio.TimeoutError):
            await around()

    asyncio.run(main(), debug=True)
    colors = {key: end(phone, key).color for key in ("cancelled", "inside", "around")}
    assert colors == {"cancelled": GRAY, "inside": GRAY, "around": RED}
    assert [push.title for push in phone.pushes] == ["around failed"]


def test_wait_does_not_block_the_loop(phone: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait=True` in a coroutine waits without holding up other tasks, and the end is there when it returns."""
    monkeypatch.setattr(option_table, "WAIT_SECONDS", PATIENCE)
    ticks = []

    async def ticking() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(ticking())
        async with at.live_progress("job", wait=True):
            before = len(ticks)
        assert phone.cards["job"].ended
        assert len(ticks) > before
        task.cancel()

    asyncio.run(main())


def test_wait_in_a_block(phone: Simulator) -> None:
    """`wait=` returns when the end is delivered."""
    with at.live_progress("job", wait=PATIENCE):
        pass
    assert phone.cards["job"].ended


# -------------------------------------------------------------------------------------------------------- the loops


def loop_and_break(name: str = "job") -> None:
    """Leave a loop by `break`."""
    for item in at.track(range(10), name):
        if item == 4:
            break


def loop_and_raise(name: str = "job") -> None:
    """Leave a loop by an exception."""
    for item in at.track(range(10), name):
        if item == 4:
            raise Boom("broke")


def test_loop_done(phone: Simulator) -> None:
    """An exhausted loop is done."""
    assert list(at.track([1, 2, 3], "job")) == [1, 2, 3]
    card = end(phone)
    assert (card.type, card.color, card.percentage) == ("progress", GREEN, 100)


def test_loop_of_unknown_length(phone: Simulator) -> None:
    """A loop without a length is a clock that counts up."""
    assert list(at.track((n for n in range(3)), "job")) == [0, 1, 2]
    card = end(phone)
    assert (card.type, card.color, card.counts_down, card.percentage) == ("timer", GREEN, False, None)


def test_loop_left_early(phone: Simulator) -> None:
    """A `break` or a `return` is a stop, where it stood; nothing is pushed."""
    loop_and_break()
    card = end(phone)
    assert (card.color, card.percentage, card.subtitle) == (GRAY, 40, "Stopped at 40 %")
    assert phone.pushes == []


def test_loop_left_by_an_exception_nobody_catches(phone: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.excepthook` sees it, the card is red with a push, and the hook that was there before is called."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: seen.append(args))
    with standing_clock():
        error = what_left(loop_and_raise)
        assert error is not None
        sys.excepthook(Boom, error, error.__traceback__)
    assert seen[0][1] is error
    card = end(phone)
    assert (card.color, card.subtitle) == (RED, "Failed at 40 %: Boom: broke")
    assert [push.title for push in phone.pushes] == ["job failed"]


def test_loop_in_a_thread(phone: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`threading.excepthook` sees what left a loop in a thread."""
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    thread = threading.Thread(target=loop_and_raise)
    with standing_clock():
        thread.start()
        thread.join()
    assert end(phone).color == RED
    assert seen == [Boom]


def test_loop_inside_a_tracked_block(phone: Simulator) -> None:
    """A tracked block around a loop sees the exception for it; one push, from the outermost block."""
    with standing_clock(), contextlib.suppress(Boom), at.notify("outer"):
        loop_and_raise()
    card = end(phone)
    assert (card.color, card.subtitle) == (RED, "Failed at 40 %: Boom: broke")
    assert [push.title for push in phone.pushes] == ["outer failed"]


def test_loop_with_its_exception_caught_outside(phone: Simulator) -> None:
    """An exception that is caught around the loop cannot be told from a `break`: stopped, never done."""
    with contextlib.suppress(Boom):
        loop_and_raise()
    assert end(phone).color == GRAY
    assert phone.pushes == []


def test_loop_in_a_closed_generator(phone: Simulator) -> None:
    """A generator around a loop that is closed stops the loop."""

    def rows() -> Any:
        yield from at.track(range(10), "job")

    generator = rows()
    next(generator)
    generator.close()
    assert end(phone).color == GRAY


async def pages(count: int) -> Any:
    """Yield some pages."""
    for number in range(count):
        yield number


def test_async_loops(phone: Simulator) -> None:
    """Async loops end as loops do: exhausted, left early, left by an exception."""

    async def exhausted() -> None:
        assert [item async for item in at.track(pages(3), "done", total=3)] == [0, 1, 2]

    async def broken() -> None:
        async for item in at.track(pages(10), "broken", total=10):
            if item == 4:
                break

    async def failed() -> None:
        with at.notify("outer"):
            async for item in at.track(pages(10), "failed"):
                if item == 4:
                    raise Boom("broke")

    asyncio.run(exhausted())
    asyncio.run(broken())
    with standing_clock(), pytest.raises(Boom):
        asyncio.run(failed())
    assert (end(phone, "done").color, phone.cards["done"].percentage) == (GREEN, 100)
    assert (phone.cards["broken"].color, phone.cards["broken"].percentage) == (GRAY, 40)
    assert phone.cards["failed"].color == RED
    assert [push.title for push in phone.pushes] == ["outer failed"]


# ------------------------------------------------------------------------------------------------------ the options


def fail(**options: Any) -> None:
    """Run a block that fails."""
    with contextlib.suppress(BaseException), at.live_progress("job", total=4, **options):
        raise Boom("broke")


def test_on_failure_choices(phone: Simulator) -> None:
    """What a failure pushes can be nothing, a text, a push, an object, or what a callable returns."""
    said: list[Any] = []

    def choose(outcome: Any, error: Any) -> Any:
        said.append((outcome.kind, type(error)))
        return at.Push(title="chosen", actions=[at.Action.open_url("Log", "https://a.example")])

    for wanted in (True, False, "see the log", at.Push(title="Own title"), {"message": "own message"}, choose):
        fail(on_failure=wanted)
    assert at.flush(60)
    shown = [(push.title, (push.message or "").partition("\n")[0]) for push in phone.pushes]
    words = "Boom: broke"
    assert sorted(shown) == [
        ("Own title", words),
        ("chosen", words),
        ("job failed", words),
        ("job failed", "own message"),
        ("job failed", "see the log"),
    ]
    assert said == [("failed", Boom)]
    assert [push.actions[0]["title"] for push in phone.pushes if push.title == "chosen"] == ["Log"]


def test_a_callable_that_fails_or_says_nothing(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """A callable that breaks costs neither the job nor the push; one that returns None or False pushes nothing."""

    def broken(outcome: Any, error: Any) -> Any:
        raise ValueError("my own bug")

    fail(on_failure=lambda outcome, error: None)
    fail(on_failure=lambda outcome, error: False)
    fail(on_failure=broken)
    fail(on_failure=lambda outcome, error: 3)
    assert at.flush(60)
    assert [push.title for push in phone.pushes] == ["job failed"] * 2
    assert "my own bug" in caplog.text


def test_a_callable_that_repeats_what_the_exception_says(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """What it makes of that is scrubbed, be it a text or a push, and so is what it raises."""

    def broken(outcome: Any, error: Any) -> Any:
        raise ValueError("password=hunter2")

    for wanted in (
        lambda outcome, error: f"broke: {error}",
        lambda outcome, error: at.Push(title=f"broke: {error}", subtitle=f"{error}"),
        broken,
    ):
        with contextlib.suppress(Boom), at.live_progress("job", on_failure=wanted):
            raise Boom("password=hunter2 " + "and so on " * 40 + "at the end token=hunter2")
    assert at.flush(60)
    said = "".join(f"{push.title} {push.subtitle} {push.message}\n" for push in phone.pushes)
    assert said.count("broke: password=***") == 2
    assert said.count("token=***") >= 2
    assert "hunter2" not in said + caplog.text
    assert "password=***" in caplog.text


def test_on_success(phone: Simulator) -> None:
    """A good end is pushed where that is asked for; the callable gets the result."""
    got: list[Any] = []

    @at.live_progress("job", total=2, on_success=lambda outcome, result: got.append(result) or f"made {result}")
    def job() -> int:
        return 7

    job()
    with at.live_progress("quiet", total=0):
        pass
    with at.live_progress("loud", on_success=True):
        pass
    assert at.flush(60)
    assert got == [7]
    (job_push, loud) = sorted(phone.pushes, key=lambda push: push.title)
    assert (job_push.title, job_push.message) == ("job finished", "made 7")
    assert loud.title == "loud finished"
    assert loud.message.startswith("Done in ")


def test_cancelled_and_ignore(phone: Simulator) -> None:
    """Cancellations can count as failures, and exceptions as mere stops."""
    with contextlib.suppress(KeyboardInterrupt), at.live_progress("job", cancelled="failure"):
        raise KeyboardInterrupt
    assert end(phone).color == RED
    with contextlib.suppress(Boom), at.live_progress("job", ignore=(Boom, OSError)):
        raise Boom
    assert end(phone).color == GRAY
    assert len(phone.pushes) == 1


def test_delay(phone: Simulator) -> None:
    """A block that ends well before its delay sends nothing; one that fails is shown and told."""
    with at.live_progress("job", delay=60):
        pass
    assert at.flush(60)
    assert phone.requests == []
    fail(delay=60)
    assert end(phone).color == RED
    assert len(phone.pushes) == 1


def test_keep(phone: Simulator) -> None:
    """`keep=True` leaves the card of a good end up, readings as they were, and the next run comes back to it."""
    for reading in (3, 4):
        with at.live_metrics("job", {"CPU": 0}, keep=True) as m:
            m.set(CPU=reading)
        card = end(phone)
        assert (card.ended, card.color, card.subtitle) == (False, None, None)
        assert card.metrics == [{"label": "CPU", "value": reading}]
    assert len(phone.activities) == 1
    with standing_clock(), at.live_progress("bar", total=2, keep=True) as p:
        p.advance(2)
    card = end(phone, "bar")
    assert (card.ended, card.color, card.percentage, card.subtitle) == (False, GREEN, 100, "Done in 0.0 s")
    fail(keep=True)
    assert end(phone).ended


def test_a_kept_card_announces_itself_once(phone: Simulator) -> None:
    """The alert of a kept card comes with its start alone, whether its run is short or long."""
    for wait in (False, True):
        phone.clear()
        with at.live_metrics("job", {"CPU": 3}, keep=True, alert="Begun") as m:
            if wait:
                assert phone.wait_for(lambda sim: "job" in sim.cards)
            m.set(CPU=4)
        assert at.flush(60)
        assert ["alert" in (request.body or {}) for request in phone.requests] == [True] + [False] * (
            len(phone.requests) - 1
        )
        assert phone.cards["job"].metrics == [{"label": "CPU", "value": 4}]


def test_disable(phone: Simulator) -> None:
    """A disabled handle works, and sends nothing."""
    with at.live_progress("job", total=3, disable=True) as p:
        p.advance()
        assert at.current() is p
        assert p.completed == 1
    fail(disable=True)
    assert at.flush(60)
    assert phone.requests == []


def test_what_travels_beside_the_state(phone: Simulator) -> None:
    """Icon, badge, buttons, alert, channels, tags and metadata are on the card; the alert only at its start."""
    link = at.Action.open_url("Open", "https://a.example")
    hook = at.Action.webhook("Stop", "https://a.example/stop", method="POST", body={"id": 1})
    with at.live_progress(
        "job",
        total=2,
        title="My job",
        subtitle="hello",
        color="purple",
        icon="bolt",
        badge=at.Badge("new", color="red"),
        action=link,
        secondary_action=hook,
        alert={"title": "Begun"},
        channels=["ops"],
        tags=["a"],
        metadata={"m": 1},
    ) as p:
        assert at.flush(60)
        p.advance()
        p.update(subtitle="there", important=True)
        assert phone.wait_for(lambda sim: sim.cards["job"].subtitle == "there")
    first, second, last = (each.body for each in phone.requests[:1] + phone.requests[1:2] + phone.requests[-1:])
    assert end(phone).title == "My job"
    first, second, last = phone.requests[0].body, phone.requests[1].body, phone.requests[-1].body
    assert first is not None
    assert second is not None
    assert last is not None
    for body in (first, second, last):
        assert body["action"] == link.given()
        assert body["secondary_action"] == hook.given()
        assert (body["tags"], body["metadata"]) == (["a"], {"m": 1})
        assert body["content_state"]["badge"] == {"title": "new", "color": "red"}
    assert first["content_state"]["icon"] == {"symbol": "bolt"}
    assert (first["target"], first["alert"]) == ({"channels": ["ops"]}, {"title": "Begun"})
    assert first["content_state"]["color"] == "purple"
    assert "alert" not in second
    assert not {"alert", "target"} & set(last)


def test_settings_apply_where_options_do_not(phone: Simulator) -> None:
    """Channels, tags and metadata of the settings are those of every card and push that names none."""
    with at.override(channels="all", tags=["t"], metadata={"host": "a"}):
        fail()
        fail(channels=["own"], tags=[], key="own")
    assert at.flush(60)
    bodies = [request.body or {} for request in phone.requests if request.method in ("PUT", "POST")]
    assert {str(body["target"]) for body in bodies} == {"{'channels': ['all']}", "{'channels': ['own']}"}
    assert phone.cards["job"].tags == ["t"]
    assert phone.cards["own"].tags == []


# ------------------------------------------------------------------------------------------- folding, keys, contexts


def test_a_block_in_a_block_is_a_line_of_its_card(phone: Simulator) -> None:
    """An inner block folds into the card around it, unless it asks for one of its own with a key."""
    with at.live_progress("outer", total=2) as outer:
        with at.live_progress("upload", total=100) as inner:
            inner.advance(42)
            assert phone.wait_for(lambda sim: "outer" in sim.cards and sim.cards["outer"].subtitle == "upload · 42 %")
            assert at.current() is inner
        with at.live_timer("own", key="own"):
            assert phone.wait_for(lambda sim: "own" in sim.cards)
        assert at.current() is outer
        with at.live_steps("a", steps=["x"]), at.live_steps("b", steps=["y"]):
            assert phone.wait_for(lambda sim: (sim.cards["outer"].subtitle or "").endswith("a · b · y"))
    assert set(phone.cards) == {"outer", "own"}


def test_several_inside(phone: Simulator) -> None:
    """Several inner blocks at once are counted."""

    async def part(name: str, go: asyncio.Event) -> None:
        async with at.live_progress(name):
            await go.wait()

    async def main() -> None:
        go = asyncio.Event()
        async with at.live_progress("outer"):
            tasks = [asyncio.create_task(part(f"p{number}", go)) for number in range(3)]
            await asyncio.sleep(0)
            shown = await asyncio.to_thread(
                phone.wait_for, lambda sim: "outer" in sim.cards and sim.cards["outer"].subtitle == "3 running"
            )
            assert shown
            go.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_loops_fold_but_are_never_current(phone: Simulator) -> None:
    """A loop folds into the block around it, and blocks in its body into the loop."""
    with at.live_progress("outer") as outer:
        for _ in at.track(range(2), "loop"):
            assert at.current() is outer
            assert phone.wait_for(
                lambda sim: "outer" in sim.cards and str(sim.cards["outer"].subtitle).startswith("loop")
            )
    for _ in at.track(range(1), "alone"):
        with at.live_progress("body"):
            pass
    assert at.flush(60)
    assert set(phone.cards) == {"outer", "alone"}


def test_one_failure_is_one_push(phone: Simulator) -> None:
    """An exception that leaves several blocks is pushed once, by the outermost; red cards may be several."""
    with standing_clock(), contextlib.suppress(Boom):
        with at.live_progress("outer"), at.live_progress("inner", key="inner"):
            raise Boom("broke")
    assert (end(phone, "outer").color, phone.cards["inner"].color) == (RED, RED)
    assert [push.title for push in phone.pushes] == ["outer failed"]


def test_one_failure_through_a_future(phone: Simulator) -> None:
    """The same exception object that comes out of a pool's future is pushed once too."""

    def work() -> None:
        with at.live_progress("inner"):
            raise Boom("broke")

    with standing_clock(), concurrent.futures.ThreadPoolExecutor() as pool:
        with contextlib.suppress(Boom), at.live_progress("outer"):
            pool.submit(work).result()
    assert at.flush(60)
    assert [push.title for push in phone.pushes] == ["outer failed"]


def test_two_failures_are_two_pushes(phone: Simulator) -> None:
    """A retry that fails again is another failure."""
    for _ in range(2):
        fail()
    assert at.flush(60)
    assert len(phone.pushes) == 2


def test_an_outer_block_that_does_not_push_leaves_the_inner_push(phone: Simulator) -> None:
    """The outermost block that pushes is the one that tells."""
    with contextlib.suppress(Boom), at.live_progress("outer", on_failure=False), at.live_progress("inner", key="i"):
        raise Boom("broke")
    assert at.flush(60)
    assert [push.title for push in phone.pushes] == ["inner failed"]


def test_the_same_name_twice_at_once(phone: Simulator) -> None:
    """Two at once get keys of their own; one after the other share a card's key."""
    started = threading.Barrier(3)
    leave = threading.Event()

    def work() -> None:
        with at.live_progress("job"):
            started.wait(60)
            leave.wait(60)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait(60)
    assert phone.wait_for(lambda sim: len(sim.cards) == 2)
    leave.set()
    for thread in threads:
        thread.join()
    assert at.flush(60)
    with at.live_progress("job"):
        pass
    assert at.flush(60)
    assert set(phone.cards) == {"job", "job-2"}


def test_key_templates(phone: Simulator) -> None:
    """`{name}` and `{host}` of a key are filled in."""
    with at.live_progress("Nightly Backup", key="x-{name}-{host}"):
        pass
    assert at.flush(60)
    (key,) = phone.cards
    assert key.startswith("x-nightly-backup-")
    assert len(key) > len("x-nightly-backup-")


def test_threads_do_not_inherit_the_context(phone: Simulator) -> None:
    """A pool's thread has no current handle, unless its work runs in a copied context."""
    import contextvars

    with at.live_progress("job") as p, concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(at.current).result() is not p
        assert pool.submit(contextvars.copy_context().run, at.current).result() is p


def test_a_task_that_outlives_its_block_has_no_handle(phone: Simulator) -> None:
    """A task started in a block does not find it once it has ended."""

    async def late(go: asyncio.Event) -> Any:
        await go.wait()
        return at.current()

    async def main() -> None:
        go = asyncio.Event()
        with at.live_progress("job") as p:
            task = asyncio.create_task(late(go))
            await asyncio.sleep(0)
        go.set()
        assert await task is not p

    asyncio.run(main())


def test_the_silent_stand_in(phone: Simulator) -> None:
    """Outside any block `current()` and `step()` take every call and do nothing."""
    nobody = at.current()
    nobody.advance()
    nobody.advance(3)
    nobody.update(percentage=3, subtitle="x", important=True)  # type: ignore[call-arg]
    nobody.set("x")
    nobody.set(CPU=3)
    nobody.finish()
    nobody.fail("x")
    nobody.cancel()
    with nobody.step("x"), at.step("y"), nobody.advance():
        pass
    for name in ("pause", "resume", "whatever"):
        getattr(nobody, name)()
    with nobody as entered:
        assert entered is nobody.again() is nobody
    assert nobody(works_alone) is works_alone
    assert (nobody.completed, nobody.total, nobody.elapsed) == (0, None, 0.0)  # type: ignore[attr-defined]
    assert not hasattr(nobody, "_whatever")
    assert repr(nobody) == "<no current handle>"

    async def main() -> None:
        async with nobody:
            pass

    asyncio.run(main())
    assert at.flush(60)
    assert phone.requests == []


def works_alone() -> None:
    """Do nothing."""


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_another_kind(phone: Simulator, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Inside a block, whatever its kind, a call that belongs to another kind is left out and does not raise."""
    make, use = KINDS[kind]
    with make():
        handle: Any = at.current()
        for _ in range(2):
            handle.update(completed=3, total=9, percentage=30)
            handle.pause()
            handle.resume()
            with handle.step("x"):
                handle.advance()
            handle.set(CPU=4)
            handle.set("text")
            use(handle)
        with pytest.raises(TypeError, match="did you mean 'completed'"):
            handle.update(complted=3)
    assert shown_color(end(phone)) == GREEN
    counts = handle.type == "progress"
    assert caplog.text.count("completed: 3 is not allowed; expected none: ") == (0 if counts else 1)
    assert caplog.text.count("labelled readings are skipped") == (1 if kind in ("value", "alert") else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_that_is_never_opened(phone: Simulator, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handle that is used without a block says so once, and nothing where it is turned off."""
    make, use = KINDS[kind]
    with at.override(enabled=False):
        make().finish()
    make(disable=True).finish()
    assert caplog.text == ""
    handle = make()
    use(handle)
    handle.update(subtitle="x")
    handle.finish()
    make().fail("x")
    assert caplog.text.count("'job': it shows nothing before its block has begun: use it in a with statement") == 1
    assert at.flush(60)
    assert phone.requests == []


def test_entering_twice(phone: Simulator) -> None:
    """A handle that is open cannot be entered again; one that has ended starts afresh."""
    handle = at.live_progress("job", total=2)
    with handle:
        with pytest.raises(RuntimeError, match="open already"), handle:
            pass
        handle.advance(2)
    with handle:
        assert handle.completed == 0
    assert end(phone).subtitle == "Done, 0 of 2"


@pytest.mark.parametrize("kind", KINDS)
def test_timeouts_of_every_kind(phone: Simulator, kind: str) -> None:
    """A `wait_for` that gives up stops the block inside it and fails the one around it."""
    make, use = KINDS[kind]

    async def forever() -> None:
        async with make(key="inside") as handle:
            use(handle)
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            async with make(key="around") as handle:
                use(handle)
                await asyncio.wait_for(forever(), 0.01)

    asyncio.run(main())
    assert (shown_color(end(phone, "inside")), shown_color(phone.cards["around"])) == (GRAY, RED)
    assert [push.title for push in phone.pushes] == ["job failed"]


@pytest.mark.parametrize("kind", KINDS)
def test_closed_generators_of_every_kind(phone: Simulator, kind: str) -> None:
    """A decorated generator, sync or async, that is closed early is stopped; one that ends is done."""
    make, use = KINDS[kind]

    def rows() -> Any:
        use(at.current())
        yield 1

    async def pages_of() -> Any:
        use(at.current())
        yield 1

    async def main() -> None:
        closed = make(key="async-closed")(pages_of)()
        await closed.__anext__()
        await closed.aclose()
        assert [item async for item in make(key="async-done")(pages_of)()] == [1]

    closed = make(key="closed")(rows)()
    next(closed)
    closed.close()
    assert list(make(key="done")(rows)()) == [1]
    asyncio.run(main())
    assert at.flush(60)
    assert {key: shown_color(card) for key, card in phone.cards.items()} == {
        "closed": GRAY,
        "done": GREEN,
        "async-closed": GRAY,
        "async-done": GREEN,
    }
    assert phone.pushes == []
