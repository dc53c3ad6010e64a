"""The simulator's own pages and commands, and what it does not let in."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from patience import PATIENCE, until

from activitysmith_track.simulator import Simulator
from activitysmith_track.simulator.device import weight
from activitysmith_track.simulator.faults import FAULT_KINDS
from activitysmith_track.simulator.memory import Tap
from activitysmith_track.simulator.views import Drawing, Views

pytestmark = pytest.mark.once

STATE = {"title": "T", "type": "progress", "percentage": 1}


@pytest.fixture
def web(sim: Simulator) -> Iterator[httpx.Client]:
    """A client of the page and the commands."""
    with httpx.Client(base_url=sim.url, timeout=PATIENCE) as made:
        yield made


def put(sim: Simulator, key: str = "k", body: dict[str, Any] | None = None, **state: Any) -> httpx.Response:
    """Start or update a stream."""
    return httpx.put(
        f"{sim.base_url}/live-activity/stream/{key}",
        json={"content_state": {**STATE, **state}, **(body or {})},
        headers={"Authorization": f"Bearer {sim.api_key}"},
    )


def push(sim: Simulator, **body: Any) -> str:
    """Send a push."""
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    answer = httpx.post(f"{sim.base_url}/push-notification", json={"title": "P", **body}, headers=headers)
    return str(answer.json()["notification_id"])


def test_index(web: httpx.Client) -> None:
    """The commands list themselves."""
    commands = web.get("/simulator/").json()
    assert "POST /simulator/clock" in commands
    for command in commands:
        method, path = command.split()
        path = path.replace("{number:int}", "1").replace("{key}", "k")
        assert web.request(method, path, json={}).status_code in (200, 400, 404)


def test_page(web: httpx.Client) -> None:
    """The page and its files are there, and nothing but this server's own scripts may run in it."""
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/page/cards.js"):
        answer = web.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert web.get("/page/../server.py").status_code == 404
    assert web.get("/page/index.html").status_code == 404


