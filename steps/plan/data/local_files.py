"""Files of rows on this machine: one, those of a folder, or those that match a pattern."""

import os
from pathlib import Path

from steps.common.rows.files.file_kind import check_known
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage.files import sha256_of
from steps.plan.data.file_names import fixed_folder, is_pattern, refuse_several_splits, rows_among


class LocalFiles:
    """The files of rows on this machine: each place is searched once, and each file is hashed again only if it changes."""

    def __init__(self) -> None:
        self._found: dict[str, list[Path]] = {}
        self._digests: dict[tuple[Path, int, int], str] = {}

    def at(self, place: str) -> list[Path]:
        """Return the files of rows at a place, sorted by name.

        Raises:
            UserError: see `find_local`.
        """
        if place not in self._found:
            self._found[place] = find_local(place)
        return self._found[place]

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file's content."""
        status = path.stat()
        version = (path, status.st_size, status.st_mtime_ns)
        if version not in self._digests:
            self._digests[version] = sha256_of(path)
        return self._digests[version]


def find_local(place: str) -> list[Path]:
    """Return the files of rows at a place, sorted by name. A symbolic link counts by its own name.

    Raises:
        UserError: there is none, a link leads nowhere, or a folder has several splits.
    """
    path = Path(place)
    if path.is_dir():
        names = _names_below(path)
        refuse_several_splits(place, chosen := _with_content(path, rows_among(place, names)))
        return [path / name for name in chosen]
    if not os.path.lexists(path) and is_pattern(place):
        folder = Path(fixed_folder(place) or "/")
        try:
            found = [file for file in folder.glob(str(path.relative_to(folder))) if not file.is_dir()]
        except ValueError as error:
            raise UserError(f"{place}: not a pattern of files: {error}") from None
        if not found:
            raise UserError(f"{place}: no file matches")
        names = [file.relative_to(folder).as_posix() for file in found]
        return [folder / name for name in _with_content(folder, rows_among(place, names))]
    if not path.exists():
        _check_link(path)
        raise UserError(f"{path}: no such data file")
    check_known(place)
    return [path]


def _names_below(folder: Path) -> list[str]:
    """Return the names of all files below a folder. A link to a folder is followed once, so that a circle has an end."""
    names, seen = [], set()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        names += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return names


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}")


def _with_content(folder: Path, names: list[str]) -> list[str]:
    """Return the names of the files that are not empty: Spark and others write an empty file for an empty part."""
    for name in names:
        _check_link(folder / name)
    empty = [name for name in names if (folder / name).stat().st_size == 0]
    if len(empty) == len(names):
        raise UserError(f"{folder}: has only empty files of rows")
    if empty:
        say(f"{folder}: left out, empty: {', '.join(empty)}")
    return [name for name in names if name not in empty]


def _check_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: is a link to {path.readlink()}, which does not exist")
