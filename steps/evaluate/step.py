"""The evaluate step: scores base, candidate and champion on the same rows, as they will be served, and judges the candidate."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256, read_adapter_base
from steps.common.adapter.merge import merge_into_base
from steps.common.adapter.registered_adapter import check_registered
from steps.common.handover.report import (
    STEP_REPORT,
    PreparedRecord,
    StepReport,
    TuningRecord,
    read_step_report,
    write_report,
)
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.model.prepared_rows import TRAIN, VALIDATION, PreparedRejected, PreparedTexts
from steps.common.nodes.pod_placement import Placement
from steps.common.registry import tracking, versions
from steps.common.rows.conversation import Conversation
from steps.common.rows.row_kinds import PAIRS
from steps.common.runtime.errors import GATE_REFUSED
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import digest_of, write_text
from steps.common.structured.parse_calls import read_calls
from steps.evaluate.gate.comparison import Champion, compare, scores_by_role
from steps.evaluate.gate.gate import judge
from steps.evaluate.report.make_report import answers_side_by_side, make_report
from steps.evaluate.report.mlflow_record import log_evaluation
from steps.evaluate.report.page import leave_for_argo, render
from steps.evaluate.report.sample import masked
from steps.evaluate.scores import general
from steps.evaluate.scores.lm_eval_rows import read_lm_eval_rows
from steps.evaluate.scores.score import EvaluationSet, Score, score
from steps.evaluate.scores.task_rows import read_task_rows, spread

FORMAT = 4  # of a cached score; raise it when scoring changes


class EvaluateInput(Input):
    """The candidate, and what it is compared with."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_folder: Annotated[str, Parameter(description="Folder of the prepared rows")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the candidate's adapter")]
    hardware: Annotated[Hardware, Parameter(description="Hardware that the step computes on")]
    placement: Annotated[Placement, Parameter(description="Read by Argo, not by the step")] = Placement()


class EvaluateOutput(Output):
    """The verdict. If the gate refuses, the step ends with exit code 3 and still has these outputs."""

    passed: bool
    verdict: str
    report: str


