"""The Lock Screen in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from patience import PATIENCE
from playwright.sync_api import Browser, Page, expect, sync_playwright

from activitysmith_track import Action, live_progress, live_timer
from activitysmith_track.simulator import Simulator
from activitysmith_track.testing import Phone, capture

pytestmark = [pytest.mark.once, pytest.mark.real]

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
LINK = {"title": "Log", "type": "open_url", "url": "https://ops.example.com/log"}
HOOK = {"title": "Pause", "type": "webhook", "url": "https://ops.example.com/pause"}
APP = {"title": "Run", "type": "open_url", "url": "shortcuts://run-shortcut?name=Jarvis"}
ALL_TYPES: dict[str, dict[str, Any]] = {
    "progress": {"percentage": 42, "badge": {"title": "S3", "color": "cyan"}, "icon": {"symbol": "bolt.fill"}},
    "segmented_progress": {
        "number_of_steps": 4,
        "current_step": 3,
        "step_color": "red",
        "step_colors": ["green", "green"],
    },
    "metrics": {
        "metrics": [{"label": "CPU", "value": 76, "unit": "%", "color": "yellow"}, {"label": "Up", "value": "3 d"}]
    },
    "stats": {
        "metrics": [{"label": f"L{n}", "value": n, "color": c} for n, c in enumerate(("lime", "orange", "gray"))]
    },
    "alert": {"message": "Lumen came back", "icon": {"symbol": "unknown.symbol", "color": "magenta"}},
    "timer": {"duration_seconds": 300, "color": "purple"},
    "value": {"value": "$1,240", "color": "green", "badge": {"title": "up 18%", "color": "purple"}},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for this module: CI installs it, and may not go without."""
    if CHROMIUM is None and os.environ.get("CI"):
        pytest.fail("chromium is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1_000)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE * 1_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must stay without errors, and ask nobody but the simulator."""
    page = browser.new_page(viewport={"width": 1240, "height": 1000})
    page.set_default_timeout(PATIENCE * 1_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if "//127.0.0.1:" not in request.url else None)
    yield page
    page.close()
    assert [
        problem for problem in problems if "ERR_CONNECTION" not in problem and "ERR_INCOMPLETE" not in problem
    ] == []


@pytest.fixture
def phone() -> Iterator[Phone]:
    """A phone on a clock that stands."""
    with capture(slots=20) as captured:
        yield captured


def ask(sim: Simulator, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send one request that must succeed."""
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    answer = httpx.request(method, sim.base_url + path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def put(sim: Simulator, key: str, body: dict[str, Any] | None = None, **state: Any) -> None:
    """Start or update a stream."""
    ask(sim, "PUT", f"/live-activity/stream/{key}", {"content_state": {"title": key, **state}, **(body or {})})


def show_everything(sim: Simulator) -> None:
    """Fill the phone with every type, pushes, widgets and a badge."""
    for kind, state in ALL_TYPES.items():
        buttons = {"action": HOOK, "secondary_action": LINK} if kind == "segmented_progress" else {"action": APP}
        put(sim, kind.replace("_", "-"), buttons, type=kind, subtitle="of the day", **state)
    ask(
        sim,
        "POST",
        "/push-notification",
        {
            "title": "Failed",
            "message": "ValueError: no",
            "interruption_level": "time-sensitive",
            "actions": [LINK, HOOK, APP],
        },
    )
    ask(
        sim,
        "POST",
        "/push-notification",
        {
            "title": "Image",
            "subtitle": "s",
            "media": "https://cdn.example.com/a.png",
            "icon": "https://cdn.example.com/i.png",
            "redirection": "https://a.example/",
        },
    )
    ask(sim, "POST", "/metrics/deploys.today/value", {"value": 7})
    ask(sim, "POST", "/badge", {"badge": 8})


def test_a_percentage_moves_without_a_reload(page: Page, phone: Phone) -> None:
    """A tracked job's bar follows it on the page that is open."""
    page.goto(phone.simulator.url)
    page.evaluate("window.stayed = true")
    with live_progress("reindex", total=100) as progress:
        progress.advance(10)
        phone.advance(1)
        bar = page.get_by_role("progressbar", name="reindex")
        expect(bar).to_have_attribute("aria-valuenow", "10")
        progress.advance(40)
        phone.advance(60)
        expect(bar).to_have_attribute("aria-valuenow", "50")
        expect(page.locator("article .figure")).to_have_text("50 %")
        progress.advance(50)
    phone.settle()
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(page.locator("article")).to_have_attribute("data-color", "green")
    expect(page.locator("article")).to_contain_text("leaves in 5 min")
    phone.advance(minutes=6)
    expect(page.locator("article")).to_have_count(0)
    assert page.evaluate("window.stayed") is True


def test_a_failing_job(page: Page, phone: Phone) -> None:
    """It turns red, and its push appears, is announced, and expands to its buttons."""
    page.goto(phone.simulator.url)
    expect(page.locator("#connection")).to_have_text("live")
    from activitysmith_track import Push

    wanted = Push(
        actions=[
            Action.open_url("Log", "https://ops.example.com/log"),
            Action.webhook("Retry", "https://a.example/retry"),
        ]
    )
    with pytest.raises(OSError, match="disk full"), live_progress("import", total=4, on_failure=wanted) as progress:
        progress.advance(1)
        raise OSError("disk full")
    assert phone.push("import failed")
    card = page.locator("article")
    expect(card).to_have_attribute("data-color", "red")
    expect(card.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    shown = page.locator("details.push")
    expect(shown).to_contain_text("OSError: disk full")
    expect(page.locator("#announcements")).to_contain_text("import failed")
    expect(shown.get_by_role("link", name="Log")).not_to_be_visible()
    shown.locator("summary").focus()
    page.keyboard.press("Enter")
    link = shown.get_by_role("link", name="Log")
    expect(link).to_be_visible()
    assert (link.get_attribute("href"), link.get_attribute("rel")) == (
        "https://ops.example.com/log",
        "noopener noreferrer",
    )
    shown.get_by_role("button", name="Retry").click()
    expect(page.locator("#taps")).to_contain_text("https://a.example/retry · recorded")
    assert [(tap.title, tap.outcome) for tap in phone.simulator.taps] == [("Retry", "recorded")]


def test_a_timer_ticks(page: Page) -> None:
    """A countdown moves on the page without any request, at the clock's speed, and stands while it is paused."""
    with Simulator(speed=10) as sim:
        page.goto(sim.url)
        put(sim, "bake", type="timer", duration_seconds=3000)
        clock = page.locator("article [data-timer]")
        expect(clock).not_to_have_text("50:00")
        seen = [str(clock.text_content())]
        for _ in range(2):
            expect(clock).not_to_have_text(seen[-1])
            seen.append(str(clock.text_content()))
        assert seen == sorted(seen, reverse=True)
        put(sim, "bake", type="timer", is_running=False)
        expect(page.locator("article")).to_contain_text("paused")
        stood = clock.text_content()
        page.wait_for_timeout(600)
        assert clock.text_content() == stood
        put(sim, "bake", type="timer", is_running=True)
        expect(clock).not_to_have_text(str(stood))
        assert len(sim.requests) == 3


def test_an_elapsed_timer_of_the_library(page: Page, phone: Phone) -> None:
    """`live_timer` counts up, and freezes at its end."""
    page.goto(phone.simulator.url)
    with live_timer("demo"):
        phone.advance(75)
        expect(page.locator("article [data-timer]")).to_have_text("1:15")
    phone.advance(60)
    expect(page.locator("article [data-timer]")).to_have_text("1:15")


def test_text_stays_text(page: Page, phone: Phone) -> None:
    """Markup in any field is shown as it was written, and never runs."""
    sim = phone.simulator
    page.goto(sim.url)
    for kind, state in ALL_TYPES.items():
        hurt = {**state, "title": EVIL, "subtitle": EVIL, "icon": {"symbol": EVIL}}
        if "metrics" in state:
            hurt["metrics"] = [{"label": EVIL, "value": EVIL[:64], "unit": EVIL}]
        if kind == "alert":
            hurt["message"] = EVIL
        if kind in ("alert", "value"):
            hurt["badge"] = {"title": EVIL}
        button = {"title": EVIL, "type": "webhook", "url": "https://a.example/", "body": {EVIL: EVIL}}
        ask(
            sim,
            "PUT",
            f"/live-activity/stream/{kind.replace('_', '-')}",
            {"content_state": {"type": kind, **hurt}, "action": button, "alert": {"title": EVIL, "body": EVIL}},
        )
    ask(
        sim,
        "POST",
        "/push-notification",
        {"title": EVIL, "message": EVIL, "subtitle": EVIL, "media": "https://a.example/<img>"},
    )
    ask(sim, "POST", "/metrics/m/value", {"value": EVIL[:64]})
    httpx.post(f"{sim.base_url}/{EVIL}", json={EVIL: EVIL}, headers={"Authorization": f"Bearer {sim.api_key}"})
    expect(page.locator("article h3").first).to_have_text(EVIL)
    expect(page.locator("details.push strong")).to_have_text(EVIL)
    page.locator("details.push summary").click()
    expect(page.locator("#log li")).to_have_count(len(ALL_TYPES) + 3)  # or the first one would be another in a moment
    page.locator("#log summary").first.click()
    expect(page.locator("#log pre").first).to_contain_text("<img")
    page.locator("article button.action").first.click()
    expect(page.locator("#taps")).to_contain_text("<img")
    assert page.evaluate("window.pwned") is None
    assert page.locator("article img, #log img, script:not([src])").count() == 0


def test_dangerous_links_are_no_links(page: Page, phone: Phone) -> None:
    """Only web addresses become links; an app's address is a button."""
    put(phone.simulator, "k", {"action": APP, "secondary_action": LINK}, type="value", value=1)
    page.goto(phone.simulator.url)
    expect(page.locator("article").get_by_role("button", name="Run")).to_be_visible()
    hrefs = [each.get_attribute("href") or "" for each in page.get_by_role("link").all()]
    assert hrefs == ["https://ops.example.com/log"]


def test_it_reconnects_after_a_restart(page: Page) -> None:
    """A page that stays open finds the next simulator at the same address, and forgets the one before."""
    with Simulator() as sim:
        port = sim.port
        page.goto(sim.url)
        put(sim, "before", type="value", value=1)
        expect(page.locator("article h3")).to_have_text("before")
    expect(page.locator("#connection")).to_have_text("reconnecting …")
    with Simulator(port=port) as sim:
        put(sim, "after", type="value", value=2)
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("article h3")).to_have_text("after")
        expect(page.locator("#log li")).to_have_count(1)


def test_what_was_throttled_is_marked(page: Page, phone: Phone) -> None:
    """Past the budget the card says that it is stale, the log says why, and the chart tells true from shown."""
    page.goto(phone.simulator.url)
    for number in range(15):
        put(phone.simulator, "job", type="progress", percentage=number)
    expect(page.locator("article.stale")).to_contain_text("Throttled by iOS: 2 updates not shown, again in")
    expect(page.locator("article .figure")).to_have_text("12 %")
    expect(page.locator("#counts")).to_have_text("The last 15: 13 sent, 2 over budget")
    expect(page.get_by_role("img", name="job: Last sent 14 %, the screen shows 12 %")).to_be_visible()
    phone.simulator.tell_truth("job", 20)
    expect(page.locator(".chart path.true")).to_have_attribute("d", re.compile(r"^M[\d.]+,82\.0 H600\.0$"))
    expect(page.locator(".chart figcaption")).to_contain_text("The job is at 20 %, the screen shows 12 %")
    page.get_by_role("combobox", name="Show").select_option("over budget")
    expect(page.locator("#log li")).to_have_count(2)
    phone.advance(hours=1.1)
    put(phone.simulator, "job", type="progress", percentage=30)
    expect(page.locator("article .figure")).to_have_text("30 %")
    expect(page.locator("article.stale")).to_have_count(0)


def test_the_desk(page: Page, phone: Phone) -> None:
    """The clock is moved and sped up, the island opens, a card is swiped away, and everything is forgotten."""
    put(phone.simulator, "job", type="progress", percentage=5)
    page.goto(phone.simulator.url)
    expect(page.locator("#pace")).to_contain_text("It stands until it is moved; 0:00")
    page.get_by_role("button", name="+ 10 min").click()
    expect(page.locator("#pace")).to_contain_text("10:00")
    page.get_by_label("Speed").select_option("60")
    expect(page.locator("#pace")).to_contain_text("60;")
    island = page.get_by_role("button", name="Dynamic Island: job")
    island.click()
    expect(island).to_have_attribute("aria-expanded", "true")
    expect(island).to_contain_text("5 %")
    page.get_by_role("button", name="Swipe job away").focus()
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_count(0)
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator("#counts")).to_have_text("Nothing yet.")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("#theme")).to_have_attribute("aria-pressed", "true")
    colors = [
        page.locator(each).evaluate("each => getComputedStyle(each).backgroundColor") for each in ("#theme", ".bar")
    ]
    assert colors[0] != colors[1]
    assert page.locator("#banner").get_attribute("aria-live") == "polite"


