"""Faults on demand: each kind over real HTTP, from Python and over the control API."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from patience import PATIENCE, until

from activitysmith_track import InvalidRequest
from activitysmith_track.simulator import Fault, Simulator
from activitysmith_track.simulator.faults import FAULT_KINDS, Faults

BODY = {"content_state": {"title": "T", "type": "progress", "percentage": 1}}


@pytest.fixture
def client(sim: Simulator) -> Iterator[httpx.Client]:
    """A client with the simulator's key."""
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers, timeout=PATIENCE) as made:
        yield made


def put(client: httpx.Client, key: str = "k") -> httpx.Response:
    """Start or update a stream."""
    return client.put(f"/live-activity/stream/{key}", json=BODY)


def test_latency(sim: Simulator, client: httpx.Client) -> None:
    """The answer comes late, and is the service's own."""
    put(client)
    began = time.monotonic()
    with sim.fault("latency", seconds=0.2, times=1):
        assert put(client).json()["operation"] == "noop"
        assert time.monotonic() - began >= 0.2
        assert put(client).status_code == 200
    assert [(each.fault, each.verdict, each.status) for each in sim.requests] == [
        (None, "sent", 200),
        ("latency", "nothing new", 200),
        (None, "nothing new", 200),
    ]


@pytest.mark.parametrize("status", [400, 402, 403, 404, 409, 422, 429, 500, 502, 503])
def test_status(sim: Simulator, client: httpx.Client, status: int) -> None:
    """An error of the service's own words, and nothing is done."""
    with sim.fault("status", status=status):
        answer = put(client)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "retry-after" not in answer.headers
    assert sim.cards == {}
    assert [(each.verdict, each.status, each.why) for each in sim.requests] == [("fault", status, "fault: status")]


