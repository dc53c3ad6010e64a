"""What is written for a phone: texts that fit, durations, and what arrives late."""

from __future__ import annotations

import time

import pytest
from fuzzing import NOW, owed

from activitysmith_track._text import annotate_delay, format_duration, host, shorten
from activitysmith_track.payloads import check_body


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's name is short."""
    assert "." not in host()
    monkeypatch.setattr("platform.node", lambda: "n" * 100 + ".example")
    assert host() == "n" * 39 + "…"
    monkeypatch.setattr("platform.node", lambda: "build-7.lab.example")
    assert host() == "build-7"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (0, "0.0 s"),
        (0.94, "0.9 s"),
        (0.95, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (3660, "1 h 1 min"),
        (86_340, "23 h 59 min"),
        (3 * 3600 + 300, "3 h 5 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    """Durations are written for people."""
    assert format_duration(seconds) == text


def test_shorten() -> None:
    """A cut can be seen."""
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"
    assert shorten("ab cd", 4) == "ab…"


# -------------------------------------------------------------------------------------------------- what is late

HAPPENED = 1_700_000_000.0
CLOCK = time.strftime("%H:%M", time.localtime(HAPPENED))


def test_a_push_that_is_late_says_so() -> None:
    """A push says on a line of its own when it happened and how long ago, and what was given is not changed."""
    body = {"title": "t", "message": "ValueError: x"}
    told = annotate_delay(body, HAPPENED, HAPPENED + 7200, "push")
    assert told == {"title": "t", "message": f"ValueError: x\n(happened {CLOCK}, 2 h ago)"}
    assert body == {"title": "t", "message": "ValueError: x"}
    told = annotate_delay({"title": "t"}, HAPPENED, HAPPENED + 7200, "push")
    assert told["message"] == f"Happened {CLOCK}, 2 h ago"


@pytest.mark.parametrize("kind", ["end", "keep"])
def test_an_end_that_is_late_says_so(kind: str) -> None:
    """An end, and a last update, say it in the subtitle; nothing else of the card changes."""
    body = {"content_state": {"title": "t", "subtitle": "Done", "percentage": 100}, "action": "x"}
    told = annotate_delay(body, HAPPENED, HAPPENED + 90, kind)
    assert told == {
        "content_state": {"title": "t", "subtitle": f"Done (happened {CLOCK}, 2 min ago)", "percentage": 100},
        "action": "x",
    }
    assert body["content_state"] == {"title": "t", "subtitle": "Done", "percentage": 100}
    assert annotate_delay({"action": "x"}, HAPPENED, HAPPENED + 90, kind) == {"action": "x"}
    assert annotate_delay({}, HAPPENED, HAPPENED + 90, kind) == {}
    told = annotate_delay({"content_state": {"title": "t"}}, HAPPENED, HAPPENED + 90_000, kind)
    assert told == {"content_state": {"title": "t", "subtitle": f"Happened {CLOCK}, 1 d 1 h ago"}}


@pytest.mark.parametrize(("kind", "longest"), [("push", 600), ("end", 150)])
def test_what_is_late_has_room_to_say_so(kind: str, longest: int) -> None:
    """A text that fills its room is shortened for the note, which is never cut."""
    text = "x" * longest
    told = annotate_delay({"message": text, "content_state": {"subtitle": text}}, HAPPENED, HAPPENED + 90, kind)
    said = told["message"] if kind == "push" else told["content_state"]["subtitle"]
    assert len(said) == longest
    assert said.endswith(f"…{chr(10) if kind == 'push' else ' '}(happened {CLOCK}, 2 min ago)")


@pytest.mark.parametrize(
    ("seconds", "is_late"),
    [
        *((-5.0, False), (0.0, False), (60.0, False), (60.5, True), (1e9 - 1, True), (1e9, False), (2e9, False)),
        *((float("nan"), False), (float("inf"), False), (float("-inf"), False), (1e300, False), (-1e300, False)),
    ],
)
@pytest.mark.parametrize("kind", ["push", "end", "keep"])
def test_what_counts_as_late(kind: str, seconds: float, is_late: bool) -> None:
    """Less than a minute is not late, and decades are no delay but a clock that was wrong."""
    body = {"title": "t", "message": "x"} if kind == "push" else {"content_state": {"title": "t", "subtitle": "x"}}
    for happened, now in ((HAPPENED, HAPPENED + seconds), (HAPPENED - seconds, HAPPENED)):
        told = annotate_delay(body, happened, now, kind)
        assert (told != body) == is_late
        assert ("(happened " in str(told)) == is_late


def test_what_is_late_is_sound() -> None:
    """What is added never makes a body that the service would refuse."""
    for entry in owed(20, long=True):
        body = annotate_delay(entry.body, NOW, NOW + 3600, entry.kind)
        assert check_body("send" if entry.kind == "push" else "end_stream", body) == body