def test_all_types_are_drawn(page: Page, phone: Phone) -> None:
    """Every type has its own look; pushes stack; the app's icon carries its badge."""
    show_everything(phone.simulator)
    for number in range(3):
        ask(phone.simulator, "POST", "/push-notification", {"title": f"older {number}"})
    page.goto(phone.simulator.url)
    kinds = ["progress", "segmented_progress", "metrics", "stats", "alert"]
    for kind in kinds:  # five cards at most
        expect(page.locator(f"article.type-{kind}")).to_have_count(1)
    assert page.locator("article.type-segmented_progress .segment.on").count() == 3
    assert page.locator("article.type-segmented_progress .segment.tint-red").count() == 1
    assert page.locator("article.type-metrics .tick.on").count() == 15
    for key in ("progress", "segmented-progress"):
        ask(
            phone.simulator,
            "DELETE",
            f"/live-activity/stream/{key}",
            {"content_state": {"title": key, "auto_dismiss_seconds": 0}},
        )
    expect(page.locator("article.type-timer .value")).to_have_text("5:00")
    expect(page.locator("article.type-value .value")).to_have_text("$1,240")
    expect(page.get_by_role("button", name="4 more")).to_be_visible()
    expect(page.get_by_role("img", name="ActivitySmith, badge 8")).to_be_visible()
    expect(page.locator(".widget")).to_have_text("deploys.today7")


