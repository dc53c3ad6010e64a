"""A file of SQLite that several processes share: made, opened, checked, set aside where it is damaged.

Every call opens the file, does one transaction and closes it again, so that nothing is held across a fork or between
two calls. The journal is a rollback journal, since homes may lie on NFS, where a write-ahead log does not work. A
drained file is not removed but cut to its first page: unlinking a database that another process is about to write to
would lose what it writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .._fork import children, importing, storing

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger("activitysmith_track")

TURN_SECONDS = 5.0  # that one thread waits for another one's call, which a slow disk may hold up

_FILE = "outbox-2.sqlite"  # the number is the schema's: another schema than a released one gets another file
_PAGE = 4096  # bytes: the size of a drained file, which is one page
_STEPS, _MOST_STEPS = 10_000, 2_000_000  # of SQLite's machine; a thousand entries take a tenth of that
_TABLE = """CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    key_fingerprint TEXT NOT NULL, base_url TEXT NOT NULL, stream_key TEXT, body TEXT NOT NULL,
    at_least_once INTEGER NOT NULL, occurred_at REAL NOT NULL, run TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, leased_until REAL NOT NULL DEFAULT 0,
    begun INTEGER NOT NULL DEFAULT 0, began_at REAL NOT NULL DEFAULT 0)"""
MARKS = """CREATE TABLE marks (
    id TEXT PRIMARY KEY, key_fingerprint TEXT NOT NULL, base_url TEXT NOT NULL, stream_key TEXT, run TEXT NOT NULL,
    began_at REAL NOT NULL, sent REAL, before REAL, answered REAL, settled INTEGER NOT NULL, until REAL NOT NULL)"""
_ENTRIES = frozenset({("table", "entries", _TABLE), ("index", "sqlite_autoindex_entries_1", None)})
_MARKED = frozenset({("table", "marks", MARKS), ("index", "sqlite_autoindex_marks_1", None)})
_SCHEMAS = (frozenset[object](), _ENTRIES, _MARKED, _ENTRIES | _MARKED)  # a table exists while it has rows
_LOCKED = "database is locked"
_READ_ONLY = "attempt to write a readonly database"  # because of the file's own header, or of its permissions
_PASSING = frozenset(  # SQLite's messages, since Python 3.10 does not pass on its error codes
    {
        "access permission denied",
        _READ_ONLY,
        _LOCKED,
        "database or disk is full",
        "database table is locked",
        "disk I/O error",
        "locking protocol",
        "unable to open database file",
    }
)
_PRAGMAS = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",
    "synchronous = FULL",
    "journal_mode = DELETE",
    "cache_spill = OFF",  # so that nothing but the commit locks readers out
)

_busy: set[int] = set()  # the thread that is in a call of `transact`, if any

Result = TypeVar("Result")


class _Refused(OSError):
    """The file or its directory could be somebody else's."""


class _Alien(Exception):
    """The file is a database of something else, or was tampered with."""


class OutboxFile:
    """The file, where it lies, and what is logged of it. Making an instance does nothing.

    Args:
        directory: where the file lies; `None` is `activitysmith-track` in the user's state directory. It is made with
            mode 0700 if it is not there, and refused if others own it or may write to it.
        patience: seconds that one call waits for a file that another process has locked.
        now: seconds of a clock that never goes back.
        load_more: imports what the work of a transaction needs beside SQLite, before it begins.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        patience: float = 0.5,
        now: Callable[[], float] = time.monotonic,
        load_more: Callable[[], None] = lambda: None,
    ) -> None:
        self.patience = patience
        self._directory, self._now, self._load_more = directory, now, load_more
        self._path: Path | None = None
        self._told: dict[object, object] = {}  # what was logged, and which call was the first to do so

    def path(self) -> Path:
        """Return where the file is, or would be.

        Raises:
            OSError: where the user has no home, so that no absolute path can be told.
        """
        if self._path is None:
            path = Path(_state_directory() if self._directory is None else self._directory, _FILE)
            if not path.is_absolute() and self._directory is None:
                raise _Refused("there is no home directory to keep it in")
            self._path = path.absolute()
        return self._path

    def exists(self) -> bool:
        """Tell whether there may be entries; costs one `os.stat`."""
        try:
            return os.stat(self.path()).st_size > _PAGE
        except FileNotFoundError:
            return False
        except Exception as error:
            self._tell(error)
            return False

    def load(self) -> None:
        """Import what a transaction needs, before it begins and while nothing is forked."""
        with importing():
            import sqlite3  # noqa: F401
            import urllib.parse  # noqa: F401  # which a path imports when it is asked for its address

            with contextlib.suppress(ImportError):  # Windows
                import fcntl  # noqa: F401
        self._load_more()

    def transact(
        self, work: Callable[[sqlite3.Connection], Result], nothing: Result, *, create: bool = False
    ) -> Result:
        """Do something in one transaction; where that fails, say so once and return `nothing`."""
        try:
            self.load()
            path = self.path()
            with _alone():
                until = self._now() + self.patience
                is_late: Callable[[], bool] = lambda: self._now() >= until  # noqa: E731
                found = self._prepare(path, create)
                if found is None:
                    return nothing
                try:
                    return _transaction(path, work, is_late)
                except Exception as error:
                    if not _broken(error, path):
                        raise
                    self._set_aside(path, found, error)
                    return _transaction(path, work, is_late) if self._prepare(path, create) else nothing
        except Exception as error:
            self._tell(error)
            return nothing

    def _prepare(self, path: Path, create: bool) -> os.stat_result | None:
        """See to it that the file is there and nobody else's; returns what it is, or `None` if there is none."""
        if create:
            os.makedirs(path.parent, mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            _refuse_foreign(path.parent, stat.S_ISDIR)
            return _refuse_foreign(path, stat.S_ISREG)
        except FileNotFoundError:
            return None

    def _set_aside(self, path: Path, found: os.stat_result, error: Exception) -> None:
        """Move a damaged file out of the way, unless another process has done so already."""
        with _healing(path.parent):
            if not _still(path, found):
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}-journal")
            os.replace(path, f"{path}.corrupt")
        message = "activitysmith_track moved a damaged outbox aside, to %s.corrupt (told once): %s"
        self.warn_once("damaged", message, path, error)

    def _tell(self, error: Exception) -> None:
        kind = type(error), getattr(error, "errno", None) or str(error)
        where = self._path or self._directory or "the user's state directory"
        self.warn_once(kind, "activitysmith_track cannot use its outbox in %s (told once): %s", where, error)

    def warn_once(self, kind: object, message: str, *details: object) -> None:
        """Log what goes wrong, once for each kind of it."""
        mine = object()
        if len(self._told) < 100 and self._told.setdefault(kind, mine) is mine:
            logger.warning(message, *details)


