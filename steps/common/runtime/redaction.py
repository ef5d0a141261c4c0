"""Takes secrets out of everything that leaves a process: console, logs, files, messages, tags.

Two kinds are taken out: the values that this process holds, and credentials in addresses, whoever they belong to.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, TypeVar, cast

from steps.common.runtime.secret import held

REDACTED = "[redacted]"
LETTERS = r"[a-zA-Z0-9+.-]"  # of a scheme
# In hf:// and pypi:// what stands before an @ is a repository or a package. The scheme is only looked back at: a search for its
# beginning would take a time that grows with the square of a long word's length.
OTHERS = "".join(rf"(?<!(?<!{LETTERS}){scheme})" for scheme in ("hf", "pypi", "file"))
USER = re.compile(rf"(?P<scheme>(?<={LETTERS}){OTHERS}://)[^\s/?#\"'<>\\]*@")
SIGNATURE = re.compile(
    r"(?P<name>(?:[?&;]|%26|\\u0026)(?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)"
    r"|signature|awsaccesskeyid|sig|token|access_token|auth_token|api_?key|password|secret|key-pair-id|policy|hdnea|hdnts)=)"
    r"[^&;\s\"'<>#\\]+",
    re.IGNORECASE,
)
ACCOUNT_KEY = re.compile(r"(?P<name>\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=)[^;\s\"'<>\\]+")

Result = TypeVar("Result")


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses, without users, passwords and signatures."""
    if "://" in text:
        text = SIGNATURE.sub(rf"\g<name>{REDACTED}", USER.sub(r"\g<scheme>", text))
    return ACCOUNT_KEY.sub(rf"\g<name>{REDACTED}", text)


def has_credentials(address: str) -> bool:
    """Return whether an address has a user, a password or a signature in it."""
    return without_credentials(address) != address


def redact(text: str) -> str:
    """Return a text without the secrets that this process holds and without credentials in addresses."""
    for value in sorted(held(), key=len, reverse=True):
        text = text.replace(value, REDACTED)
    return without_credentials(text)


def redact_all(value: Any) -> Any:
    """Return a value of texts, lists and dictionaries with `redact` applied to each text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return type(value)(redact_all(one) for one in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {key: redact_all(one) for key, one in value.items()}
    return value


def redact_output(output: Result) -> Result:
    """Return a step's output with `redact` applied to each text in it; anything but a pydantic model is returned as it is."""
    from pydantic import BaseModel

    if not isinstance(output, BaseModel):
        return output
    plain = output.model_dump(mode="json")
    clean = redact_all(plain)
    return output if clean == plain else cast(Result, type(output).model_validate(clean))


class RedactedStream:
    """A text stream that redacts each line before it passes it on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, ""

    def write(self, text: str) -> int:
        """Pass on the lines that are complete; keep the rest until its line is, or until `flush`."""
        whole, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._stream.write(redact(whole) + newline)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on everything."""
        begun, self._begun = self._begun, ""
        if begun:
            self._stream.write(redact(begun))
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_streams() -> None:
    """Redact what this process prints from now on."""
    if not isinstance(sys.stdout, RedactedStream):
        sys.stdout = cast(TextIO, RedactedStream(sys.stdout))
    if not isinstance(sys.stderr, RedactedStream):
        sys.stderr = cast(TextIO, RedactedStream(sys.stderr))


@contextlib.contextmanager
def redacted_streams() -> Iterator[None]:
    """Redact what this process prints within the block."""
    before = sys.stdout, sys.stderr
    redact_streams()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BrokenPipeError, ValueError):  # closed, by a reader that has gone
                stream.flush()
        sys.stdout, sys.stderr = before
