"""Which names in a folder, on this machine or elsewhere, are files of rows; patterns; splits by their usual names."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from steps.common.rows.files.file_kind import KINDS, is_known
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say

MOST_FILES = 200  # of a run, whose plan names each; on a cluster it may be shorter still, see `plan_size`
SHOWN = 5
# What stands beside data: what `datasets` keeps there in files of known kinds, and what is of no interest among the others.
NOT_ROWS = re.compile(r"(dataset_infos?|dataset_dict|state|config)\.json|cache-[0-9a-f]+\.arrow")
NO_NEWS = re.compile(
    r"(readme|licen[cs]e|notice|changelog|citation)\b.*|.*\.(md|py|crc|md5|sha256)|sha256sums", re.IGNORECASE
)
# As the library `datasets` names splits: https://huggingface.co/docs/datasets/repository_structure
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")
SHARD = re.compile(r"data/(?P<split>[^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
WILD = re.compile(r"[*?\[]")


def is_pattern(place: str) -> bool:
    """Return whether a path or key has a wildcard in it."""
    return WILD.search(place) is not None


def fixed_folder(pattern: str) -> str:
    """Return the folder in front of a pattern's first wildcard, without a slash at its end."""
    return WILD.split(pattern, maxsplit=1)[0].rpartition("/")[0]


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that match a pattern: `*` and `?` stay within a folder, `**` goes through folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join(
        wild.get(part) or (_one_of(part) if part.startswith("[") and len(part) > 2 else re.escape(part))
        for part in parts
    )
    try:
        known = re.compile(text)
    except re.error:
        raise UserError(f"{pattern}: not a pattern of files") from None
    return [name for name in names if known.fullmatch(name)]


def _one_of(letters: str) -> str:
    """Return `[abc]` or `[!abc]` of a pattern as a regular expression."""
    inner = letters[1:-1].replace("\\", r"\\")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


def rows_among(where: str, names: Iterable[str]) -> list[str]:
    """Return the names of files of rows, sorted; say which others are left out.

    Hidden files and folders, those whose name begins with an underscore, and those in `NOT_ROWS` and `NO_NEWS` are left out
    in silence.

    Args:
        where: the folder or pattern, for messages.
        names: relative to the folder, with slashes.

    Raises:
        UserError: none is a file of rows, or there are too many.
    """
    open_names = [name for name in names if not any(part.startswith((".", "_")) for part in PurePath(name).parts)]
    known = sorted(name for name in open_names if is_known(name) and not NOT_ROWS.fullmatch(PurePath(name).name))
    others = sorted(name for name in open_names if not is_known(name) and not NO_NEWS.fullmatch(PurePath(name).name))
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    left_out = f"{', '.join(others[:SHOWN])}{more}"
    if not known:
        has = f", only {left_out}" if others else ""
        raise UserError(f"{where}: has no file of rows{has}; known kinds are {', '.join(KINDS)}")
    if len(known) > MOST_FILES:
        raise UserError(
            f"{where}: has {len(known)} files of rows, and a run may have {MOST_FILES}; join them, e.g. as Parquet"
        )
    if others:
        say(f"{where}: left out, of no known kind of rows: {left_out}")
    return known


def refuse_several_splits(where: str, names: Iterable[str]) -> None:
    """Refuse a folder with the files of several splits: training on what was meant for a test shows nowhere.

    Raises:
        UserError: some names are those of training rows, and some those of a validation or a test.
    """
    found = by_usual_names(names)
    if "train" in found and len(found) > 1:
        shown = "; ".join(f"{split}: {files[0]}" for split, files in found.items())
        raise UserError(f"{where}: has the files of several splits ({shown}); name those of one, e.g. as a pattern")


def by_usual_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Return files by the split that their names or folders say, as `datasets` does; without any, all are for training."""
    names = list(names)
    shards: dict[str, list[str]] = {}
    for name in names:
        if shard := SHARD.fullmatch(name):
            shards.setdefault(shard["split"], []).append(name)
    if shards:
        return shards
    for in_folders in (True, False):
        found = {split: [name for name in names if _says(name, words, in_folders)] for split, words in SPLITS.items()}
        if any(found.values()):
            return {split: files for split, files in found.items() if files}
    return {"train": names}


def _says(name: str, words: tuple[str, ...], in_folders: bool) -> bool:
    *folders, file = name.split("/")
    return any(word in BETWEEN_WORDS.split(part) for part in (folders if in_folders else [file]) for word in words)
