"""Take the pictures of the Lock Screen page that the documentation shows: `python docs/screenshots.py`.

It needs the `test` extra and a Chromium; everything on the pictures went through the simulator over HTTP, most of it
from tracked blocks.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from activitysmith_track import Action, ActivitySmith, Metric, Push, live_progress, live_steps
from activitysmith_track.testing import Phone, capture

IMAGES = Path(__file__).resolve().parent / "images"
WIDE, NARROW = {"width": 1280, "height": 1110}, {"width": 360, "height": 860}
LOG = Action.open_url("Open log", "https://ops.example.com/log")
RETRY = Action.webhook("Retry", "https://ops.example.com/retry")
TYPES: dict[str, dict[str, Any]] = {
    "reindex": {
        "type": "progress",
        "subtitle": "18 min left",
        "percentage": 42,
        "icon": {"symbol": "magnifyingglass"},
        "badge": {"title": "shard 3", "color": "cyan"},
    },
    "nightly-backup": {
        "type": "segmented_progress",
        "subtitle": "Upload",
        "number_of_steps": 4,
        "current_step": 3,
        "color": "blue",
        "step_color": "cyan",
        "step_colors": ["green", "green"],
        "icon": {"symbol": "externaldrive.fill"},
    },
    "prod-web-1": {
        "type": "metrics",
        "subtitle": "Frankfurt",
        "metrics": [Metric("CPU", 76, unit="%", color="yellow"), Metric("Memory", 48, unit="%", color="cyan")],
        "icon": {"symbol": "server.rack"},
    },
    "sales-today": {
        "type": "stats",
        "subtitle": "until 14:00",
        "metrics": [
            Metric("Orders", 128, color="lime"),
            Metric("Revenue", "$4,210", color="green"),
            Metric("Refunds", 2, color="orange"),
            Metric("Visitors", "9.4 k", color="purple"),
        ],
    },
    "sensor": {
        "type": "alert",
        "subtitle": "Greenhouse",
        "message": "The temperature is back to 21 degrees.",
        "icon": {"symbol": "thermometer", "color": "orange"},
        "badge": {"title": "OK", "color": "green"},
        "color": "orange",
    },
    "sourdough": {"type": "timer", "subtitle": "Second rise", "duration_seconds": 2_700, "color": "purple"},
    "balance": {
        "type": "value",
        "subtitle": "since Monday",
        "value": "$12,480",
        "color": "green",
        "badge": {"title": "up 18 %", "color": "green"},
    },
}


def show_types(phone: Phone, keys: list[str]) -> None:
    """Put cards of these kinds on the screen."""
    sim = phone.simulator
    with ActivitySmith(sim.api_key, base_url=sim.base_url) as service:
        for key in keys:
            buttons = {"action": LOG, "secondary_action": RETRY} if key == "nightly-backup" else {}
            title = key.replace("-", " ").capitalize()
            service.live_activities.stream(key, title=title, **TYPES[key], **buttons)
            phone.advance(1)


def show_desk(phone: Phone) -> None:
    """Let jobs run: one on its way, one in steps, pushes, a widget and a badge."""
    sim = phone.simulator
    with ActivitySmith(sim.api_key, base_url=sim.base_url) as service:
        show_types(phone, ["sourdough"])
        service.metrics.update("deploys.today", 7)
        service.badge_count(3)
        for title, message in (("Backup", "Verified"), ("Tests", "412 passed"), ("Deployed", "v1.2.3 is live")):
            service.notifications.send(title=title, message=message, interruption_level="passive")


def show_failure(phone: Phone) -> None:
    """Let a job fail at 63 %, with buttons on its push."""
    with contextlib.suppress(OSError), live_progress("Import orders", total=100, on_failure=_push()) as progress:
        for _ in range(63):
            progress.advance()
            phone.advance(4)
        raise OSError("disk full: /data/orders.parquet (token=s3cr3t)")
    phone.advance(2)


def _push() -> Push:
    return Push(actions=[LOG, RETRY], interruption_level="time-sensitive")


def picture(page: Page, phone: Phone, name: str, theme: str = "light", *, narrow: bool = False) -> None:
    """Save one picture."""
    page.set_viewport_size(NARROW if narrow else WIDE)  # type: ignore[arg-type]
    page.goto(f"{phone.simulator.url}?theme={theme}")
    expect(page.locator("#connection")).to_have_text("live")
    page.wait_for_timeout(500)  # for what is animated
    page.screenshot(path=str(IMAGES / f"{name}.png"))


def running(page: Page, phone: Phone) -> None:
    """Two tracked jobs on their way, in both themes and on a narrow screen."""
    show_desk(phone)
    with (
        live_progress("Reindex the shop", total=1_000, icon="magnifyingglass") as progress,
        live_steps("Nightly backup", steps=["Snapshot", "Upload", "Verify"], key="nightly-backup") as steps,
    ):
        for second in range(420):
            progress.advance(1 + second % 2)
            if second == 180:
                steps.step("Upload")
            phone.advance(1)
        picture(page, phone, "light")
        picture(page, phone, "dark", "dark")
        picture(page, phone, "narrow", "dark", narrow=True)


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        with capture(slots=20) as phone:
            running(page, phone)
        with capture(slots=20) as phone:
            show_types(phone, list(TYPES)[:4])
            picture(page, phone, "types-1")
        with capture(slots=20) as phone:
            show_types(phone, list(TYPES)[4:])
            picture(page, phone, "types-2")
        with capture(slots=20) as phone:
            show_failure(phone)
            page.goto(phone.simulator.url)
            picture(page, phone, "failure", "dark")
        browser.close()


if __name__ == "__main__":
    main()
