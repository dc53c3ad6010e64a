"""The demo: real work on Python's own standard library, and the Lock Screen that it moves.

Each job here is written as a user would write it; `Screen` only watches the simulated phone.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any

from . import flush, live_timer, override, step, track, track_steps
from ._interrupt import wait_for_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .simulator import Card, Simulator

COMPRESSED_BYTES = 16_000_000  # enough to take a while, and not so much that the demo takes longer than 40 s
BAR = 24  # characters


# ------------------------------------------------------------------------------------------------------ the jobs


def source_files() -> list[str]:
    """Find the standard library's own modules."""
    found: list[str] = []
    for folder, folders, names in os.walk(os.path.dirname(os.__file__)):
        folders[:] = [each for each in folders if each not in ("__pycache__", "site-packages", "dist-packages")]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def hash_files(files: list[str]) -> dict[str, str]:
    """Hash every file: a loop with a percentage."""
    digests = {}
    for path in track(files, "Hash the standard library"):
        with open(path, "rb") as file:
            digests[path] = hashlib.sha256(file.read()).hexdigest()
    return digests


@track_steps("Compress it", steps=["Read", "Deflate", "bzip2", "LZMA", "Verify"], icon="archivebox.fill")
def compress(files: list[str]) -> dict[str, int]:
    """Compress what fits into a few megabytes: named steps."""
    data = b"".join(_contents(files))
    sizes = {}
    step("Deflate")
    sizes["deflate"] = len(zlib.compress(data, 6))
    step("bzip2")
    sizes["bzip2"] = len(bz2.compress(data))
    step("LZMA")
    packed = lzma.compress(data, preset=2)
    sizes["lzma"] = len(packed)
    with step("Verify"):
        if lzma.decompress(packed) != data:
            raise ValueError("what was unpacked differs from what was packed")
    return sizes


def _contents(files: list[str]) -> Iterator[bytes]:
    total = 0
    for path in files:
        with open(path, "rb") as file:
            content = file.read()
        total += len(content)
        if total > COMPRESSED_BYTES:
            return
        yield content


@track_steps("Publish the digests", steps=["Sign", "Upload"], on_failure=True)
def publish(digests: dict[str, str]) -> None:
    """Fail, as uploads do: a red card, and a push that says what, where and after how long."""
    manifest = "\n".join(f"{digest}  {os.path.basename(path)}" for path, digest in digests.items())
    hashlib.sha256(manifest.encode()).hexdigest()
    step("Upload")
    raise ConnectionRefusedError("mirror.example refused the upload (token=not-for-your-lock-screen)")


def work(say: Any) -> None:
    """Run the jobs, with a clock beside them."""
    done = threading.Event()
    clock = threading.Thread(target=_clock, args=(done,))
    clock.start()
    try:
        files = source_files()
        digests = hash_files(files)
        say(f"hashed {len(digests):,} files")
        sizes = compress(files)
        say("compressed: " + ", ".join(f"{name} {size:,} bytes" for name, size in sizes.items()))
        try:
            publish(digests)
        except ConnectionRefusedError:
            say("the upload failed, as it was meant to")
    finally:
        done.set()
        clock.join()


def _clock(done: threading.Event) -> None:
    with live_timer("Demo", icon="timer"):
        done.wait()


# ----------------------------------------------------------------------------------------------- the two ways to run


def run_simulated(*, keep: bool = False) -> int:
    """Run the demo on a simulated phone and print what that shows; with `keep` leave its Lock Screen up."""
    from .simulator import Simulator

    with Simulator() as sim, override(api_key=sim.api_key, base_url=sim.base_url, enabled=True):
        if keep:
            print(f"Lock Screen: {sim.url}", flush=True)
        with _screen(sim) as screen:
            work(screen.say)
            delivered = flush(60)
        print(summary(sim))
        if keep:
            print(f"\nThe Lock Screen stays at {sim.url} until Ctrl-C.", flush=True)
            wait_for_interrupt()
    return 0 if delivered else 1