def test_the_page_asks_nobody_else(web: httpx.Client) -> None:
    """No file of the page names another server."""
    for path in ("/", "/page/app.js", "/page/style.css", "/page/cards.js", "/page/dom.js", "/page/symbols.js"):
        text = web.get(path).text.replace("http://www.w3.org/2000/svg", "").replace("^https?:", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_state(sim: Simulator, web: httpx.Client) -> None:
    """What was sent and what is shown are both there."""
    put(sim)
    for number in range(2, 16):
        put(sim, percentage=number)
    state = web.get("/simulator/state").json()
    (card,) = state["cards"]
    assert (card["shown"]["percentage"], card["sent"]["percentage"], card["stale"]) == (13, 15, True)
    assert (card["updates"], card["dropped"]) == (14, 2)
    assert [point[1] for point in card["chart"]["shown"]][-1] == 13
    assert [request.verdict for request in sim.requests][-3:] == ["sent", "over budget", "over budget"]


def test_a_fraction_is_a_percentage_on_the_chart(sim: Simulator, web: httpx.Client) -> None:
    """A progress that is told as a value of a limit is drawn as its percentage, one that tells nothing as 0."""
    for number, state in enumerate(({"value": 3, "upper_limit": 4}, {"value": 9, "upper_limit": 4}, {})):
        put(sim, f"k{number}", {"content_state": {"title": "T", "type": "progress", **state}})
    charts = [card["chart"]["sent"] for card in web.get("/simulator/state").json()["cards"]]
    assert [percentage for ((_, percentage),) in charts] == [75, 100, 0]


def test_requests(sim: Simulator, web: httpx.Client) -> None:
    """What came can be listed, filtered, looked at one by one, and forgotten."""
    put(sim)
    put(sim)
    put(sim, "l", percentage=101)
    listed = web.get("/simulator/requests").json()
    assert [(each["number"], each["verdict"]) for each in listed["requests"]] == [
        (1, "sent"),
        (2, "nothing new"),
        (3, "refused"),
    ]
    assert "percentage" in listed["requests"][2]["why"]
    assert web.get("/simulator/requests?verdict=refused").json()["found"] == 1
    assert web.get("/simulator/requests?status=200&method=PUT&after=1").json()["found"] == 1
    assert web.get("/simulator/requests?path=/live-activity/stream/l").json()["found"] == 1
    assert [each["number"] for each in web.get("/simulator/requests?limit=1").json()["requests"]] == [3]
    assert web.get("/simulator/requests?limit=0&whole=1").json()["requests"] == []
    assert web.get("/simulator/requests?whole=1").json()["requests"][0]["body"]["content_state"] == STATE
    assert web.get("/simulator/requests/2").json()["answer"]["operation"] == "noop"
    assert web.get("/simulator/requests/9").status_code == 404
    assert web.post("/simulator/clear").json() == {}
    assert web.get("/simulator/state").json()["forgotten"] == 3
    assert sim.requests == []


def test_clock(sim: Simulator, web: httpx.Client) -> None:
    """The clock is read, moved and set to another speed."""
    before = web.get("/simulator/clock").json()
    after = web.post("/simulator/clock", json={"advance": 3600, "speed": 0}).json()
    assert 3600 <= after["now"] - before["now"] < 3700
    assert after["speed"] == 0
    assert web.get("/simulator/clock").json() == after
    assert after["date"] > before["date"]
    for wrong in ({"speed": 5, "advance": -1}, {"speed": -5, "advance": 60}, {"speed": None, "advance": 60}):
        assert web.post("/simulator/clock", json=wrong).status_code == 400
        assert web.get("/simulator/clock").json() == after


def test_faults_over_http(sim: Simulator, web: httpx.Client) -> None:
    """Faults are set, listed and taken away as JSON."""
    made = web.post("/simulator/faults", json={"kind": "status", "status": 503, "times": 1}).json()
    assert put(sim).status_code == 503
    (listed,) = web.get("/simulator/faults").json()["faults"]
    assert (listed["id"], listed["hits"]) == (made["id"], 1)
    assert web.delete(f"/simulator/faults/{made['id']}").json() == {}
    assert web.delete(f"/simulator/faults/{made['id']}").status_code == 404
    web.post("/simulator/faults", json={"kind": "hang"})
    assert web.delete("/simulator/faults").json() == {}
    assert put(sim).status_code == 200


def test_pausing_over_http(sim: Simulator, web: httpx.Client) -> None:
    """A stream is paused and let run again."""
    put(sim)
    assert web.post("/simulator/streams/k/pause").json() == {"paused": ["k"]}
    assert put(sim).json()["operation"] == "paused"
    assert web.post("/simulator/streams/k/resume").json() == {"paused": []}
    assert put(sim).json()["operation"] == "started"


def test_dismissing(sim: Simulator, web: httpx.Client) -> None:
    """A card or a push that is swiped away is no longer on the screen; the card runs on."""
    put(sim)
    card = sim.cards["k"].activity_id
    assert web.post("/simulator/dismiss", json={"id": card}).json() == {}
    assert (sim.on_screen, sim.cards["k"].ended) == ([], False)
    identifier = push(sim)
    assert web.post("/simulator/dismiss", json={"id": identifier}).json() == {}
    assert web.post("/simulator/dismiss", json={"id": identifier}).status_code == 404
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    again = httpx.put(f"{sim.base_url}/push-notification/{identifier}", json={"title": "Q"}, headers=headers)
    assert again.status_code == 200
    assert [(each.title, each.swiped) for each in sim.pushes] == [("Q", True)]
    assert drawn(sim)["pushes"] == []
    assert [each["on_screen"] for each in web.get("/simulator/state").json()["pushes"]] == [False]


def drawn(sim: Simulator) -> dict[str, Any]:
    """Return what a page is given to draw."""
    drawing = Views(sim.service, sim.clock, sim.faults, delivers_webhooks=False).drawing()
    assert drawing is not None
    return drawing.content


def test_what_is_not_on_the_screen_cannot_be_pressed(sim: Simulator, web: httpx.Client) -> None:
    """The buttons of a card or a push that was swiped away, has left or has no room are gone with it."""
    for key in ("swiped", "left"):
        put(sim, key, body={"action": LINK})
    cards = {key: card.activity_id for key, card in sim.cards.items()}
    identifier = push(sim, actions=[LINK])
    for each in (cards["swiped"], identifier):
        web.post("/simulator/dismiss", json={"id": each})
    httpx.request(
        "DELETE", f"{sim.base_url}/live-activity/stream/left", headers={"Authorization": f"Bearer {sim.api_key}"}
    )
    sim.advance(600)
    for which, button in ((cards["swiped"], "action"), (cards["left"], "action"), (identifier, "0")):
        assert web.post("/simulator/taps", json={"id": which, "button": button}).status_code == 404


def test_the_page_is_given_what_it_draws(sim: Simulator) -> None:
    """Neither a payload nor metadata goes to every page, and no text is longer than a screen."""
    put(sim, body={"metadata": {"m": "secret"}, "action": HOOK}, subtitle="s" * 100_000)
    push(sim, payload={"p": "secret"}, message="m" * 100_000, actions=[{**HOOK, "body": {"b": "secret"}}])
    given = json.dumps(drawn(sim))
    assert "secret" not in given
    assert len(given) < 20_000
    assert "secret" in httpx.get(f"{sim.url}simulator/state").text


def test_truth(sim: Simulator, web: httpx.Client) -> None:
    """A job may tell how far it really is, for the chart."""
    put(sim)
    assert web.post("/simulator/truth", json={"stream_key": "k", "percentage": 7}).json() == {}
    assert sim.tell_truth("k", 8)
    (card,) = web.get("/simulator/state").json()["cards"]
    assert [point[1] for point in card["chart"]["truth"]] == [7, 8]
    for second in range(1_000):
        sim.tell_truth("k", second / 10)
    (card,) = web.get("/simulator/state").json()["cards"]
    told = [point[1] for point in card["chart"]["truth"]]
    assert (told[0], told[-1], told == sorted(told), len(told) <= 121) == (0, 99.9, True, True)
    assert web.post("/simulator/truth", json={"stream_key": "x", "percentage": 7}).status_code == 404
    assert web.post("/simulator/truth", json={"stream_key": "k", "percentage": 101}).status_code == 400


HOOK = {"title": "Go", "type": "webhook", "url": "https://127.0.0.1:1/hook", "body": {"a": 1}}
LINK = {"title": "See", "type": "open_url", "url": "https://a.example/"}


def test_taps_are_recorded(sim: Simulator, web: httpx.Client) -> None:
    """Pressing a button is recorded; a webhook is not called unless that was asked for."""
    put(sim, body={"action": HOOK, "secondary_action": LINK})
    card = sim.cards["k"].activity_id
    identifier = push(sim, actions=[LINK, HOOK], redirection="app://x")
    pressed = [
        web.post("/simulator/taps", json={"id": which, "button": button}).json()["outcome"]
        for which, button in (
            (card, "action"),
            (card, "secondary_action"),
            (identifier, "0"),
            (identifier, "1"),
            (identifier, "redirection"),
        )
    ]
    assert pressed == ["recorded", "opened", "opened", "recorded", "opened"]
    assert [(tap.type, tap.method) for tap in sim.taps][:2] == [("webhook", "POST"), ("open_url", None)]
    for which, button in ((card, "0"), (identifier, "2"), (identifier, "action"), ("x", "action")):
        assert web.post("/simulator/taps", json={"id": which, "button": button}).status_code == 404


def test_webhooks_are_called_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `deliver_webhooks` the button's address is called with its method and body."""
    called: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        called.append(request)
        if len(called) > 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(204)

    real = httpx.AsyncClient
    monkeypatch.setattr(
        httpx, "AsyncClient", lambda **options: real(transport=httpx.MockTransport(answer), **options)
    )
    with Simulator(deliver_webhooks=True) as sim:
        put(sim, body={"action": HOOK})
        press = {"id": sim.cards["k"].activity_id, "button": "action"}
        outcomes = [httpx.post(f"{sim.url}simulator/taps", json=press).json()["outcome"] for _ in range(2)]
        assert outcomes == ["delivered: 204", "not delivered: ConnectError"]
        assert sim.taps[0].outcome == "delivered: 204"
    assert (called[0].method, str(called[0].url), json.loads(called[0].content)) == (
        "POST",
        "https://127.0.0.1:1/hook",
        {"a": 1},
    )


# --------------------------------------------------------------------------------------------- events


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any, str]]:
    """Read server-sent events: name, data and id."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "event" in event:
            yield event["event"], json.loads(event["data"]), event.get("id", "")
            event = {}


def test_what_changes_while_it_is_drawn(sim: Simulator, web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber hears of what changed on another thread while the first state was being written for it."""
    drawing = Views.drawing

    def drawn_while_it_changes(views: Views, unless: object = None) -> Drawing | None:
        monkeypatch.undo()
        before = drawing(views, unless)
        thread = threading.Thread(target=sim.fault, args=("status",), kwargs={"status": 503})
        thread.start()
        thread.join()
        return before

    monkeypatch.setattr(Views, "drawing", drawn_while_it_changes)
    with web.stream("GET", "/simulator/events") as answer:
        states = (data for name, data, _ in events(answer.iter_lines()) if name == "state")
        assert next(states)["faults"] == []
        assert [fault["kind"] for fault in next(states)["faults"]] == ["status"]


