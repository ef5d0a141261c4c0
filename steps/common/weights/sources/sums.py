"""SHA256SUMS: the hashes of a folder's files, as `sha256sum *` writes them."""

import re

from steps.common.runtime.errors import UserError

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?:\./)?(?P<name>.+)")


def read_sums(uri: str, text: bytes) -> dict[str, str]:
    """Return the sha256 of each file.

    Raises:
        UserError: a line has another form.
    """
    found = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            raise UserError(f"model {uri}: {SUMS}:{number}: write it as sha256sum does")
        found[match["name"]] = match["sha256"]
    return found