@step
def evaluate(input: EvaluateInput) -> EvaluateOutput:
    """Score what has no cached score, compare, judge, and write the report."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    resolved, recipe = input.resolved, input.resolved.recipe
    validation = Path(input.rows_folder) / VALIDATION
    rows = PreparedTexts.open(validation)  # of preference pairs, the chosen sides
    rejected = PreparedRejected.open(validation) if recipe.tune.objective == PAIRS else []
    held_out = [row.conversation for row in rows if row.conversation]
    samples = _samples(held_out, recipe.evaluate.sample_rows)
    tasks = read_task_rows(resolved, held_out)
    chats = [Conversation.of(("user", question.ask)) for question in recipe.evaluate.questions]
    chats += [chat for chat, _ in samples]
    first_task_answer = len(chats)
    marked: list[int] = []
    for task in tasks:
        if task.keeps_special_tokens:
            marked += range(len(chats), len(chats) + len(task.chats))
        chats += task.chats
    lm_eval = read_lm_eval_rows(resolved)
    evaluation = EvaluationSet(
        rows,
        chats,
        recipe.evaluate.answer_tokens,
        recipe.evaluate.general,
        rejected,
        lm_eval,
        resolved.chat,
        marked,
    )

    scored = _scorer(input, evaluation)
    base, candidate = scored("base", None), scored("candidate", Path(input.adapter_folder))
    champion = _champion(input, scored)
    if recipe.serve.enabled and resolved.serving_plan.form == "merged":
        # Here, because this step has torch; in a cluster rollout has none.
        merge_into_base(Path(input.base_folder), Path(input.adapter_folder))
    champion_score = champion.score if champion else None
    tokenizer = AutoTokenizer.from_pretrained(input.base_folder)
    comparison = compare(
        base,
        candidate,
        champion_score,
        tasks,
        first_task_answer,
        lm_eval,
        recipe.tune.beta,
        lambda answer: read_calls(answer, tokenizer, resolved.chat.tool_parser),
    )
    verdict = judge(recipe.gate, base, candidate, champion, comparison, recipe.evaluate.questions)
    scores = scores_by_role(base, candidate, champion_score)
    report = make_report(
        resolved,
        input.hardware,
        scores,
        champion,
        comparison,
        verdict,
        answers_side_by_side(recipe.evaluate.questions, samples, scores),
        _report_of(PreparedRecord, Path(input.rows_folder)),
        _report_of(TuningRecord, Path(input.adapter_folder).parent),
        masked(PreparedTexts.open(Path(input.rows_folder) / TRAIN)[0], tokenizer),
    )
    file = volumes.run_folder(resolved.run or "unnamed") / versions.EVALUATION_FILE
    write_report(report, file)
    page = render(report, resolved)
    write_text(file.with_suffix(".html"), page)
    leave_for_argo(page)
    log_evaluation(resolved, report, verdict, file)
    say(verdict.in_words())
    code = 0 if verdict.passed else GATE_REFUSED
    return EvaluateOutput(passed=verdict.passed, verdict=verdict.in_words(), report=str(file), exit_code=code)


def _scorer(input: EvaluateInput, evaluation: EvaluationSet) -> Callable[[str, Path | None], Score]:
    """Return a function that scores the base, or the base with an adapter, as it is served.

    An adapter is merged into the base, or loaded on top of it; in 4 bits if that is how it was tuned and evaluated.
    """
    resolved, rung, base_folder = input.resolved, input.hardware.rung, Path(input.base_folder)
    in_4_bits = rung.evaluated_in_4_bits
    unmerged = in_4_bits or resolved.serving_plan.form == "adapter"

    def scored(who: str, adapter: Path | None) -> Score:
        identity = _identity(adapter) if adapter else resolved.model.digest
        questions = [vars(question) for question in general.general_questions()] if evaluation.general else []
        settings = [evaluation.answer_tokens, resolved.model.digest, in_4_bits, questions]
        if adapter and unmerged and not in_4_bits:
            settings.append("adapter beside the base")  # part of the cache's key: do not reword
        if evaluation.chat.template_arguments:
            settings.append(evaluation.chat.template_arguments)
        if evaluation.chat.end_of_turn:
            settings.append({"end of turn": evaluation.chat.end_of_turn})
        if evaluation.lm_eval:
            settings.append([rows.sha256 for rows in evaluation.lm_eval])
        if evaluation.with_special_tokens:
            settings.append({"with special tokens": evaluation.with_special_tokens})
        cached = volumes.evaluation(
            digest_of([FORMAT, identity, input.rows_digest, [chat.to_json() for chat in evaluation.chats], settings])
        )
        if not cached.exists():
            say(f"scoring the {who}")
            folder = base_folder if adapter is None or unmerged else merge_into_base(base_folder, adapter)
            found = score(
                folder,
                evaluation,
                rung.micro_batch_tokens,
                rung.device.kind,
                who,
                in_4_bits=in_4_bits,
                adapter=adapter if unmerged else None,
                gpus=rung.device.count if rung.sharded else 1,
            )
            write_text(cached, found.model_dump_json())
        return Score.read(cached.read_text(), cached)

    return scored


def _identity(adapter: Path) -> str:
    return digest_of([read_adapter_base(adapter).digest, adapter_sha256(adapter)])


def _samples(held_out: list[Conversation], count: int) -> list[tuple[Conversation, str]]:
    """Return held-out chats, evenly spread, each as its prompt and its answer."""
    return [(chat.asked, chat.answer.content) for chat in spread(held_out, count)]


def _champion(input: EvaluateInput, scored: Callable[[str, Path | None], Score]) -> Champion | None:
    """Score the champion, if there is one with the same base."""
    resolved = input.resolved
    store = tracking.client(resolved.tracking.uri)
    version = versions.version_at(store, resolved.recipe.name, versions.CHAMPION)
    if version is None:
        return None
    number, sha256 = int(version.version), version.tags.get(versions.ADAPTER_SHA256, "")
    if version.tags.get(versions.BASE_DIGEST) != resolved.model.digest:
        say(f"the champion, version {number}, has another base: losses per token cannot be compared across bases")
        return Champion(number, None, adapter_sha256=sha256)
    same = sha256 == adapter_sha256(Path(input.adapter_folder))
    with tempfile.TemporaryDirectory() as folder:
        adapter = versions.download_adapter(store, version, Path(folder))
        check_registered(version, adapter)
        return Champion(number, scored("champion", adapter), same, sha256)


def _report_of(kind: type[StepReport], folder: Path) -> StepReport | None:
    """Return the report that `prepare` or `tune` has left in its folder; None if there is none."""
    return read_step_report(kind, folder) if (folder / STEP_REPORT).is_file() else None