def test_events(sim: Simulator, web: httpx.Client) -> None:
    """A subscriber is given the state and the requests, then what is new; one that returns gets what it missed."""
    put(sim)
    with web.stream("GET", "/simulator/events") as answer:
        stream = events(answer.iter_lines())
        assert next(stream)[0] == "run"
        name, rows, last = next(stream)
        assert (name, [row["number"] for row in rows]) == ("requests", [1])
        assert next(stream)[1]["cards"][0]["shown"]["percentage"] == 1
        put(sim, percentage=2)
        seen = dict.fromkeys(("requests", "state"))
        while not (seen["requests"] and seen["state"] and seen["state"]["cards"][0]["shown"]["percentage"] == 2):
            name, data, _ = next(stream)
            seen[name] = data
    with web.stream("GET", "/simulator/events", headers={"last-event-id": last}) as answer:
        stream = events(answer.iter_lines())
        next(stream)
        assert [row["number"] for row in next(stream)[1]] == [2]
    with web.stream("GET", "/simulator/events", headers={"last-event-id": "another-run:7"}) as answer:
        stream = events(answer.iter_lines())
        next(stream)
        assert [row["number"] for row in next(stream)[1]] == [1, 2]


def test_events_tell_what_the_clock_brings(sim: Simulator, web: httpx.Client) -> None:
    """A card that leaves the screen when its time has come is told without any request."""
    put(sim)
    httpx.request(
        "DELETE",
        f"{sim.base_url}/live-activity/stream/k",
        json={"content_state": {**STATE, "auto_dismiss_seconds": 1}},
        headers={"Authorization": f"Bearer {sim.api_key}"},
    )
    with web.stream("GET", "/simulator/events") as answer:
        states = [data for name, data, _ in _until(events(answer.iter_lines()), lambda data: data["cards"] == [])]
    assert states[-1]["cards"] == []


