"""Segments, one for each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InvalidRequest
from .handle import Handle, StepBlock, note, touch
from .option_table import check_visible_text
from .outcome import LOOKS
from .states import StateBuilder
from .values import finite, fit

if TYPE_CHECKING:
    from .outcome import Kind, Outcome

RUNNING_STEP = "cyan"  # tells the running step from the finished ones


class _Plan(tuple[Any, ...]):
    """The steps of a handle: their names, the current one (-1: none yet), and whether it is running.

    A plan is never changed: a new one follows it. If two threads make a follower at the same time, the second one
    finds the first one's there, and starts again from that; see `Layers`.
    """

    _followers: dict[str, _Plan]

    def __new__(cls, names: tuple[str | None, ...], at: int, running: bool) -> _Plan:
        made = super().__new__(cls, (names, at, running))
        made._followers = {}
        return made

    names = property(lambda self: self[0])
    at = property(lambda self: self[1])
    running = property(lambda self: self[2])

    def follow(self, made: _Plan) -> bool:
        """Have another plan follow this one, in one step; returns False where another one follows already."""
        return self._followers.setdefault("next", made) is made

    def newest(self) -> _Plan:
        """Return the newest of the plans that follow this one."""
        plan = self
        while plan._followers:
            plan = plan._followers["next"]
        return plan


class _Course:
    """How one run goes through its steps: each move is a plan that follows the newest one.

    A thread that moves while others do goes on from their step.

    Args:
        given: the steps that were announced: their names, how many, or `None` where nothing was.
    """

    def __init__(self, given: tuple[str, ...] | int | None) -> None:
        listed = isinstance(given, tuple)
        names: tuple[str | None, ...] = given if isinstance(given, tuple) else (None,) * (given or 0)
        self._known = _Plan(names, 0 if listed else -1, listed)
        self._implied = listed  # the first listed step runs although no call has named it
        self._announced = given is not None

    @property
    def plan(self) -> _Plan:
        """The newest plan."""
        self._known = plan = self._known.newest()
        return plan

    @property
    def current_step(self) -> int:
        """The number of the step that runs or ran last, from 1; 0 before the first."""
        return int(self.plan.at) + 1

    @property
    def number_of_steps(self) -> int:
        """How many steps there are; if that was not announced, one more than the running one."""
        names, at, running = self.plan
        return int(max(1, len(names) + (1 if running and not self._announced else 0), at + 1))

    def begin(self, text: str) -> tuple[_Plan, bool]:
        """Begin a step; returns the plan that it runs in, and whether it was added to those announced."""

        def go(names: tuple[str | None, ...], at: int) -> _Plan:
            if not (self._implied and at == 0 and names[0] == text):
                names, at = _place_of(names, at, text)
            return _Plan(names, at, True)

        before, made = self._go(go)
        return made, self._announced and len(made.names) > len(before.names)

    def advance(self, skipped: int) -> _Plan:
        """Go to the next step, past some more; where there is none, nothing runs in the plan that is returned."""

        def go(names: tuple[str | None, ...], at: int) -> _Plan:
            at = min(at + skipped, max(at, len(names) - 1))
            if not self._announced:
                names = (*names[: at + 1], f"Step {at + 2}")
            is_last = at + 1 >= len(names)
            return _Plan(names, at if is_last else at + 1, not is_last)

        return self._go(go)[1]

    def _go(self, go: Callable[[tuple[str | None, ...], int], _Plan]) -> tuple[_Plan, _Plan]:
        """Have a plan follow the newest one; returns both."""
        plan = self.plan
        while not plan.follow(made := go(plan.names, plan.at)):
            plan = plan.newest()
        if made.running:
            self._implied = False
        return plan, made


def _place_of(names: tuple[str | None, ...], at: int, text: str) -> tuple[tuple[str | None, ...], int]:
    """Find where a step belongs: where it is listed ahead, in the next place without a name, or after this step."""
    if text in names[at + 1 :]:
        return names, names.index(text, at + 1)
    if at + 1 < len(names) and names[at + 1] is None:
        return (*names[: at + 1], text, *names[at + 2 :]), at + 1
    return (*names[: at + 1], text, *names[at + 1 :]), at + 1


class _StepsBuilder(StateBuilder["Steps"]):
    """Builds the states of segments."""

    def running(self, handle: Steps) -> dict[str, Any]:
        state = {"current_step": handle.current_step, "number_of_steps": handle.number_of_steps}
        return {**state, "step_color": RUNNING_STEP} if handle._course.plan.running else state

    def brief(self, handle: Steps) -> str:
        return self.subtitle(handle) or ""

    def subtitle(self, handle: Steps) -> str | None:
        names, at, _ = handle._course.plan
        if at < 0:
            return None
        return str(names[at] or f"Step {at + 1}")

    def figures(self, handle: Steps, kind: Kind) -> dict[str, Any]:
        names, at, running = handle._course.plan
        done = at + 1 if kind == "done" or not running else at
        total = max(len(names), at + 1) if kind == "done" else handle.number_of_steps
        least = 1 if handle._given is not None else 0
        return {"completed": done, "total": max(total, least), "step": self.brief(handle)}

    def last(self, handle: Steps, outcome: Outcome) -> dict[str, Any]:
        color = LOOKS[outcome.kind][0]
        at = handle.current_step
        total = max(int(outcome.total or 0), at, 1)
        if outcome.kind == "done" and not outcome.total:
            at = total  # a block without steps that ended well is one finished step
        state: dict[str, Any] = {"current_step": at, "number_of_steps": total}
        if outcome.kind != "done" and at:
            finished = int(outcome.completed or 0)
            state["step_color"] = color
            state["step_colors"] = ["green"] * finished + [color] * (at - finished)
        return state

    def place(self, handle: Steps, outcome: Outcome) -> str:
        was_running = outcome.step and handle._course.plan.running
        return f"in {outcome.step}" if was_running else super().place(handle, outcome)


class Steps(Handle):
    """Segments: `live_steps`, and the handle of `track_steps`."""

    type: ClassVar[str] = "segmented_progress"
    _own = ("steps",)
    _made_with = MappingProxyType({"steps": "_given"})
    _builder = _StepsBuilder()

    def __init__(self, name: str, *, steps: Sequence[str] | int | None = None, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._given = _check_steps(steps)
        self._reset()

    def _reset(self) -> None:
        self._course = _Course(self._given)

    def step(self, name: str) -> StepBlock:
        """Begin a step: as a call, or as a `with` block that finishes it; the step before it is finished.

        Args:
            name: a listed step to come, or a new one, which is added after the current one.
        """
        text = fit(name)
        plan, is_added = self._course.begin(text)
        if is_added:
            note(self, "steps", "step %r is not among the steps announced; it is added", text)
        return _step_block(self, plan)

    def advance(self, n: float = 1) -> StepBlock:
        """Go to the next step, or `n` steps on; after the last one there is nothing left to run."""
        return _step_block(self, self._course.advance(max(int(finite(n) or 1), 1) - 1))

    @property
    def current_step(self) -> int:
        """The number of the step that runs or ran last, from 1; 0 before the first."""
        return self._course.current_step

    @property
    def number_of_steps(self) -> int:
        """How many steps there are; if that was not given, one more than the running one."""
        return self._course.number_of_steps


def _step_block(handle: Steps, plan: _Plan) -> StepBlock:
    """Show a plan that has just begun, and return the block that finishes its step."""
    _has_moved(handle)
    return StepBlock(lambda: _finish_step(handle, plan)) if plan.running else StepBlock()


def _finish_step(handle: Steps, plan: _Plan) -> None:
    """Finish the step that began with a plan, unless another step has begun since."""
    if plan.follow(_Plan(plan.names, plan.at, False)):
        _has_moved(handle)


def _has_moved(handle: Steps) -> None:
    handle._transitions += 1
    touch(handle, transition=True)


def _check_steps(steps: Any) -> tuple[str, ...] | int | None:
    if steps is None:
        return None
    if isinstance(steps, int) and not isinstance(steps, bool):
        if steps < 1:
            raise InvalidRequest("steps", steps, "at least 1 step")
        return steps
    if isinstance(steps, (str, bytes)) or not isinstance(steps, Sequence) or not steps:
        raise InvalidRequest("steps", steps, "a list of names, or a number of at least 1")
    return tuple(check_visible_text(f"steps[{index}]", each) for index, each in enumerate(steps))
