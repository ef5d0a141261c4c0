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
from api.files.team_files import DELETED, content_of
from api.jobs.job_place import ENDED
from api.jobs.job_record import JobRecord
from api.server.services import Services
from api.server.unfinished_jobs import files_of


def delete_unneeded(session: Session, services: Services) -> None:
    """Delete the unneeded contents, and what interrupted uploads have left."""
    contents = services.contents
    contents.delete_interrupted()
    left = contents.published() - _named(session)
    if not left:
        return
    # Uploads and new jobs of all teams wait for the lock, so whatever takes long is done before.
    seen, needed = set[str](), set[str]()
    for job in _jobs(session, services):
        seen.add(job.id)
        wanted = left & _contents(files_of(job))
        if wanted - needed and services.jobs.state(job).status not in ENDED:
            needed |= wanted
    with contents.lock():
        left -= needed | _named(session)
        if left:
            new = (job for job in _jobs(session, services) if job.id not in seen)
            contents.delete(left - {start for job in new for start in _contents(files_of(job))})


def _named(session: Session) -> set[str]:
    """Return the digest prefixes of the contents that have a name."""
    session.rollback()  # to see what was committed since
    digests = session.scalars(select(TeamFile.sha256).where(TeamFile.sha256 != DELETED).distinct())
    return {start_of(digest) for digest in digests}


def _jobs(session: Session, services: Services) -> list[JobRecord]:
    teams = session.scalars(select(Team.name)).all()
    session.rollback()  # no connection is held while jobs are read
    return [job for team in teams for job in services.jobs.jobs(team)]


def _contents(file_ids: Iterable[str]) -> set[str]:
    return {content_of(one) for one in file_ids}
