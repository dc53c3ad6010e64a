"""How an exception becomes words, and what never does."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from activitysmith_track import _failure
from activitysmith_track._failure import (
    UNREADABLE,
    WITHHELD,
    exit_words,
    host,
    place,
    scrub,
    shorten,
    span,
    where,
    words,
)

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
OPENAI = "sk-" + "proj-abc123abc123abc123abc123"
SLACK = "xoxb" + "-1234567890-abcabcabcabc"
STRIPE = "sk_" + "live_abc123abc123abc123"
MORE_SECRETS = [
    "postgres://user:p@abc123@db.example/x",
    "postgres://user:p%40abc123@db.example/x",
    "mysql://user:p/abc123@db",
    "https://abc123token@github.example/x.git",
    "amqp://user:abc:123@mq:5672//",
    "Authorization: Token abc123",
    "authorization=abc123",
    "{'Authorization': 'Bearer abc123'}",
    "{'Authorization': b'Basic abc123='}",
    "[('Authorization', 'Bearer abc123'), ('Accept', 'x')]",
    "[(b'x-api-key', b'abc123')]",
    "Proxy-Authorization: Basic abc123",
    "Cookie: session=abc123; other=abc123;",
    "Bearer abc123.def",
    "'--password', 'abc123'",
    "mysql --password abc123 --host db",
    'tool --api-key "abc123 abc"',
    "tool --token=abc123",
    "curl -u user:abc123 https://x.example",
    "['curl', '--user', 'user:abc123']",
    "password: |  abc123",
    "password => abc123",
    "password -> abc123",
    "assert password == 'abc123'",
    "password='abc\\'123'",
    'password="abc\\"123"',
    r"{\"password\": \"abc123\"}",
    "password=b'abc123'",
    "password=abc,123",
    "password=a'abc123",
    'password="abc123 with no end',
    '{"url":"x?token=abc123","user":"y"}',
    "dbPassword=abc123",
    '"clientSecret": "abc123"',
    '"accessToken":"abc123"',
    "secretAccessKey: abc123",
    "AccountKey=abc123==;EndpointSuffix=x",
    "SharedAccessKey=abc123=",
    "private_key=abc123",
    "PGPASSWORD=abc123",
    "PASS=abc123",
    "?sv=1&sig=abc123%3D",
    "<password>abc123</password>",
    "<db:secret>abc123</db:secret>",
    "('AKIAABCDEFGHIJKLMNOP', 'abcdEFGHabcdEFGHabcdEFGHabcdEFGHabcd/+12')",
    "aws_secret_access_key = abcdEFGHabcdEFGHabcdEFGHabcdEFGHabcd/+12",
    "gh" + "p_abcabcabcabcabcabcabcabcabcabcabcabc",
    "github_" + "pat_abcabcabcabcabcabcabcabc",
    f"key {SLACK}",
    "https://hooks.slack.com/services/abc/abc/abc123",
    f"key {STRIPE}",
    f"Incorrect API key provided: {OPENAI}.",
    "eyJ" + "abcabcabc.abcabcabc.abcabcabc",
    "AI" + "zaabcabcabcabcabcabcabcabcabcabcabcabcabc",
    "-----BEGIN RSA PRIVATE KEY-----\nabc123\nabc123\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY----- abc123 abc123",
]


@pytest.mark.parametrize("text", SECRETS + MORE_SECRETS)
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
        "invalid bearer authentication",
        "https://example.com/a@b",
        "http://example.com:8080/users/a@b",
        "mail jane@example.com",
        "max_tokens=512 is too many",
        "token_count=512, token_type: bearer, password_file=/etc/x",
        "password=None",
        "KeyError: 'password'",
        "config=1, design=2, author=x, compass=3",
        "first pass: 3 of 4",
        "a - b -- c",
        "ratio 3:4",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """What only looks a little like a secret is not hidden."""
    assert scrub(text) == text


def test_the_key_itself_is_scrubbed() -> None:
    """The API key is hidden wherever it stands, and no key hides nothing."""
    assert scrub("x-my-key-y", ("my-key", None, "")) == "x-***-y"
    assert scrub("?k=my%2Fkey%3D1", ("my/key=1",)) == "?k=***"


def test_the_key_is_scrubbed_whatever_surrounds_it() -> None:
    """The key is hidden where it is glued to other characters and where a text is cut next to it."""
    key = "as_key_0123456789abcdef"
    for before in range(3_960, 4_010):
        shown = scrub("x " * (before // 2) + "y" * (before % 2) + key + " z" * 100, (key,))
        assert "as_key" not in shown
    for before in range(3_900, 4_010):
        shown = words(ValueError("." + " " * before + key + " and more" * 10))
        assert "as_k" not in scrub(shown, (key,))


def test_parts_are_scrubbed_before_they_are_cut() -> None:
    """Where the parts of a chain or a group are shortened, no half of a secret is left."""
    for length in range(40, 160):
        error = RuntimeError("r" * length + " password='hunter2 hunter2'")
        error.__cause__ = ValueError("v " * (length // 2) + "Bearer hunter2.hunter2")
        assert "hunt" not in scrub(words(error))
        key = "as_key_0123456789abcdef"
        error.__cause__ = ValueError("v " * (length // 2) + key)
        assert "as_k" not in scrub(words(error), (key,))


def withheld(hook: Any) -> bool:
    """Tell whether a message is withheld because of its hook."""
    return scrub("password=abc of Jane", redact=hook) == WITHHELD


def test_the_hook_has_the_last_word() -> None:
    """The user's hook sees what was scrubbed."""
    assert scrub("password=abc of Jane", redact=lambda text: text.replace("Jane", "J.")) == "password=*** of J."
    assert scrub("x", redact=lambda text: text * 10**6) == "x" * 4_000


