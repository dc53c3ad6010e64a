"""How an exception becomes words, and what never does."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from activitysmith_track import _failure
from activitysmith_track._failure import (
    UNREADABLE,
    WITHHELD,
    exit_words,
    host,
    late,
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


def test_a_secret_is_scrubbed_before_the_text_is_shortened() -> None:
    """Where a cut goes through the middle of a password, the half before the cut is hidden too."""
    error = ValueError("x" * 60 + ' password="hunter2 ' + "hunter2 " * 40 + '"')
    error.__cause__ = KeyError("a")
    assert words(error) == f"ValueError: {'x' * 60} password=*** (because of KeyError: 'a')"
    group = Group("g password='hunter2 " + "hunter2 " * 9 + "'", [ValueError("a")])
    assert words(group) == "1 error (g password=***): ValueError: a"
    assert scrub(words(Group("g password=hunter2", [ValueError("a")]))) == "1 error (g password=***): ValueError: a"


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
    assert exit_words(SystemExit(-999_999_999)) == "exit code -999999999"
    assert exit_words(SystemExit(-(10**9))) == exit_words(SystemExit(10**9)) == "exit code out of range"
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
    error.__notes__ = ["file a", "y" * 80, "never"]
    assert words(error) == f"Noted: x; file a; {'y' * 80}"
    error.__notes__ = ["y" * 81]
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
    both = chain(chain(RuntimeError("x"), KeyError("cause")), ValueError("context"), explicit=False)
    assert words(both) == "RuntimeError: x (because of KeyError: 'cause')"


def test_a_cause_that_is_repeated() -> None:
    """What the message says already is not said again."""
    assert words(chain(RuntimeError("cannot load: no such row"), ValueError("no such row"))) == (
        "RuntimeError: cannot load: no such row"
    )
    assert words(chain(RuntimeError("x"), KeyError())) == "RuntimeError: x (because of KeyError)"
    assert words(chain(*(ValueError("x") for _ in range(9)))) == "ValueError: x"
    told = words(chain(ValueError("no a"), ValueError("b"), ValueError("c"), ValueError("a")))
    assert told == "ValueError: no a (because of ValueError: b)"
    long = "x " * 400
    assert words(chain(ValueError(long), KeyError(long))).count("x x x") > 1
    assert "because" not in words(chain(OSError(long), ValueError(long)))  # the one is cut a little earlier


def test_long_chains() -> None:
    """Of a long chain the first and the last are told, and all of them are short enough for the phone."""
    said = words(chain(*(ValueError(f"{number} " + "x " * 200) for number in range(500))))
    assert said.startswith("ValueError: 0 x")
    assert "because of ValueError: 1 x" in said
    assert "…, because of ValueError: 99 x" in said
    assert len(said) < 330


def test_three_links_are_told_in_full() -> None:
    """Nothing is left out of a chain of three; of four the one before the last is."""
    errors = [ValueError("a"), KeyError(1), OSError("c"), TypeError("d")]
    assert "…" not in words(chain(*errors[:3]))
    assert words(chain(*errors)) == "ValueError: a (because of KeyError: 1, …, because of TypeError: d)"


@pytest.mark.parametrize(("links", "room"), [(1, 4_000), (2, 150), (3, 90)])
def test_each_link_has_its_room(links: int, room: int) -> None:
    """The more there is to tell, the less room each has; what fits to the character is not cut."""
    for length, cut in ((room, False), (room + 1, True)):
        texts = [chr(ord("a") + link) * (length - len("ValueError: ")) for link in range(links)]
        said = words(chain(*(ValueError(text) for text in texts)))
        assert ("…" in said) == cut
        assert all((text in said) != cut for text in texts)


def test_chains_that_bite_their_tails() -> None:
    """A cycle of causes or contexts ends where it begins again."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert words(first) == "ValueError: a (because of KeyError: 'b')"
    third = ValueError("c")
    third.__cause__ = third
    assert words(third) == "ValueError: c"
    for error, count in ((first, 2), (third, 1)):  # nor does it take a thousand rounds
        assert len(list(itertools.islice(_failure._links(error), 1_000))) == count


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
    assert words(Group("multiple connection attempts failed", [OSError("a")])) == "1 error: OSError: a"
    assert words(Group("", [ValueError(str(number)) for number in range(4)])).endswith("ValueError: 3")
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


