"""The losses of a job's training, from what its run has written."""

from collections.abc import Mapping

from api.jobs.job_place import Measurement
from steps.common.handover.report_parts import TuningReport


def measurements_of(
    journal: Mapping[int, Mapping[str, float]] | None, report: TuningReport | None, times: tuple[float, float]
) -> tuple[Measurement, ...]:
    """Return the losses by step.

    Args:
        journal: what the training writes after each step; empty or None: it has not written anything, or it was deleted.
        report: the training's report, which has the losses too.
        times: when the run's tuning began and ended. A tuning by an earlier run has earlier measurements.
    """
    if journal:
        return tuple(
            Measurement(step, max(values.get("time", 0.0), times[0]), values.get("loss"), values.get("held_out_loss"))
            for step, values in journal.items()
        )
    if report is None:
        return ()
    train, held_out = dict(report.losses), dict(report.held_out)
    return tuple(
        Measurement(step, times[1] or times[0], train.get(step), held_out.get(step))
        for step in sorted(train.keys() | held_out.keys())
    )
