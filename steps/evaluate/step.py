"""The evaluate step: base, candidate and champion on the same rows, as they will be served, and the gate's verdict."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256, read_adapter_base
from steps.common.adapter.merge import merge_into_base
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.model.packs import TokenRow, read_token_rows
from steps.common.model.pair_packs import read_token_pairs
from steps.common.registry import tracking, versions
from steps.common.rows.row_kinds import PAIRS
from steps.common.runtime.errors import GATE_REFUSED
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import digest_of, write_text
from steps.evaluate.gate.comparison import Champion, by_name, compare
from steps.evaluate.gate.gate import judge
from steps.evaluate.report.mlflow_record import record
from steps.evaluate.report.page import for_argo, render
from steps.evaluate.report.report import answers_side_by_side, read_report, report_of
from steps.evaluate.report.sample import first_row, masked
from steps.evaluate.scores import general
from steps.evaluate.scores.answers import Turns
from steps.evaluate.scores.lm_eval_rows import harness_rows
from steps.evaluate.scores.score import Score, Wanted, score
from steps.evaluate.scores.scored_tasks import spread, tasks_of

FORMAT = 2  # of what is kept of a score; raised when scoring changes


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
def evaluate(input: EvaluateInput) -> EvaluateOutput:
    """Score what was not scored before, compare, and judge."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    resolved, recipe = input.resolved, input.resolved.recipe
    file = Path(input.rows_folder) / "validation.jsonl"
    rows = read_token_rows(file)  # of pairs, the chosen sides
    rejected = [pair.rejected for pair in read_token_pairs(file)] if recipe.tune.objective == PAIRS else []
    samples = _samples(rows, recipe.evaluate.sample_rows)
    tasks = tasks_of(resolved, rows)
    asked: list[Turns] = [[("user", q.ask)] for q in recipe.evaluate.questions] + [turns for turns, _ in samples]
    shown = len(asked)
    asked += [turns for task in tasks for turns in task.asked]
    of_harness = harness_rows(resolved)
    wanted = Wanted(rows, asked, recipe.evaluate.answer_tokens, recipe.evaluate.general, rejected, of_harness)

    scored = _scorer(input, wanted)
    base, candidate = scored("base", None), scored("candidate", Path(input.adapter_folder))
    champion = _champion(input, scored)
    if recipe.serve.enabled and resolved.serving_plan.form == "merged":
        # Here, where there is torch: rollout has none in a cluster.
        merge_into_base(Path(input.base_folder), Path(input.adapter_folder))
    best = champion.score if champion else None
    compared = compare(base, candidate, best, tasks, shown, of_harness, recipe.tune.beta)
    verdict = judge(recipe.gate, base, candidate, champion, compared, recipe.evaluate.questions)
    scores = by_name(base, candidate, best)
    report = report_of(
        resolved,
        input.hardware,
        scores,
        champion,
        compared,
        verdict,
        answers_side_by_side(recipe.evaluate.questions, samples, scores),
        {"data": read_report(Path(input.rows_folder)), "tuning": read_report(Path(input.adapter_folder).parent)},
        _masked(input),
    )
    file = volumes.run_folder(resolved.run or "unnamed") / versions.EVALUATION_FILE
    write_text(file, json.dumps(report, indent=2) + "\n")
    page = render(report, resolved)
    write_text(file.with_suffix(".html"), page)
    for_argo(page)
    record(resolved, report, verdict, file)
    say(verdict.in_words())
    code = 0 if verdict.passed else GATE_REFUSED
    return EvaluateOutput(passed=verdict.passed, verdict=verdict.in_words(), report=str(file), exit_code=code)


def _scorer(input: EvaluateInput, wanted: Wanted) -> Callable[[str, Path | None], Score]:
    """Return what scores the base, or the base with an adapter: merged, or beside it, as it is served; in 4 bits as tuned."""
    resolved, rung, base_folder = input.resolved, input.hardware.rung, Path(input.base_folder)
    in_4_bits = rung.evaluated_in_4_bits
    beside = in_4_bits or resolved.serving_plan.form == "adapter"

    def scored(who: str, of: Path | None) -> Score:
        identity = _identity(of) if of else resolved.model.digest
        items = [vars(item) for item in general.items()] if wanted.general else []
        limits = [wanted.answer_tokens, resolved.model.digest, in_4_bits, items]
        if of and beside and not in_4_bits:
            limits.append("adapter beside the base")
        if wanted.lm_eval:
            limits.append([one.sha256 for one in wanted.lm_eval])
        file = volumes.evaluation(digest_of([FORMAT, identity, input.rows_digest, wanted.asked, limits]))
        if not file.exists():
            say(f"scoring the {who}")
            folder = base_folder if of is None or beside else merge_into_base(base_folder, of)
            micro, kind = rung.micro_batch_tokens, rung.device.kind
            with_adapter = of if beside else None
            gpus = rung.device.count if rung.sharded else 1
            found = score(folder, wanted, micro, kind, who, in_4_bits=in_4_bits, adapter=with_adapter, gpus=gpus)
            write_text(file, found.model_dump_json())
        return Score.model_validate_json(file.read_text())

    return scored


def _identity(adapter: Path) -> str:
    return digest_of([read_adapter_base(adapter).digest, adapter_sha256(adapter)])


def _samples(rows: list[TokenRow], count: int) -> list[tuple[Turns, str]]:
    """Return, evenly spread over the held-out chats, what was asked and what was answered."""
    chosen = spread([row.messages for row in rows if row.messages], count)
    return [(turns[:-1], turns[-1][1]) for turns in chosen]


def _champion(input: EvaluateInput, scored: Callable[[str, Path | None], Score]) -> Champion | None:
    """Score the champion, where there is one that stands on the same base."""
    resolved = input.resolved
    store = tracking.client(resolved.tracking.uri)
    version = versions.version_at(store, resolved.recipe.name, versions.CHAMPION)
    if version is None:
        return None
    number = int(version.version)
    if version.tags.get("fineline.base_digest") != resolved.model.digest:
        say(f"the champion, version {number}, stands on another base: their losses a token cannot be compared")
        return Champion(number, None)
    same = version.tags.get("fineline.adapter_sha256") == adapter_sha256(Path(input.adapter_folder))
    with tempfile.TemporaryDirectory() as folder:
        adapter = versions.download_adapter(store, version, Path(folder))
        return Champion(number, scored("champion", adapter), same)


def _masked(input: EvaluateInput) -> list[dict[str, object]]:
    """Return the first training row, with what of it is learnt."""
    from transformers import AutoTokenizer

    row = first_row(Path(input.rows_folder) / "train.jsonl")
    return masked(row, AutoTokenizer.from_pretrained(input.base_folder))