def run_live() -> int:
    """Run the demo against the real service; the phone shows it."""
    print("Look at your phone: the demo runs against the real service.")
    with override(enabled=True):
        work(print)
        delivered = flush(30)
    print("Everything was delivered." if delivered else "Not everything could be delivered; the log says why.")
    return 0 if delivered else 1


def summary(sim: Simulator) -> str:
    """Say what was sent, and whether each card stayed within its budget of updates."""
    requests = sim.requests
    refused = [each for each in requests if each.status >= 400]
    lines = ["", f"Sent: {len(requests)} requests, {len(refused)} of them refused; {len(sim.pushes)} push(es)."]
    for card in sim.cards.values():
        verdict = "over its budget" if card.over_budget else "within its budget of 12"
        lines.append(f"  {card.title}: start, {card.updates} update(s), {verdict}, end")
    lines += [f"  push: {push.title}: {' / '.join((push.message or '').splitlines())}" for push in sim.pushes]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- the screen


def describe_card(card: Card) -> str:
    """Write a card in one line, as its Lock Screen reads."""
    parts = [f"{card.title}:", _figure(card), card.subtitle or ""]
    state = f"[ended, {card.color}]" if card.ended else ""
    return " ".join(part for part in (*parts, state) if part)


def _figure(card: Card) -> str:
    if card.type == "progress":
        percentage = card.percentage or 0
        filled = round(percentage / 100 * BAR)
        return f"{'#' * filled}{'.' * (BAR - filled)} {percentage:.0f} %"
    if card.type == "segmented_progress":
        steps, at = card.number_of_steps or 1, card.current_step or 0
        return f"{'[#]' * at}{'[ ]' * (steps - at)}"
    return "(clock)" if card.type == "timer" and not card.ended else ""


class PlainScreen:
    """Prints each change of a card, and each push, as a line."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._seen: dict[str, str] = {}
        self._pushes = 0
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> PlainScreen:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._left.set()
        self._thread.join()
        self._show()

    def _watch(self) -> None:
        while not self._left.wait(0.1):
            self._show()

    def _show(self) -> None:
        for key, card in self._sim.cards.items():
            line = describe_card(card)
            if self._seen.get(key) != line:
                self._seen[key] = line
                self.say(line)
        pushes = self._sim.pushes
        for push in pushes[self._pushes :]:
            self.say(f"PUSH {push.title}: {' / '.join((push.message or '').splitlines())}")
        self._pushes = len(pushes)

    def say(self, line: str) -> None:
        """Print a line of the job's own."""
        with self._lock:
            print(line, flush=True)


class RichScreen(PlainScreen):
    """Draws the Lock Screen in the terminal, over and over."""

    def __enter__(self) -> RichScreen:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(self._draw(), console=self._console, refresh_per_second=10)
        self._live.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        super().__exit__(*failure)
        self._live.__exit__(None, None, None)

    def _show(self) -> None:
        self._live.update(self._draw())

    def say(self, line: str) -> None:
        """Print a line of the job's own, above the screen."""
        self._console.print(line, highlight=False, markup=False)

    def _draw(self) -> Any:
        from rich.console import Group

        cards = [_panel(card) for card in self._sim.cards.values()]
        return Group(*cards, *(_banner(push) for push in self._sim.pushes))


def _panel(card: Card) -> Any:
    from rich.panel import Panel
    from rich.text import Text

    color = {"gray": "bright_black", "lime": "bright_green", "orange": "dark_orange", "purple": "medium_purple"}
    style = color.get(card.color or "blue", card.color or "blue")
    body = Text(" ".join(part for part in (_figure(card).replace("#", "█").replace(".", "░"), card.subtitle) if part))
    return Panel(body, title=Text(card.title or ""), title_align="left", border_style=style, width=72)


def _banner(push: Any) -> Any:
    from rich.panel import Panel
    from rich.text import Text

    return Panel(Text(push.message or ""), title=Text(f"● {push.title}"), title_align="left", width=72)


def _screen(sim: Simulator) -> PlainScreen:
    if not sys.stdout.isatty():
        return PlainScreen(sim)
    try:
        import rich  # noqa: F401  # only whether it is there
    except ImportError:
        return PlainScreen(sim)
    return RichScreen(sim)
