"""file:///FOLDER: a model's folder in the layout of `save_pretrained`."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.common.weights.sources.listing import Listing, SourceFile, checked, is_wanted

MANIFEST = "manifest.json"  # in folders that pull has published


def folder_of(uri: str) -> Path:
    """Return the folder that a URI names."""
    return Path(unquote(urlsplit(uri).path))


def list_folder(uri: str) -> Listing:
    """List the folder's files with their hashes.

    Raises:
        UserError: the folder does not exist.
    """
    folder = folder_of(uri)
    if not folder.is_dir():
        raise UserError(f"model {uri}: no such folder")
    names = sorted(p.name for p in folder.iterdir() if is_wanted(p.name) and p.is_file() and p.name != MANIFEST)
    files = [
        SourceFile(
            name=name, bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name), url=str(folder / name)
        )
        for name in names
    ]
    return Listing(uri=uri, files=checked(uri, files))
