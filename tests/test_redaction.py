"""Which texts hold secrets, and what is left of them."""

from __future__ import annotations

import random
from typing import Any

import internals
import pytest
from sly import Sly

from activitysmith_track._exceptions import describe
from activitysmith_track._redaction import WITHHELD, scrub

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
        shown = describe(ValueError("." + " " * before + key + " and more" * 10))
        assert "as_k" not in scrub(shown, (key,))


def test_a_cut_leaves_out_the_word_that_it_goes_through() -> None:
    """The word at the cut may be half a secret; one that is longer than any secret is cut 256 characters earlier."""
    assert scrub("word " * 799 + "last!") == "word " * 799 + "last!"
    assert scrub("word " * 799 + "cutoff") == "word " * 799
    assert scrub("x " + "y" * 5_000) == "x " + "y" * (4_000 - 256 - 2)
    assert scrub("x" * (4_000 - 256) + " " + "y" * 5_000) == "x" * (4_000 - 256) + " "


def withheld(hook: Any) -> bool:
    """Tell whether a message is withheld because of its hook."""
    return scrub("password=abc of Jane", redact=hook) == WITHHELD


def test_the_hook_has_the_last_word() -> None:
    """The user's hook sees what was scrubbed."""
    assert scrub("password=abc of Jane", redact=lambda text: text.replace("Jane", "J.")) == "password=*** of J."
    assert scrub("x", redact=lambda text: text * 10**6) == "x" * 4_000


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

    internals.use_patterns(monkeypatch, Watching())
    for text in ("x" * 10**6, "x " * 10**6, " " * 10**6, "\n" * 10**6 + "x"):
        assert len(scrub(text)) <= 4_000
        error = ValueError(text)
        error.__cause__ = KeyError(text)
        assert len(scrub(describe(error))) < 4_100
        assert len(describe(type("T" * 10**6, (Exception,), {})(text))) < 4_100
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
        assert isinstance(describe(ValueError(unit * 4_000)), str)
        scrub(unit * 4_000)
    for _ in range(300):
        scrub("".join(rng.choice(ADVERSARIAL) * rng.randrange(1, 40) for _ in range(60)))
