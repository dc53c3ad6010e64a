"""How to test code that this library instruments: `python -m pytest examples/test_reindex.py`.

The `phone` fixture comes with the library: a simulated phone on a clock that stands until the test moves it.
"""

import pytest

from activitysmith_track import live_progress, step, track_steps


class Shop:
    """The code under test: it takes a minute for 100 documents, and cannot index empty ones."""

    def __init__(self, wait):
        self.wait = wait

    def reindex(self, documents):
        with live_progress("reindex", total=len(documents)) as progress:
            for document in documents:
                self.wait(0.6)
                if not document:
                    raise ValueError("an empty document")
                progress.advance()

    @track_steps("publish", steps=["Build", "Upload"])
    def publish(self):
        self.wait(90)
        step("Upload")
        self.wait(30)


def test_the_card_follows_the_job(phone):
    seen = []

    def wait(seconds):
        phone.advance(seconds)
        if "reindex" in phone.cards:
            seen.append(phone.card("reindex").percentage)

    Shop(wait).reindex(["words"] * 100)
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert 100 not in seen
    card = phone.card("reindex")
    assert (card.percentage, card.color, card.ended) == (100, "green", True)
    assert not card.over_budget
    assert phone.pushes == []


def test_a_failure_is_told(phone):
    with pytest.raises(ValueError, match="an empty document"):
        Shop(phone.advance).reindex(["words"] * 42 + [""] + ["words"] * 57)
    assert phone.card("reindex").percentage == 42
    assert phone.card("reindex").color == "red"
    assert "an empty document" in phone.push("reindex failed").message


def test_steps_show_at_once(phone):
    seen = []

    def wait(seconds):
        phone.advance(seconds)
        seen.append((phone.card("publish").current_step, phone.card("publish").subtitle))

    Shop(wait).publish()
    assert seen == [(1, "Build"), (2, "Upload")]


def test_the_job_does_not_notice_that_the_service_is_down(phone):
    with phone.fault("status", status=503):
        Shop(phone.advance).reindex(["words"] * 10)
        assert phone.cards == {}
    phone.advance(minutes=5)
    assert phone.card("reindex").color == "green"