@pytest.mark.parametrize("retry_after", [3, 0.5, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after(sim: Simulator, client: httpx.Client, retry_after: float | str) -> None:
    """A 429 may say when to come back, in seconds or as a date."""
    sim.fault("status", status=429, retry_after=retry_after, body={"error": "slow down"})
    answer = put(client)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (
        429,
        {"error": "slow down"},
        str(retry_after),
    )


def test_a_status_after_the_fact(sim: Simulator, client: httpx.Client) -> None:
    """The service may have done what was asked, and say otherwise."""
    with sim.fault("status", status=500, handled=True):
        assert put(client).status_code == 500
    assert sim.cards["k"].percentage == 1
    assert [(each.verdict, each.status, each.fault) for each in sim.requests] == [("sent", 500, "status")]


@pytest.mark.parametrize("handled", [False, True])
def test_reset(sim: Simulator, client: httpx.Client, handled: bool) -> None:
    """The connection is reset, before or after the service did what was asked."""
    with sim.fault("reset", handled=handled), pytest.raises(httpx.ReadError):
        put(client)
    assert ("k" in sim.cards) is handled
    assert sim.requests[0].status == 0


def test_hang(sim: Simulator, client: httpx.Client) -> None:
    """There is no answer, however long the client waits; other requests are answered."""
    with sim.fault("hang", path="/live-activity/*"):
        with pytest.raises(httpx.TimeoutException):
            client.put("/live-activity/stream/k", json=BODY, timeout=0.2)
        assert client.post("/badge", json={"badge": 1}).status_code == 200
    assert put(client).json()["operation"] == "started"


def test_hang_ends_with_its_fault(sim: Simulator, client: httpx.Client) -> None:
    """A request that hangs is let go when the fault is taken away."""
    fault = sim.fault("hang")
    letting_go = threading.Thread(target=lambda: (until(lambda: fault.hits), fault.remove()))
    letting_go.start()
    with pytest.raises(httpx.TransportError):
        put(client)
    letting_go.join()
    assert not fault.is_set


def test_truncate(sim: Simulator, client: httpx.Client) -> None:
    """The answer breaks off in the middle; what was asked is done."""
    with sim.fault("truncate"), pytest.raises(httpx.RemoteProtocolError):
        put(client)
    assert "k" in sim.cards


def test_garbage(sim: Simulator, client: httpx.Client) -> None:
    """A 200 whose body is not JSON; what was asked is done."""
    with sim.fault("garbage"):
        answer = put(client)
    assert answer.status_code == 200
    with pytest.raises(ValueError):
        answer.json()
    assert "k" in sim.cards


def test_drip(sim: Simulator, client: httpx.Client) -> None:
    """The answer comes a byte at a time, so that no single read takes long."""
    with sim.fault("drip", seconds=0.3):
        began = time.monotonic()
        assert put(client).json()["operation"] == "started"
        assert time.monotonic() - began >= 0.25


def test_refuse(sim: Simulator, client: httpx.Client) -> None:
    """Connections are refused, open ones end, and the same address answers again afterwards."""
    put(client)
    with sim.fault("refuse", seconds=30), pytest.raises(httpx.TransportError):
        httpx.get(sim.url)
    assert put(client).json()["operation"] == "noop"


def test_refusing_for_no_time(sim: Simulator, client: httpx.Client) -> None:
    """When the block is left the port is served again, however short it was."""
    for _ in range(5):
        with sim.fault("refuse"):
            pass
        assert httpx.get(sim.url).status_code == 200


def test_two_refusals(sim: Simulator) -> None:
    """Connections are refused while either is set, and answered when the last one is gone."""
    with sim.fault("refuse", seconds=30):
        with sim.fault("refuse", seconds=30):
            pass
        with pytest.raises(httpx.ConnectError):
            httpx.get(sim.url)
    assert httpx.get(sim.url).status_code == 200
    sim.fault("refuse", seconds=30)
    sim.fault("refuse", seconds=30)
    sim.faults.clear()
    assert httpx.get(sim.url).status_code == 200


def test_a_port_that_was_taken(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes the port during a refusal is told of, and the simulator is back when it is free."""
    fault = sim.fault("refuse", seconds=PATIENCE)
    with socket.socket() as thief, monkeypatch.context() as patch:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", sim.port))
        thief.listen()
        patch.setattr("activitysmith_track.simulator.serving.START_SECONDS", 0.3)
        with pytest.raises(RuntimeError, match="somebody else took it"):
            fault.remove()
    assert until(lambda: accepts(sim.port))
    assert httpx.get(sim.url).status_code == 200


def accepts(port: int) -> bool:
    """Tell whether connections are accepted at a port of this machine."""
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0


def test_stopping_ends_a_refusal(sim: Simulator) -> None:
    """A simulator that is stopped while it refuses serves when it is started again."""
    sim.fault("refuse", seconds=30)
    sim.stop()
    assert list(sim.faults) == []
    sim.start()
    assert httpx.get(sim.url).status_code == 200


def test_a_method_in_small_letters(sim: Simulator, client: httpx.Client) -> None:
    """A method is one in any case."""
    with sim.fault("status", status=503, method="put"):
        assert put(client).status_code == 503


def test_clearing_while_a_fault_strikes(sim: Simulator) -> None:
    """A request is remembered once, with its fault, so that clearing has nothing to come between."""
    service, versions = sim.service, []
    service.listeners.append(lambda: versions.append(len(service.requests)))
    content = b'{"badge": 1}'
    service.handle("POST", "/badge", f"Bearer {sim.api_key}", content, fault=Fault("reset", handled=True))
    assert versions == [1]
    (request,) = service.requests
    assert (request.fault, request.status, request.verdict, service.badge) == ("reset", 0, "sent", 1)


def test_refuse_over_http(sim: Simulator, client: httpx.Client) -> None:
    """Over the control API it ends by itself."""
    answer = httpx.post(f"{sim.url}simulator/faults", json={"kind": "refuse", "seconds": 0.2})
    assert answer.json()["kind"] == "refuse"
    assert until(lambda: not list(sim.faults) and accepts(sim.port))
    assert put(client).status_code == 200


def test_which_requests(sim: Simulator, client: httpx.Client) -> None:
    """By path, by method, after so many, and so often."""
    sim.fault("status", status=503, path="/live-activity/stream/a*", method="PUT", skip=1, times=2)
    assert [put(client, "abc").status_code for _ in range(4)] == [200, 503, 503, 200]
    assert put(client, "b").status_code == 200
    assert client.delete("/live-activity/stream/abc").status_code == 200


def test_chances_come_from_the_seed() -> None:
    """The same seed hits the same requests, and about as many as it should."""

    def hits(seed: int) -> list[bool]:
        faults = Faults(lambda: None)
        faults.add(Fault("status", probability=0.3, seed=seed))
        return [faults.strike("PUT", "/x") is not None for _ in range(1_000)]

    assert hits(1) == hits(1) != hits(2)
    assert 250 < sum(hits(1)) < 350


def test_the_first_that_strikes_wins() -> None:
    """Faults are asked in the order in which they were set."""
    changes: list[int] = []
    faults = Faults(lambda: changes.append(1))
    first = faults.add(Fault("reset", times=1))
    second = faults.add(Fault("hang"))
    struck = [faults.strike("GET", "/"), faults.strike("GET", "/")]
    assert struck == [first, second]
    assert (first.id, first.hits, second.hits) == (1, 1, 1)
    second.remove()
    faults.clear()
    assert (list(faults), len(changes)) == ([], 4)
    Fault("reset").remove()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "explode"},
        {"kind": ["reset"]},
        {"kind": {}},
        {"kind": None},
        {"kind": "reset", "handled": 1},
        {"kind": "status", "body": {"x": "y" * 70_000}},
        {"kind": "refuse", "path": "/badge"},
        {"kind": "refuse", "method": "PUT"},
        {"kind": "refuse", "times": 1},
        {"kind": "refuse", "skip": 1},
        {"kind": "refuse", "probability": 0.5},
        {"kind": "refuse", "handled": True},
        {"kind": "status", "status": 200},
        {"kind": "status", "status": 600},
        {"kind": "status", "body": "x"},
        {"kind": "status", "retry_after": "a\nb"},
        {"kind": "status", "retry_after": -1},
        {"kind": "status", "retry_after": True},
        {"kind": "reset", "times": 0},
        {"kind": "reset", "skip": -1},
        {"kind": "reset", "seed": 0.5},
        {"kind": "reset", "probability": 1.1},
        {"kind": "reset", "path": ""},
        {"kind": "reset", "method": 7},
        {"kind": "reset", "handled": "no"},
        {"kind": "latency", "seconds": 1e9},
    ],
)
def test_what_cannot_be(fields: dict[str, Any]) -> None:
    """A fault that makes no sense is refused where it is written."""
    with pytest.raises(InvalidRequest):
        Fault(**fields)


def test_limits(sim: Simulator) -> None:
    """There is an end to the number of faults; one can be set before the server runs, but not a refusal."""
    for _ in range(100):
        sim.fault("latency")
    with pytest.raises(InvalidRequest, match="at most 100"):
        sim.fault("latency")
    idle = Simulator()
    with pytest.raises(RuntimeError, match="has not been started"):
        idle.fault("refuse")
    assert list(idle.faults) == []


def test_every_kind_is_described() -> None:
    """The kinds and their words are one table."""
    assert set(FAULT_KINDS) == {"latency", "status", "reset", "hang", "truncate", "garbage", "drip", "refuse"}
