"""The plots of a report: which there are, and what each is drawn from."""

import math
from typing import Any

from presets.memory import GIB
from steps.evaluate.report.plots import Curve, Range, bars, curves, ranges


def figures(report: dict[str, Any]) -> list[str]:
    """Return the plots whose data the report has, as SVG text."""
    drawn = [gains(report), loss_curve(report), learning_rate(report), memory(report), share_learnt(report)]
    return [one for one in drawn if one]


def gains(report: dict[str, Any]) -> str:
    """Return what the candidate gains over base and champion in all that was measured, with intervals."""
    version = f"version {report['champion_version']}"
    names = {"base": "over the base", "champion": f"over {version}"}
    drawn = [_range(f"held-out loss {names[who]}", gain) for who, gain in report["gains"].items() if gain]
    if report["general"]:
        drawn.append(_range("general ability over the base", report["general"]["gain"]))
    for task in report["tasks"]:
        drawn += [_range(f"{task['name']} {names[who]}", task[who]) for who in names if task[who]]
    return ranges("What the candidate gains, with 95 % intervals", drawn)


def _range(name: str, difference: dict[str, Any]) -> Range:
    return Range(name, difference["value"], difference["low"], difference["high"])


def loss_curve(report: dict[str, Any]) -> str:
    """Return the training loss of each step, smoothed too, and the held-out loss before, meanwhile and after.

    Meanwhile it is that of the model as it is tuned, on some of the rows; before and after it is as served, on all.
    """
    losses = [(float(step), float(loss)) for step, loss in report["tuning"].get("losses", [])]
    if not losses:
        return ""
    before, after = (report["scores"][who]["loss"] for who in ("base", "candidate"))
    last = losses[-1][0]
    drawn = [
        Curve("training, smoothed", smoothed(losses)),
        Curve("held out", [(0.0, before), (last, after)], dots=True),
        Curve(
            "held out, meanwhile", [(float(step), float(loss)) for step, loss in report["tuning"].get("held_out", [])]
        ),
        Curve("training, each step", losses, faint=True),
    ]
    return curves("Loss", "optimizer step", "nats a token", drawn)


def smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the mean over each point and those before it, the last tenth of the points at the most."""
    size = max(1, len(points) // 10)
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    found = []
    for place, (x, _) in enumerate(finite):
        near = [y for _, y in finite[max(0, place + 1 - size) : place + 1]]
        found.append((x, sum(near) / len(near)))
    return found


def learning_rate(report: dict[str, Any]) -> str:
    """Return the learning rate of each step whose loss was told."""
    tuning = report["tuning"]
    steps, rates = [float(step) for step, _ in tuning.get("losses", [])], tuning.get("learning_rates", [])
    points = [(step, float(rate)) for step, rate in zip(steps, rates, strict=False)]
    return curves("Learning rate", "optimizer step", "rate", [Curve("rate", points)])


def memory(report: dict[str, Any]) -> str:
    """Return the tuning's peak of memory beside the one that was predicted."""
    tuning = report["tuning"]
    known = [("predicted", "predicted_bytes"), ("taken", "peak_bytes")]
    drawn = [(name, float(tuning[key]), f"{tuning[key] / GIB:.2f} GiB") for name, key in known if tuning.get(key)]
    return bars("Memory of the tuning, at its peak", drawn)


def share_learnt(report: dict[str, Any]) -> str:
    """Return how many of the training tokens are learnt, and how many are only read."""
    data = report["data"]
    if not data.get("train_tokens"):
        return ""
    tokens, share = data["train_tokens"], data["labelled_share"]
    learnt = tokens * share
    drawn = [
        ("learnt", learnt, f"{learnt:.0f} ({share:.0%})"),
        ("read only", tokens - learnt, f"{tokens - learnt:.0f} ({1 - share:.0%})"),
    ]
    return bars("Tokens of the training rows, one epoch", drawn)
