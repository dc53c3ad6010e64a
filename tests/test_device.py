"""What the phone shows of what it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from activitysmith_track import InvalidRequest
from activitysmith_track.simulator import Card, Device, ManualClock
from activitysmith_track.simulator.device import Window, is_loud, on_screen
from activitysmith_track.simulator.service import Service

STATE = {"title": "T", "type": "progress", "percentage": 0}


def started(device: Device | None = None, at: float = 0.0, **state: Any) -> Card:
    """Start a card."""
    card = Card("act", "k", at, device or Device())
    card.start({"content_state": {**STATE, **state}}, at)
    return card


def shows(card: Card, percentage: int, at: float) -> bool:
    """Send an update and tell whether the screen shows it."""
    return card.update({"content_state": {**STATE, "percentage": percentage}}, at)


def test_within_the_budget_everything_shows() -> None:
    """Twelve updates at any pace, then as many as one every two minutes on average."""
    card = started()
    assert all(shows(card, number, at=number) for number in range(1, 13))
    assert shows(card, 13, at=13 * 120)
    assert (card.percentage, card.dropped, card.over_budget, card.stale) == (13, 0, False, False)


def test_past_the_budget_the_screen_stands_still_for_an_hour() -> None:
    """The thirteenth update in a minute throttles; what comes in that hour is dropped; then there is a new budget."""
    card = started()
    for number in range(1, 13):
        shows(card, number, at=number)
    assert not shows(card, 13, at=20)
    assert (card.percentage, card.sent.state["percentage"]) == (12, 13)
    assert (card.stale, card.over_budget, card.throttled_until) == (True, True, 20 + 3600)
    assert not shows(card, 14, at=20 + 3599)
    assert shows(card, 15, at=20 + 3600)
    assert (card.percentage, card.dropped, card.stale) == (15, 2, False)
    assert all(shows(card, 15 + number, at=3620 + number) for number in range(1, 12))
    assert not shows(card, 40, at=3640)


def test_the_parameters_count() -> None:
    """Another phone may be stricter."""
    card = started(Device(free_updates=1, seconds_per_update=10, refill_seconds=5))
    assert [shows(card, number, at=at) for number, at in ((1, 1), (2, 2), (3, 6), (4, 7))] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"free_updates": -1},
        {"free_updates": 1.5},
        {"seconds_per_update": -1.0},
        {"refill_seconds": float("nan")},
        {"cards": 0},
        {"life_seconds": float("inf")},
        {"stay_seconds": "4h"},
        {"focus": 1},
    ],
)
def test_parameters_that_cannot_be(fields: dict[str, Any]) -> None:
    """A phone that makes no sense is refused where it is written."""
    with pytest.raises(InvalidRequest, match=next(iter(fields))):
        Device(**fields)


def test_no_budget() -> None:
    """With no distance asked for, everything shows."""
    card = started(Device(free_updates=0, seconds_per_update=0))
    assert all(shows(card, number, at=0) for number in range(1, 30))


def test_a_dropped_update_does_not_ring() -> None:
    """The alert of an update that the phone does not show is not shown either."""
    card = started(Device(free_updates=1, seconds_per_update=1e9))
    for number in (1, 2):
        card.update({"content_state": {**STATE, "percentage": number}, "alert": {"title": str(number)}}, number)
    assert (card.alert, card.alert_at) == ({"title": "1"}, 1)


def test_an_expired_timer_is_not_stale() -> None:
    """When iOS ends it, sent and shown stop together; what was dropped before stays unseen."""
    card = started(type="timer", counts_down=False)
    card.expire(9 * 3600)
    assert not card.stale
    other = started(Device(free_updates=0, seconds_per_update=1e9))
    shows(other, 5, at=8 * 3600 - 1)
    other.expire(9 * 3600)
    assert (other.stale, other.percentage, other.throttled_until) == (True, 0, None)


def test_an_end_always_shows() -> None:
    """Throttled or not, the last state is on the screen."""
    card = started(Device(free_updates=0, seconds_per_update=1e9))
    shows(card, 50, at=1)
    card.end({"content_state": {**STATE, "percentage": 100}}, 2, by="request", dismiss_after=9)
    assert (card.percentage, card.stale, card.ended_by, card.leaves_at) == (100, False, "request", 11)
    assert [moment.shown for moment in card.history] == [True, False, True]


def test_buttons_belong_to_what_is_shown() -> None:
    """A throttled card keeps its old button, too."""
    card = started(Device(free_updates=0, seconds_per_update=1e9))
    link = {"title": "x", "type": "open_url", "url": "https://a.example"}
    card.update({"content_state": STATE, "action": link}, 1)
    assert (card.action, card.sent.action) == (None, link)


def test_life() -> None:
    """After eight hours iOS ends it, and it stays for four more."""
    card = started()
    assert not card.expire(8 * 3600 - 1)
    assert card.expire(9 * 3600)
    assert (card.ended, card.ended_by, card.ended_at, card.leaves_at) == (True, "system", 8 * 3600, 12 * 3600)
    assert not card.expire(10 * 3600)


def test_an_ended_card_stays_four_hours_at_most() -> None:
    """A longer dismissal is cut."""
    card = started()
    card.end({}, 0, by="request", dismiss_after=86_400)
    assert card.leaves_at == 4 * 3600


def test_room_for_five() -> None:
    """Running cards come first, then the ended ones, the newest first; dismissed and swiped ones have left."""
    cards = []
    for number in range(7):
        card = Card(f"a{number}", None, float(number))
        card.start({"content_state": STATE}, float(number))
        cards.append(card)
    for number, at in ((0, 50.0), (1, 60.0), (2, 40.0)):
        cards[number].end({}, at, by="request", dismiss_after=100)
    assert [card.activity_id for card in on_screen(cards, 70, Device())] == ["a3", "a4", "a5", "a6", "a1"]
    cards[4].swiped = True
    assert [card.activity_id for card in on_screen(cards, 155, Device())] == ["a3", "a5", "a6", "a1"]
    assert len(on_screen(cards, 70, Device(cards=2))) == 2


def test_a_countdown() -> None:
    """It runs on the phone, pauses, resumes, restarts with a new duration, and stops at 0."""
    window = Window(since=0).take({"duration_seconds": 60}, 0, ends=False)
    assert (window.reading(10), window.counts_down) == (50, True)
    paused = window.take({"is_running": False}, 20, ends=False)
    assert paused.reading(500) == 40
    resumed = paused.take({"is_running": True}, 500, ends=False)
    assert resumed.reading(510) == 30
    assert resumed.take({"subtitle": "x"}, 510, ends=False).reading(520) == 20
    assert resumed.reading(10_000) == 0
    assert resumed.take({"duration_seconds": 5}, 600, ends=False).reading(601) == 4


def test_an_open_ended_timer() -> None:
    """Without a duration it counts up."""
    window = Window(since=0).take({"counts_down": False}, 0, ends=False)
    assert window.reading(75) == 75
    assert window.take({}, 80, ends=True).reading(1_000) == 80


def test_an_ended_timer_stands_still() -> None:
    """An end without a duration freezes it; iOS ending it does too."""
    card = started(type="timer", duration_seconds=100)
    card.end({}, 30, by="request", dismiss_after=10)
    assert card.shown.window is not None
    assert card.shown.window.reading(35) == 70
    other = started(type="timer", counts_down=False)
    other.expire(8 * 3600)
    assert other.shown.window is not None
    assert other.shown.window.reading(10 * 3600) == 8 * 3600


@pytest.mark.parametrize(
    ("level", "focus", "loud"),
    [
        (None, False, True),
        ("active", False, True),
        ("passive", False, False),
        ("time-sensitive", False, True),
        ("active", True, False),
        ("time-sensitive", True, True),
    ],
)
def test_interruption_levels(level: str | None, focus: bool, loud: bool) -> None:
    """Passive pushes never ring; in a Focus only time-sensitive ones do."""
    body = {"title": "x"} if level is None else {"title": "x", "interruption_level": level}
    assert is_loud(body, Device(focus=focus)) is loud


def test_history_is_capped() -> None:
    """A card forgets its oldest states, by number and by size."""
    card = started()
    for number in range(1_500):
        shows(card, number % 100, at=number)
    assert len(card.history) == 1_000
    for number in range(50):
        card.update({"content_state": {**STATE, "subtitle": "x" * 100_000}}, number)
    assert len(card.history) <= 11
    assert card.copied().history == card.history


def test_clock_drives_the_service() -> None:
    """Advancing the clock ends activities, and a stream then starts afresh."""
    clock = ManualClock()
    service = Service(clock=clock)
    service.handle(
        "PUT",
        "/live-activity/stream/k",
        "Bearer simulator-key",
        b'{"content_state": {"title": "T", "type": "value", "value": 1}}',
    )
    clock.advance(8 * 3600)
    service.look()
    assert service.cards["k"].ended_by == "system"
    answer = service.handle(
        "PUT",
        "/live-activity/stream/k",
        "Bearer simulator-key",
        b'{"content_state": {"title": "T", "type": "value", "value": 2}}',
    )[1]
    assert answer["operation"] == "started"
