"""Ids in the place of the paths of uploaded files: a caller knows no path of the server."""

import re
from collections.abc import Iterable, Mapping

from api.files.file_contents import NAME
from api.files.team_files import content_of
from steps.common.storage import volumes

# As the addresses of `FileContents`, on a volume or in an object store, from which it is copied to such a path too.
PLACE = re.compile(rf"(?:\w+:/)?/[^\s:;,'\"()]*/([0-9a-f]{{16}})/{NAME}[^\s:;,'\"()/]*")


def with_ids(text: str, ids: Iterable[str]) -> str:
    """Return a text, such as an error's, with the ids of uploaded files in the place of their paths.

    Args:
        text: the text.
        ids: of the files that may occur in it.
    """
    by_content = {content_of(one): one for one in ids}
    found = PLACE.sub(lambda match: by_content.get(match[1], "an uploaded file"), text)
    for folder in (volumes.runs(), volumes.weights()):
        found = found.replace(f"{folder}/", "")
    return found


def first_named(text: str, ids: Mapping[str, str | None]) -> str | None:
    """Return the field whose file an error is about, None if it is about none of them.

    Args:
        text: the error's text, with ids in the place of paths.
        ids: of the files, by field.
    """
    places = {field: text.find(one) for field, one in ids.items() if one and one in text}
    return min(places, key=lambda field: places[field]) if places else None
