"""Where the key may go: over https, or over plain http to this machine, however an address is written."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from activitysmith_track import ActivitySmith, AsyncActivitySmith, InvalidRequest, Settings, Tracker, live_progress
from activitysmith_track._endpoint import AccountKey, Secret, check_base_url, is_loopback, key_fingerprint
from activitysmith_track.client.requests import badge_request
from activitysmith_track.delivery.transport import HttpTransport
from activitysmith_track.errors import ConnectionFailed, RequestTimedOut
from activitysmith_track.simulator import Simulator
from activitysmith_track.simulator.gate import HostNames

KEY = "key-that-nobody-may-see"

LOOPBACK = [
    *("localhost", "LOCALHOST", "LocalHost", "127.0.0.1", "127.255.255.254"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]"),
]
FOREIGN = [
    # names that only look like an address of this machine
    *("127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1-evil.example"),
    *("notlocalhost", "localhost-", "localhost..", "localhost.localdomain", "ip6-localhost", "[::1].evil.example"),
    # what some resolvers and kernels take for this machine
    *("127.1", "127.0.1", "0177.0.0.1", "127.0.0.01", "2130706433", "0x7f.0.0.1", "0x7f000001", "127.", "127", "0"),
    *("0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[::127.0.0.1]", "[::1%eth0]", "[::1%25eth0]"),
    # what some parsers turn into something else: other digits, stops and letters of Unicode first
    *("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1"),
    *("\u24dbocalhost", "localho\u017ft", "loc\u0430lhost", "loca\u00adlhost", "localhost\u200b"),
    *("%31%32%37.0.0.1", "127.0.0.1%2eevil.example", "127.0.0.1%00.evil.example", "127.0.0.1;.evil.example"),
    *("127.0.0.1\\.evil.example", "127.0.0.1\\@evil.example", "127.0.0.1:80@evil.example"),
    *("user:secret@127.0.0.1", "127.0.0.1#@evil.example", "127.0.0.1?@evil.example"),
    *("127.0.0.1\n.evil.example", "127.0.0.1\t.evil.example", "127.0.0.1\x00.evil.example"),
    *("127.0.0.1 .evil.example", " 127.0.0.1", "127.0.0.1\n", "127.0.0\r.1", "", "/127.0.0.1"),
    *("[127.0.0.1]", "[::1", "::1", "[v1.127.0.0.1]"),
    # other machines
    *("192.0.2.7", "10.0.0.1", "[fe80::1]", "activitysmith.com", "128.0.0.1", "126.255.255.255"),
]
PORTS = [":", ":0", ":65536", ":99999999999", ":+80", ":-1", ":8_0", ":\uff18\uff10", ":80:80", ":http"]


@pytest.mark.parametrize("path", ["", "/", "/api", ":8787/api/"])
@pytest.mark.parametrize("host", LOOPBACK)
def test_plain_http_to_this_machine(host: str, path: str) -> None:
    """Each usual spelling of this machine is allowed, and read by httpx as the host that was judged."""
    for scheme in ("http", "HTTP", "https"):
        url = check_base_url(f"{scheme}://{host}{path}")
        assert url == f"{scheme.lower()}://{host.lower()}{path.rstrip('/')}"
        assert is_loopback(httpx.URL(f"{url}/badge").host)


@pytest.mark.parametrize("host", FOREIGN)
def test_plain_http_to_others(host: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else is, be it an argument, a setting, or from the environment or the watchdog's pipe."""
    url = f"http://{host}/api"
    for make in (ActivitySmith, AsyncActivitySmith):
        with pytest.raises(InvalidRequest, match="base_url") as caught:
            make(KEY, base_url=url)
        assert "secret" not in str(caught.value)
    for refuse in (Settings, Tracker, Tracker().configure, Tracker().override):
        with pytest.raises(InvalidRequest, match="base_url"):
            refuse(base_url=url)
    with pytest.raises(InvalidRequest, match="base_url"):
        HttpTransport(KEY, url, 5.0).perform(badge_request(1, None))
    if "\0" in url:  # which no environment can hold
        return
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", url)
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", KEY)
    with pytest.raises(InvalidRequest, match="base_url"):
        ActivitySmith()
    tracker = Tracker()
    with live_progress("job", tracker=tracker):
        assert tracker.account() is None
    assert caplog.text.count("activitysmith_track is off: base_url") == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize("port", PORTS)
def test_ports(port: str) -> None:
    """A port that no connection can have, or that not everybody reads alike, is refused when it is set."""
    for host in ("http://127.0.0.1", "https://service.example", "https://[::1]"):
        with pytest.raises(InvalidRequest, match="base_url"):
            Settings(base_url=host + port)


@pytest.mark.parametrize(
    "url",
    [
        *("https://", "https:///api", "https:service.example", "https//service.example", "//service.example"),
        *("http\u017f://service.example", " https://service.example", b"https://service.example"),
        *("https://127.1", "https://256.1.1.1", "https://[::1%25lo]", "https://a..example", "https://.example"),
        *(f"https://{'a' * 64}.example", f"https://{'a.' * 127}", "https://b\u00fccher.example", "https://a b"),
        *("https://a.example/b c", "https://a.example/\n", "https://a.example/api?", "https://a.example/#"),
        *("https://a.example\\api", "https://a.example/\ud800"),
    ],
)
def test_what_is_no_address(url: Any) -> None:
    """What no request could be sent to, or not everybody reads alike, is refused when it is set, https or not."""
    with pytest.raises(InvalidRequest, match="base_url"):
        Settings(base_url=url)


