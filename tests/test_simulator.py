"""The simulated service answers as the real one is documented to."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from activitysmith_track import InvalidRequest
from activitysmith_track.payloads import BODIES
from activitysmith_track.simulator import Simulator
from activitysmith_track.simulator.endpoints import ENDPOINTS
from activitysmith_track.simulator.gate import HostNames
from activitysmith_track.simulator.service import Service

STATE = {"title": "T", "type": "progress", "percentage": 1}
AUTH = "Bearer simulator-key"


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(
    service: Service, method: str, path: str, body: Any = None, authorization: str | None = AUTH
) -> tuple[int, Any]:
    """Send one request to the pure service."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return service.handle(method, path, authorization, content)


def put(service: Service, key: str = "k", **state: Any) -> tuple[int, Any]:
    """Start or update a stream."""
    return ask(service, "PUT", f"/live-activity/stream/{key}", {"content_state": {**STATE, **state}})


@pytest.fixture
def clock() -> Clock:
    """A clock that a test moves by hand."""
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Service:
    """The pure service, on that clock."""
    return Service(clock=clock)


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "/live-activity/stream/a%20b", {}, 400, "Invalid stream_key"),
    ("PUT", "/live-activity/stream/", {}, 400, "Invalid stream_key"),
    ("PUT", "/live-activity/stream/k", b"{", 400, "Invalid JSON"),
    ("PUT", "/live-activity/stream/k", b"\xff", 400, "Invalid JSON"),
    ("PUT", "/live-activity/stream/k", [1], 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", None, 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", {"content_state": {"title": "T"}}, 400, "Invalid content_state"),
    ("PUT", "/live-activity/stream/k", {"content_state": {**STATE, "percent": 1}}, 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", {"content_state": STATE, "channels": []}, 400, "Invalid channel targeting"),
    ("PUT", "/live-activity/stream/k", {"content_state": {"title": "T", "type": "metrics"}}, 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", {"content_state": {"title": "T", "type": "stats"}}, 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", {"content_state": {"title": "T", "type": "timer"}}, 400, "Invalid request"),
    (
        "PUT",
        "/live-activity/stream/k",
        {"content_state": {"title": "T", "type": "segmented_progress"}},
        400,
        "Invalid request",
    ),
    ("PUT", "/live-activity/stream/k", b'{"content_state": ' + b"[" * 70 + b"]" * 70 + b"}", 400, "Invalid request"),
    ("PUT", "/live-activity/stream/k", '{"content_state": {}}'.encode("utf-16"), 400, "Invalid JSON"),
    ("PUT", "/live-activity/stream/a%2Fb", {}, 400, "Invalid stream_key"),
    ("POST", "/push-notification", {"title": "x", "target": {"channels": 3}}, 400, "Invalid channel targeting"),
    ("DELETE", "/live-activity/stream/never", None, 404, "Live Activity stream not found"),
    ("POST", "/live-activity/update", {"activity_id": "x", "content_state": STATE}, 403, "Forbidden"),
    ("POST", "/live-activity/end", {"activity_id": "x", "content_state": STATE}, 403, "Forbidden"),
    ("PUT", "/push-notification/never", {"title": "x"}, 404, "Notification not found"),
    ("POST", "/metrics/Bad/value", {"value": 1}, 400, "Invalid metric key"),
    ("POST", "/metrics/m/value", {"value": True}, 400, "value must be a finite number"),
    ("POST", "/metrics/m/value", {"value": "v" * 65}, 400, "Invalid request"),
    ("POST", "/badge", {"badge": -1}, 400, "Invalid badge"),
    ("POST", "/nowhere", {}, 404, "Not found"),
    ("GET", "/badge", None, 405, "Method not allowed"),
    ("POST", "/badge", b"x" * (1024 * 1024 + 1), 413, "Payload too large"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "error"), REFUSED)
