"""A team's files by their ids.

The id of an uploaded file contains the prefix of its content's digest. So a job, which stores the ids of its files, still shows
which contents it needs after the files are deleted.
"""

import re
import secrets
import time
from collections.abc import Sequence

import sqlalchemy
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.database.tables import TeamFile
from api.files.file_contents import FileContents, IncomingContent, start_of
from api.openai_errors import not_found

TRAINING, RESULTS = "fine-tune", "fine-tune-results"  # purposes
DELETED = ""  # in place of the digest
ID = re.compile(r"file-(?P<start>[0-9a-f]{16})[0-9a-f]{16}")


def new_id(sha256: str) -> str:
    """Return a new id for a file with that content."""
    return f"file-{start_of(sha256)}{secrets.token_hex(8)}"


def content_of(file_id: str) -> str:
    """Return the digest prefix in an uploaded file's id; empty if there is none."""
    match = ID.fullmatch(file_id)
    return match["start"] if match else ""


def find(session: Session, team: str, file_id: str, param: str = "file_id") -> TeamFile:
    """Return a file of a team.

    Raises:
        ApiError: the team has no such file.
    """
    found = session.get(TeamFile, file_id)
    if found is None or found.team != team or found.sha256 == DELETED:
        raise not_found("file", file_id, param)
    return found


def listed(session: Session, team: str, purpose: str | None, *, oldest_first: bool) -> Sequence[TeamFile]:
    """Return a team's files, or only those with a purpose."""
    wanted = select(TeamFile).where(TeamFile.team == team, TeamFile.sha256 != DELETED)
    if purpose is not None:
        wanted = wanted.where(TeamFile.purpose == purpose)
    order = (TeamFile.created_at, TeamFile.id) if oldest_first else (TeamFile.created_at.desc(), TeamFile.id)
    return session.scalars(wanted.order_by(*order)).all()


def delete(session: Session, team: str, file_id: str) -> None:
    """Delete a file of a team, and commit that; its content stays.

    Of a result file the id stays, since the next request for its job would otherwise make it again.

    Raises:
        ApiError: the team has no such file.
    """
    is_result = find(session, team, file_id).purpose == RESULTS
    one = TeamFile.id == file_id, TeamFile.team == team
    session.execute(
        update(TeamFile).where(*one).values(sha256=DELETED) if is_result else sqlalchemy.delete(TeamFile).where(*one)
    )
    session.commit()


def is_deleted(session: Session, file_id: str) -> bool:
    """Return whether a result file was deleted."""
    return session.scalar(select(TeamFile.sha256).where(TeamFile.id == file_id)) == DELETED


def add(
    session: Session, contents: FileContents, team: str, file_id: str, filename: str, purpose: str, content: bytes
) -> TeamFile:
    """Store content that the API has made as a file of a team, and commit it. A file that exists stays as it is.

    Args:
        session: of the database.
        contents: where contents are stored.
        team: owner of the file.
        file_id: id of the file; the same id is the same file.
        filename: its name.
        purpose: what it is for.
        content: all of it.

    Raises:
        ApiError: the id is another team's file, or a file that was deleted.
        UserError: the disk is full.
    """
    if session.get(TeamFile, file_id) is not None:
        return find(session, team, file_id)
    with contents.incoming(filename) as incoming:
        incoming.write(content)
        return store(session, contents, incoming, team, file_id, filename, purpose)


def store(
    session: Session,
    contents: FileContents,
    incoming: IncomingContent,
    team: str,
    file_id: str,
    filename: str,
    purpose: str,
) -> TeamFile:
    """Publish content and commit its file; if another process has just stored a file with this id, return that one."""
    session.rollback()  # no connection is held meanwhile
    contents.send(incoming)
    with contents.lock():
        session.rollback()  # to see what was committed since
        if session.get(TeamFile, file_id) is not None:
            return find(session, team, file_id)
        contents.publish(incoming)
        file = TeamFile(
            id=file_id,
            team=team,
            filename=filename,
            purpose=purpose,
            bytes=incoming.bytes,
            sha256=incoming.sha256,
            created_at=int(time.time()),
        )
        session.add(file)
        session.commit()
        session.refresh(file)
        return file
