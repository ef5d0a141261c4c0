"""The form of an upload, read as it arrives: the content goes to the disk part by part; the fields are short."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from anyio import CancelScope
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from api.files.file_contents import FileContents, IncomingContent
from api.files.team_files import TRAINING
from api.openai_errors import ApiError
from steps.common.rows.files.file_kind import COMPRESSED, KINDS, is_known

LONGEST_FILENAME = 255
LONGEST_FIELD = 1024  # bytes
EXPIRY = "expires_after"


class UploadForm:
    """The form of one upload. Its content is deleted unless it is published within the block."""

    def __init__(self, content_type: str, contents: FileContents) -> None:
        """Prepare to read.

        Args:
            content_type: header of the request.
            contents: where the content goes.

        Raises:
            ApiError: the request is not a form.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise ApiError(400, "the body must be a form (multipart/form-data) with the fields purpose and file")
        self.purpose = self.filename = ""
        self.content: IncomingContent | None = None
        self._contents, self._kept = contents, ExitStack()
        self._name, self._value = b"", b""
        self._disposition = b""
        self._header, self._text = b"", b""
        self._into_file = self._whole = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._complete,
                },
            )
        except FormParserError as error:
            raise ApiError(400, f"the form cannot be read: {error}; send it as multipart/form-data") from None

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Delete what was not published, in a thread, even if the request is cancelled."""
        with CancelScope(shield=True):
            await run_in_threadpool(self._kept.close)

    def feed(self, part: bytes) -> None:
        """Read the next part of the request's body.

        Raises:
            ApiError: a field is wrong, or the form is too large.
            UserError: the disk is full.
        """
        try:
            self._parser.write(part)
        except FormParserError as error:
            raise ApiError(400, f"the form cannot be read: {error}; send it as multipart/form-data") from None

    def complete(self) -> IncomingContent:
        """Return the content after the whole body was read.

        Raises:
            ApiError: the form is incomplete, or lacks a field.
        """
        if not self._whole:
            raise ApiError(400, "the form is incomplete; send it again")
        if not self.purpose:
            raise ApiError(400, f"the form has no field purpose; set it to {TRAINING}", param="purpose")
        if self.content is None:
            raise ApiError(400, "the form has no field file; add it", param="file")
        self.content.close()
        return self.content

    def _begin(self) -> None:
        self._disposition, self._value, self._into_file = b"", b"", False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._text += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._text
        self._header = self._text = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        self._name = options.get(b"name", b"")
        name = _shown(self._name)
        if name == "file":
            self._begin_file(options.get(b"filename"))
        elif name.startswith(EXPIRY):
            raise ApiError(
                400,
                "files do not expire here; leave out expires_after, and delete the file when you no longer need it",
                param=EXPIRY,
            )
        elif name != "purpose":
            raise ApiError(400, f"the form has an unknown field {name!r}; send only purpose and file", param=name)

    def _begin_file(self, filename: bytes | None) -> None:
        if self.content is not None:
            raise ApiError(400, "the form has several files; upload each one separately", param="file")
        if not filename:
            raise ApiError(
                400,
                "the file has no name; give it a name whose suffix shows its kind, such as rows.jsonl",
                param="file",
            )
        try:
            self.filename = filename.decode()
        except UnicodeDecodeError:
            raise ApiError(400, "the file's name is not UTF-8; encode it as UTF-8", param="file") from None
        if len(self.filename) > LONGEST_FILENAME or not self.filename.isprintable():
            most = f"{LONGEST_FILENAME} printable characters"
            raise ApiError(400, f"the file's name must have at most {most}", param="file")
        if not is_known(self.filename):
            kinds = f"{', '.join(KINDS)}, or one of them with {', '.join(COMPRESSED)}"
            raise ApiError(400, f"{self.filename}: is not a file of rows; its name must end in {kinds}", param="file")
        self.content = self._kept.enter_context(self._contents.incoming(self.filename))
        self._into_file = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._into_file and self.content is not None:
            self.content.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > LONGEST_FIELD:
            name = _shown(self._name)
            raise ApiError(400, f"the field {name!r} is longer than {LONGEST_FIELD} bytes; shorten it", param=name)

    def _end(self) -> None:
        if self._into_file:
            return
        self.purpose = _shown(self._value)
        if self.purpose != TRAINING:
            raise ApiError(
                400,
                f"the purpose {self.purpose!r} is not supported; use {TRAINING}",
                param="purpose",
            )

    def _complete(self) -> None:
        self._whole = True


def _shown(value: bytes) -> str:
    """Return what a client has sent as printable text."""
    return value.decode(errors="backslashreplace")