class Sly(str):
    """A string that is not what it seems."""

    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __getitem__(self, at: Any) -> str:
        raise RuntimeError


def test_a_hook_that_fails() -> None:
    """Where the hook fails, nothing of the message is kept, and not even its SystemExit gets out."""

    def raising(error: BaseException) -> Any:
        def hook(text: str) -> str:
            raise error

        return hook

    for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError()):
        assert withheld(raising(error))
    assert withheld(lambda text: None)
    assert withheld(lambda text: b"bytes")
    assert withheld(lambda: "takes nothing")
    assert scrub("x", redact=lambda text: Sly("fine")) == "fine"


def test_long_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a megabyte only the beginning is looked at, and no pattern ever sees more."""
    seen: list[int] = []

    class Watching:
        def sub(self, hidden: str, text: str) -> str:
            seen.append(len(text))
            return text

    monkeypatch.setattr(_failure, "_patterns", lambda: ((Watching(), ""),))
    for text in ("x" * 10**6, "x " * 10**6, " " * 10**6, "\n" * 10**6 + "x"):
        assert len(scrub(text)) <= 4_000
        error = ValueError(text)
        error.__cause__ = KeyError(text)
        assert len(scrub(words(error))) < 4_100
        assert len(words(type("T" * 10**6, (Exception,), {})(text))) < 4_100
    assert max(seen) <= 4_100
    assert scrub("word " * 10**6).endswith("word ")


ADVERSARIAL = [
    *(
        "a",
        "-",
        "_",
        "a-",
        "a.",
        "a:/",
        "a://",
        "a://b:",
        "u:p@",
        "\\",
        '\\"',
        '"',
        "'",
        "<a",
        "<password",
        "password",
    ),
    *(
        "password=",
        'password="',
        "token ",
        "token_",
        "--a",
        "--token ",
        "-u a:",
        "bearer a",
        "Basic a",
        "authorization: ",
    ),
    *(
        "-----BEGIN A-----",
        "-----",
        "eyJaaaaaaa.",
        "sk-",
        "AKIAABCDEFGHIJKLMNOP",
        "12345678:",
        "SG.aaaaaaaaaaaaaaaaa.",
    ),
    *("x-", "cookie',", "= ", "pass =", "secretA", " ", "password:| ", "password=,", ";a", "&", "\x1b[", "\u202e"),
]


def test_no_pattern_is_led_astray() -> None:
    """Texts made to have patterns walk back over them come through, alone and one after the other."""
    rng = random.Random(3)
    for unit in ADVERSARIAL:
        assert isinstance(words(ValueError(unit * 4_000)), str)
        scrub(unit * 4_000)
    for _ in range(300):
        scrub("".join(rng.choice(ADVERSARIAL) * rng.randrange(1, 40) for _ in range(60)))


class Unreadable(Exception):
    """An exception whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_words() -> None:
    """An exception is its type and its message on one line."""
    assert words(ValueError("bad\n  row")) == "ValueError: bad row"
    assert words(ValueError()) == "ValueError"
    assert words(Unreadable()) == f"Unreadable: {UNREADABLE}"
    assert words(ValueError("\x1b[31mred\x1b[0m \x00nul \u202espoof")) == "ValueError: red nul spoof"