def test_refusals(service: Service, method: str, path: str, body: Any, status: int, error: str) -> None:
    """A request that the service turns down gets its status and its words."""
    answered, answer = ask(service, method, path, body)
    assert (answered, answer["error"]) == (status, error)
    assert service.requests[-1].status == status


def test_known_messages(service: Service) -> None:
    """Messages that the service is known to send are sent word for word."""
    assert ask(service, "PUT", "/live-activity/stream/a.b", {})[1]["message"] == (
        "stream_key must contain only letters, numbers, underscores, and hyphens"
    )
    assert ask(service, "DELETE", "/live-activity/stream/prod-web-1")[1]["message"] == (
        "No Live Activity stream found for stream_key: prod-web-1"
    )
    assert ask(service, "POST", "/live-activity/end", {"activity_id": "x", "content_state": STATE})[1]["message"] == (
        "This API key cannot end this Live Activity"
    )
    assert ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, "channels": []})[1]["message"] == (
        "channels must contain at least one channel"
    )


def test_a_metric_error_has_no_message() -> None:
    """Errors about metrics come without a message."""
    service = Service(metrics=["known"])
    assert ask(service, "POST", "/metrics/other/value", {"value": 1}) == (404, {"error": "Metric not found"})
    assert ask(service, "POST", "/metrics/known/value", {"value": True})[1] == {
        "error": "value must be a finite number"
    }
    assert ask(service, "POST", "/metrics/known/value", {"value": "ok"}) == (200, {"success": True})
    assert service.metrics == {"known": "ok"}


@pytest.mark.parametrize("authorization", [None, "", "Bearer wrong", "simulator-key"])
def test_a_key_is_needed(service: Service, authorization: str | None) -> None:
    """Without the right key nothing happens."""
    assert ask(service, "POST", "/badge", {"badge": 1}, authorization)[0] == 401
    assert service.badge is None


def test_stream_operations(service: Service) -> None:
    """A stream is started, updated, left alone, rotated by type or channels, and ended; then it starts afresh."""
    seen = [
        put(service)[1],
        put(service, percentage=2)[1],
        put(service, percentage=2)[1],
        put(service, type="value", value="x")[1],
        ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, "channels": ["a"]})[1],
        ask(service, "DELETE", "/live-activity/stream/k", {"content_state": {**STATE, "percentage": 100}})[1],
        ask(service, "DELETE", "/live-activity/stream/k")[1],
        put(service)[1],
    ]
    operations = ["started", "updated", "noop", "rotated", "rotated", "ended", "ended", "started"]
    assert [each["operation"] for each in seen] == operations
    assert seen[3]["previous_activity_id"] == seen[0]["activity_id"]
    assert (seen[6]["activity_id"], seen[6]["ignored"]) == (None, True)
    assert seen[7]["activity_id"] not in (seen[0]["activity_id"], None)


def test_what_an_update_keeps(service: Service) -> None:
    """Tags, metadata, buttons and a timer's duration stay where they are left out; the rest of the state goes."""
    link = {"title": "x", "type": "open_url", "url": "https://a.example"}
    body = {"content_state": {"title": "T", "type": "timer", "duration_seconds": 9, "subtitle": "s"}, "tags": ["a"]}
    ask(service, "PUT", "/live-activity/stream/k", {**body, "metadata": {"m": 1}, "action": link})
    ask(service, "PUT", "/live-activity/stream/k", {"content_state": {"title": "U"}})
    card = service.cards["k"]
    assert (card.title, card.type, card.duration_seconds, card.subtitle) == ("U", "timer", 9, None)
    assert (card.tags, card.metadata, card.action) == (["a"], {"m": 1}, link)
    ask(service, "PUT", "/live-activity/stream/k", {"content_state": {"title": "U"}, "tags": [], "metadata": {}})
    assert (card.tags, card.metadata) == ([], {})
    with pytest.raises(AttributeError):
        _ = card.nonsense


def test_pausing(service: Service) -> None:
    """A paused stream shows nothing until it is resumed."""
    put(service)
    service.pause("k")
    assert service.cards["k"].ended
    answer = put(service, percentage=5)[1]
    assert (answer["operation"], answer["activity_id"]) == ("paused", None)
    service.resume("k")
    assert put(service)[1]["operation"] == "started"


