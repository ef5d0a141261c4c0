"""When two texts are the same to someone who learns from them: without differences of case, spacing and prose's punctuation.

Letters, marks such as vowel signs, digits and symbols always count, in Unicode form NFKC. So does punctuation that may be an
operator, or part of a number or a name:

- `#`, `%`, `&`, `*`, `/`, `@`, `\\` and `_` anywhere: `C#` is not `C`
- all of it between a digit or a symbol and whatever follows or precedes without a space: `2.5` is not `25`
- a dash or a bracket next to a digit or a symbol, a space between them or not: `7 - 2` is not `7 2`
- `.`, `,` or `!` before a digit or a symbol, `!` after a digit, and a dash that begins a word: `-x` is not `x`

What is left only sets off words: full stops, commas, quotes, hyphens, brackets.
"""

import re
import unicodedata
from functools import cache

COUNTED = "#%&*/@\\_"  # punctuation to Unicode, and more than that to people
FORMS = {"<super>": "^", "<fraction>": " "}  # what NFKC would join to the digits before it: 5² is not 52, nor 1½ 11/2
ASCII = 0x80
# Beyond this plane there are no raised characters, and only punctuation of scripts that nobody writes any more. Python's `re`
# looks characters up in a table only if all of them are in this plane.
PLANE = 0x10000


def normal(text: str) -> str:
    """Return `text` without differences that do not count; a text of nothing else is returned as it is."""
    if text.isascii():
        folded, dropped = text.lower(), _dropped(ASCII)
    else:
        formed = _formed().sub(_set_off, text)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", formed).casefold())
        dropped = _dropped(PLANE)
    spaced = " ".join(folded.split())
    return " ".join(dropped.sub(" ", spaced).split()) or spaced


@cache
def _dropped(end: int) -> re.Pattern[str]:
    """Return the pattern of punctuation that does not count, among the characters up to a code point."""
    by_category: dict[str, str] = {}
    for one in map(chr, range(end)):
        category = unicodedata.category(one)
        if category[0] in "PS" and one not in COUNTED:
            kind = "S" if category[0] == "S" else category
            by_category[kind] = by_category.get(kind, "") + one
    symbols = by_category.pop("S")
    marks, dash = _set_of("".join(by_category.values())), _set_of(by_category["Pd"])
    counted = rf"\d{_set_of(symbols + COUNTED)}"
    bracket = _set_of("".join(by_category[kind] for kind in ("Pd", "Ps", "Pe")))
    kept = (
        rf"(?!(?<=[{counted}].)\S)",
        rf"(?!(?<=\S.)[{counted}])",
        rf"(?!(?<=[{bracket}]) ?[{counted}])",
        rf"(?<![{counted}][{bracket}])",
        rf"(?<![{counted}] [{bracket}])",
        rf"(?!(?<=[{dash}])(?<![^ (\[{{{dash}].)[{dash}]*\w)",
        rf"(?!(?<=[.,!])[{counted}])",
        r"(?<!\d!)",
    )
    return re.compile(f"[{marks}]{''.join(kept)}")


@cache
def _formed() -> re.Pattern[str]:
    """Return the pattern of characters that NFKC would join to their neighbours."""
    return re.compile(f"[{_set_of(''.join(one for one in map(chr, range(PLANE)) if _form(one) in FORMS))}]")


def _form(one: str) -> str:
    return unicodedata.decomposition(one).partition(" ")[0]


def _set_off(found: re.Match[str]) -> str:
    return FORMS[_form(found[0])] + found[0]


def _set_of(characters: str) -> str:
    """Return characters as the inside of a set of a regular expression, with ranges."""
    ranges: list[tuple[int, int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], code
        else:
            ranges.append((code, code))
    return "".join(rf"\u{first:04x}-\u{last:04x}" for first, last in ranges)
