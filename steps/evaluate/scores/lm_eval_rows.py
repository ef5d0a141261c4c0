"""Tasks of lm-eval, asked of a model as it is served: a value for each row, so that two models can be paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import check_installed
from steps.common.lm_eval.load_tasks import load
from steps.common.lm_eval.samples import samples
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say

AT_ONCE = 32  # requests between two words of the progress
SEED = 17


@dataclass(frozen=True)
class HarnessRows:
    """A packed task, and what the recipe makes of it."""

    task: LmEvalTask
    file: Path
    sha256: str
    asked: pack.PackedRequest

    @property
    def name(self) -> str:
        """What it is called in the report: the metric, the task, and how many examples it is asked with."""
        shots = "" if self.task.num_fewshot is None else f", {self.task.num_fewshot}-shot"
        return f"{self.asked.metric_in_words} of {self.task.task}{shots}"


def harness_rows(resolved: Resolved) -> list[HarnessRows]:
    """Return the recipe's tasks of lm-eval as they were packed.

    Raises:
        UserError: a file is another than the run was planned with, or lm-eval is not installed.
    """
    if resolved.lm_eval:
        check_installed("evaluate.lm_eval")
    found = []
    for number, (task, file) in enumerate(zip(resolved.recipe.evaluate.lm_eval, resolved.lm_eval, strict=True)):
        path = as_planned(file)
        found.append(HarnessRows(task, path, file.sha256, pack.read(path, f"evaluate.lm_eval.{number}")))
    return found


def harness_values(model: Any, tokenizer: Any, wanted: list[HarnessRows], who: str) -> list[list[float]]:
    """Return the metric of each row of each task, 0 to 1, the rows in their order.

    Args:
        model: in evaluation mode.
        tokenizer: its own.
        wanted: the tasks.
        who: the model's part, for the log.

    Raises:
        UserError: a row's value is none between 0 and 1.
    """
    if not wanted:
        return []
    import torch

    asked_of = _harness_model(model, tokenizer, who)
    found = []
    for one in wanted:
        torch.manual_seed(SEED)  # some tasks draw their answers
        with pack.unpacked(one.file) as folder:
            tasks = load(folder, one.asked)
            said = samples(asked_of, tasks, one.asked, chat_template=one.asked.chat_template)
        values = [float(sample[one.asked.metric]) for sample in said if sample["filter"] == one.asked.filter]
        if beyond := [value for value in values if not 0 <= value <= 1]:
            raise UserError(
                f"evaluate.lm_eval: {one.name} is {beyond[0]:g} in a row, and not between 0 and 1; take another metric"
            )
        found.append(values)
    return found


def _harness_model(model: Any, tokenizer: Any, who: str) -> Any:
    """Return the model as lm-eval takes one; a function, since its class is lm-eval's.

    A row at a time: in a padded batch bf16 rounds to other words. What lm-eval shares between the options of a question it
    shares all the same. Options are told apart in 32 bits: in bf16 two of them are soon equally likely.
    """
    from lm_eval.models.huggingface import HFLM

    class Harness(HFLM):  # type: ignore[misc]
        """Tells how far it is in a step's own way."""

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            self._warn_of_long_ones([first + second for first, second in (request.args for request in requests)], 0)
            return self._told(requests, super().loglikelihood)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            return self._told(requests, super().loglikelihood_rolling)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            self._warn_of_long_ones([request.args[0] for request in requests], self.max_gen_toks)
            return self._told(requests, super().generate_until)

        def _warn_of_long_ones(self, texts: list[str], room: int) -> None:
            """Tell of what lm-eval cuts off at its beginning; it would only log it."""
            longest = max(len(tokens) for tokens in tokenizer(texts)["input_ids"])
            if longest + room > self.max_length:
                say(
                    f"warning: a question of lm-eval has {longest} tokens, of which the model takes {self.max_length - room}"
                )

        def _told(self, requests: list[Any], ask: Any) -> list[Any]:
            progress = Progress(len(requests), f"requests of lm-eval to the {who}")
            found: list[Any] = []
            for start in range(0, len(requests), AT_ONCE):
                found += ask(requests[start : start + AT_ONCE], disable_tqdm=True)
                progress.update(len(found))
            return found

    return Harness(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, softmax_dtype="float32")
