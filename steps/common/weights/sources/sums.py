"""SHA256SUMS: the hashes of a folder's files, in the format of `sha256sum *`."""

import re

from steps.common.runtime.errors import UserError

SUMS = "SHA256SUMS"
LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?:\./)?(?P<name>.+)")


def read_sums(uri: str, text: bytes) -> dict[str, str]:
    """Return the sha256 of each file, by name.

    Raises:
        UserError: a line does not have that format.
    """
    found = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            raise UserError(f"model {uri}: {SUMS}:{number}: is not in the format of sha256sum")
        found[match["name"]] = match["sha256"]
    return found