def test_a_host_that_httpx_cannot_have() -> None:
    """A name that only httpx knows to be none is refused when the client is made, not with each request."""
    for make in (ActivitySmith, AsyncActivitySmith):
        with pytest.raises(InvalidRequest, match="base_url"):
            make(KEY, base_url="https://xn--a.example")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://Service.Example/Api/v1//", "https://service.example/Api/v1"),
        ("HTTPS://service.example.:8443", "https://service.example.:8443"),
        ("https://xn--bcher-kva.example/@me/%7Euser;v=1", "https://xn--bcher-kva.example/@me/%7Euser;v=1"),
        ("https://in_a_network", "https://in_a_network"),
        ("https://192.0.2.7:1", "https://192.0.2.7:1"),
    ],
)
def test_one_spelling(given: str, found: str) -> None:
    """Two spellings of one host are one account; of the path nothing changes but a slash at the end."""
    assert repr(ActivitySmith(KEY, base_url=given)) == repr(ActivitySmith(KEY, base_url=found))
    assert found in repr(ActivitySmith(KEY, base_url=given)).strip("<>").split()


def test_space_around_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line's end that a file brings into the environment does no harm; an empty variable is none."""
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", " http://127.0.0.1:1/api\n")
    assert repr(ActivitySmith(KEY)) == "<ActivitySmith http://127.0.0.1:1/api>"
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", " ")
    assert repr(ActivitySmith(KEY)) == "<ActivitySmith https://activitysmith.com/api>"


PARTS = st.sampled_from(
    [
        *("http://", "https://", "127.0.0.1", "localhost", "[::1]", "evil.example", ".", "..", ":", "80", "@"),
        *("/", "\\", "?", "#", "%", "%2e", "%00", "[", "]", "::1", "127", "0", "1", "0x7f", "xn--", ";"),
        *("\t", "\n", " ", "\u3002", "\uff11", "\u017f", "\u212a"),
    ]
)


@settings(deadline=None, max_examples=1_000)
@given(st.lists(PARTS, max_size=8).map("".join), st.sampled_from(["", "http://", "https://", "http://127.0.0.1"]))
def test_httpx_goes_where_was_judged(text: str, start: str) -> None:
    """Whatever is accepted, httpx connects by the scheme and to the host and port that stand there."""
    try:
        url = check_base_url(start + text)
    except InvalidRequest:
        return
    try:
        read = httpx.URL(f"{url}/badge")
        host = read.host
    except (httpx.InvalidURL, ValueError):  # the client says so when it is made
        return
    written = f"{read.scheme}://{f'[{host}]' if ':' in host else host}{'' if read.port is None else f':{read.port}'}"
    assert (url + "/").lower().startswith((written + "/", f"{written}:80/", f"{written}:443/")) or "xn--" in url
    assert read.userinfo == b""
    assert read.scheme == "https" or is_loopback(host)


def test_accepted_hosts_have_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever name this machine is called, no proxy of the environment stands between."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for host in LOOPBACK:
            for scheme in ("http", "https"):
                address = f"{scheme}://{host}:1/api"  # where nobody listens
                with ActivitySmith(KEY, base_url=address, timeout=5.0, max_attempts=1) as client:
                    with pytest.raises((ConnectionFailed, RequestTimedOut)):
                        client.badge_count(1)
                with pytest.raises(BlockingIOError):  # nobody has come to the proxy
                    proxy.accept()


def test_the_simulator_judges_alike() -> None:
    """A Host header names this machine where plain http to it is allowed, and with a dot, and as a name below it."""
    names = HostNames("127.0.0.1", ())
    assert [host for host in LOOPBACK if host not in names] == []
    assert [host for host in FOREIGN if host in names] == []
    assert "localhost." in names
    assert "app.localhost" in names
    everywhere = HostNames("0.0.0.0", ())
    assert "192.0.2.7" in everywhere
    assert "192.0.2.7.example" not in everywhere


def test_the_simulators_own_address_is_accepted() -> None:
    """What the simulator says of itself, a client takes."""
    for host in ("127.0.0.1", "localhost", "::1", "", "0.0.0.0", "::", "127.0.0.2"):
        url = Simulator(host=host, port=81).base_url
        assert repr(ActivitySmith(KEY, base_url=url)) == f"<ActivitySmith {url}>"


def test_keys_are_told_apart_by_their_fingerprints() -> None:
    """A key always has the same short one, which says nothing of it, and two keys have different ones."""
    assert key_fingerprint(KEY) == key_fingerprint(KEY) != key_fingerprint("other")
    assert len(key_fingerprint(KEY)) == 16


def test_a_key_is_in_no_repr() -> None:
    """What a traceback prints of a frame does not show it."""
    assert KEY not in repr(Secret(KEY)) + repr(AccountKey(KEY, "http://127.0.0.1:1"))
    assert Secret(KEY).reveal() == KEY


def test_judging_imports_little() -> None:
    """The room costs next to nothing until an address is judged."""
    names = {"ipaddress", "urllib.parse", "httpx", "hashlib"}
    code = "import sys; already = {*sys.modules}; from activitysmith_track import _endpoint; "
    code += f"print({names} & {{*sys.modules}} - already)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.strip() == "set()", done.stderr
