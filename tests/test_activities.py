"""Options, steps, counts and readings: what is refused when a handle is made, and what is taken when it runs."""

from __future__ import annotations

import inspect
import math
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from patience import standing_clock

import activitysmith_track as at
from activitysmith_track import InvalidRequest, Options, PushOptions, payloads
from activitysmith_track.blocks.handle import Provider
from activitysmith_track.blocks.key import slug
from activitysmith_track.blocks.option_table import OF_PUSHES, OPTIONS, shows
from activitysmith_track.blocks.values import fit
from activitysmith_track.payloads import check_body
from activitysmith_track.simulator import Simulator

FUNCTIONS = (
    at.live_progress,
    at.live_steps,
    at.live_timer,
    at.live_metrics,
    at.live_stats,
    at.live_value,
    at.live_alert,
    at.track,
    at.track_steps,
    at.notify,
)

BAD: list[tuple[str, Any]] = [
    ("title", 3),
    ("title", " "),
    ("subtitle", 3),
    ("key", "a b"),
    ("key", ""),
    ("key", "{user}"),
    ("key", 3),
    ("color", "pink"),
    ("icon", ""),
    ("icon", {"symbol": "x", "size": 1}),
    ("icon", 3),
    ("badge", ""),
    ("badge", 3),
    ("action", "Open"),
    ("action", {"title": "x", "type": "open_url", "url": "spotify:x"}),
    ("secondary_action", {"title": "x", "type": "webhook", "url": "http://a.example"}),
    ("alert", 3),
    ("alert", {"text": "x"}),
    ("channels", []),
    ("channels", 3),
    ("tags", ["t" * 65]),
    ("metadata", {"k": None}),
    ("on_failure", 3),
    ("on_failure", ""),
    ("on_success", {"title": 3}),
    ("on_success", {"interruption_level": "loud"}),
    ("cancelled", "yes"),
    ("ignore", 3),
    ("ignore", (ValueError, 3)),
    ("delay", -1),
    ("delay", math.nan),
    ("delay", "3"),
    ("keep", "yes"),
    ("disable", "no"),
    ("eta", "soon"),
    ("wait", -1),
    ("wait", "x"),
    ("stall_after", 0),
    ("stall_after", "soon"),
    ("watchdog", "yes"),
    ("tracker", 3),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_options(name: str, value: Any) -> None:
    """A bad value is refused when the handle, the loop or the decorator is made."""
    options: Any = {name: value}
    for make in (
        lambda: at.live_progress("job", **options),
        lambda: at.track([1], "job", **options),
        lambda: at.track_steps("job", **options),
    ):
        with pytest.raises(InvalidRequest) as caught:
            make()
        assert name in str(caught.value)


def test_every_option_is_checked_and_tested() -> None:
    """The options of the type, of the checks, of these tests and of their documentation are the same."""
    names = set(Options.__annotations__)
    assert set(PushOptions.__annotations__) == set(OF_PUSHES)
    assert set(OPTIONS) == names == {name for name, _ in BAD}
    # cleaned, since from Python 3.13 on a docstring comes without its indentation
    paragraphs = re.split(r"\n {4}(?! )", (inspect.getdoc(Options) or "").partition("Attributes:")[2])
    documented = [" ".join(each.split()) for each in paragraphs if each.strip()]
    cards = {name: "" if each.shown_by == "all" else f" Cards: {each.shown_by}." for name, each in OPTIONS.items()}
    assert documented == [f"{name}: {each.meaning}{cards[name]}" for name, each in OPTIONS.items()]


def test_a_card_shows_what_the_service_takes() -> None:
    """The table of options and the schema of the service agree on which cards show what."""
    for name in OPTIONS.keys() & payloads.CONTENT_STATE.keys():
        assert set(OPTIONS[name].cards) == set(payloads.CONTENT_STATE[name][1]), name
    assert set(OPTIONS["secondary_action"].cards) == set(payloads.BADGED)
    assert not shows("timer", "badge")
    assert shows("progress", "total")
    assert not shows("value", "total")


GOOD: dict[str, Any] = {
    **dict.fromkeys(("title", "subtitle", "key", "icon", "badge", "alert", "channels"), "x"),
    **dict.fromkeys(("action", "secondary_action"), at.Action.open_url("x", "https://a.example")),
    **dict.fromkeys(("on_failure", "on_success", "keep", "disable", "watchdog"), True),
    **dict.fromkeys(("delay", "wait", "stall_after"), 1),
    "color": "red",
    "tags": ["x"],
    "metadata": {"x": 1},
    "eta": "clock",
    "cancelled": "failure",
    "ignore": ValueError,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_notify_takes_what_concerns_a_push(name: str) -> None:
    """Others are refused; the error and the documentation name those that it takes."""
    option = {name: GOOD[name] if name in GOOD else at.Tracker()}
    if name in OF_PUSHES:
        at.notify("job", **option)
    else:
        with pytest.raises(TypeError, match=f"has no '{name}'; it takes {', '.join(OF_PUSHES)}"):
            at.notify("job", **option)
    assert (f"`{name}`" in (at.notify.__doc__ or "")) == (name in OF_PUSHES)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_takes_the_options(function: Callable[..., Any]) -> None:
    """Each signature ends in the shared options, and an unknown one names the nearest."""
    *_, last = inspect.signature(function).parameters.values()
    options = "PushOptions" if function is at.notify else "Options"
    assert (last.kind, last.annotation) == (inspect.Parameter.VAR_KEYWORD, f"Unpack[{options}]")
    arguments = ([1], "job") if function is at.track else ("job",)
    with pytest.raises(TypeError, match="did you mean 'channels'"):
        function(*arguments, chanels="x")
    with pytest.raises(TypeError, match="it takes"):
        function(*arguments, zzzzzzzz=1)


@pytest.mark.parametrize(
    ("function", "misspelt", "meant"),
    [
        (at.live_progress, "totl", "total"),
        (at.live_steps, "stpes", "steps"),
        (at.live_timer, "durration", "duration"),
        (at.live_metrics, "vals", "values"),
        (at.live_stats, "evry", "every"),
        (at.live_value, "smaple", "sample"),
        (at.track_steps, "stepz", "steps"),
        (at.notify, "onn", "on"),
    ],
)
def test_own_parameters_are_candidates(function: Callable[..., Any], misspelt: str, meant: str) -> None:
    """A misspelt parameter of a function's own names that one, and the function that was called."""
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) .* did you mean '{meant}'"):
        function("job", **{misspelt: 3})


@pytest.mark.parametrize(
    "make",
    [
        lambda: at.live_progress(3),  # type: ignore[arg-type]
        lambda: at.live_progress(""),
        lambda: at.live_progress("job", total=-1),
        lambda: at.live_progress("job", total=math.inf),
        lambda: at.live_progress("job", total="3"),  # type: ignore[arg-type]
        lambda: at.live_steps("job", steps=0),
        lambda: at.live_steps("job", steps=[]),
        lambda: at.live_steps("job", steps="abc"),
        lambda: at.live_steps("job", steps=["a", ""]),
        lambda: at.live_steps("job", steps=1.5),  # type: ignore[arg-type]
        lambda: at.live_timer("job", duration=0),
        lambda: at.live_timer("job", duration=math.nan),
        lambda: at.live_timer("job", badge="x"),
        lambda: at.live_metrics("job", {str(n): n for n in range(9)}),
        lambda: at.live_metrics("job", {"x": math.nan}),
        lambda: at.live_metrics("job", 3),  # type: ignore[arg-type]
        lambda: at.live_metrics("job", sample=3),  # type: ignore[arg-type]
        lambda: at.live_metrics("job", every=0),
        lambda: at.live_stats("job", color="red"),
        lambda: at.live_stats("job", badge="x"),
        lambda: at.live_metrics("job", secondary_action=at.Action.open_url("x", "https://a.example")),
        lambda: at.live_value("job", every=-1),
        lambda: at.track([1], ""),
        lambda: at.track([1], "job", total=-1),
        lambda: at.track([1], "job", initial=-1),
        lambda: at.track([1], "job", unit=3),  # type: ignore[call-overload]
    ],
)
def test_bad_arguments(make: Callable[[], Any]) -> None:
    """A mistake in a call that makes a handle is refused there."""
    with pytest.raises(InvalidRequest):
        make()


def test_bare_decorators_that_need_a_name() -> None:
    """A decorator that was not called says how it is."""
    with pytest.raises(InvalidRequest, match=r"""called with one, @live_progress\("my job"\)"""):
        at.live_progress(lambda: None)  # type: ignore[arg-type]


def test_what_notify_tells_on() -> None:
    """Which end is told is one of three words."""
    for on in ("sometimes", ["failure"]):
        with pytest.raises(InvalidRequest, match="expected one of failure, success, always"):
            at.notify(on=on)  # type: ignore[call-overload]


def test_a_push_with_an_unknown_field() -> None:
    """A push given as an object is checked as one."""
    with pytest.raises(TypeError, match="did you mean 'message'"):
        at.live_progress("job", on_failure={"mesage": "x"})


# ---------------------------------------------------------------------------------------- keys and words


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("reindex", "reindex"),
        ("Nightly backup", "nightly-backup"),
        ("etl/daily.orders", "etl-daily-orders"),
        ("a_b-c", "a_b-c"),
        ("  spaced  ", "spaced"),
    ],
)
def test_slugs(name: str, key: str) -> None:
    """The stream's key is a slug of the name."""
    assert slug(name) == key


