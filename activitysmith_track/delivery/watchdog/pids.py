"""Whether a process is gone, even if another process has its pid now."""

from __future__ import annotations

import os


def is_gone(pid: int, started: int | None) -> bool:
    """Tell whether a process has ended, even if nobody has reaped it, or another process has its pid now."""
    if started is not None:
        return start_time(pid) != started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def start_time(pid: int) -> int | None:
    """Return when a running process was started, in ticks since the boot, or `None` where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def open_pidfd() -> int | None:
    """Return a descriptor that tells when this process is gone, or `None` where there is no such thing."""
    try:
        return os.pidfd_open(os.getpid())  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):  # not Linux, before 5.3, or forbidden
        return None