def _until(stream: Iterator[tuple[str, Any, str]], done: Any) -> Iterator[tuple[str, Any, str]]:
    for name, data, last in stream:
        if name == "state":
            yield name, data, last
            if done(data):
                return


# --------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8787", 200),
        ("app.localhost", 200),
        ("[::1]:9", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("192.0.2.7", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_host_header(web: httpx.Client, host: str, status: int) -> None:
    """A name that somebody else's DNS may point at this machine is turned away."""
    for path in ("/", "/simulator/state", "/api/badge"):
        answered = web.get(path, headers={"host": host}).status_code
        assert (answered == 403) is (status == 403)


def test_other_origins(sim: Simulator, web: httpx.Client) -> None:
    """A page of somebody else's can command nothing; this one can."""
    own = sim.url.rstrip("/")
    for origin, status in ((own, 200), ("https://evil.example", 403), ("null", 403)):
        assert web.post("/simulator/clear", headers={"origin": origin}).status_code == status


def test_other_hosts_may_be_let_in() -> None:
    """A name can be allowed; where the server listens to the network, addresses are."""
    with Simulator(host="0.0.0.0", allow_hosts=["desk.local"]) as sim:
        assert sim.url.startswith("http://127.0.0.1:")
        for host, status in (("desk.local", 200), ("192.0.2.7", 200), ("other.local", 403)):
            assert httpx.get(sim.url, headers={"host": host}).status_code == status


def test_ipv6_loopback() -> None:
    """It listens to ::1 as well, where there is such a thing."""
    try:
        with Simulator(host="::1") as sim:
            assert httpx.get(sim.url).status_code == 200
            assert sim.url.startswith("http://[::1]:")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")


# --------------------------------------------------------------------------------------------- bad input


BROKEN = [
    ("POST", "/simulator/clock", b"{", 400),
    ("POST", "/simulator/clock", b"[1]", 400),
    ("POST", "/simulator/clock", b'{"advance": -1}', 400),
    ("POST", "/simulator/clock", b'{"advance": 1e999}', 400),
    ("POST", "/simulator/clock", b'{"speed": "fast"}', 400),
    ("POST", "/simulator/clock", b'{"sped": 1}', 400),
    ("POST", "/simulator/faults", b"{}", 400),
    ("POST", "/simulator/faults", b'{"kind": "boom"}', 400),
    ("POST", "/simulator/faults", b'{"kind": 3}', 400),
    ("POST", "/simulator/faults", b'{"kind": ["x"]}', 400),
    ("POST", "/simulator/streams/a.b/pause", b"", 400),
    ("POST", "/simulator/clock", '{"advance": 1}'.encode("utf-16"), 400),
    ("POST", "/simulator/faults", b'{"kind": "status", "id": 3}', 400),
    ("POST", "/simulator/taps", b"{}", 400),
    ("POST", "/simulator/taps", b'{"id": 1, "button": "0"}', 400),
    ("POST", "/simulator/dismiss", b'{"id": null}', 400),
    ("POST", "/simulator/truth", b'{"stream_key": "k", "percentage": "x"}', 400),
    ("POST", "/simulator/clear", b'{"all": true}', 400),
    ("POST", "/simulator/clear", b"x" * (1024 * 1024 + 1), 413),
    ("GET", "/simulator/requests?limit=x", b"", 400),
    ("GET", "/simulator/requests?nonsense=1", b"", 400),
    ("GET", "/simulator/nowhere", b"", 404),
    ("PUT", "/simulator/clock", b"{}", 405),
    ("POST", "/", b"", 405),
    ("BREW", "/api/badge", b"", 405),
    ("POST", "/simulator/clock", b"[" * 100_000, 400),
]


@pytest.mark.parametrize(("method", "path", "content", "status"), BROKEN)
def test_broken_commands(web: httpx.Client, method: str, path: str, content: bytes, status: int) -> None:
    """A command that makes no sense is refused with words that say why."""
    answer = web.request(method, path, content=content)
    assert answer.status_code == status
    assert answer.json()["message"]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["progress", "\ud800"])
)
INNER = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=8), LEAVES, max_size=3)
JSON = INNER | st.lists(INNER, max_size=3) | st.dictionaries(st.text(max_size=8), INNER, max_size=3)
FIELDS = st.sampled_from(
    [
        "content_state",
        "title",
        "type",
        "percentage",
        "target",
        "channels",
        "activity_id",
        "badge",
        "value",
        "actions",
        "kind",
        "seconds",
        "status",
        "advance",
        "speed",
        "id",
        "button",
        "stream_key",
        "metadata",
        "tags",
        "�",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=30),
    st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON, max_size=4), max_size=5).map(
        lambda body: json.dumps(body).encode()
    ),
)
PATHS = st.one_of(
    st.sampled_from(
        [
            "/api/push-notification",
            "/api/push-notification/x",
            "/api/live-activity/stream/k",
            "/api/live-activity/stream/",
            "/api/live-activity/start",
            "/api/live-activity/update",
            "/api/live-activity/end",
            "/api/metrics/m/value",
            "/api/badge",
            "/simulator/faults",
            "/simulator/clock",
            "/simulator/taps",
            "/simulator/dismiss",
            "/simulator/truth",
            "/simulator/streams/k/pause",
            "/simulator/requests/1",
            "/simulator/faults/9",
            "/",
        ]
    ),
    st.text("abc/%2.é\\ \x00?#&{}<>", max_size=12).map(lambda text: "/api/" + text),
    st.text("abc/%2.é\\ ", max_size=12).map(lambda text: "/" + text),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"])


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[Simulator, httpx.Client]]:
    """One simulator, and one client of it, for all the examples of the property test."""
    with Simulator(slots=1_000, requests_per_minute=1_000_000) as sim, httpx.Client(timeout=PATIENCE) as client:
        client.get(sim.url)  # over the connection that all examples use
        yield sim, client