def test_exit_words() -> None:
    """An exit is its text, or its code."""
    assert exit_words(SystemExit("no disk")) == "no disk"
    assert exit_words(SystemExit("a: b\nc")) == "a: b c"
    assert exit_words(SystemExit(3)) == "exit code 3"
    assert exit_words(SystemExit(True)) == "exit code 1"
    assert exit_words(SystemExit(ValueError("no"))) == "no"
    assert exit_words(SystemExit(10**5_000)) == "exit code out of range"
    assert exit_words(ValueError("no code")) == "exit code 0"
    assert exit_words(SystemExit(Unreadable())) == UNREADABLE


@pytest.mark.parametrize("inner", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_a_message_that_fails(inner: type[BaseException]) -> None:
    """Whatever an exception's own words raise stays inside."""

    class Failing(Exception):
        def __str__(self) -> str:
            raise inner

        @property
        def exceptions(self) -> Any:
            raise inner

        @property
        def code(self) -> int:
            raise inner

        message = __notes__ = property(lambda self: (_ for _ in ()).throw(inner))  # type: ignore[assignment]

    assert words(Failing()) == f"Failing: {UNREADABLE}"
    assert exit_words(Failing()) == "exit code 0"


def test_odd_messages() -> None:
    """A message that is no string, or a string that is not what it seems, is told as well as it can be."""

    class NoText(Exception):
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]

    class Slyly(Exception):
        def __str__(self) -> str:
            return Sly("fine")

    assert words(NoText()) == f"NoText: {UNREADABLE}"
    assert words(Slyly()) == "Slyly: fine"
    assert words(ValueError("\ud800 half")).encode("utf-8", "replace") == b"ValueError: ? half"


def test_odd_names() -> None:
    """A type's name with odd characters, of any length, is told on one line, and a metaclass cannot hide it."""

    class Meta(type):
        __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]

    assert words(type("Two\nlines\x1b[1m", (Exception,), {})("x")) == "Two lines: x"
    assert len(words(type("N" * 10_000, (Exception,), {})())) == 80
    assert words(type("", (Exception,), {})("x")) == "?: x"
    assert words(Meta("Odd", (Exception,), {})("x")) == "Odd: x"


def test_notes() -> None:
    """Short notes are told, long ones and odd ones are not."""

    class Noted(Exception):
        __notes__: Any = None

    error = Noted("x")
    assert words(error) == "Noted: x"
    error.__notes__ = ["row 7\nof 9", "y" * 200, "never"]
    assert words(error) == "Noted: x; row 7 of 9"
    error.__notes__ = [3, "", "file a"]
    assert words(error) == "Noted: x"


# -------------------------------------------------------------------------------------------------- causes


def chain(*errors: BaseException, explicit: bool = True) -> BaseException:
    """Link exceptions: each comes from the next."""
    for error, cause in itertools.pairwise(errors):
        if explicit:
            error.__cause__ = cause
        else:
            error.__context__ = cause
    return errors[0]


def test_causes() -> None:
    """An exception that was raised from another says so."""
    assert words(chain(RuntimeError("no rows"), KeyError("a"))) == "RuntimeError: no rows (because of KeyError: 'a')"
    several = chain(RuntimeError("x"), ValueError("y"), OSError("z"))
    assert words(several) == "RuntimeError: x (because of ValueError: y, because of OSError: z)"


def test_contexts() -> None:
    """One that was raised while another was handled says that, unless it was told not to."""
    error = chain(RuntimeError("no rows"), KeyError("a"), explicit=False)
    assert words(error) == "RuntimeError: no rows (after KeyError: 'a')"
    error.__suppress_context__ = True
    assert words(error) == "RuntimeError: no rows"
    assert words(chain(RuntimeError("x"), StopIteration(3), explicit=False)) == "RuntimeError: x"


def test_a_cause_that_is_repeated() -> None:
    """What the message says already is not said again."""
    assert words(chain(RuntimeError("cannot load: no such row"), ValueError("no such row"))) == (
        "RuntimeError: cannot load: no such row"
    )