def test_slots(service: Service) -> None:
    """Four run at once, streams and started ones together; an end makes room."""
    for number in range(3):
        put(service, f"k{number}")
    begun = ask(service, "POST", "/live-activity/start", {"content_state": STATE})[1]
    status, answer = put(service, "k4")
    assert (status, answer["limit"], answer["active"]) == (429, 4, 4)
    assert answer["message"] == "Only 4 concurrent Live Activities are allowed per account"
    ask(service, "POST", "/live-activity/end", {"activity_id": begun["activity_id"], "content_state": STATE})
    assert put(service, "k4")[0] == 200
    ended = ask(service, "POST", "/live-activity/end", {"activity_id": begun["activity_id"], "content_state": STATE})[
        1
    ]
    assert ended["ignored"] is True


def test_account_rate(service: Service, clock: Clock) -> None:
    """Sixty requests a minute, and no more until the first of them is a minute old; metrics have their own rate."""
    for _ in range(60):
        assert ask(service, "POST", "/badge", {"badge": 1})[0] == 200
        clock.now += 0.5
    status, answer = ask(service, "POST", "/badge", {"badge": 1})
    assert (status, answer["error"], answer["code"]) == (429, "Rate limit exceeded", "rate_limited")
    assert ask(service, "POST", "/metrics/m/value", {"value": 1})[0] == 200
    clock.now += 30
    assert ask(service, "POST", "/badge", {"badge": 1})[0] == 200


def test_metric_rate(clock: Clock) -> None:
    """Metrics are limited on their own."""
    service = Service(clock=clock, metric_requests_per_minute=2)
    assert [ask(service, "POST", "/metrics/m/value", {"value": 1})[0] for _ in range(3)] == [200, 200, 429]


def test_budget_warning(service: Service, clock: Clock) -> None:
    """The thirteenth update warns, unless two minutes have passed for each."""
    put(service, percentage=0)
    answers = [put(service, percentage=number)[1] for number in range(2, 15)]
    assert [bool(each.get("warning")) for each in answers] == [False] * 12 + [True]
    assert service.cards["k"].over_budget
    put(service, "slow", percentage=0)
    clock.now += 13 * 120
    for number in range(2, 15):
        answer = put(service, "slow", percentage=number)[1]
    assert "warning" not in answer
    assert service.cards["slow"].updates == 13


def test_lifecycle_budget(service: Service) -> None:
    """The budget holds for activities that were started by their own id as well."""
    begun = ask(service, "POST", "/live-activity/start", {"content_state": STATE})[1]["activity_id"]
    body = {"activity_id": begun, "content_state": STATE}
    answers = [ask(service, "POST", "/live-activity/update", body)[1] for _ in range(13)]
    assert "warning" in answers[-1]
    assert "warning" not in answers[-2]


def test_channels() -> None:
    """A key's scope is a 403, channels that nobody is in a 422."""
    service = Service(channels=["a", "b"], scope=["a", "z"])
    target = {"title": "x", "target": {"channels": ["b"]}}
    assert ask(service, "POST", "/push-notification", target)[0] == 403
    target["target"] = {"channels": ["z"]}
    status, answer = ask(service, "POST", "/push-notification", target)
    assert (status, answer["error"], answer["effective_channel_slugs"]) == (422, "No recipients found", ["z"])
    assert "No devices matched" in answer["message"]
    assert ask(service, "POST", "/push-notification", {"title": "x"})[1]["effective_channel_slugs"] == ["a", "z"]


def test_replacing_a_push(service: Service) -> None:
    """A replacement overwrites what is seen, and keeps tags and metadata that it leaves out."""
    sent = ask(service, "POST", "/push-notification", {"title": "x", "message": "m", "tags": ["t"]})[1]
    ask(service, "PUT", f"/push-notification/{sent['notification_id']}", {"title": "y"})
    (push,) = service.pushes.values()
    assert (push.title, push.message, push.tags, push.replaced) == ("y", None, ["t"], 1)
    with pytest.raises(AttributeError):
        _ = push.nonsense