def test_slugs_that_lose_characters() -> None:
    """Names that would fall together get a short hash each."""
    names = [
        "C build",
        "C++ build",
        "C# build",
        "übung",
        "ubung",
        "日本",
        "中国",
        "🚀",
        "x" * 300,
        "x" * 301,
        "\ud800",
    ]
    keys = [slug(name) for name in names]
    assert len(set(keys)) == len(names)
    for key in keys:
        assert len(key) <= 255
        assert key.isascii()
        assert key.replace("-", "").replace("_", "").isalnum()
    assert slug("C++ build").startswith("c-build-")


class Broken:
    """Something that cannot be shown in any way."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", ["x" * 10_000, "\ud800", "🚀" * 500, 3, None, b"\xff", Broken()])
def test_any_text_fits(value: Any) -> None:
    """Whatever is given as text becomes one that the phone can show."""
    text = fit(value)
    assert len(text) <= 150
    assert text.encode()


# ---------------------------------------------------------------------------------------- run-time data

ODD: list[Any] = [
    *(math.nan, math.inf, -math.inf, -5, 103.2, 10**400, True, None, "x", "", b"x", [], {}, object(), Broken()),
    *("x" * 10_000, "🚀", "\ud800", "7"),
]


def body_of(handle: Any) -> dict[str, Any] | None:
    """Return the body that would be sent now, checked as the client checks it."""
    snapshot = Provider(handle).snapshot()
    return None if snapshot is None else check_body("stream", snapshot.body)


@pytest.mark.parametrize("odd", ODD, ids=lambda value: type(value).__name__)
def test_nothing_raises_at_run_time(phone: Simulator, odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No data that flows through a handle raises, and its card stays sane."""
    with at.live_progress("p", total=10) as p:
        p.advance(3)
        for _ in range(2):
            p.advance(odd)
            p.update(percentage=odd, completed=odd, total=odd)
            p.update(title=odd, subtitle=odd, color=odd, icon=odd, badge=odd, action=odd, secondary_action=odd)
        body = body_of(p)
        assert body is not None
        assert 0 <= body["content_state"]["percentage"] <= 99
        assert isinstance(body["content_state"]["percentage"], int)
    with at.live_metrics("m", {"a": 1}) as m:
        m.set(a=odd)
        m.set({odd: 1} if not isinstance(odd, (list, dict)) else odd)
        assert body_of(m)
    with at.live_value("v") as v:
        v.set(odd)
        body_of(v)
    with at.live_alert("a") as a:
        a.set(odd)
        body_of(a)
    with at.live_steps("s", steps=["x"]) as s:
        s.step(odd)
        s.advance(odd)
        assert body_of(s)
    with at.live_progress("f") as p:
        p.finish(odd)
    with at.live_progress("g") as p:
        p.fail(odd)
    assert at.flush(60)
    assert [request.status for request in phone.requests if request.status >= 400] == []
    assert "internal error" not in caplog.text