@given(method=METHODS, path=PATHS, content=BODIES, authorized=st.booleans())
@settings(deadline=None, max_examples=300)
def test_bad_input_is_never_a_500(
    fuzzed: tuple[Simulator, httpx.Client], method: str, path: str, content: bytes, authorized: bool
) -> None:
    """Whatever comes in, the answer is a 2xx or a 4xx in JSON, and what was received can still be told."""
    sim, client = fuzzed
    headers = {"Authorization": f"Bearer {sim.api_key}"} if authorized else {}
    sim.faults.clear()
    answer = client.request(
        method, sim.url.rstrip("/") + quote(path, safe="/%?&;="), content=content, headers=headers
    )
    assert answer.status_code < 500
    if method != "HEAD" and not answer.headers["content-type"].startswith("text/html"):
        assert isinstance(answer.json(), dict)
    assert client.get(f"{sim.url}simulator/state").status_code == 200
    assert client.get(f"{sim.url}simulator/requests?whole=1&limit=3").status_code == 200


def test_what_cannot_be_parsed_as_http(sim: Simulator) -> None:
    """Bytes that are no request get a 400, and the server goes on."""
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", sim.port), timeout=PATIENCE) as peer:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            answered = peer.recv(1_000)
            assert answered == b"" or b" 400 " in answered or b" 403 " in answered
    assert put(sim).status_code == 200


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_field_of_a_command_may_be_wrong(fuzzed: tuple[Simulator, httpx.Client], data: st.DataObject) -> None:
    """Each field of each command takes any JSON without a 500."""
    sim, client = fuzzed
    path, wrong = data.draw(st.sampled_from([(path, name) for path in COMMANDS for name in COMMANDS[path]]))
    others = data.draw(st.sets(st.sampled_from(sorted(COMMANDS[path]))))
    body = {
        name: data.draw(st.sampled_from(COMMANDS[path][name]))
        for name in sorted(others | {"kind"} & {*COMMANDS[path]})
    }
    body[wrong] = data.draw(JSON)
    assume(body.get("kind") != "refuse" or set(body) - {"kind", "seconds"})  # the next example would not be answered
    answer = client.post(sim.url.rstrip("/") + path, content=json.dumps(body).encode())
    sim.faults.clear()
    assert answer.status_code in (200, 400, 404), answer.text
    assert isinstance(answer.json(), dict)
    assert client.get(f"{sim.url}simulator/faults").status_code == 200