def test_dismissal(service: Service) -> None:
    """An end says how long the card stays: seconds win, and there are defaults."""
    waits = []
    for number, given in enumerate(
        ({}, {"auto_dismiss_minutes": 2}, {"auto_dismiss_minutes": 2, "auto_dismiss_seconds": 5})
    ):
        put(service, f"k{number}")
        ask(service, "DELETE", f"/live-activity/stream/k{number}", {"content_state": {**STATE, **given}})
        waits.append(service.cards[f"k{number}"].dismiss_after)
    assert waits == [120, 120, 5]


def test_history(service: Service, clock: Clock) -> None:
    """A card remembers each state that it received, and when."""
    put(service, percentage=1)
    clock.now += 5
    put(service, percentage=2)
    assert [(at, state["percentage"]) for at, state, _ in service.cards["k"].history] == [(1000, 1), (1005, 2)]


def test_a_rotation_that_is_refused_changes_nothing(service: Service) -> None:
    """What a new activity needs is looked at before the old one is ended."""
    ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, "channels": ["x"]})
    answer = ask(service, "PUT", "/live-activity/stream/k", {"content_state": {"title": "T"}, "channels": ["y"]})
    assert (answer[0], answer[1]["error"]) == (400, "Invalid content_state")
    assert (
        ask(service, "PUT", "/live-activity/stream/k", {"content_state": {"title": "T", "type": "stats"}})[0] == 400
    )
    assert (service.cards["k"].ended, service.cards["k"].channels, len(service.activities)) == (False, ["x"], 1)


def test_an_open_ended_timer_starts(service: Service) -> None:
    """A timer that does not count down needs no duration."""
    assert put(service, type="timer", counts_down=False)[1]["operation"] == "started"


def test_a_rotation_keeps_what_is_left_out(service: Service) -> None:
    """Tags, metadata and channels go over to the new activity."""
    body = {"content_state": STATE, "channels": ["x"], "tags": ["a"], "metadata": {"m": 1}}
    ask(service, "PUT", "/live-activity/stream/k", body)
    assert put(service, type="value", value=1)[1]["operation"] == "rotated"
    card = service.cards["k"]
    assert (card.tags, card.metadata, card.channels) == (["a"], {"m": 1}, ["x"])


def test_the_order_of_channels_does_not_matter() -> None:
    """A stream rotates when it reaches others, not when the same ones are named in another way."""
    service = Service(scope=["a", "b"])
    put(service)
    for channels in (["b", "a"], ["a", "b", "a"], None):
        target = {} if channels is None else {"channels": channels}
        answer = ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, **target})[1]
        assert (answer["operation"], sorted(set(answer["effective_channel_slugs"]))) == ("noop", ["a", "b"])
    rotated = ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, "channels": ["a"]})[1]
    assert rotated["operation"] == "rotated"
    assert put(service, percentage=3)[1]["effective_channel_slugs"] == ["a"]


def test_an_alert_is_no_noop(service: Service) -> None:
    """An alert rings although the state is the one from before, and counts as an update."""
    put(service)
    body = {"content_state": STATE, "alert": {"title": "Look"}}
    assert ask(service, "PUT", "/live-activity/stream/k", body)[1]["operation"] == "updated"
    assert (service.cards["k"].updates, service.cards["k"].alert) == (1, {"title": "Look"})


def test_tags_alone_cost_no_update(service: Service) -> None:
    """Tags and metadata are kept, but the phone is sent nothing."""
    put(service)
    answer = ask(service, "PUT", "/live-activity/stream/k", {"content_state": STATE, "tags": ["b"]})[1]
    assert (answer["operation"], answer["tags"]) == ("noop", ["b"])
    assert (service.cards["k"].tags, service.cards["k"].updates) == (["b"], 0)


