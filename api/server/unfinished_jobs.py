"""The unfinished jobs of all teams, and the files that they need."""

from collections.abc import Callable, Iterable, Iterator

from api.jobs.job_place import ENDED, JobPlace
from api.jobs.job_record import JobRecord


def unfinished_jobs(
    jobs: JobPlace, teams: Iterable[str], is_wanted: Callable[[JobRecord], bool]
) -> Iterator[JobRecord]:
    """Yield the wanted jobs that are queued, running, or paused. Only their states are read, since that takes longer."""
    for team in teams:
        for job in jobs.jobs(team):
            if is_wanted(job) and jobs.state(job).status not in ENDED:
                yield job


def files_of(job: JobRecord) -> set[str]:
    """Return the ids of all files that a job reads."""
    return {job.training_file, *([job.validation_file] if job.validation_file else []), *job.files}
