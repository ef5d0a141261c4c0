"""The report of a run: what went in, how it was tuned, what it came to, as one dictionary that JSON can hold."""

import json
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recipes.evaluation import Question
from steps.common.handover.resolved import Hardware, Resolved
from steps.evaluate.gate.comparison import Champion, Compared
from steps.evaluate.gate.gate import Verdict, meets
from steps.evaluate.scores.answers import Turns
from steps.evaluate.scores.score import Score


def report_of(
    resolved: Resolved,
    hardware: Hardware,
    scores: dict[str, Score],
    champion: Champion | None,
    compared: Compared,
    verdict: Verdict,
    answers: list[dict[str, Any]],
    reports: dict[str, dict[str, Any]],
    sample: list[dict[str, Any]],
) -> dict[str, Any]:
    """Put the report together.

    Args:
        resolved: the recipe and what it came to.
        hardware: what computed.
        scores: by "base", "candidate" and, where there is one on the same base, "champion".
        champion: the version served now.
        compared: the candidate beside the others.
        verdict: the gate's.
        answers: see `answers_side_by_side`.
        reports: "data" and "tuning": what prepare and tune have written.
        sample: a training row, see `sample.masked`.
    """
    rung, quote = hardware.rung, resolved.quote
    return {
        "run": resolved.run,
        "passed": verdict.passed,
        "reasons": verdict.reasons,
        "champion_version": champion.version if champion else 0,
        "evaluated": "in 4 bits, as tuned" if rung.evaluated_in_4_bits else "as served",
        "cost": _cost(resolved, hardware),
        "quote": {"tokens": quote.tokens, "steps": quote.steps, "minutes": quote.first.minutes, "on": rung.name},
        "scores": {
            who: {"loss": s.loss, "perplexity": s.perplexity, "accuracy": s.accuracy, "tokens": s.tokens}
            | _preferred(compared, who)
            for who, s in scores.items()
        },
        "rows": {who: {"nats": s.nats, "labelled": s.labelled, "right": s.right} for who, s in scores.items()},
        "gains": {"base": _plain(compared.base), "champion": _plain(compared.champion)},
        "general": _general(scores, compared),
        "tasks": [_plain(task) for task in compared.tasks],
        "data": reports.get("data", {}),
        "tuning": reports.get("tuning", {}),
        "sample": sample,
        "answers": answers,
    }


def answers_side_by_side(
    questions: list[Question], samples: list[tuple[Turns, str]], scores: dict[str, Score]
) -> list[dict[str, Any]]:
    """Return each question and sample row with every model's answer, the first ones of each score.

    Args:
        questions: the recipe's.
        samples: held-out rows, what was asked and what was answered.
        scores: by who the model is.
    """
    asked: list[tuple[Turns, str]] = [([("user", question.ask)], "") for question in questions] + samples
    found: list[dict[str, Any]] = [
        {
            "asked": turns[-1][1],
            "messages": [{"role": role, "content": text} for role, text in turns],
            "wanted": said,
            **{who: score.answers[number] for who, score in scores.items()},
        }
        for number, (turns, said) in enumerate(asked)
    ]
    for question, answer in zip(questions, found, strict=False):
        answer["expect"] = question.expect
        answer["candidate_meets"] = meets(question, answer["candidate"])
    return found


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report that a step has left in its folder; empty where there is none."""
    file = folder / "report.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _preferred(compared: Compared, who: str) -> dict[str, Any]:
    """Return, where the rows are pairs, how a model other than the base prefers them."""
    found = {"candidate": compared.preference, "champion": compared.preference_of_champion}.get(who)
    return found.model_dump() if found else {}


def _general(scores: dict[str, Score], compared: Compared) -> dict[str, Any] | None:
    if compared.general is None:
        return None
    shares = {who: sum(score.general) / len(score.general) for who, score in scores.items() if score.general}
    return {"accuracy": shares, "gain": _plain(compared.general)}


def _plain(value: BaseModel | None) -> Any:
    """Return it as JSON has it: what is no finite number becomes null."""
    return json.loads(value.model_dump_json()) if value else None


def _cost(resolved: Resolved, hardware: Hardware) -> dict[str, Any] | None:
    """Return what was quoted and what the node has cost up to now; None where none was bought."""
    rung = hardware.rung
    if not rung.instance_type:
        return None
    hours = max(0.0, time.time() - hardware.since) / 3600
    return {
        "instance_type": rung.instance_type,
        "capacity": rung.capacity,
        "price": rung.price,
        "priced_on": rung.priced_on,
        "quoted": resolved.quote.first.cost,
        "hours": round(hours, 3),
        "so_far": None if rung.price is None else round(hours * rung.price, 2),
    }