def send(sim: Simulator, title: str, **body: Any) -> None:
    """Send a push."""
    ask(sim, "POST", "/push-notification", {"title": title, **body})


def test_pushes_stack(page: Page, phone: Phone) -> None:
    """Only the newest push is read; the edges of two more peek out, and all of them come with a press."""
    for number in range(5):
        send(phone.simulator, f"push {number}")
    page.goto(phone.simulator.url)
    pushes = page.locator("details.push")
    expect(pushes).to_have_count(5)
    shown = [pushes.nth(index) for index in range(5)]
    expect(shown[0]).to_contain_text("push 4")
    boxes = [each.bounding_box() for each in shown]
    assert [box and box["height"] > 20 for box in boxes] == [True, False, False, None, None]
    toggle = page.get_by_role("button", name="4 more")
    toggle.focus()
    page.keyboard.press("Enter")
    less = page.get_by_role("button", name="Show less")
    expect(less).to_be_focused()
    for each in shown:
        expect(each.locator("strong")).to_be_visible()
    shown[2].locator("summary").click()
    less.click()
    expect(shown[2].locator("strong")).not_to_be_visible()


def test_focus_stays(page: Page, phone: Phone) -> None:
    """What is focused or open does not go behind a newer push, and focus that is swiped away stays on the phone."""
    sim = phone.simulator
    send(sim, "first", actions=[HOOK])
    page.goto(sim.url)
    first = page.locator("details.push", has_text="first")
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    for number in range(3):
        send(sim, f"newer {number}")
        expect(page.locator("details.push")).to_have_count(2 + number)
        expect(first.locator("summary")).to_be_focused()
        expect(first.get_by_role("button", name="Pause")).to_be_visible()
    first.get_by_role("button", name="Dismiss").focus()
    page.keyboard.press("Enter")
    expect(first).to_have_count(0)
    expect(page.get_by_role("region", name="On the Lock Screen", exact=True)).to_be_focused()


