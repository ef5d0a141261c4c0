"""The gate: whether a candidate may become champion, and every reason."""

from dataclasses import dataclass

from recipes.recipe import Gate, Question
from steps.evaluate.preference import judge_preference
from steps.evaluate.score import Score


@dataclass(frozen=True)
class Verdict:
    """Passed or not, and each check in words."""

    passed: bool
    reasons: list[str]

    def in_words(self) -> str:
        """Return it as one line: what failed where something did, all of it else."""
        return ("passed: " if self.passed else "refused: ") + "; ".join(self.reasons)


def meets(question: Question, answer: str) -> bool:
    """Tell whether an answer contains what the question expects."""
    return question.expect.casefold() in answer.casefold()


def judge(
    gate: Gate,
    base: Score,
    candidate: Score,
    champion: Score | None,
    questions: list[Question],
    beta: float = 0.0,
) -> Verdict:
    """Hold a candidate against the base, the champion and the questions.

    Args:
        gate: the recipe's.
        base: its score.
        candidate: its score.
        champion: its score, on the same rows and the same tokenizer; None where there is none to compare with.
        questions: the recipe's; the first answers of each score answer them in order.
        beta: the recipe's, where the rows are pairs: then it is the preference that counts, and not the loss.
    """
    if candidate.pairs:
        failed, met = judge_preference(gate, base, candidate, champion, beta)
    else:
        failed, met = _judge_loss(gate, base, candidate, champion)
    if gate.keep_expected:
        lost = [
            question.ask
            for question, before, after in zip(questions, base.answers, candidate.answers, strict=False)
            if question.expect and meets(question, before) and not meets(question, after)
        ]
        if lost:
            failed.append(f"no longer answers as expected, though the base does: {'; '.join(lost)}")
    return Verdict(not failed, failed or met)


def _judge_loss(gate: Gate, base: Score, candidate: Score, champion: Score | None) -> tuple[list[str], list[str]]:
    failed, met = [], []
    gain = 1 - candidate.loss / base.loss if base.loss else 0.0
    text = f"held-out loss {candidate.loss:.3f} against the base's {base.loss:.3f}"
    if candidate.loss != candidate.loss or gain < gate.better_than_base:
        failed.append(f"{text}: {gain:+.1%} better, the gate asks {gate.better_than_base:.1%}")
    else:
        met.append(f"{text}: {gain:.1%} better")
    if champion:
        loss = candidate.loss / champion.loss - 1
        text = f"held-out loss {candidate.loss:.3f} against the champion's {champion.loss:.3f}"
        if loss > gate.worse_than_champion:
            failed.append(f"{text}: {loss:.1%} worse, the gate allows {gate.worse_than_champion:.1%}")
        else:
            met.append(text)
    return failed, met