def test_past_the_total(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Past the total the card stays at 99 % until the end, which is told once."""
    with at.live_progress("job", total=3) as p:
        p.advance(5)
        assert p.percentage == 99
        p.advance(5)
        assert p.percentage == 99
    assert at.flush(60)
    assert phone.cards["job"].percentage == 100
    assert caplog.text.count("past the total") == 1


def test_percentages(phone: Simulator) -> None:
    """Percentages are whole, to nearest, clamped, and skipped where they are no numbers; a count takes over again."""
    with at.live_progress("job", total=200) as p:
        seen = []
        for value in (0.4, 0.5, 41.5, 103.2, -3, math.nan, 99.9):
            p.update(percentage=value)
            seen.append(p.percentage)
        p.update(completed=50)
        seen.append(p.percentage)
        p.update(total=400)
        seen.append(p.percentage)
        p.advance(-50)
        seen.append(p.percentage)
        assert (p.completed, p.total) == (0, 400)
    assert seen == [0, 1, 42, 99, 0, 0, 99, 25, 13, 0]


def test_update_takes_keywords_only() -> None:
    """Tqdm's `update(1)` is an error here, and not one percent; an unknown keyword names the nearest."""
    with at.live_progress("job", disable=True) as p:
        with pytest.raises(TypeError, match=r"use advance\(1\), or update\(completed=\.\.\.\)"):
            p.update(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="did you mean 'subtitle'"):
            p.update(subtitel="x")
        with pytest.raises(TypeError, match="did you mean 'completed'"):
            p.update(complted=3)


def test_a_count_without_a_total(phone: Simulator) -> None:
    """Without a total the count is the subtitle, from 0 %."""
    with at.live_progress("job") as p:
        assert body_of(p)["content_state"] == {"title": "job", "type": "progress", "percentage": 0}  # type: ignore[index]
        p.advance(1234)
        assert body_of(p)["content_state"]["subtitle"] == "1,234"  # type: ignore[index]


def test_estimates(phone: Simulator) -> None:
    """The subtitle says how long it still takes, or when it ends, or what the user wants."""

    def subtitle(**options: Any) -> Any:
        with standing_clock() as clock, at.live_progress("job", total=100, delay=999, **options) as p:
            p.advance(25)
            clock.advance(600)
            return body_of(p)["content_state"].get("subtitle")  # type: ignore[index]

    assert subtitle() == "30 min left"
    assert subtitle(eta=None) is None
    assert subtitle(subtitle="mine") == "mine"
    assert str(subtitle(eta="clock")).startswith("ends about ")


# ---------------------------------------------------------------------------------------- steps


def steps_of(handle: at.Steps) -> tuple[int, int, str | None, bool]:
    """Return the current step, their number, the subtitle, and whether a step is running."""
    state = body_of(handle)["content_state"]  # type: ignore[index]
    return state["current_step"], state["number_of_steps"], state.get("subtitle"), "step_color" in state


def test_listed_steps(phone: Simulator) -> None:
    """The first one runs from the start; naming it changes nothing; the others follow by name or by `advance`."""
    with at.live_steps("job", steps=["a", "b", "c"]) as s:
        seen = [steps_of(s)]
        for name in ("a", "b"):
            s.step(name)
            seen.append(steps_of(s))
        s.advance()
        seen.append(steps_of(s))
        s.advance()
        seen.append(steps_of(s))
    assert seen == [(1, 3, "a", True), (1, 3, "a", True), (2, 3, "b", True), (3, 3, "c", True), (3, 3, "c", False)]


def test_unlisted_and_repeated_steps(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """An unlisted name is added after the current one; a name that comes again is the listed one, or a new step."""
    with at.live_steps("job", steps=["a", "b", "a"]) as s:
        s.step("x")
        assert steps_of(s) == (2, 4, "x", True)
        s.step("a")
        assert steps_of(s) == (4, 4, "a", True)
        s.step("a")
        assert steps_of(s) == (5, 5, "a", True)
    assert "not among the steps" in caplog.text


def test_numbered_steps(phone: Simulator) -> None:
    """With a number, names come as they come."""
    with at.live_steps("job", steps=2) as s:
        seen = [steps_of(s)]
        for name in ("x", "y", "z"):
            s.step(name)
            seen.append(steps_of(s))
    assert seen == [(0, 2, None, False), (1, 2, "x", True), (2, 2, "y", True), (3, 3, "z", True)]


def test_open_steps(phone: Simulator) -> None:
    """Without either there is always one more while a step runs."""
    with at.live_steps("job") as s:
        seen = [steps_of(s)]
        s.step("x")
        seen.append(steps_of(s))
        s.advance()
        seen.append(steps_of(s))
    assert seen == [(0, 1, None, False), (1, 2, "x", True), (2, 3, "Step 2", True)]


def test_step_blocks(phone: Simulator) -> None:
    """A step block finishes its step when it leaves, unless another has begun or it failed."""
    with at.live_steps("job", steps=["a", "b", "c"]) as s:
        with at.step("b"):
            assert steps_of(s) == (2, 3, "b", True)
        assert steps_of(s) == (2, 3, "b", False)
        with s.step("c"):
            s.step("d")
        assert steps_of(s) == (4, 4, "d", True)
        with pytest.raises(ValueError), s.step("e"):
            raise ValueError
        assert steps_of(s) == (5, 5, "e", True)


def test_transitions_are_sent(phone: Simulator) -> None:
    """Every step reaches the phone at once, in its order."""
    with at.live_steps("job", steps=["a", "b", "c"]) as s:
        for number, name in enumerate(("a", "b", "c"), 1):
            s.step(name)
            assert phone.wait_for(lambda sim, n=number: "job" in sim.cards and sim.cards["job"].current_step == n)
    assert at.flush(60)
    assert phone.cards["job"].updates == 2


# ---------------------------------------------------------------------------------------- readings


def test_readings(phone: Simulator) -> None:
    """Readings keep the units that were declared; odd ones are skipped, and only eight are shown."""
    with at.live_metrics("job", [at.Metric("CPU", 1, unit="%", color="red")]) as m:
        m.set({"Queue depth": 3}, CPU=2)
        m.set(**{f"x{n}": n for n in range(20)})
        m.set(CPU=math.nan, low=-2)
        grid = body_of(m)["content_state"]["metrics"]  # type: ignore[index]
    assert grid[0] == {"label": "CPU", "value": 2, "unit": "%", "color": "red"}
    assert grid[1] == {"label": "Queue depth", "value": 3}
    assert len(grid) == 8


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (3, 3),
        (0.1 + 0.2, 0.3),
        (-5, "-5"),
        (-5.0, "-5"),
        (-1_234_567, "-1234567"),
        (-1_234_567.89, "-1234567.89"),
        (-1e300, "-1e+300"),
        (10**18, 1e18),
        (sys.float_info.max, sys.float_info.max),
    ],
)
def test_numbers_are_written_as_people_do(number: float, shown: Any) -> None:
    """No binary tail and no needless exponent; a number below 0 is a text, set or declared in whichever way."""
    ways: list[Any] = [{"x": number}, {"x": {"value": number}}, [{"label": "x", "value": number}]]
    for declared in ways:
        with at.live_metrics("job", declared, disable=True) as handle:
            for _ in range(2):
                (reading,) = (body_of(handle) or {})["content_state"]["metrics"]
                assert (reading["value"], type(reading["value"])) == (shown, type(shown))
                handle.set(x=number)
    with at.live_metrics("job", {}, disable=True) as handle:
        assert body_of(handle) is None
    with at.live_value("job", disable=True) as value:
        value.set(number)
        assert (body_of(value) or {})["content_state"]["value"] == (number if number < 0 else shown)