def test_touch(browser: Browser, phone: Phone) -> None:
    """Where there is no pointer to hover with, the button that swipes a card away is always seen."""
    put(phone.simulator, "job", type="progress", percentage=5)
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1_000)
    page.goto(phone.simulator.url)
    expect(page.get_by_role("button", name="Swipe job away")).to_have_css("opacity", "1")
    page.get_by_role("button", name="Swipe job away").tap()
    expect(page.locator("article")).to_have_count(0)
    context.close()


def test_the_screen_scrolls(page: Page, phone: Phone) -> None:
    """The phone keeps its shape whatever it shows, and the keyboard scrolls what has no room."""
    sizes = []
    for fill in (lambda: None, lambda: show_everything(phone.simulator)):
        fill()
        page.goto(phone.simulator.url)
        expect(page.locator("#connection")).to_have_text("live")
        box = page.locator(".screen").bounding_box()
        assert box is not None
        sizes.append((box["width"], box["height"]))
    assert sizes[0] == sizes[1]
    assert sizes[0][1] / sizes[0][0] == pytest.approx(844 / 390, rel=0.01)
    expect(page.locator(".unstack")).to_be_visible()
    page.locator("#scroll").focus()
    page.keyboard.press("End")
    expect(page.locator(".unstack")).to_be_in_viewport()


