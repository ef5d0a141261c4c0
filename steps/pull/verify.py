"""Whether a file is what its source lists."""

import hashlib
from pathlib import Path

from steps.common.files import sha256_of
from steps.common.sources.listing import SourceFile


def matches(file: SourceFile, path: Path) -> bool:
    """Compare size and hash with the listing's; git's hash for the small files that a hub does not keep in LFS."""
    if file.bytes and path.stat().st_size != file.bytes:
        return False
    if file.sha256:
        return sha256_of(path) == file.sha256
    if file.git_sha1:
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.git_sha1
    return True