def test_declared_readings() -> None:
    """Declared readings are labels and values, metrics, or objects."""
    values = {"a": 1, "b": at.Metric("ignored", 2, unit="s"), "c": {"value": "x"}}
    with at.live_stats("job", values, disable=True) as m:
        assert body_of(m)["content_state"]["metrics"] == [  # type: ignore[index]
            {"label": "a", "value": 1},
            {"label": "b", "value": 2, "unit": "s"},
            {"label": "c", "value": "x"},
        ]
        m.set(a=at.Metric("x", 5, unit="m"), d=-1.5)
        grid = body_of(m)["content_state"]["metrics"]  # type: ignore[index]
    assert (grid[0], grid[3]) == ({"label": "a", "value": 5, "unit": "m"}, {"label": "d", "value": "-1.5"})


def test_samples(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Samples are taken on one shared thread, first at once; what they raise is told once."""
    threads: set[str] = set()
    taken: list[int] = []
    failed_twice = threading.Event()

    def sample() -> dict[str, int]:
        threads.add(threading.current_thread().name)
        taken.append(len(taken) + 1)
        if len(taken) > 4:
            failed_twice.set()
        if len(taken) > 3:
            raise ValueError("no more")
        return {"n": taken[-1]}

    def value() -> str:
        threads.add(threading.current_thread().name)
        return "text"

    with at.live_metrics("m", sample=sample, every=0.01), at.live_value("v", sample=value, every=5, key="v"):
        assert phone.wait_for(lambda sim: "m" in sim.cards and "v" in sim.cards)
        assert phone.wait_for(lambda sim: sim.cards["m"].metrics[0]["value"] == 3)
        assert failed_twice.wait(60)
    assert at.flush(60)
    assert threads == {"activitysmith-samples"}
    assert phone.cards["v"].value == "text"
    assert caplog.text.count("its sample callable failed") == 1


def test_a_timer_can_pause(phone: Simulator) -> None:
    """A timer is paused and resumed, and its duration is sent once only."""
    with at.live_timer("job", duration=90) as t:
        assert phone.wait_for(lambda sim: "job" in sim.cards)
        t.pause()
        assert phone.wait_for(lambda sim: sim.cards["job"].is_running is False)
        t.pause()
        t.resume()
        assert phone.wait_for(lambda sim: sim.cards["job"].is_running is True)
    assert at.flush(60)
    sent = [(request.body or {})["content_state"].get("duration_seconds") for request in phone.requests]
    assert sent == [90, None, None, None]


def test_important_updates_go_at_once(phone: Simulator) -> None:
    """An important update is a transition; a subtitle alone waits for the next one."""
    with at.live_progress("job", total=100) as p:
        assert phone.wait_for(lambda sim: "job" in sim.cards)
        p.update(subtitle="rides along")
        p.update(color="orange", important=True)
        assert phone.wait_for(lambda sim: sim.cards["job"].color == "orange")
        assert phone.cards["job"].subtitle == "rides along"
        assert phone.cards["job"].updates == 1


def test_what_a_type_cannot_show_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A badge on a timer, or an unknown colour, is left out with a line in the log."""
    with at.live_timer("job", disable=True) as t:
        t.update(badge="x", color="pink", icon="bolt")
        assert body_of(t)["content_state"]["icon"] == {"symbol": "bolt"}  # type: ignore[index]
        assert "badge" not in body_of(t)["content_state"]  # type: ignore[index]
    assert "badge" in caplog.text
    assert "pink" in caplog.text
