"""What the two clients share: their settings, and one attempt at a request within its time and memory."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import tenacity

from .._endpoint import Secret, bracketed, check_api_key, find_base_url, is_loopback
from ..errors import ConnectionFailed, InvalidAnswer, InvalidRequest, RequestTimedOut
from . import retry
from .answers import A, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .requests import Request

MAX_ANSWER_BYTES = 1024 * 1024  # answers are a few hundred bytes; a longer one is not the service's
TOTAL_SECONDS = 60.0  # all the attempts of one request and the waits between them


@contextmanager
def explained(attempt: Attempt) -> Iterator[None]:
    """Turn httpx's exceptions into this library's."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise RequestTimedOut(f"no connection to the service in time: {error}", delivered=False) from _bare(error)
    except (httpx.TimeoutException, TimeoutError) as error:
        words = "the service did not finish its answer in time"
        raise RequestTimedOut(words, delivered=attempt.delivered) from _bare(error)
    except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError) as error:
        raise ConnectionFailed(f"no connection to the service: {error}", delivered=False) from _bare(error)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:  # the last two from a user's transport
        raise ConnectionFailed(f"the connection to the service broke: {error}") from _bare(error)
    except OSError as error:  # from below httpx: the job has closed descriptors that are not its own
        raise ConnectionFailed(f"the connection to the service was closed: {error}") from _bare(error)


def _bare(error: BaseException) -> BaseException:
    """Remove the traceback: in its frames the libraries underneath hold the request's headers, and so the key."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class Attempt:
    """One attempt at a request, within a limit of time and of memory."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until = clock, clock() + seconds
        self._unzip: Any = None
        self._stream: Any = None
        self.delivered: bool | None = None  # False while its connection is being made, else `None`
        self.status, self.retry_after = 0, ""
        self.content = bytearray()
        self.part = b""  # not in a local: an answer may repeat the key, and a traceback print locals

    def left(self) -> float:
        """Return how many seconds are left; raises httpx's own timeout if there are none."""
        seconds = self._until - self._clock()
        if seconds <= 0:
            raise httpx.ReadTimeout("the deadline of the whole attempt")
        return seconds

    def begin(self, response: httpx.Response) -> bool:
        """Note the head of the answer, and tell whether its body is still to be read from the connection.

        Some transports, such as httpx.MockTransport, have read the body by then, decoded: it is taken as it is. A
        body that is zipped although nobody asked for that is unzipped while it is read, within bounds.
        """
        self.status = response.status_code
        self.retry_after = response.headers.get("retry-after", "")
        try:
            self.part = response.content
        except httpx.ResponseNotRead:
            if response.headers.get("content-encoding", "").strip().lower() == "gzip":
                self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)
            return True
        self.gather()
        return False

    def gather(self) -> None:
        """Append `part` to the answer's body."""
        self.left()
        if self._unzip is not None:
            self._unzip_part()
        self.content += self.part
        if len(self.content) > MAX_ANSWER_BYTES:
            raise InvalidAnswer(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", status=self.status)

    def _unzip_part(self) -> None:
        try:
            self.part = self._unzip.decompress(self.part, MAX_ANSWER_BYTES + 1 - len(self.content))
        except zlib.error:
            raise InvalidAnswer("the answer is not the gzip that it says", status=self.status) from None

    def see(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow what happens underneath; this is httpx's `trace` extension.

        httpx gives every read a timeout of its own, so that a header that comes byte by byte could take for ever. So
        each new connection is changed to read and write within the time that the running attempt has left.
        """
        self._note(event)
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            stream = info["return_value"]
            with suppress(AttributeError):  # should httpcore forbid this: rather no deadline than no request
                for name in ("read", "write"):
                    setattr(stream, name, partial(_within, getattr(stream, name)))

    async def see_async(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow what happens underneath, as `see` does; here the event loop keeps the deadline."""
        self._note(event)
        if event.endswith(".connect_tcp.complete"):
            self._stream = info["return_value"]

    async def abandon(self) -> None:
        """Close a connection whose TLS handshake was cut short; httpcore would leave it to the garbage collector."""
        if self.delivered is False and self._stream is not None:
            import anyio

            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    def _note(self, event: str) -> None:
        if event.endswith(".connect_tcp.started"):
            self.delivered = False
        elif event.endswith(".send_request_headers.started"):
            self.delivered = None


running: ContextVar[Attempt | None] = ContextVar("activitysmith_attempt", default=None)


def _within(carry: Callable[..., Any], what: Any, timeout: float | None = None) -> Any:
    """Read or write on a connection, within the time that the running attempt has left."""
    attempt = running.get()
    if attempt is not None:  # pragma: no branch  # nobody else has the connection
        timeout = attempt.left() if timeout is None else min(timeout, attempt.left())
    return carry(what, timeout=timeout)


class NoCookies(CookieJar):
    """A cookie jar that keeps nothing."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Keep nothing."""


class Configured:
    """What both clients share: settings, headers and the retry policy."""

    _base_url = ""  # for the repr of a client whose making failed

    def __init__(
        self, key: Secret, *, base_url: str | None, timeout: float, max_attempts: int, transport: Any
    ) -> None:
        if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise InvalidRequest("timeout", timeout, "seconds, more than 0")
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise InvalidRequest("max_attempts", max_attempts, "an integer of at least 1")
        self._base_url = find_base_url(base_url)
        self._timeout, self._max_attempts = timeout, max_attempts
        self._key = Secret(check_api_key(key.reveal()))
        self._options: dict[str, Any] = {
            "headers": httpx.Headers(  # whose repr hides the key
                {
                    "Authorization": f"Bearer {self._key.reveal()}",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "activitysmith-track",
                }
            ),
            "timeout": timeout,
            "transport": transport,
            "follow_redirects": False,
            "cookies": NoCookies(),
            "verify": True,
            "trust_env": True,
            "mounts": _unproxied(self._base_url),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds an API key and connections: it cannot be pickled or copied")

    def _request(self, request: Request[Any], trace: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments for httpx; a request without a body has no content type."""
        told: dict[str, Any] = {
            "method": request.method,
            "url": self._base_url + request.path,
            "extensions": {"trace": trace},
        }
        if request.body is not None:
            told["json"] = request.body
        return told

    def _read(self, request: Request[A], attempt: Attempt) -> A:
        """Read an answer, with the key removed: a service may repeat the request's headers, and a log keep them."""
        content = bytes(attempt.content).replace(self._key.reveal().encode(), b"***")
        headers = {"retry-after": attempt.retry_after}
        return read_answer(request.answer, attempt.status, headers, content, time.time())

    def _retrying(self, request: Request[Any]) -> dict[str, Any]:
        return {
            "retry": tenacity.retry_if_exception(lambda error: retry.may_repeat(request, error)),
            "wait": retry.wait,
            "stop": tenacity.stop_after_attempt(self._max_attempts) | tenacity.stop_before_delay(TOTAL_SECONDS),
            "reraise": True,
        }


def _unproxied(base_url: str) -> dict[str, None]:
    """Have no proxy used for a loopback address; the host is the one that httpx will connect to.

    Raises:
        InvalidRequest: for a host that httpx cannot connect to, such as a broken `xn--` name.
    """
    try:
        host = httpx.URL(base_url).host
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest("base_url", base_url, f"a host that there can be ({error})") from None
    return {f"all://{bracketed(host)}": None} if is_loopback(host) else {}
