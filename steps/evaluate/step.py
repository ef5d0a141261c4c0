"""The evaluate step: base, candidate and champion on the same rows, as they will be served, and the gate's verdict."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common import registry, tracking, volumes
from steps.common.adapters import adapter_sha256, read_base
from steps.common.errors import GATE_REFUSED
from steps.common.files import digest_of, write_text
from steps.common.merge import merged
from steps.common.packs import TokenRow, read_token_rows
from steps.common.progress import say
from steps.common.resolved import Hardware, Resolved
from steps.common.step import step
from steps.evaluate.gate import Verdict, judge, meets
from steps.evaluate.page import for_argo, render
from steps.evaluate.score import Score, Turns, score

FORMAT = 1  # of what is kept of a score; raised when scoring changes


class EvaluateInput(Input):
    """The candidate, and what it is held against."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_folder: Annotated[str, Parameter(description="Folder of the prepared rows")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the candidate's adapter")]
    hardware: Annotated[Hardware, Parameter(description="What computes")]
    placement: Annotated[str, Parameter(description="Patch of the pod's spec; Argo reads it, not the step")] = "{}"


class EvaluateOutput(Output):
    """The verdict; where the gate refuses, the step ends with exit code 3 and these outputs are there all the same."""

    passed: bool
    verdict: str
    report: str


@step
def evaluate(input: EvaluateInput) -> EvaluateOutput:  # noqa: A002 - the name is Argo's
    """Score what was not scored before, compare, and judge."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    resolved, recipe = input.resolved, input.resolved.recipe
    rows = read_token_rows(Path(input.rows_folder) / "validation.jsonl")
    samples = _samples(rows, recipe.evaluate.sample_rows)
    asked: list[Turns] = [[("user", q.ask)] for q in recipe.evaluate.questions] + [turns for turns, _ in samples]

    rung, base_folder, adapter = input.hardware.rung, Path(input.base_folder), Path(input.adapter_folder)
    in_4_bits = rung.evaluated_in_4_bits
    beside = in_4_bits or resolved.served.form == "adapter"

    def scored(who: str, of: Path | None) -> Score:
        """Score the base, or the base with an adapter: merged, or beside it, as it is served; in 4 bits as it was tuned."""
        identity = _identity(of) if of else resolved.model.digest
        limits = [recipe.evaluate.answer_tokens, resolved.model.digest, in_4_bits]
        if of and beside and not in_4_bits:
            limits.append("adapter beside the base")
        file = volumes.evaluation(digest_of([FORMAT, identity, input.rows_digest, asked, limits]))
        if not file.exists():
            say(f"scoring the {who}")
            folder = base_folder if of is None or beside else merged(base_folder, of)
            micro, tokens, kind = rung.micro_batch_tokens, recipe.evaluate.answer_tokens, rung.device.kind
            with_adapter = of if beside else None
            found = score(folder, rows, asked, tokens, micro, kind, who, in_4_bits=in_4_bits, adapter=with_adapter)
            write_text(file, found.model_dump_json())
        return Score.model_validate_json(file.read_text())

    base = scored("base", None)
    candidate = scored("candidate", adapter)
    champion, champion_version = _champion(resolved, scored)
    if recipe.serve.enabled and resolved.served.form == "merged":
        merged(base_folder, adapter)  # here, where there is torch: rollout has none in a cluster
    verdict = judge(recipe.gate, base, candidate, champion, recipe.evaluate.questions)
    report = _report(
        resolved,
        {"base": base, "candidate": candidate, "champion": champion},
        champion_version,
        verdict,
        asked,
        samples,
        input.hardware,
    )
    file = volumes.run_folder(resolved.run or "unnamed") / "evaluation.json"
    write_text(file, json.dumps(report, indent=2) + "\n")
    page = render(report, resolved)
    write_text(file.with_suffix(".html"), page)
    for_argo(page)
    _record(resolved, {"base": base, "candidate": candidate, "champion": champion}, verdict, file)
    say(verdict.in_words())
    code = 0 if verdict.passed else GATE_REFUSED
    return EvaluateOutput(passed=verdict.passed, verdict=verdict.in_words(), report=str(file), exit_code=code)


def _identity(adapter: Path) -> str:
    return digest_of([read_base(adapter).digest, adapter_sha256(adapter)])


def _samples(rows: list[TokenRow], count: int) -> list[tuple[Turns, str]]:
    """Return, evenly spread over the held-out chats, what was asked and what was answered."""
    chats = [row.messages for row in rows if row.messages]
    chosen = chats[:: max(1, len(chats) // count)][:count] if count else []
    return [(turns[:-1], turns[-1][1]) for turns in chosen]


def _champion(resolved: Resolved, scored: Any) -> tuple[Score | None, int]:
    """Score the champion, where there is one that stands on the same base."""
    store = tracking.client(resolved.tracking.uri)
    version = registry.version_at(store, resolved.recipe.name, registry.CHAMPION)
    if version is None:
        return None, 0
    if version.tags.get("fineline.base_digest") != resolved.model.digest:
        say(f"the champion, version {version.version}, stands on another base: their losses a token cannot be compared")
        return None, int(version.version)
    with tempfile.TemporaryDirectory() as folder:
        adapter = registry.download_adapter(store, version, Path(folder))
        return scored("champion", adapter), int(version.version)


def _report(
    resolved: Resolved,
    scores: dict[str, Score | None],
    champion_version: int,
    verdict: Verdict,
    asked: list[Turns],
    samples: list[tuple[Turns, str]],
    hardware: Hardware,
) -> dict[str, Any]:
    questions = resolved.recipe.evaluate.questions
    there = {who: found for who, found in scores.items() if found}
    wanted = [""] * len(questions) + [answer for _, answer in samples]
    answers: list[dict[str, Any]] = [
        {
            "asked": turns[-1][1],
            "messages": [{"role": role, "content": text} for role, text in turns],
            "wanted": wanted[number],
            **{who: found.answers[number] for who, found in there.items()},
        }
        for number, turns in enumerate(asked)
    ]
    for question, answer in zip(questions, answers, strict=False):
        answer["expect"] = question.expect
        answer["candidate_meets"] = meets(question, answer["candidate"])
    return {
        "passed": verdict.passed,
        "reasons": verdict.reasons,
        "champion_version": champion_version,
        "evaluated": "in 4 bits, as tuned" if hardware.rung.evaluated_in_4_bits else "as served",
        "cost": _cost(resolved, hardware),
        "scores": {
            who: {"loss": s.loss, "perplexity": s.perplexity, "accuracy": s.accuracy, "tokens": s.tokens}
            for who, s in there.items()
        },
        "answers": answers,
    }


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


def _record(resolved: Resolved, scores: dict[str, Score | None], verdict: Verdict, file: Path) -> None:
    run = resolved.tracking.run_id
    if not run:
        return
    store = tracking.client(resolved.tracking.uri)
    for who, found in scores.items():
        if found:
            store.log_metric(run, f"{who}/loss", found.loss)
            store.log_metric(run, f"{who}/accuracy", found.accuracy)
            store.log_metric(run, f"{who}/perplexity", found.perplexity)
    store.set_tag(run, "fineline.verdict", verdict.in_words())
    store.log_artifact(run, str(file))
    store.log_artifact(run, str(file.with_suffix(".html")))