def test_a_push_sets_the_badge(service: Service) -> None:
    """A push and a replacement set the app icon's badge, where they carry one."""
    seen = []
    sent = ask(service, "POST", "/push-notification", {"title": "x", "badge": 4})[1]["notification_id"]
    seen.append(service.badge)
    for body in ({"title": "y"}, {"title": "z", "badge": 0}):
        ask(service, "PUT", f"/push-notification/{sent}", body)
        seen.append(service.badge)
    assert seen == [4, 4, 0]


def test_nobody_has_a_badge() -> None:
    """A badge that reaches nobody is refused in the words of a push, not of a Live Activity."""
    service = Service(channels=["a"])
    status, answer = ask(service, "POST", "/badge", {"badge": 1, "target": {"channels": ["b"]}})
    assert (status, answer["message"]) == (422, "No devices matched the effective channel target")


def test_pushes_are_snapshots(sim: Simulator) -> None:
    """A replacement does not change what was read before it."""
    own = f"Bearer {sim.api_key}"
    sent = ask(sim.service, "POST", "/push-notification", {"title": "x"}, own)[1]["notification_id"]
    (before,) = sim.pushes
    ask(sim.service, "PUT", f"/push-notification/{sent}", {"title": "y"}, own)
    assert (before.title, before.replaced, sim.pushes[0].title) == ("x", 0, "y")


def test_life_ends_without_a_request() -> None:
    """Whoever looks after the eight hours sees that iOS ended the activity, and a timer that stands still."""
    now = [0.0]
    sim = Simulator()
    sim.service.clock = lambda: now[0]
    put(sim.service, type="timer", counts_down=False)
    now[0] = 8 * 3600
    card = sim.cards["k"]
    assert (card.ended, card.ended_by, card.stale) == (True, "system", False)
    assert [each.ended for each in sim.activities.values()] == [True]


@pytest.mark.parametrize("name", ["scope", "channels", "metrics"])
def test_lists_of_names(name: str) -> None:
    """A comma-separated text is a list of names, not of letters; anything else is refused."""
    service = Service(**{name: "ops, sales"})
    assert {"ops", "sales"} in (service.limits.scope, service.limits.channels, service.limits.metrics)
    for wrong in ([1], [""], 7):
        with pytest.raises(InvalidRequest, match=name):
            Service(**{name: wrong})


def test_names_of_hosts() -> None:
    """Names of hosts are compared without regard to case, and may be comma-separated."""
    names = HostNames("127.0.0.1", "Desk.Local, other.local")
    hosts = ("desk.local:80", "DESK.LOCAL", "other.local.", "localhost.", "d", "desk.local:x", "a@desk.local", "")
    assert [host in names for host in hosts] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("box.local", "box.local"),
    ],
)
def test_urls(host: str, shown: str) -> None:
    """The address is the given one, or loopback where it listens everywhere; it may be called by it."""
    sim = Simulator(host=host, port=81)
    assert (sim.url, sim.base_url) == (f"http://{shown}:81/", f"http://{shown}:81/api")
    assert f"{shown}:81" in HostNames(host, ())


def test_pauses_are_checked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a stream can be paused, and not any number of them."""
    monkeypatch.setattr("activitysmith_track.simulator.live_activities.MAX_PAUSED", 2)
    for _ in range(2):
        service.pause("a")
        service.pause("b")
    for wrong in ("a b", "c", ""):
        with pytest.raises(InvalidRequest, match="stream_key"):
            service.pause(wrong)
    with pytest.raises(InvalidRequest, match="stream_key"):
        service.resume("a b")
    assert service.paused == ["a", "b"]


def test_what_is_forgotten(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and ended activities are remembered up to a number, the oldest go first."""
    monkeypatch.setattr("activitysmith_track.simulator.memory.MAX_REQUESTS", 3)
    monkeypatch.setattr("activitysmith_track.simulator.memory.MAX_ACTIVITIES", 1)
    for _ in range(3):
        begun = ask(service, "POST", "/live-activity/start", {"content_state": STATE})[1]["activity_id"]
        body = {"activity_id": begun, "content_state": STATE}
        ask(service, "POST", "/live-activity/end", body)
        assert ask(service, "POST", "/live-activity/update", body)[1]["devices_notified"] == 0
    assert ([each.number for each in service.requests], service.forgotten) == ([7, 8, 9], 6)
    assert list(service.activities) == [begun]


