"""The README and the documentation: every block of them runs, and the commands are those that are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from internals import default_settings
from patience import PATIENCE

import activitysmith_track as at
from activitysmith_track.blocks.option_table import OPTIONS
from activitysmith_track.simulator import Simulator
from activitysmith_track.testing import capture

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README": README, **{page.stem: page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}}
BLOCKS = {
    f"{name}-{number}": block
    for name, text in PAGES.items()
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
}
LINKS = [
    (name, link)
    for name, text in PAGES.items()
    for link in re.findall(r"\]\(([^)#]+)\)", text)
    if not link.startswith("https:")
]


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs(phone: Simulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A reader can paste the block, and nothing of it is refused by the service; a test that it defines passes."""
    before = vars(default_settings())
    defined = {"__name__": "__main__"}
    flush = at.Tracker.flush
    monkeypatch.setattr(at.Tracker, "flush", lambda tracker, timeout=0.0: flush(tracker, max(timeout, PATIENCE)))
    try:
        exec(compile(BLOCKS[name], f"block {name}", "exec"), defined)
        assert at.flush(60)
    finally:
        at.configure(**before)
    assert [request for request in phone.requests if request.status >= 400] == []
    for test in [value for key, value in defined.items() if key.startswith("test_")]:
        with capture() as captured:
            test(captured)  # type: ignore[operator]


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_links_lead_somewhere(name: str, link: str) -> None:
    """What a page refers to is there."""
    folder = ROOT if name == "README" else ROOT / "docs"
    assert (folder / link).exists()


def test_there_are_blocks() -> None:
    """The README shows code, and its first screen the two commands."""
    assert sum(name.startswith("README") for name in BLOCKS) >= 8
    first_screen = "\n".join(README.splitlines()[:30])
    assert 'python -m pip install ".[simulator]" && python -m activitysmith_track demo' in first_screen
    assert 'python -m pip install ".[test]" && pytest' in first_screen


def test_options_are_all_named() -> None:
    """The table of the README is that of the checks."""
    section = README.partition("## Options")[2].partition("\n- ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "| `" in line]
    table = [
        [f"`{name}`", each.meaning, each.shown_by, "yes" if each.pushes else ""] for name, each in OPTIONS.items()
    ]
    assert rows[1:] == table


@pytest.mark.skipif(not (ROOT / ".ci" / "run").exists(), reason="a source distribution has no .ci")
def test_ci_runs_the_commands_of_the_readme() -> None:
    """What CI calls is what a reader is told to call."""
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in re.search(r"```console\n(.*?)```", README, re.DOTALL)[1].splitlines():  # type: ignore[index]
        assert command in run
