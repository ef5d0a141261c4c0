"""Scores a model on tasks of lm-eval, as it is served: one value per row, so that two models can be paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import check_installed
from steps.common.lm_eval.load_tasks import load_tasks
from steps.common.lm_eval.samples import run_samples
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say

PROGRESS_EVERY = 32  # requests
SEED = 17


@dataclass(frozen=True)
class LmEvalRows:
    """A packed task, with the recipe's settings for it."""

    task: LmEvalTask
    file: Path
    sha256: str
    request: pack.PackedRequest

    @property
    def name(self) -> str:
        """Its name in the report: the metric, the task, and the number of examples if the recipe sets it."""
        shots = "" if self.task.num_fewshot is None else f", {self.task.num_fewshot}-shot"
        return f"{self.request.metric_in_words} of {self.task.task}{shots}"


def read_lm_eval_rows(resolved: Resolved) -> list[LmEvalRows]:
    """Return the recipe's tasks of lm-eval, as the plan packed them.

    Raises:
        UserError: a file has changed since the run was planned, or lm-eval is not installed.
    """
    if resolved.lm_eval:
        check_installed("evaluate.lm_eval")
    tasks = []
    for number, (task, file) in enumerate(zip(resolved.recipe.evaluate.lm_eval, resolved.lm_eval, strict=True)):
        path = as_planned(file)
        tasks.append(LmEvalRows(task, path, file.sha256, pack.read(path, f"evaluate.lm_eval.{number}")))
    return tasks


def score_lm_eval(model: Any, tokenizer: Any, tasks: list[LmEvalRows], who: str) -> list[list[float]]:
    """Return the metric of each task, 0 to 1, row by row in the order of the rows.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        tasks: to score it on.
        who: the model's role, for the log.

    Raises:
        UserError: a row's value is not between 0 and 1.
    """
    if not tasks:
        return []
    import torch

    wrapped = _lm_eval_model(model, tokenizer, who)
    scores = []
    for rows in tasks:
        request = rows.request
        torch.manual_seed(SEED)  # some tasks sample their answers
        with pack.unpacked(rows.file) as folder:
            loaded = load_tasks(folder, request)
            samples = run_samples(wrapped, loaded, request, chat_template=request.chat_template)
        values = [float(sample[request.metric]) for sample in samples if sample["filter"] == request.filter]
        if outside := [value for value in values if not 0 <= value <= 1]:
            raise UserError(
                f"evaluate.lm_eval: {rows.name} is {outside[0]:g} for a row, which is not between 0 and 1; "
                "choose another metric"
            )
        scores.append(values)
    return scores


def _lm_eval_model(model: Any, tokenizer: Any, who: str) -> Any:
    """Wrap the model for lm-eval; a function, because its base class can only be imported where lm-eval is installed.

    One row per batch: in a padded batch bf16 rounds differently and the answers change. What lm-eval shares between the
    options of a question it shares anyway. Log-probabilities are computed in fp32: in bf16 two options are easily tied.
    """
    from lm_eval.models.huggingface import HFLM

    class LmEvalModel(HFLM):  # type: ignore[misc]
        """Reports progress in the step's log."""

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            self._warn_if_truncated([first + second for first, second in (request.args for request in requests)], 0)
            return self._with_progress(requests, super().loglikelihood)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            return self._with_progress(requests, super().loglikelihood_rolling)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            self._warn_if_truncated([request.args[0] for request in requests], self.max_gen_toks)
            return self._with_progress(requests, super().generate_until)

        def _warn_if_truncated(self, texts: list[str], answer_tokens: int) -> None:
            """Warn about questions whose beginning lm-eval cuts off; it would only log that."""
            longest = max(len(tokens) for tokens in tokenizer(texts)["input_ids"])
            if longest + answer_tokens > self.max_length:
                say(
                    f"warning: the longest question of lm-eval has {longest} tokens, but the model takes only "
                    f"{self.max_length - answer_tokens}; its beginning is cut off"
                )

        def _with_progress(self, requests: list[Any], ask: Any) -> list[Any]:
            progress = Progress(len(requests), f"requests of lm-eval to the {who}")
            responses: list[Any] = []
            for start in range(0, len(requests), PROGRESS_EVERY):
                responses += ask(requests[start : start + PROGRESS_EVERY], disable_tqdm=True)
                progress.update(len(responses))
            return responses

    return LmEvalModel(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, softmax_dtype="float32")
