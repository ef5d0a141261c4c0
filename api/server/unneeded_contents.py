"""Deletes the contents that nothing needs: no file has the digest, and no unfinished job was given such a file.

A job's record contains the ids of its files, and each id the prefix of the digest. It shows what the job needs after the files
are deleted, on a machine and in a cluster. If a job still needs the content when its last file is deleted, the content is
deleted with a later file, once the job has ended. Runs that the API did not create read from other places.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.database.tables import Team, TeamFile
from api.files.file_contents import start_of
from api.files.team_files import content_of
from api.server.services import Services
from api.server.unfinished_jobs import files_of, unfinished_jobs


def delete_unneeded(session: Session, services: Services) -> None:
    """Delete the unneeded contents, and what interrupted uploads have left."""
    contents = services.contents
    contents.delete_interrupted()
    with contents.lock():
        session.rollback()  # to see what was committed since
        named = {start_of(digest) for digest in session.scalars(select(TeamFile.sha256).distinct())}
        left = contents.published() - named
        if not left:
            return
        teams = session.scalars(select(Team.name)).all()
        needing = unfinished_jobs(services.jobs, teams, lambda job: bool(left & _contents(files_of(job))))
        contents.delete(left - {start for job in needing for start in _contents(files_of(job))})


def _contents(file_ids: Iterable[str]) -> set[str]:
    return {content_of(one) for one in file_ids}
