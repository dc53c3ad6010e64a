"""How the library looks to a type checker: checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import activitysmith_track as at


@at.track_steps
def bare(a: int, b: str = "") -> float:
    return a + len(b)


@at.track_steps("Backup", steps=["a", "b"], icon=at.Icon("bolt"), tags=["x"])
async def called(a: int) -> str:
    at.step("b")
    return str(a)


@at.live_progress("rows", total=3)
def generator() -> Iterator[int]:
    yield 1


@at.notify(on="always", on_failure=at.Push(title="x"))
def told() -> int:
    return 1


bare_keeps_its_type: Callable[[int, str], float] = bare
told_keeps_its_type: Callable[[], int] = told
items_keep_theirs: list[int] = list(at.track([1, 2], "loop", total=2, unit="rows", key="{name}-{host}"))


async def pages() -> AsyncIterator[bytes]:
    yield b""


async def main() -> None:
    text: str = await called(3)
    async for page in at.track(pages(), "pages"):
        page.decode()
    async with at.live_metrics("m", {"CPU": 1}, sample=lambda: {"CPU": 2}, every=5) as metrics:
        metrics.set(CPU=3)
        metrics.set({"Queue depth": 3})
    async with at.AsyncActivitySmith() as service:
        answer = await service.live_activities.stream("key", title=text, type="progress", percentage=4)
        operation: str = answer.operation
        await service.metrics.update("m", len(operation))


def handles() -> None:
    with (
        at.live_progress("p", total=3) as progress,
        at.live_steps("s", steps=3) as steps,
        at.live_timer("t") as timer,
    ):
        progress.advance()
        progress.update(percentage=3, subtitle="x", important=True)
        with steps.step("x"):
            timer.pause()
    with at.live_value("v") as value, at.live_alert("a") as alert, at.live_stats("g") as stats:
        value.set(3)
        alert.set("x")
        stats.set(a=1)
    at.current().advance()
    outcome = progress.outcome
    kind: str = outcome.kind if outcome is not None else ""
    delivered: bool = at.flush(len(kind))
    tracker = at.Tracker(enabled=delivered)
    with tracker.live_progress("p", total=3) as mine:
        mine.advance()
