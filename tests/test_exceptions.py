"""How an exception becomes one line and a place, and what never does."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from typing import Any

import internals
import pytest
from sly import Sly

import activitysmith_track
from activitysmith_track._exceptions import UNREADABLE, describe, describe_exit, location, location_in
from activitysmith_track._redaction import scrub


class Unreadable(Exception):
    """An exception whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_words() -> None:
    """An exception is its type and its message on one line."""
    assert describe(ValueError("bad\n  row")) == "ValueError: bad row"
    assert describe(ValueError()) == "ValueError"
    assert describe(Unreadable()) == f"Unreadable: {UNREADABLE}"
    assert describe(ValueError("\x1b[31mred\x1b[0m \x00nul \u202espoof")) == "ValueError: red nul spoof"


def test_exit_words() -> None:
    """An exit is its text, or its code."""
    assert describe_exit(SystemExit("no disk")) == "no disk"
    assert describe_exit(SystemExit("a: b\nc")) == "a: b c"
    assert describe_exit(SystemExit(3)) == "exit code 3"
    assert describe_exit(SystemExit(True)) == "exit code 1"
    assert describe_exit(SystemExit(ValueError("no"))) == "no"
    assert describe_exit(SystemExit(10**5_000)) == "exit code out of range"
    assert describe_exit(SystemExit(-999_999_999)) == "exit code -999999999"
    assert describe_exit(SystemExit(-(10**9))) == describe_exit(SystemExit(10**9)) == "exit code out of range"
    assert describe_exit(ValueError("no code")) == "exit code 0"
    assert describe_exit(SystemExit(Unreadable())) == UNREADABLE


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

    assert describe(Failing()) == f"Failing: {UNREADABLE}"
    assert describe_exit(Failing()) == "exit code 0"


def test_odd_messages() -> None:
    """A message that is no string, or a string that is not what it seems, is told as well as it can be."""

    class NoText(Exception):
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]

    class Slyly(Exception):
        def __str__(self) -> str:
            return Sly("fine")

    assert describe(NoText()) == f"NoText: {UNREADABLE}"
    assert describe(Slyly()) == "Slyly: fine"
    assert describe(ValueError("\ud800 half")).encode("utf-8", "replace") == b"ValueError: ? half"


def test_odd_names() -> None:
    """A type's name with odd characters, of any length, is told on one line, and a metaclass cannot hide it."""

    class Meta(type):
        __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]

    assert describe(type("Two\nlines\x1b[1m", (Exception,), {})("x")) == "Two lines: x"
    assert len(describe(type("N" * 10_000, (Exception,), {})())) == 80
    assert describe(type("", (Exception,), {})("x")) == "?: x"
    assert describe(Meta("Odd", (Exception,), {})("x")) == "Odd: x"


def test_notes() -> None:
    """Short notes are told, long ones and odd ones are not."""

    class Noted(Exception):
        __notes__: Any = None

    error = Noted("x")
    assert describe(error) == "Noted: x"
    error.__notes__ = ["row 7\nof 9", "y" * 200, "never"]
    assert describe(error) == "Noted: x; row 7 of 9"
    error.__notes__ = [3, "", "file a"]
    assert describe(error) == "Noted: x"
    error.__notes__ = ["file a", "y" * 80, "never"]
    assert describe(error) == f"Noted: x; file a; {'y' * 80}"
    error.__notes__ = ["y" * 81]
    assert describe(error) == "Noted: x"


