"""The plots of the report, and which of its numbers each one shows."""

import math

from presets.memory import GIB
from steps.common.handover.report import EvaluationReport
from steps.common.handover.report_difference import Difference
from steps.evaluate.report.plots import Curve, Range, bars, curves, ranges


def figures(report: EvaluationReport) -> list[str]:
    """Return the plots that the report has numbers for, as SVG text."""
    drawn = [gains(report), loss_curve(report), learning_rate(report), memory(report), share_learnt(report)]
    return [one for one in drawn if one]


def gains(report: EvaluationReport) -> str:
    """Plot the candidate's gains over base and champion in every measure, with their intervals."""
    over_champion = f"over version {report.champion_version}"
    drawn = [_range("held-out loss over the base", report.gains.base)]
    if report.gains.champion:
        drawn.append(_range(f"held-out loss {over_champion}", report.gains.champion))
    if report.general:
        drawn.append(_range("general ability over the base", report.general.gain))
    for task in report.tasks:
        drawn.append(_range(f"{task.name} over the base", task.base))
        if task.champion:
            drawn.append(_range(f"{task.name} {over_champion}", task.champion))
    return ranges("The candidate's gains, with 95% confidence intervals", drawn)


def _range(name: str, difference: Difference) -> Range:
    return Range(name, difference.value, difference.low, difference.high)


def loss_curve(report: EvaluationReport) -> str:
    """Plot the training loss of each step, also smoothed, and the held-out loss before, during and after the tuning.

    Before and after, the model is scored as it is served, on all held-out rows; during the tuning, as it is tuned, on some.
    """
    if not report.tuning or not report.tuning.losses:
        return ""
    losses = _points(report.tuning.losses)
    before, after = report.scores["base"].loss, report.scores["candidate"].loss
    last_step = losses[-1][0]
    drawn = [
        Curve("training, smoothed", smoothed(losses)),
        Curve("held out, as served", [(0.0, before), (last_step, after)], dots=True),
        Curve("held out, during the tuning", _points(report.tuning.held_out)),
        Curve("training, each step", losses, faint=True),
    ]
    return curves("Loss", "optimizer step", "nats per token", drawn)


def _points(values: list[tuple[int, float]]) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in values]


def smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the moving average over a tenth of the points, each with those before it."""
    size = max(1, len(points) // 10)
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    found = []
    for place, (x, _) in enumerate(finite):
        near = [y for _, y in finite[max(0, place + 1 - size) : place + 1]]
        found.append((x, sum(near) / len(near)))
    return found


def learning_rate(report: EvaluationReport) -> str:
    """Plot the learning rate of each step whose loss was logged."""
    if not report.tuning:
        return ""
    steps = [float(step) for step, _ in report.tuning.losses]
    points = list(zip(steps, report.tuning.learning_rates, strict=False))
    return curves("Learning rate", "optimizer step", "rate", [Curve("rate", points)])


def memory(report: EvaluationReport) -> str:
    """Plot the tuning's peak memory beside its prediction."""
    if not report.tuning:
        return ""
    peaks = {"predicted": report.tuning.predicted_bytes, "measured": report.tuning.peak_bytes}
    drawn = [(name, float(size), f"{size / GIB:.2f} GiB") for name, size in peaks.items() if size]
    return bars("Peak memory of the tuning", drawn)


def share_learnt(report: EvaluationReport) -> str:
    """Plot how many of the training tokens are learned, and how many are only read."""
    if not report.data or not report.data.train_tokens:
        return ""
    tokens, share = report.data.train_tokens, report.data.labelled_share
    learnt = tokens * share
    drawn = [
        ("learned", learnt, f"{learnt:.0f} ({share:.0%})"),
        ("only read", tokens - learnt, f"{tokens - learnt:.0f} ({1 - share:.0%})"),
    ]
    return bars("Training tokens per epoch", drawn)
