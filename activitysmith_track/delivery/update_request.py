"""The request that shows a state: what it was sent for, and the work of carrying it out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ..client.requests import end_stream_request, stream_request
from ..errors import NotFound
from .older_ends import in_place_of_older

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..client.answers import StreamAnswer
    from .persistence import Persistence
    from .state import ActivityState
    from .succession import Neighbour


class Change:
    """The replacement of a card by a fresh one: whether the old one has been ended, as the worker notes."""

    __slots__ = ("is_begun",)

    def __init__(self) -> None:
        self.is_begun = False


class UpdateRequest(NamedTuple):
    """A request in flight.

    Attributes:
        at: when it was sent, on the runtime's clock.
        state: what it shows.
        body: the body that was sent for it.
        begins: whether the card appears by it.
        rotates: whether a fresh card replaces the one on the screen.
        confirms: whether it confirms the card, which others may have changed.
        change: how far the replacement by a fresh card is.
    """

    at: float
    state: ActivityState
    body: Mapping[str, Any]
    begins: bool
    rotates: bool
    confirms: bool
    change: Change


def put_state(run: Neighbour, update: UpdateRequest, persistence: Persistence) -> tuple[StreamAnswer, bool]:
    """Show a state, on a fresh card if the one on the screen is to be replaced: the work of a job.

    Args:
        run: whose card it is.
        update: what to show.
        persistence: where older runs' ends are kept.

    Returns:
        The answer, and whether an older run's end may still reach the card.
    """
    if not update.confirms:
        return _perform(run, update), False
    with in_place_of_older(persistence, run) as older:
        answer = _perform(run, update)
    return answer, older.may_arrive


def _perform(run: Neighbour, update: UpdateRequest) -> StreamAnswer:
    account, key = run.account, run.stream_key
    if update.rotates:
        content = {**update.body["content_state"], "auto_dismiss_seconds": 0}
        content.pop("duration_seconds", None)
        with contextlib.suppress(NotFound):
            account.perform([end_stream_request(key, None, {"content_state": content})])
        update.change.is_begun = True
    answer: StreamAnswer = account.perform([stream_request(key, None, update.body)])
    return answer
