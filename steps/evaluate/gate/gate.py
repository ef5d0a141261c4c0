"""The gate: decides whether a candidate may become champion, and states every reason."""

from dataclasses import dataclass

from recipes.evaluation import Gate, Question
from steps.common.handover.report_difference import FEW_ROWS
from steps.common.handover.report_parts import TaskResult
from steps.evaluate.gate.comparison import Champion, Comparison
from steps.evaluate.scores.pair_accuracy import judge_preference
from steps.evaluate.scores.score import Score


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passed, with the reasons in words."""

    passed: bool
    reasons: list[str]

    def in_words(self) -> str:
        """Return the verdict as one line: the failed checks of a refused candidate, else all checks."""
        return ("passed: " if self.passed else "refused: ") + "; ".join(self.reasons)


Check = tuple[bool, str]  # whether it is met, and its reason in words


def meets(question: Question, answer: str) -> bool:
    """Return whether an answer contains what the question expects."""
    return question.expect.casefold() in answer.casefold()


def judge(
    gate: Gate,
    base: Score,
    candidate: Score,
    champion: Champion | None,
    comparison: Comparison,
    questions: list[Question],
) -> Verdict:
    """Check a candidate against base and champion, and on the tasks, the general questions and the recipe's questions.

    Args:
        gate: the recipe's thresholds.
        base: its score.
        candidate: its score.
        champion: the version served now; None if there is none.
        comparison: the differences of these scores.
        questions: the recipe's; the first answers of each score are theirs, in order.
    """
    preference = comparison.preference
    checks = [judge_preference(gate, preference) if preference else _against_base(gate, base, candidate, comparison)]
    checks += _against_champion(gate, candidate, champion, comparison)
    version = champion.version if champion else 0
    for task in comparison.tasks:
        checks += _task(task, version)
    checks += _general(gate, base, candidate, comparison)
    checks += _expected(gate, base, candidate, questions)
    failed = [reason for met, reason in checks if not met]
    return Verdict(not failed, failed or [reason for _, reason in checks if reason])


def _against_base(gate: Gate, base: Score, candidate: Score, comparison: Comparison) -> Check:
    gain = comparison.base
    text = f"held-out loss {candidate.loss:.3f} against the base's {base.loss:.3f}"
    if gain.value != gain.value:
        return False, f"{text}: not a number"
    text = f"{text}: {gain.in_words()} better"
    if gain.value < gate.better_than_base:
        return False, f"{text}; the gate requires {gate.better_than_base:.1%}"
    if not gain.better:
        return False, f"{text}, which may be noise{_more_rows(gain.rows)}"
    return True, text


def _against_champion(gate: Gate, candidate: Score, champion: Champion | None, comparison: Comparison) -> list[Check]:
    if champion is None:
        return []
    if champion.same:
        return [(True, f"the same adapter as version {champion.version}, the champion")]
    gain, score = comparison.champion, champion.score
    if gain is None or score is None:
        return []
    allowed, who = gate.worse_than_champion, f"version {champion.version}"
    losses = f"held-out loss {candidate.loss:.3f} against {score.loss:.3f}"
    if comparison.preference and comparison.preference_of_champion:
        ours, theirs = comparison.preference, comparison.preference_of_champion
        losses = (
            f"{ours.preference_accuracy:.1%} of pairs against {theirs.preference_accuracy:.1%}, loss per pair "
            f"{ours.preference_loss:.3f} against {theirs.preference_loss:.3f}"
        )
    figures = f"{losses}, {gain.in_words()}"
    if gain.better and gain.value >= gate.better_than_champion:
        return [(True, f"better than {who}, the champion: {figures}")]
    if allowed and gain.low > -allowed:
        return [(True, f"at most {allowed:.1%} worse than {who}, as the gate allows: {figures}")]
    if gain.worse:
        return [(False, f"worse than {who}: {figures}{_allows(allowed)}")]
    if gain.better:
        required = f"the gate requires {gate.better_than_champion:.1%}"
        return [(False, f"not sufficiently better than {who}: {figures}; {required}")]
    return [(False, f"no better than {who} within noise: {figures}{_allows(allowed)}{_more_rows(gain.rows)}")]


def _allows(share: float) -> str:
    return f"; the gate allows {share:.1%} worse at the lower end of the interval" if share else ""


def _more_rows(rows: int) -> str:
    return "; hold out more rows: data.validation or data.validation_share" if rows < FEW_ROWS else ""


def _task(task: TaskResult, version: int) -> list[Check]:
    mean = task.means["candidate"]
    checks = []
    if task.at_least is not None and not mean >= task.at_least:
        checks.append((False, f"{task.name}: {mean:.1%}, the task requires {task.at_least:.1%}"))
    for who, difference in (("the base", task.base), (f"version {version}", task.champion)):
        if difference and difference.worse and -difference.value > task.allowed_drop:
            checks.append((False, f"{task.name}: {mean:.1%}, worse than {who}: {difference.in_words()}{_drop(task)}"))
    return checks or [(True, f"{task.name}: {mean:.1%}, {task.base.in_words()} against the base")]


def _drop(task: TaskResult) -> str:
    return f"; the task allows a drop of {task.allowed_drop:.1%}" if task.allowed_drop else ""


def _general(gate: Gate, base: Score, candidate: Score, comparison: Comparison) -> list[Check]:
    change, of_base = comparison.general, comparison.general_of_base
    if change is None or of_base is None:
        return []
    after, before = (f"{sum(score.general)} of {len(score.general)}" for score in (candidate, base))
    text = f"general ability: {after} right, {before} before: {change.in_words()}"
    if not of_base.better:
        return [(True, f"{text}; the base does no better than guessing, so it has none to lose")]
    if -change.value > gate.general_drop and change.worse:
        return [(False, f"{text}; the gate allows a drop of {gate.general_drop:.1%}")]
    return [(True, text)]


def _expected(gate: Gate, base: Score, candidate: Score, questions: list[Question]) -> list[Check]:
    if not gate.keep_expected:
        return []
    lost = [
        question.ask
        for question, before, after in zip(questions, base.answers, candidate.answers, strict=False)
        if question.expect and meets(question, before) and not meets(question, after)
    ]
    return [(False, f"no longer answers as expected, though the base does: {'; '.join(lost)}")] if lost else []
