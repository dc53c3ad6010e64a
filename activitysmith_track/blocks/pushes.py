"""Whether a push is sent when a block ends, and what it says.

What the watchdog pushes when the process is killed is made ahead of time, in `StateBuilder.crash_state`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _exceptions, _redaction
from .._lazy import Lazy
from .._text import LONGEST_MESSAGE, LONGEST_PUSH
from .option_table import check_told
from .outcome import message
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from .. import payloads
    from .._tracker import CoreTracker
    from ..delivery.account import Account
    from .outcome import Outcome

    class Telling(Protocol):
        """What a push needs to know of its block."""

        name: str
        result: object
        _options: Mapping[str, Any]
        _account: Account | None
        _opened: int
        _pushed_failure: bool

        @property
        def title(self) -> str:
            """The title as the card shows it."""

        @property
        def _tracker(self) -> CoreTracker: ...
else:
    payloads = Lazy("payloads")


def scrubbed(block: Telling, text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Take the secrets out of a text: the account's key, what looks like one, and what the user's own hook knows."""
    secret = block._account.secret if block._account is not None else None
    return fit(_redaction.scrub(text, (secret,), block._tracker.settings.redact), longest)


def tell(block: Telling, outcome: Outcome, error: BaseException | None) -> None:
    """Send the push that belongs to an outcome, if any."""
    if outcome.kind == "stopped":
        return
    failed = outcome.kind == "failed"
    wanted = block._options.get("on_failure", True) if failed else block._options.get("on_success", False)
    body = push_body(block, outcome, _asked(block, wanted, outcome, error if failed else block.result))
    if body is None or block._account is None:
        return
    dispatcher = block._tracker.dispatcher
    marks = _marks(error) if failed and error is not None else None
    if marks is not None:
        dispatcher.take_over(marks, block._opened)
    block._pushed_failure = failed
    dispatcher.push(block._account, body, at_least_once=failed, failure=marks)


def push_stall(block: Telling, words: str) -> None:
    """Push that a job makes no progress."""
    if block._account is None or block._options.get("on_failure", True) is False:
        return
    body = {"title": fit(f"{block.title} stands still"), "message": words, **shared(block)}
    block._tracker.dispatcher.push(block._account, body, at_least_once=False)


def _asked(block: Telling, wanted: Any, outcome: Outcome, subject: object) -> Any:
    """Call the user's callable, if it is one, for what to push; if it raises, a failure is pushed all the same."""
    if not callable(wanted):
        return wanted
    failed = outcome.kind == "failed"
    which = "failure" if failed else "success"
    try:
        answer = wanted(outcome, subject)
        return None if answer is None else check_told(f"on_{which}", answer)
    except Exception as problem:
        why = scrubbed(block, _exceptions.describe(problem))
        block._tracker.dispatcher.runtime.warn_once(
            ("callable", block.name), "on_%s of %r failed: %s", which, block.name, why
        )
        return failed


def push_body(block: Telling, outcome: Outcome, wanted: Any) -> dict[str, Any] | None:
    """Build the push of an outcome.

    Args:
        block: what has ended.
        outcome: how.
        wanted: True, False, `None`, its message, or a `Push`.

    Returns:
        The body, or `None` where nothing is to be pushed.
    """
    if wanted is None or wanted is False:
        return None
    body: dict[str, Any] = {
        "title": fit(f"{block.title} {'failed' if outcome.kind == 'failed' else 'finished'}"),
        "message": message(outcome),
        "interruption_level": "active",
        **shared(block),
    }
    if isinstance(wanted, payloads.Push):
        body.update(payloads.with_target(wanted.given()))
    elif isinstance(wanted, str):
        body["message"] = wanted
    for name in ("title", "message", "subtitle"):
        text = body.get(name)
        if wanted is not True and isinstance(text, str):  # a callable may have composed it of what the exception says
            body[name] = scrubbed(block, text, LONGEST_PUSH)
        elif name in body:
            body[name] = fit(text, LONGEST_PUSH)
    return body


def shared(block: Telling) -> dict[str, Any]:
    """Return the fields that cards and pushes share: channels, tags and metadata."""
    settings, options = block._tracker.settings, block._options
    both: dict[str, Any] = {}
    channels = options.get("channels") or payloads.split_channels(settings.channels)
    if channels:
        both["target"] = {"channels": channels}
    for name in ("tags", "metadata"):
        value = options.get(name, getattr(settings, name))
        if value is not None:
            both[name] = value
    return both


def _marks(error: BaseException) -> object:
    """Return what identifies an exception without a reference to it, which would keep the failed frames alive."""
    last = trace = error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return (id(error), type(error), last and (id(last.tb_frame.f_code), last.tb_lasti))