def test_making_room() -> None:
    """With `end_oldest` a start ends the oldest activity; another word is refused."""
    service = Service(slots=1, when_full="end_oldest")
    first = put(service, "a")[1]["activity_id"]
    assert put(service, "b")[1]["ended_activity_id"] == first
    assert put(service, "c", percentage=None, type="stats")[0] == 400
    assert [key for key, card in service.cards.items() if not card.ended] == ["b"]
    with pytest.raises(InvalidRequest, match="when_full"):
        Service(when_full="maybe")


def test_over_http(sim: Simulator) -> None:
    """The same over real HTTP: answers are JSON, and what came can be read from Python."""
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers) as client:
        assert client.put("/live-activity/stream/k", json={"content_state": STATE}).json()["operation"] == "started"
        other = client.get("/live-activity/stream/k")
        assert (other.status_code, other.headers["allow"]) == (405, "PUT, DELETE")
        assert client.post("/badge", content=b"x" * (1024 * 1024 + 1)).status_code == 413
        refused = client.put("/live-activity/stream/a%2Fb", json={"content_state": STATE})
        assert (refused.status_code, refused.json()["error"]) == (400, "Invalid stream_key")
        assert client.get(sim.base_url.removesuffix("/api") + "/elsewhere").status_code == 404
    assert [(each.method, each.path, each.status) for each in sim.requests][:1] == [
        ("PUT", "/live-activity/stream/k", 200)
    ]
    assert sim.cards["k"].percentage == 1
    assert set(sim.activities) == {sim.cards["k"].activity_id}


def test_wait_for(sim: Simulator) -> None:
    """A test can wait for something to arrive, and is told when it does not."""
    assert not sim.wait_for(lambda phone: phone.pushes, timeout=0.01)
    asking = threading.Timer(
        0.05,
        httpx.post,
        [sim.base_url + "/push-notification"],
        {
            "json": {"title": "x"},
            "headers": {"Authorization": f"Bearer {sim.api_key}"},
        },
    )
    asking.start()
    assert sim.wait_for(lambda phone: phone.pushes)
    asking.join()


def test_clear_pause_and_stop() -> None:
    """It can be cleared and paused; stopped, it refuses connections and keeps what it received."""
    sim = Simulator()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = sim.port
    sim.stop()
    headers = {"Authorization": AUTH}
    with sim:
        url = sim.base_url
        httpx.put(f"{url}/live-activity/stream/k", json={"content_state": STATE}, headers=headers)
        sim.clear()
        assert (sim.requests, sim.cards, sim.badge, sim.metrics) == ([], {}, None, {})
        sim.pause("k")
        again = httpx.put(f"{url}/live-activity/stream/k", json={"content_state": STATE}, headers=headers).json()
        assert again["operation"] == "paused"
        sim.resume("k")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert len(sim.requests) == 1


def test_two_at_once() -> None:
    """Simulators do not share anything."""
    with Simulator(api_key="one") as first, Simulator(api_key="two") as second:
        assert first.base_url != second.base_url
        headers = {"Authorization": "Bearer one"}
        assert httpx.post(first.base_url + "/badge", json={"badge": 1}, headers=headers).status_code == 200
        assert httpx.post(second.base_url + "/badge", json={"badge": 1}, headers=headers).status_code == 401
        assert (first.badge, second.badge) == (1, None)


def test_every_operation_has_a_route() -> None:
    """Each body that is checked has an endpoint that checks it."""
    assert {endpoint.operation for endpoint in ENDPOINTS} == set(BODIES)