COMMANDS: dict[str, dict[str, list[Any]]] = {
    "/simulator/clear": {"x": [1]},
    "/simulator/clock": {"advance": [0, 1], "speed": [1]},
    "/simulator/faults": {
        "kind": [*FAULT_KINDS, *FAULT_KINDS],
        "path": ["*"],
        "method": ["put"],
        "times": [1],
        "skip": [1],
        "probability": [0.5],
        "seed": [1],
        "seconds": [0],
        "status": [503],
        "body": [{"error": "x"}],
        "retry_after": [1, "soon"],
        "handled": [True],
    },
    "/simulator/taps": {"id": ["act_1"], "button": ["action", "0"]},
    "/simulator/dismiss": {"id": ["act_1"]},
    "/simulator/truth": {"stream_key": ["k"], "percentage": [1]},
    "/simulator/streams/k/pause": {"x": [1]},
    "/simulator/streams/k/resume": {"x": [1]},
}


def test_a_body_without_an_end(sim: Simulator) -> None:
    """A body that never ends is refused, remembered as such, and not read on: the connection is closed."""
    head = f"POST /api/badge HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {sim.api_key}\r\n"
    with socket.create_connection(("127.0.0.1", sim.port), timeout=PATIENCE) as peer:
        peer.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with pytest.raises(OSError, match=r"reset|Broken pipe|aborted"):
            for _ in range(1_000):
                peer.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    assert [(each.status, each.verdict) for each in sim.requests] == [(413, "refused")]


