"""Replaces the paths of uploaded files by their ids, since a caller must not see the server's paths."""

import re
from collections.abc import Iterable

from api.files.file_contents import NAME
from api.files.team_files import content_of
from steps.common.storage import volumes

# An address of `FileContents`, on a volume or in an object store, or the path of a copy from the store. It begins where a word
# does, so that each part of a long text is read once.
APART = r"\s:;,'\"()"  # characters between words
PLACE = re.compile(
    rf"(?:\b\w+:/(?=/)|(?<![^{APART}])(?P<before>[^{APART}/=]*=)?)[^{APART}]*/(?P<content>[0-9a-f]{{16}})/{NAME}[^{APART}/]*"
)


def with_ids(text: str, ids: Iterable[str]) -> str:
    """Return a text, such as an error message, in which ids replace the paths of uploaded files.

    Args:
        text: the text.
        ids: of the files that the text may name.
    """
    by_content = {content_of(one): one for one in ids}

    def named(place: re.Match[str]) -> str:
        return (place["before"] or "") + by_content.get(place["content"], "an uploaded file")

    found = PLACE.sub(named, text)
    for folder in (volumes.runs(), volumes.weights()):
        found = found.replace(f"{folder}/", "")
    return found


def first_named(text: str, ids: Iterable[tuple[str, str | None]]) -> str | None:
    """Return the field whose file an error names first; None if it names none of them.

    Args:
        text: the error message, with ids instead of paths.
        ids: each field with the id of a file that it names.
    """
    places = [(text.find(one), field) for field, one in ids if one and one in text]
    return min(places)[1] if places else None
