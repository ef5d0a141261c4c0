"""The record of a fine-tuning job: what was requested. It is stored beside the job's run."""

from typing import Any, Literal

from steps.common.storage.record import Record

Wanted = Literal["run", "pause", "cancel"]
ID_PREFIX = "ftjob-"


class JobRecord(Record):
    """A job. Everything else about it is in its run."""

    id: str  # see `id_of`
    run: str
    team: str
    created_at: int  # Unix time in seconds
    model: str  # base model, as the client named it
    name: str  # of the model that is tuned
    training_file: str  # its id
    validation_file: str | None = None
    files: list[str] = []  # ids of all files that it reads: these two, and those of the evaluation's tasks
    method: dict[str, Any]  # as the API returns it
    seed: int
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    quote: str = ""  # in words; empty: none until the run's plan makes one
    quoted_dollars: float | None = None  # None: not known, or nothing is bought
    request: str = ""  # digest of the request that created it, to recognise a repetition
    wanted: Wanted = "run"
    wanted_at: int = 0  # Unix time at which it was last paused, resumed, or cancelled; 0: never
    wishes: list[tuple[int, Wanted]] = []  # each time, with what was wanted

    def wanting(self, wanted: Wanted, now: float) -> "JobRecord":
        """Return the record of a job that is to be paused, resumed, or cancelled from now on; a repetition changes nothing."""
        if wanted == self.wanted:
            return self
        at = int(now)
        return self.model_copy(
            update={"wanted": wanted, "wanted_at": at, "wishes": [*self.wishes, (at, wanted)]},
        )


def id_of(run: str) -> str:
    """Return the id of the job with this run."""
    return f"{ID_PREFIX}{run}"


def run_of(job_id: str) -> str:
    """Return the run of the job with this id; empty if no job can have the id."""
    return job_id.removeprefix(ID_PREFIX) if job_id.startswith(ID_PREFIX) else ""
