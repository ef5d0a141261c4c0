"""Answers the questions of lm-eval's tasks with a model in this process."""

from typing import Any

from steps.common.lm_eval.library import silence
from steps.common.lm_eval.model_socket import ModelQuestion
from steps.common.model.chat_template import ChatTemplate
from steps.common.rows.cells.thought_marks import MARKS
from steps.common.runtime.progress import Progress, say

PROGRESS_EVERY = 32  # requests


class AnsweringModel:
    """A model with its tokenizer, asked in lm-eval's terms."""

    def __init__(self, model: Any, template: ChatTemplate, who: str) -> None:
        """Wrap a model in evaluation mode; `who` is its role, for the log."""
        silence()
        self._asked = _lm_eval_model(model, template, who)

    def answer(self, question: ModelQuestion) -> Any:
        """Return one answer for each request, or the text of a chat."""
        from lm_eval.api.instance import Instance

        if question.kind == "chat_template":
            return self._asked.apply_chat_template(question.chat, add_generation_prompt=question.add_generation_prompt)
        if question.kind == "generate_until":
            arguments: list[tuple[Any, ...]] = [
                (text, settings) for (text, _), settings in zip(question.texts, question.settings, strict=True)
            ]
        elif question.kind == "loglikelihood":
            arguments = list(question.texts)
        else:
            arguments = [(text,) for text, _ in question.texts]
        requests = [Instance(question.kind, {}, one, number) for number, one in enumerate(arguments)]
        return getattr(self._asked, question.kind)(requests)


def _lm_eval_model(model: Any, template: ChatTemplate, who: str) -> Any:
    """Wrap the model for lm-eval; a function, because its base class can only be imported where lm-eval is installed.

    One row per batch: in a padded batch bf16 rounds differently and the answers change. What lm-eval shares between the
    options of a question it shares anyway. Log-probabilities are computed in fp32: in bf16 two options are easily tied.
    """
    from lm_eval.models.huggingface import HFLM

    tokenizer = template.tokenizer

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
            longest = max((len(tokens) for tokens in tokenizer(texts)["input_ids"]), default=0) if texts else 0
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

    return LmEvalModel(
        pretrained=model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=1,
        softmax_dtype="float32",
        chat_template_args=dict(template.arguments),
        think_end_token=next((closing for _, closing in MARKS if closing in str(tokenizer.chat_template)), None),
    )