def test_long_chains() -> None:
    """Of a long chain the first and the last are told, and all of them are short enough for the phone."""
    said = words(chain(*(ValueError(f"{number} " + "x " * 200) for number in range(500))))
    assert said.startswith("ValueError: 0 x")
    assert "because of ValueError: 1 x" in said
    assert "…, because of ValueError: 99 x" in said
    assert len(said) < 330


def test_chains_that_bite_their_tails() -> None:
    """A cycle of causes or contexts ends where it begins again."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert words(first) == "ValueError: a (because of KeyError: 'b')"
    third = ValueError("c")
    third.__cause__ = third
    assert words(third) == "ValueError: c"


def test_a_full_stack() -> None:
    """Where there is no room left to look closely, the type is told at least."""

    class Deep(Exception):
        pass

    def shrinking(_: object) -> Iterator[object]:
        raise RecursionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_failure, "_links", shrinking)
        assert words(Deep("x")) == "Deep"


# -------------------------------------------------------------------------------------------------- groups


class Group(Exception):
    """What the backport's groups look like."""

    def __init__(self, message: object, exceptions: Any) -> None:
        super().__init__(message)
        self.message, self.exceptions = message, exceptions


def test_words_of_a_group() -> None:
    """A group says how many errors it holds, and which."""
    assert words(Group("two failed", [ValueError("a"), KeyError("b")])) == (
        "2 errors (two failed): ValueError: a; KeyError: 'b'"
    )
    assert words(Group("unhandled errors in a TaskGroup", (ValueError("a"),))) == "1 error: ValueError: a"
    assert words(Group("", [ValueError(str(number)) for number in range(9)])) == (
        "9 errors: ValueError: 0; ValueError: 1; ValueError: 2; ValueError: 3; 5 more"
    )
    assert words(Group(3, [ValueError("a"), Group("", [KeyError("b"), OSError("c")])])) == (
        "2 errors: ValueError: a; (2 errors: KeyError: 'b'; OSError: c)"
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_words_of_a_real_group() -> None:
    """Python's own groups are told in the same way, causes included."""
    group = ExceptionGroup("two failed", [ValueError("a"), KeyError("b")])  # noqa: F821  # 3.11 and later
    assert words(chain(group, OSError("disk"))) == (
        "2 errors (two failed): ValueError: a; KeyError: 'b' (because of OSError: disk)"
    )


def test_groups_are_bounded() -> None:
    """However deep, long or self-contained, a group is told in a few words."""
    nested: BaseException = ValueError("x")
    for _ in range(2_000):
        nested = Group("m " * 500, [nested, ValueError("y " * 500)])
    assert len(words(nested)) < 1_500
    itself = Group("a", [])
    itself.exceptions = [itself] * 10**5
    assert len(words(itself)) < 2_500


@pytest.mark.parametrize("members", [[], (), None, "ab", [ValueError("a"), 3], {ValueError("a"): 1}])
def test_what_only_looks_like_a_group(members: Any) -> None:
    """An attribute of that name that holds anything else is ignored."""
    assert words(Group("x", members)) == "Group: x"


def test_the_place_of_a_group() -> None:
    """A group comes from where its first error did; one without a traceback from where it was raised itself."""
    try:
        exec(compile("1/0", "job.py", "exec"), {})
    except ZeroDivisionError as error:
        inner = error
    assert place(Group("g", [inner])) == place(inner) == "<module> in job.py:1"
    with contextlib.suppress(Group):
        group = Group("g", [ValueError()])
        raise group
    assert place(group).startswith("test_the_place_of_a_group() in test_failure.py:")
    assert place(ValueError()) == ""
    for _ in range(5):
        group = Group("g", [group])
    assert place(group) == ""


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's name is short."""
    assert "." not in host()
    monkeypatch.setattr("platform.node", lambda: "n" * 100 + ".example")
    assert len(host()) == 40


def test_odd_places() -> None:
    """Functions and files of any name are told on one line."""
    try:
        exec(compile("1/0", os.path.join("d", "two\nlines" + "x" * 500), "exec"), {})
    except ZeroDivisionError as error:
        told = place(error)
    assert told.startswith("<module> in two linesxxx")
    assert len(told) < 120


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
