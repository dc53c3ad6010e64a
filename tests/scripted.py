"""A service that answers as a test says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

from patience import PATIENCE


class Script:
    """A service that answers as a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: Callable[[str, str, Any], tuple[int, Any]] = lambda method, path, body: (200, self.fine(method))
        self.changed = threading.Condition()
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length") or 0))
                body = json.loads(content) if content else None
                with script.changed:
                    script.asked.append((self.command, self.path, body))
                    script.changed.notify_all()
                status, answer = script.answer(self.command, self.path, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in ({"Retry-After": "1"} if status == 429 else {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_PUT = do_POST = do_DELETE = _handle

            def log_message(self, *args: object) -> None:
                return

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: object) -> None:
                return  # a client that has left

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def fine(method: str) -> dict[str, Any]:
        """Answer as a service that does what it is asked."""
        return {"success": True, "operation": "ended" if method == "DELETE" else "started", "notification_id": "n"}

    def wait(self, count: int, method: str = "") -> bool:
        """Wait until so many requests of a method came."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.sent(method)) >= count, PATIENCE)

    def sent(self, method: str = "") -> list[tuple[str, str, Any]]:
        """Return the requests of a method."""
        return [each for each in self.asked if not method or each[0] == method]

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def state(request: tuple[str, str, Any]) -> Any:
    """Return a request's content state."""
    return request[2]["content_state"]
