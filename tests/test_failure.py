"""How an exception becomes words, and what never does."""

from __future__ import annotations

import json
import sys

import pytest

from activitysmith_track._failure import exit_words, scrub, shorten, span, where, words

SECRETS = [
    "Authorization: Bearer abc.def-123",
    "bearer AbCdEf123456",
    "Basic dXNlcjpwYXNz",
    "https://user:abc123@db.example/x",
    "postgres://u:abc123@db:5432/x",
    "redis://:abc123@cache",
    "password=abc123",
    "PASSWORD = abc123",
    "db_password: abc123",
    'password="abc123 with spaces"',
    "{'password': 'abc123', 'user': 'x'}",
    '{"api_key": "abc123"}',
    "api-key=abc123&x=1",
    "apikey=abc123",
    "client_secret=abc123",
    "token=abc123;",
    "access_token: abc123",
    "AWS_SECRET_ACCESS_KEY=abc123",
    "AKIAABCDEFGHIJKLMNOP",
    "passwd=abc123",
    "?sig=1&token=abc123",
    "credentials=abc123",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_scrubbed(text: str) -> None:
    """Tokens, passwords and keys in their usual spellings are hidden."""
    shown = scrub(f"failed: {text} at row 3")
    assert "***" in shown
    for secret in ("abc", "dXNlcjpwYXNz", "AbCdEf", "AKIA"):
        assert secret not in shown
    assert "failed" in shown


@pytest.mark.parametrize(
    "text",
    [
        "row 4711 has no price",
        "KeyError: 'tokenizer'",
        "the password is wrong",
        "https://example.com/a:b",
        "a basic mistake",
        "author: Jane",
        "no such file: /tmp/x",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """What only looks a little like a secret is not hidden."""
    assert scrub(text) == text


def test_the_key_itself_is_scrubbed() -> None:
    """The API key is hidden wherever it stands, and no key hides nothing."""
    assert scrub("x-my-key-y", ("my-key", None, "")) == "x-***-y"


def test_the_hook_has_the_last_word() -> None:
    """The user's hook sees what was scrubbed; where it fails, nothing of the message is kept."""
    assert scrub("password=abc of Jane", redact=lambda text: text.replace("Jane", "J.")) == "password=*** of J."

    def broken(text: str) -> str:
        raise ValueError(text)

    assert scrub("password=abc of Jane", redact=broken) == "(message withheld: the redact hook failed)"


def test_long_messages_are_bounded() -> None:
    """Of a megabyte only the beginning is looked at."""
    assert len(scrub("x" * 10**6)) == 4_000
    assert len(words(ValueError("x " * 10**6))) < 4_100


class Unreadable(Exception):
    """An exception whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_words() -> None:
    """An exception is its type and its message on one line."""
    assert words(ValueError("bad\n  row")) == "ValueError: bad row"
    assert words(ValueError()) == "ValueError"
    assert words(Unreadable()) == "Unreadable: (its message cannot be read)"
    assert exit_words(SystemExit("no disk")) == "no disk"
    assert exit_words(SystemExit(3)) == "exit code 3"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_words_of_a_group() -> None:
    """A group says what it says itself."""
    group = ExceptionGroup("two failed", [ValueError("a"), KeyError("b")])  # noqa: F821  # 3.11 and later
    assert words(group) == "ExceptionGroup: two failed (2 sub-exceptions)"


def test_where() -> None:
    """The place is the user's own frame, not one of a library that it called."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert where(caught.value.__traceback__).startswith("test_where() in test_failure.py:")
    assert where(None) == ""
    try:
        exec(compile("1/0", "job.py", "exec"), {})
    except ZeroDivisionError as error:
        place = where(error.__traceback__)
    assert place == "<module> in job.py:1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (0.96, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599, "1 h"),
        (3 * 3600 + 300, "3 h 5 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    """Durations are written for people."""
    assert span(seconds) == text


def test_shorten() -> None:
    """A cut can be seen."""
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"