def test_groups_are_told_to_a_depth_of_three() -> None:
    """The members of a group in a group in a group are told, those of one deeper are only counted."""
    nested: BaseException = ValueError("x")
    said = []
    for _ in range(4):
        nested = Group("", [nested])
        said.append(words(nested))
    assert said[2] == "1 error: (1 error: (1 error: ValueError: x))"
    assert said[3] == "1 error: (1 error: (1 error: (1 error)))"


@pytest.mark.parametrize(("members", "room"), [(1, 290), (2, 140), (4, 65)])
def test_each_member_of_a_group_has_its_room(members: int, room: int) -> None:
    """Members share the 300 characters of a message; with other links around them they have 40 at least."""
    for longest, outer in ((room, None), (max(40, 150 // members - 10), KeyError("outer"))):
        fits, long = (ValueError("x" * (longest - len("ValueError: ") + more)) for more in (0, 1))
        for member, cut in ((fits, False), (long, True)):
            group = Group("", [member] * members)
            said = words(group if outer is None else chain(group, outer))
            assert said.count(str(member)) == (0 if cut else members)
            assert said.count("…") == (members if cut else 0)


def test_a_long_title_of_a_group_is_cut() -> None:
    """Sixty characters of it fit; of a single word that is longer nothing is shown, for it may be a secret."""
    assert words(Group("t" * 61, [ValueError("a")])) == "1 error (…): ValueError: a"
    assert words(Group("t" * 60, [ValueError("a")])) == f"1 error ({'t' * 60}): ValueError: a"
    assert (
        words(Group("title " * 10 + "t", [ValueError("a")])) == f"1 error ({('title ' * 10).strip()}…): ValueError: a"
    )


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
    nested: BaseException = inner
    for depth in range(1, 6):  # groups in groups are looked into, but not for ever
        nested = Group("g", [nested])
        assert place(nested) == ("<module> in job.py:1" if depth <= 3 else "")


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's name is short."""
    assert "." not in host()
    monkeypatch.setattr("platform.node", lambda: "n" * 100 + ".example")
    assert host() == "n" * 39 + "…"
    monkeypatch.setattr("platform.node", lambda: "build-7.lab.example")
    assert host() == "build-7"


def test_odd_places() -> None:
    """Functions and files of any name are told on one line."""
    try:
        exec(compile("1/0", os.path.join("d", "two\nlines" + "x" * 500), "exec"), {})
    except ZeroDivisionError as error:
        told = place(error)
    assert told == f"<module> in two lines{'x' * 70}…:1"
    names: dict[str, Any] = {}
    exec(compile(f"def {'f' * 100}(): 1/0", "job.py", "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["f" * 100]()
    assert where(caught.value.__traceback__) == f"{'f' * 79}… in job.py:1"


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


def raised_in(file: str) -> BaseException:
    """Return an exception that came from a file, which code in `job.py` had called."""
    names: dict[str, Any] = {}
    exec(compile("def inner(): raise ValueError", file, "exec"), names)
    exec(compile("def outer(): inner()", "job.py", "exec"), names)
    with pytest.raises(ValueError) as caught:
        names["outer"]()
    return caught.value


HERE = os.path.dirname(_failure.__file__)


@pytest.mark.parametrize(
    "file",
    [
        os.path.join("venv", "lib", "site-packages", "lib.py"),
        os.path.join("usr", "dist-packages", "lib.py"),
        os.path.join(HERE, "decorators.py"),
        json.__file__,
        "<frozen importlib._bootstrap>",
    ],
)
def test_code_of_others_is_not_the_place(file: str) -> None:
    """The frames of installed libraries, of this one, of Python's own and of what is frozen into it are passed."""
    assert place(raised_in(file)) == "outer() in job.py:1"


@pytest.mark.parametrize("file", ["site-packages.py", os.path.join("lib", "ours_of_mine.py"), "<string>", "<stdin>"])
def test_code_of_ones_own_is_the_place(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """A file is not taken for a library's because of a name that looks like one."""
    monkeypatch.setattr(_failure, "_OURS", os.path.join("lib", "ours") + os.sep)  # the library's folder
    assert place(raised_in(file)) == f"inner() in {os.path.basename(file)}:1"


def test_a_place_in_a_library_is_better_than_none() -> None:
    """Where all frames are a library's, the innermost is named."""
    names: dict[str, Any] = {}
    exec(compile("def inner(): raise ValueError\ndef outer(): inner()", "<frozen x>", "exec"), names)
    with pytest.raises(ValueError) as caught:
        names["outer"]()
    trace = caught.value.__traceback__
    assert trace is not None
    assert where(trace.tb_next) == "inner() in <frozen x>:1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (0, "0.0 s"),
        (0.94, "0.9 s"),
        (0.95, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (3660, "1 h 1 min"),
        (86_340, "23 h 59 min"),
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
    assert shorten("ab cd", 4) == "ab…"


# -------------------------------------------------------------------------------------------------- what is late

HAPPENED = 1_700_000_000.0
CLOCK = time.strftime("%H:%M", time.localtime(HAPPENED))


def test_a_push_that_is_late_says_so() -> None:
    """A push says on a line of its own when it happened and how long ago, and what was given is not changed."""
    body = {"title": "t", "message": "ValueError: x"}
    told = late(body, HAPPENED, HAPPENED + 7200, "push")
    assert told == {"title": "t", "message": f"ValueError: x\n(happened {CLOCK}, 2 h ago)"}
    assert body == {"title": "t", "message": "ValueError: x"}
    assert late({"title": "t"}, HAPPENED, HAPPENED + 7200, "push")["message"] == f"Happened {CLOCK}, 2 h ago"


@pytest.mark.parametrize("kind", ["end", "keep"])
def test_an_end_that_is_late_says_so(kind: str) -> None:
    """An end, and a last update, say it in the subtitle; nothing else of the card changes."""
    body = {"content_state": {"title": "t", "subtitle": "Done", "percentage": 100}, "action": "x"}
    told = late(body, HAPPENED, HAPPENED + 90, kind)
    assert told == {
        "content_state": {"title": "t", "subtitle": f"Done (happened {CLOCK}, 2 min ago)", "percentage": 100},
        "action": "x",
    }
    assert body["content_state"] == {"title": "t", "subtitle": "Done", "percentage": 100}
    assert late({"action": "x"}, HAPPENED, HAPPENED + 90, kind) == {"action": "x"}


@pytest.mark.parametrize(("kind", "longest"), [("push", 600), ("end", 150)])
def test_what_is_late_has_room_to_say_so(kind: str, longest: int) -> None:
    """A text that fills its room is shortened for the note, which is never cut."""
    text = "x" * longest
    told = late({"message": text, "content_state": {"subtitle": text}}, HAPPENED, HAPPENED + 90, kind)
    said = told["message"] if kind == "push" else told["content_state"]["subtitle"]
    assert len(said) == longest
    assert said.endswith(f"…{chr(10) if kind == 'push' else ' '}(happened {CLOCK}, 2 min ago)")


@pytest.mark.parametrize(
    ("seconds", "is_late"),
    [(-5.0, False), (0.0, False), (60.0, False), (60.5, True), (1e9 - 1, True), (1e9, False), (2e9, False)],
)
def test_what_counts_as_late(seconds: float, is_late: bool) -> None:
    """Less than a minute is not late, and decades are no delay but a clock that was wrong."""
    told = late({"message": "x"}, HAPPENED, HAPPENED + seconds, "push")
    assert ("happened" in told["message"]) == is_late