def test_parts_are_scrubbed_before_they_are_cut() -> None:
    """Where the parts of a chain or a group are shortened, no half of a secret is left."""
    for length in range(40, 160):
        error = RuntimeError("r" * length + " password='hunter2 hunter2'")
        error.__cause__ = ValueError("v " * (length // 2) + "Bearer hunter2.hunter2")
        assert "hunt" not in scrub(describe(error))
        key = "as_key_0123456789abcdef"
        error.__cause__ = ValueError("v " * (length // 2) + key)
        assert "as_k" not in scrub(describe(error), (key,))


def test_a_secret_is_scrubbed_before_the_text_is_shortened() -> None:
    """Where a cut goes through the middle of a password, the half before the cut is hidden too."""
    error = ValueError("x" * 60 + ' password="hunter2 ' + "hunter2 " * 40 + '"')
    error.__cause__ = KeyError("a")
    assert describe(error) == f"ValueError: {'x' * 60} password=*** (because of KeyError: 'a')"
    group = Group("g password='hunter2 " + "hunter2 " * 9 + "'", [ValueError("a")])
    assert describe(group) == "1 error (g password=***): ValueError: a"
    said = scrub(describe(Group("g password=hunter2", [ValueError("a")])))
    assert said == "1 error (g password=***): ValueError: a"


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
    error = chain(RuntimeError("no rows"), KeyError("a"))
    assert describe(error) == "RuntimeError: no rows (because of KeyError: 'a')"
    several = chain(RuntimeError("x"), ValueError("y"), OSError("z"))
    assert describe(several) == "RuntimeError: x (because of ValueError: y, because of OSError: z)"


def test_contexts() -> None:
    """One that was raised while another was handled says that, unless it was told not to."""
    error = chain(RuntimeError("no rows"), KeyError("a"), explicit=False)
    assert describe(error) == "RuntimeError: no rows (after KeyError: 'a')"
    error.__suppress_context__ = True
    assert describe(error) == "RuntimeError: no rows"
    assert describe(chain(RuntimeError("x"), StopIteration(3), explicit=False)) == "RuntimeError: x"
    both = chain(chain(RuntimeError("x"), KeyError("cause")), ValueError("context"), explicit=False)
    assert describe(both) == "RuntimeError: x (because of KeyError: 'cause')"


def test_a_cause_that_is_repeated() -> None:
    """What the message says already is not said again."""
    assert describe(chain(RuntimeError("cannot load: no such row"), ValueError("no such row"))) == (
        "RuntimeError: cannot load: no such row"
    )
    assert describe(chain(RuntimeError("x"), KeyError())) == "RuntimeError: x (because of KeyError)"
    assert describe(chain(*(ValueError("x") for _ in range(9)))) == "ValueError: x"
    told = describe(chain(ValueError("no a"), ValueError("b"), ValueError("c"), ValueError("a")))
    assert told == "ValueError: no a (because of ValueError: b)"
    long = "x " * 400
    assert describe(chain(ValueError(long), KeyError(long))).count("x x x") > 1
    assert "because" not in describe(chain(OSError(long), ValueError(long)))  # the one is cut a little earlier


def test_long_chains() -> None:
    """Of a long chain the first and the last are told, and all of them are short enough for the phone."""
    said = describe(chain(*(ValueError(f"{number} " + "x " * 200) for number in range(500))))
    assert said.startswith("ValueError: 0 x")
    assert "because of ValueError: 1 x" in said
    assert "…, because of ValueError: 99 x" in said
    assert len(said) < 330


def test_three_links_are_told_in_full() -> None:
    """Nothing is left out of a chain of three; of four the one before the last is."""
    errors = [ValueError("a"), KeyError(1), OSError("c"), TypeError("d")]
    assert "…" not in describe(chain(*errors[:3]))
    assert describe(chain(*errors)) == "ValueError: a (because of KeyError: 1, …, because of TypeError: d)"


@pytest.mark.parametrize(("links", "room"), [(1, 4_000), (2, 150), (3, 90)])
def test_each_link_has_its_room(links: int, room: int) -> None:
    """The more there is to tell, the less room each has; what fits to the character is not cut."""
    for length, cut in ((room, False), (room + 1, True)):
        texts = [chr(ord("a") + link) * (length - len("ValueError: ")) for link in range(links)]
        said = describe(chain(*(ValueError(text) for text in texts)))
        assert ("…" in said) == cut
        assert all((text in said) != cut for text in texts)


def test_chains_that_bite_their_tails() -> None:
    """A cycle of causes or contexts ends where it begins again."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert describe(first) == "ValueError: a (because of KeyError: 'b')"
    third = ValueError("c")
    third.__cause__ = third
    assert describe(third) == "ValueError: c"
    for error, count in ((first, 2), (third, 1)):  # nor does it take a thousand rounds
        assert len(list(itertools.islice(internals.links_read(error), 1_000))) == count


def test_a_full_stack() -> None:
    """Where there is no room left to look closely, the type is told at least."""

    class Deep(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        internals.stack_is_full(patch)
        assert describe(Deep("x")) == "Deep"


# -------------------------------------------------------------------------------------------------- groups


class Group(Exception):
    """What the backport's groups look like."""

    def __init__(self, message: object, exceptions: Any) -> None:
        super().__init__(message)
        self.message, self.exceptions = message, exceptions


def test_words_of_a_group() -> None:
    """A group says how many errors it holds, and which."""
    assert describe(Group("two failed", [ValueError("a"), KeyError("b")])) == (
        "2 errors (two failed): ValueError: a; KeyError: 'b'"
    )
    assert describe(Group("unhandled errors in a TaskGroup", (ValueError("a"),))) == "1 error: ValueError: a"
    assert describe(Group("", [ValueError(str(number)) for number in range(9)])) == (
        "9 errors: ValueError: 0; ValueError: 1; ValueError: 2; ValueError: 3; 5 more"
    )
    assert describe(Group("multiple connection attempts failed", [OSError("a")])) == "1 error: OSError: a"
    assert describe(Group("", [ValueError(str(number)) for number in range(4)])).endswith("ValueError: 3")
    assert describe(Group(3, [ValueError("a"), Group("", [KeyError("b"), OSError("c")])])) == (
        "2 errors: ValueError: a; (2 errors: KeyError: 'b'; OSError: c)"
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_words_of_a_real_group() -> None:
    """Python's own groups are told in the same way, causes included."""
    group = ExceptionGroup("two failed", [ValueError("a"), KeyError("b")])  # noqa: F821  # 3.11 and later
    assert describe(chain(group, OSError("disk"))) == (
        "2 errors (two failed): ValueError: a; KeyError: 'b' (because of OSError: disk)"
    )


def test_groups_are_bounded() -> None:
    """However deep, long or self-contained, a group is told in a few words."""
    nested: BaseException = ValueError("x")
    for _ in range(2_000):
        nested = Group("m " * 500, [nested, ValueError("y " * 500)])
    assert len(describe(nested)) < 1_500
    itself = Group("a", [])
    itself.exceptions = [itself] * 10**5
    assert len(describe(itself)) < 2_500


def test_groups_are_told_to_a_depth_of_three() -> None:
    """The members of a group in a group in a group are told, those of one deeper are only counted."""
    nested: BaseException = ValueError("x")
    said = []
    for _ in range(4):
        nested = Group("", [nested])
        said.append(describe(nested))
    assert said[2] == "1 error: (1 error: (1 error: ValueError: x))"
    assert said[3] == "1 error: (1 error: (1 error: (1 error)))"


@pytest.mark.parametrize(("members", "room"), [(1, 290), (2, 140), (4, 65)])
def test_each_member_of_a_group_has_its_room(members: int, room: int) -> None:
    """Members share the 300 characters of a message; with other links around them they have 40 at least."""
    for longest, outer in ((room, None), (max(40, 150 // members - 10), KeyError("outer"))):
        fits, long = (ValueError("x" * (longest - len("ValueError: ") + more)) for more in (0, 1))
        for member, cut in ((fits, False), (long, True)):
            group = Group("", [member] * members)
            said = describe(group if outer is None else chain(group, outer))
            assert said.count(str(member)) == (0 if cut else members)
            assert said.count("…") == (members if cut else 0)


def test_a_long_title_of_a_group_is_cut() -> None:
    """Sixty characters of it fit; of a single word that is longer nothing is shown, for it may be a secret."""
    assert describe(Group("t" * 61, [ValueError("a")])) == "1 error (…): ValueError: a"
    assert describe(Group("t" * 60, [ValueError("a")])) == f"1 error ({'t' * 60}): ValueError: a"
    said = describe(Group("title " * 10 + "t", [ValueError("a")]))
    assert said == f"1 error ({('title ' * 10).strip()}…): ValueError: a"


@pytest.mark.parametrize("members", [[], (), None, "ab", [ValueError("a"), 3], {ValueError("a"): 1}])
def test_what_only_looks_like_a_group(members: Any) -> None:
    """An attribute of that name that holds anything else is ignored."""
    assert describe(Group("x", members)) == "Group: x"


def test_the_place_of_a_group() -> None:
    """A group comes from where its first error did; one without a traceback from where it was raised itself."""
    try:
        exec(compile("1/0", "job.py", "exec"), {})
    except ZeroDivisionError as error:
        inner = error
    assert location(Group("g", [inner])) == location(inner) == "<module> in job.py:1"
    with contextlib.suppress(Group):
        group = Group("g", [ValueError()])
        raise group
    assert location(group).startswith("test_the_place_of_a_group() in test_exceptions.py:")
    assert location(ValueError()) == ""
    nested: BaseException = inner
    for depth in range(1, 6):  # groups in groups are looked into, but not for ever
        nested = Group("g", [nested])
        assert location(nested) == ("<module> in job.py:1" if depth <= 3 else "")


def test_odd_places() -> None:
    """Functions and files of any name are told on one line."""
    try:
        exec(compile("1/0", os.path.join("d", "two\nlines" + "x" * 500), "exec"), {})
    except ZeroDivisionError as error:
        told = location(error)
    assert told == f"<module> in two lines{'x' * 70}…:1"
    names: dict[str, Any] = {}
    exec(compile(f"def {'f' * 100}(): 1/0", "job.py", "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["f" * 100]()
    assert location_in(caught.value.__traceback__) == f"{'f' * 79}… in job.py:1"


def test_where() -> None:
    """The place is the user's own frame, not one of a library that it called."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert location_in(caught.value.__traceback__).startswith("test_where() in test_exceptions.py:")
    assert location_in(None) == ""
    try:
        exec(compile("1/0", "job.py", "exec"), {})
    except ZeroDivisionError as error:
        place = location_in(error.__traceback__)
    assert place == "<module> in job.py:1"


def raised_in(file: str) -> BaseException:
    """Return an exception that came from a file, which code in `job.py` had called."""
    names: dict[str, Any] = {}
    exec(compile("def inner(): raise ValueError", file, "exec"), names)
    exec(compile("def outer(): inner()", "job.py", "exec"), names)
    with pytest.raises(ValueError) as caught:
        names["outer"]()
    return caught.value


HERE = os.path.dirname(activitysmith_track.__file__)


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
    assert location(raised_in(file)) == "outer() in job.py:1"


@pytest.mark.parametrize("file", ["site-packages.py", os.path.join("lib", "ours_of_mine.py"), "<string>", "<stdin>"])
def test_code_of_ones_own_is_the_place(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """A file is not taken for a library's because of a name that looks like one."""
    internals.library_is_in(monkeypatch, os.path.join("lib", "ours"))
    assert location(raised_in(file)) == f"inner() in {os.path.basename(file)}:1"


def test_a_place_in_a_library_is_better_than_none() -> None:
    """Where all frames are a library's, the innermost is named."""
    names: dict[str, Any] = {}
    exec(compile("def inner(): raise ValueError\ndef outer(): inner()", "<frozen x>", "exec"), names)
    with pytest.raises(ValueError) as caught:
        names["outer"]()
    trace = caught.value.__traceback__
    assert trace is not None
    assert location_in(trace.tb_next) == "inner() in <frozen x>:1"