def _state_directory() -> str:
    with importing():  # as in `load`
        from platformdirs import user_state_dir

    return user_state_dir("activitysmith-track", appauthor=False)


def _refuse_foreign(path: Path, is_kind: Callable[[int], bool]) -> os.stat_result:
    """Return what is there; refuse a link, another kind of file, and what others own or may write to."""
    found = os.lstat(path)
    if not is_kind(found.st_mode):
        raise _Refused(f"{path.name} is a link, or no {'directory' if is_kind is stat.S_ISDIR else 'file'}")
    if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise _Refused(f"{path.name} belongs to another user, or others may write to it")
    return found


def _transaction(path: Path, work: Callable[[sqlite3.Connection], Result], is_late: Callable[[], bool]) -> Result:
    """Open the file, do something in one transaction, and close it again."""
    base = _connect(path, is_late)
    try:
        _patiently(base, "BEGIN IMMEDIATE", is_late)
        schema = frozenset(base.execute("SELECT type, name, sql FROM sqlite_master"))
        if schema not in _SCHEMAS:
            raise _Alien("it holds other tables")
        if not _ENTRIES & schema:
            base.execute(_TABLE)
        result = work(base)
        for table in ("entries", "marks") if has_marks(base) else ("entries",):
            if not base.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                base.execute(f"DROP TABLE {table}")  # without any, the file is cut to its first page
        _patiently(base, "COMMIT", is_late)
        return result
    finally:
        base.close()  # which rolls back what was not committed


def has_marks(base: sqlite3.Connection) -> bool:
    """Tell whether there is a table of marks; it is made when there is a first one."""
    return base.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone() is not None


def _connect(path: Path, is_late: Callable[[], bool]) -> sqlite3.Connection:
    import sqlite3

    base = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None)
    try:
        base.text_factory = _text
        base.set_progress_handler(_Steps(), _STEPS)
        new = (f"page_size = {_PAGE}", "auto_vacuum = FULL") if os.path.getsize(path) == 0 else ()
        for pragma in (*_PRAGMAS, *new):
            _patiently(base, f"PRAGMA {pragma}", is_late)
    except BaseException:
        base.close()
        raise
    return base


def _patiently(base: sqlite3.Connection, statement: str, is_late: Callable[[], bool]) -> None:
    """Execute what may find the file locked, again and again until it is late; SQLite waits longer each time."""
    import sqlite3

    while True:
        try:
            base.execute(statement)
        except sqlite3.OperationalError as error:
            if str(error) != _LOCKED or is_late():
                raise
            time.sleep(random.uniform(0.001, 0.01))
        else:
            return


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class _Steps:
    """Interrupts SQLite in a damaged file through which it would walk for hours."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS // _STEPS

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def _broken(error: Exception, path: Path) -> bool:
    """Tell damage, which stays, from a file that is locked, full or out of reach."""
    import sqlite3

    if isinstance(error, sqlite3.DatabaseError):
        marked = str(error) == _READ_ONLY and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        return marked or str(error) not in _PASSING
    return isinstance(error, (_Alien, UnicodeDecodeError))  # SQLite repeats damaged text in its messages


def _still(path: Path, found: os.stat_result) -> bool:
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)


@contextlib.contextmanager
def _healing(directory: Path) -> Iterator[None]:
    """Let one process at a time set a file aside, where the system can lock a directory."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover  # Windows, where a file that is open cannot be moved anyway
        yield
        return
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # NFS locks only what is open for writing
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep two threads from using a file at once, and a fork from happening meanwhile.

    Closing any descriptor of a file drops all of a process's POSIX locks on it, those of another thread too; and a
    child that is forked in the middle of a call inherits SQLite's own locks, with nobody to release them.

    Raises:
        TimeoutError: where the other call takes too long; at once in a signal handler that has interrupted a call.
    """
    lock, thread = storing.lock, threading.get_ident()
    if thread in _busy or not lock.acquire(timeout=TURN_SECONDS):
        raise TimeoutError("another thread is using it")
    _busy.add(thread)
    try:
        yield
    finally:
        _busy.discard(thread)
        lock.release()


children.append(_busy.clear)