def test_a_refusal_for_size_ends_the_connection(sim: Simulator, web: httpx.Client) -> None:
    """A client that has sent a body of more than 1 MiB reads why it was refused, and then the connection ends."""
    for url in (f"{sim.base_url}/badge", f"{sim.url}simulator/clear"):
        answer = web.post(url, content=b"x" * (2 * 1024 * 1024))
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_that_does_not_come(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that announces a body and does not send it is not waited for."""
    monkeypatch.setattr("activitysmith_track.simulator.http.BODY_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", sim.port), timeout=PATIENCE) as peer:
        peer.sendall(b"POST /api/badge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
        assert b" 408 " in peer.recv(1_000)


def test_a_head_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its request a byte at a time is not waited for, on a fresh connection or a kept one."""
    whole = b"GET /simulator/clock HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for kept in (False, True):
        with Simulator() as sim, monkeypatch.context() as patch:
            if not kept:
                patch.setattr("activitysmith_track.simulator.serving.HEAD_SECONDS", 0.3)
            with socket.create_connection(("127.0.0.1", sim.port), timeout=PATIENCE) as peer:
                if kept:
                    peer.sendall(whole)
                    assert b" 200 " in peer.recv(10_000)
                    patch.setattr("activitysmith_track.simulator.serving.HEAD_SECONDS", 0.3)
                peer.settimeout(0.05)
                assert until(lambda: _is_over(peer))


def _is_over(peer: socket.socket) -> bool:
    """Send one more byte, and tell whether the other side has closed the connection."""
    try:
        peer.sendall(b"G")
        return peer.recv(100) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_memory_is_bounded_in_bytes(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushes, presses and cards count by what they hold, as the requests do; the oldest go first."""
    monkeypatch.setattr("activitysmith_track.simulator.memory.MAX_BYTES", 4_000_000)
    service, key = sim.service, f"Bearer {sim.api_key}"
    service.limits.rates["account"] = 10**9
    for number in range(12):
        parts = [f"{number}-{part}" for part in range(20_000)]  # what takes much more memory than its JSON
        push_body = {"title": str(number), "payload": {"a": parts}}
        service.handle("POST", "/push-notification", key, json.dumps(push_body).encode())
        button = {**HOOK, "body": {"a": parts}}
        body = {"content_state": STATE, "action": button}
        service.handle("PUT", f"/live-activity/stream/s{number}", key, json.dumps(body).encode())
        service.handle("DELETE", f"/live-activity/stream/s{number}", key, b"")
        service.tap(Tap(0.0, "x", "webhook", "https://a.example", body={"a": parts}))
    service.handle("POST", "/badge", key, b'{"badge": 1}')
    assert 1_000_000 < service.memory.size <= 4_000_000
    held = weight(
        [push.body for push in service.pushes.values()],
        [tap.body for tap in service.taps],
        [[card.sent.state, card.sent.action] for card in service.activities.values()],
    )
    assert held <= 4_000_000
    assert service.requests[-1].path == "/badge"


def test_memory_is_bounded(sim: Simulator) -> None:
    """Whatever is sent, what is remembered has an end."""
    service = sim.service
    service.limits.rates["account"] = service.limits.rates["metrics"] = 10**9
    service.slots = 10**6
    big = {"content_state": {**STATE, "subtitle": "x" * 900_000}}
    for _ in range(60):
        service.handle("PUT", "/live-activity/stream/k", f"Bearer {sim.api_key}", json.dumps(big).encode())
    assert sum(request.size for request in sim.requests) <= 32 * 1024 * 1024
    for number in range(400):
        end = {"content_state": STATE}
        service.handle("PUT", f"/live-activity/stream/s{number}", f"Bearer {sim.api_key}", json.dumps(end).encode())
        service.handle("DELETE", f"/live-activity/stream/s{number}", f"Bearer {sim.api_key}", b"")
        service.handle("POST", "/push-notification", f"Bearer {sim.api_key}", b'{"title": "x"}')
        service.handle("POST", f"/metrics/m{number}/value", f"Bearer {sim.api_key}", b'{"value": 1}')
    assert len(sim.activities) <= 201
    assert len(sim.cards) <= 201
    assert (len(sim.pushes), len(sim.metrics)) == (200, 100)


def test_many_subscribers_read_at_their_own_pace(sim: Simulator) -> None:
    """One that does not read does not keep the others waiting."""
    with socket.create_connection(("127.0.0.1", sim.port)) as lazy:
        lazy.sendall(b"GET /simulator/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        seen = threading.Event()

        def read() -> None:
            with httpx.stream("GET", f"{sim.url}simulator/events", timeout=PATIENCE) as answer:
                for name, data, _ in events(answer.iter_lines()):
                    if name == "state" and data["cards"] and data["cards"][0]["shown"]["percentage"] == 50:
                        seen.set()
                        return

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(1, 51):
            put(sim, "fast", percentage=number, subtitle="x" * 10_000)
            if number % 10 == 0:
                sim.advance(60)
        sim.advance(7200)
        put(sim, "fast", percentage=51)
        put(sim, "fast", percentage=50)
        assert seen.wait(PATIENCE)
        reader.join(PATIENCE)