def test_faults_and_pauses_are_seen(page: Page, phone: Phone) -> None:
    """What was set for the service stands on the page, and can be taken away there."""
    sim = phone.simulator
    page.goto(sim.url)
    listed = page.locator("#set li")
    expect(page.locator("#set-section")).to_be_hidden()
    sim.fault("status", status=503, path="/live-activity/*", method="put")
    sim.pause("job")
    expect(listed).to_have_text(
        [re.compile(r"status 503 PUT /live-activity/\* · hit 0 . Take away"), re.compile("paused job Resume")]
    )
    page.get_by_role("button", name="Take away").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#set-section")).to_be_hidden()
    assert (list(sim.faults), sim.service.paused) == ([], [])


def test_absurd_durations(page: Page, phone: Phone) -> None:
    """A timer of more time than anybody has is still drawn in a few characters."""
    put(phone.simulator, "eon", type="timer", duration_seconds=1e300)
    put(phone.simulator, "blink", type="timer", duration_seconds=1e-300)
    page.goto(phone.simulator.url)
    expect(page.locator("article .value")).to_have_text(["> 9999 h", "0:01"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(page: Page, phone: Phone, theme: str) -> None:
    """axe-core finds no serious issue, with everything on the screen and unfolded."""
    show_everything(phone.simulator)
    for number in range(15):
        put(phone.simulator, "progress", type="progress", percentage=number)
    httpx.post(f"{phone.simulator.base_url}/badge", json={})
    for round_number in range(2):
        page.goto(f"{phone.simulator.url}?theme={theme}")
        expect(page.locator("article")).to_have_count(5)
        page.get_by_role("button", name="1 more").click()
        for summary in page.locator("details.push > summary").all():
            summary.click()
        page.locator("#log summary").first.click()
        found = Axe().run(page).response
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"]) for each in serious] == []
        assert len(found["passes"]) > 10
        if round_number == 0:  # the two types that had no room
            for key in ("progress", "segmented-progress"):
                ask(
                    phone.simulator,
                    "DELETE",
                    f"/live-activity/stream/{key}",
                    {"content_state": {"title": key, "auto_dismiss_seconds": 0}},
                )


@pytest.mark.parametrize("width", [360, 820, 1600])
def test_it_fits(page: Page, phone: Phone, width: int) -> None:
    """Nothing sticks out sideways, down to 360 pixels, whatever the length of a word."""
    show_everything(phone.simulator)
    put(
        phone.simulator,
        "value",
        type="value",
        title="W" * 200,
        subtitle="x" * 300,
        value="9" * 100,
        badge={"title": "B" * 100},
    )
    ask(phone.simulator, "POST", "/push-notification", {"title": "T" * 200, "message": "m" * 500})
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(phone.simulator.url)
    expect(page.locator("article").first).to_be_visible()
    expect(page.locator("details.push").first).to_contain_text("TTTT")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    put(phone.simulator, "progress", type="progress", percentage=43)
    expect(page.locator(".axis").first).to_be_visible()
    for axis in page.locator(".axis").all():
        assert axis.evaluate("each => each.getBoundingClientRect().height") >= 11
    box = page.locator(".screen").bounding_box()
    assert box is not None
    for element in page.locator(".screen article, .screen .push").all():
        inner = element.bounding_box()
        assert inner is not None
        assert box["x"] <= inner["x"]
        assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 0.5
