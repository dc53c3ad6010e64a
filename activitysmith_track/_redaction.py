"""Takes secrets out of text: what is hidden, and what is put in its place.

Every text that comes from an exception or from `fail` passes it, on its way to a phone (`blocks.pushes.scrubbed`).
The API key is taken out of what the service answers in `client.transport`; `_endpoint.Secret` keeps it out of reprs.

The scrubber runs while the job's own exception is on its way. So it never raises, whatever the user's hook does, not
even SystemExit; and it reads only a bounded part of a long text, so that it takes no noticeable time.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST_READ = 4_000  # characters that are read; scrubbing 1 MB would cost the job time
WITHHELD = "(message withheld: the redact hook failed)"

_LONGEST_SECRET = 256  # characters that may be dropped before a cut, so that no half of a secret is shown
_HIDDEN = "***"

_NAMES = r"""(?:
    passw(?:or)?d | passphrase | passcode | pwd | secret | token | credentials? | authorization | cookie
    | api[_-]?key | access[_-]?key | (?:private|account|signing|encryption|master|shared|storage|license)[_-]?key
    | (?<![a-z])(?:sig|signature|auth|jwt|sessionid|bearer) | (?<![a-z])pass(?=\s{0,3}=|["'])
)
(?![_-]?(?:count|expir|file|length|len\b|limit|name|path|size|type|ur[il]))
(?:[_-][a-z0-9_-]{1,40} | (?-i:[A-Z])[a-z0-9]{1,40})?"""
"""What a secret is called, also at the end of a longer name; `token_count` and its like name no secret."""

_QUOTED = r"""[bru]{0,2}(?:"(?:[^"\\]|\\.)*(?:"|\Z) | '(?:[^'\\]|\\.)*(?:'|\Z))"""
_ESCAPED = r"""\\{1,3}["'][^"']*["']?"""  # JSON in JSON
_BARE = r"""(?:[^\s&"',;)\]}] | ["',;)\]}](?![\s,;:)\]}&"']|\Z))+"""
_VALUE = rf"(?!(?:none|null|true|false)\b)(?:{_QUOTED}|{_ESCAPED}|[|>][+-]?\s+\S+|{_BARE})"

_SHAPES = r"""(?<![A-Za-z0-9])(?:
    (?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA)[A-Z0-9]{16}(?:[^A-Za-z0-9/+]{1,10}[A-Za-z0-9/+]{40})?
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,} | glpat-[\w-]{16,}
    | xox[a-z]-[\w-]{8,} | xapp-[\w-]{8,}
    | (?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,} | whsec_[A-Za-z0-9+/=]{8,}
    | sk-[\w-]{16,} | AIza[\w-]{30,} | ya29\.[\w-]{16,} | hf_[A-Za-z0-9]{16,} | npm_[A-Za-z0-9]{30,}
    | pypi-[\w-]{16,} | SG\.[\w-]{16,}\.[\w-]{16,} | hvs\.[\w-]{16,} | dapi[0-9a-f]{32} | dop_v1_[0-9a-f]{16,}
    | eyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)? | [0-9]{8,10}:[\w-]{35}(?![\w-])
)"""
"""What the secrets of well-known services look like, whatever they are called."""


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return the patterns, each with its replacement; none of them backtracks over what it has matched.

    The first failure compiles them, not the import.
    """
    kept = rf"\1{_HIDDEN}"
    return (
        (_pattern(r"-----BEGIN[ A-Z0-9]{1,40}-----.*?(?:-----END[ A-Z0-9]{1,40}-----|\Z)"), _HIDDEN),
        (_pattern(rf"""(authorization["']?\s{{0,9}}[:=,]\s{{0,9}}[bu]?["']?)(?:[\w-]{{1,30}}[ ]+)?{_BARE}"""), kept),
        (_pattern(r"(cookie[\"']?\s{0,9}:\s{0,9})[^\s;]+(?:;\s{0,9}[^\s;=]{1,100}=[^\s;]*)*"), kept),
        (_pattern(r"\b(bearer\s{1,9})(?!(?-i:[a-z]{1,15})(?![\w.~+/=-]))[\w.~+/=-]{4,}"), kept),
        (_pattern(r"\b(basic\s{1,9})(?=[a-z0-9+/]*(?-i:[A-Z0-9=]))[a-z0-9+/]{4,}={0,2}"), kept),
        (_pattern(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#@:]{0,200}:(?![0-9]{1,5}(?:[/?#]|\Z))\S{0,400}@"), rf"{kept}@"),
        (_pattern(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#]{1,400}@"), rf"{kept}@"),
        (_pattern(r"(hooks\.slack\.com/\w{1,20}/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"), kept),
        (_pattern(rf"((?:{_NAMES})(?:\\{{0,3}}[\"'])?\s{{0,9}}(?:[:=!]{{0,2}}=>?|->|:)\s{{0,9}}){_VALUE}"), kept),
        (_pattern(rf"((?:cookie|x-[a-z-]{{0,30}}(?:key|token|secret|auth))[\"'],\s{{0,9}}){_QUOTED}"), kept),
        (_pattern(rf"((?<![\w-])--[a-z0-9-]{{0,30}}(?:{_NAMES})[\"']?,?\s{{1,9}})(?!-){_VALUE}"), kept),
        (_pattern(r"((?:^|[\s'\"])(?:-u|--user)[\s=,'\"]{1,4}[^\s:'\"]{1,60}:)[^\s'\"]+"), kept),
        (_pattern(rf"(<[^<>\s]{{0,30}}(?:{_NAMES})>)[^<]+"), kept),
        (re.compile(_SHAPES, re.VERBOSE), _HIDDEN),
    )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.VERBOSE | re.IGNORECASE | re.DOTALL)


def scrub(text: str, secrets: Sequence[str | None] = (), redact: Callable[[str], str] | None = None) -> str:
    """Take secrets out of a text; never raises.

    Hidden are: tokens and passwords in headers, URLs, `name=value` pairs of any notation, command lines and XML;
    private keys; what has the shape of a well-known service's key.

    Args:
        text: any text; only its first 4,000 characters are kept. Shorten it after this, not before: half a secret
            is not recognised.
        secrets: exact texts to hide, such as the API key.
        redact: a hook of the user's own, called last. If it fails, or returns no string, nothing of the text is
            kept, and `WITHHELD` is returned.
    """
    text = hide(cut_between_words(text, LONGEST_READ), secrets)
    if redact is None:
        return text
    try:
        redacted = redact(text)
        return str.__str__(redacted)[:LONGEST_READ] if isinstance(redacted, str) else WITHHELD
    except BaseException:  # not even its SystemExit may take the place of the job's own exception
        return WITHHELD


def hide(text: str, secrets: Sequence[str | None] = ()) -> str:
    """Take secrets out of a text as `scrub` does, but without the hook; the text must be short."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN).replace(quote(secret, safe=""), _HIDDEN)
    for pattern, hidden in _patterns():
        text = pattern.sub(hidden, text)
    return text


def cut_between_words(text: str, longest: int) -> str:
    """Cut a text to at most `longest` characters, and drop a word that the cut would split: it may be a secret.

    A word that is longer than any secret, 256 characters, is cut all the same.
    """
    if len(text) <= longest:
        return text
    end = longest
    while end > max(0, longest - _LONGEST_SECRET) and not text[end - 1].isspace():
        end -= 1
    return text[:end]
