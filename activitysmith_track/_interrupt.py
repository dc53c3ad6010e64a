"""Waiting until somebody ends a command: Ctrl-C, or SIGTERM."""

from __future__ import annotations


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C or SIGTERM."""
    import signal
    import threading

    left = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: left.set())
    try:
        while not left.wait(1.0):  # not for ever: on Windows a wait keeps Ctrl-C from being seen
            continue
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
