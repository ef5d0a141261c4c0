"""The routes of files: upload, list, retrieve, content, delete."""

import logging
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal, Self
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.database.tables import TeamFile
from api.files import team_files
from api.files.file_contents import IncomingContent
from api.files.row_check_process import checked
from api.files.upload_form import UploadForm
from api.openai_errors import ApiError
from api.paging import MOST, After, Limit, Page, paged
from api.server.authentication import TheCaller
from api.server.services import Services, TheServices
from api.server.unneeded_contents import delete_unneeded
from api.teams.caller import Caller
from steps.common.runtime.errors import UnreachableError, UserError, first_line

LOG = logging.getLogger("fineline.api")
PATH = "/files"
BLOCK = 1 << 20  # bytes

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["purpose", "file"],
    "additionalProperties": False,
    "properties": {
        "purpose": {"type": "string", "enum": [team_files.TRAINING]},
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The rows. The suffix of the name shows their kind.",
        },
    },
}
BINARY: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(tags=["Files"])


class FileObject(BaseModel):
    """An uploaded file, or a job's result file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, file: TeamFile) -> Self:
        """Return a file as the API shows it."""
        return cls(
            id=file.id, bytes=file.bytes, created_at=file.created_at, filename=file.filename, purpose=file.purpose
        )


class FileDeleted(BaseModel):
    """Confirms that a file was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post(
    PATH, openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}}
)
async def upload_file(request: Request, by: TheCaller, state: TheServices) -> FileObject:
    """Upload a file of rows.

    Each row is checked. A file with a bad row is refused, with the location of its first bad row.
    """
    async with UploadForm(request.headers.get("content-type", ""), state.contents) as form:
        refusal: Exception | None = state.row_checks.refusal(by.team)
        try:
            async for part in request.stream():
                # The rest is read even after a refusal, since few clients look for an answer before they have sent everything.
                if refusal is None:
                    refusal = await run_in_threadpool(_refusal, form, part)
        except ClientDisconnect:
            raise ApiError(400, "the connection ended before the file was complete; upload it again") from None
        if refusal is not None:
            raise refusal
        content = await run_in_threadpool(form.complete)
        return await state.row_checks.run(by.team, _checked_and_stored, form.filename, content, by, state)


def _refusal(form: UploadForm, part: bytes) -> Exception | None:
    try:
        form.feed(part)
    except Exception as error:
        return error
    return None


def _checked_and_stored(filename: str, content: IncomingContent, by: Caller, state: Services) -> FileObject:
    checked(content.path, filename, state.contents.most_bytes)
    file_id = team_files.new_id(content.sha256)
    with state.sessions() as session:
        file = team_files.store(session, state.contents, content, by.team, file_id, filename, team_files.TRAINING)
        return FileObject.of(file)


@router.get(PATH)
def list_files(
    by: TheCaller,
    state: TheServices,
    after: After = None,
    limit: Limit = MOST,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(description="Only files with this purpose.")] = None,
) -> Page[FileObject]:
    """List the team's files."""
    with state.sessions() as session:
        found = team_files.listed(session, by.team, purpose, oldest_first=order == "asc")
        return paged([FileObject.of(one) for one in found], lambda one: one.id, after, limit)


@router.get(PATH + "/{file_id}")
def retrieve_file(file_id: str, by: TheCaller, state: TheServices) -> FileObject:
    """Return a file's name, size, and purpose."""
    with state.sessions() as session:
        return FileObject.of(team_files.find(session, by.team, file_id))


@router.get(PATH + "/{file_id}/content", response_class=StreamingResponse, responses={200: {"content": BINARY}})
def retrieve_file_content(file_id: str, by: TheCaller, state: TheServices) -> StreamingResponse:
    """Return the content of a file."""
    with state.sessions() as session:
        found = team_files.find(session, by.team, file_id)
        try:
            content = state.contents.open(found)
        except FileNotFoundError:
            raise ApiError(
                404, f"the content of file {file_id} is gone; upload it again", code="file_content_not_found"
            ) from None
        headers = {
            "Content-Length": str(found.bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.filename)}",
        }
    return StreamingResponse(_parts(content), headers=headers, media_type="application/octet-stream")


def _parts(content: BinaryIO) -> Iterator[bytes]:
    with content:
        while part := content.read(BLOCK):
            yield part


@router.delete(PATH + "/{file_id}")
def delete_file(file_id: str, by: TheCaller, state: TheServices) -> FileDeleted:
    """Delete a file. Jobs that already use it continue with it."""
    with state.sessions() as session:
        team_files.delete(session, by.team, file_id)
        try:
            delete_unneeded(session, state)
        except (UserError, UnreachableError) as error:  # a later deletion deletes the content too
            LOG.warning("the content of %s cannot be deleted yet: %s", file_id, first_line(error))
    return FileDeleted(id=file_id)
