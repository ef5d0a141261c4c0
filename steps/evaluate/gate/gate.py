"""The gate: whether a candidate may become champion, and every reason."""

from dataclasses import dataclass

from recipes.evaluation import Gate, Question
from steps.common.handover.report_difference import FEW_ROWS
from steps.common.handover.report_parts import TaskResult
from steps.evaluate.gate.comparison import Champion, Compared
from steps.evaluate.scores.pair_accuracy import judge_preference
from steps.evaluate.scores.score import Score


@dataclass(frozen=True)
class Verdict:
    """Passed or not, and each check in words."""

    passed: bool
    reasons: list[str]

    def in_words(self) -> str:
        """Return it as one line: what failed where something did, all of it else."""
        return ("passed: " if self.passed else "refused: ") + "; ".join(self.reasons)


Check = tuple[bool, str]  # whether it is met, and its reason in words


def meets(question: Question, answer: str) -> bool:
    """Tell whether an answer contains what the question expects."""
    return question.expect.casefold() in answer.casefold()


def judge(
    gate: Gate,
    base: Score,
    candidate: Score,
    champion: Champion | None,
    compared: Compared,
    questions: list[Question],
) -> Verdict:
    """Hold a candidate against the base, the champion, the tasks, the guard and the questions.

    Args:
        gate: the recipe's.
        base: its score.
        candidate: its score.
        champion: the version served now; None where there is none.
        compared: the differences of these scores.
        questions: the recipe's; the first answers of each score answer them in order.
    """
    preferred = compared.preference
    checks = [judge_preference(gate, preferred) if preferred else _against_base(gate, base, candidate, compared)]
    checks += _against_champion(gate, candidate, champion, compared)
    version = champion.version if champion else 0
    for task in compared.tasks:
        checks += _task(task, version)
    checks += _general(gate, base, candidate, compared)
    checks += _expected(gate, base, candidate, questions)
    failed = [reason for met, reason in checks if not met]
    return Verdict(not failed, failed or [reason for _, reason in checks if reason])


def _against_base(gate: Gate, base: Score, candidate: Score, compared: Compared) -> Check:
    gain = compared.base
    text = f"held-out loss {candidate.loss:.3f} against the base's {base.loss:.3f}"
    if gain.value != gain.value:
        return False, f"{text}: not a number"
    text = f"{text}: {gain.in_words()} better"
    if gain.value < gate.better_than_base:
        return False, f"{text}, the gate asks {gate.better_than_base:.1%}"
    if not gain.better:
        return False, f"{text}, which cannot be told from noise{_more_rows(gain.rows)}"
    return True, text


def _against_champion(gate: Gate, candidate: Score, champion: Champion | None, compared: Compared) -> list[Check]:
    if champion is None:
        return []
    if champion.same:
        return [(True, f"the same adapter as version {champion.version}, the champion")]
    gain, score = compared.champion, champion.score
    if gain is None or score is None:
        return []
    allowed, who = gate.worse_than_champion, f"version {champion.version}"
    losses = f"held-out loss {candidate.loss:.3f} against {score.loss:.3f}"
    if compared.preference and compared.preference_of_champion:
        ours, theirs = compared.preference, compared.preference_of_champion
        losses = (
            f"{ours.preference_accuracy:.1%} of pairs against {theirs.preference_accuracy:.1%}, loss of a pair "
            f"{ours.preference_loss:.3f} against {theirs.preference_loss:.3f}"
        )
    enough = gain.value >= gate.better_than_champion
    if gain.better and enough:
        return [(True, f"better than {who}, the champion: {losses}, {gain.in_words()}")]
    if allowed and gain.low > -allowed:
        return [(True, f"at most {allowed:.1%} worse than {who}, as the gate allows: {losses}, {gain.in_words()}")]
    if gain.worse:
        return [(False, f"worse than {who}: {losses}, {gain.in_words()}{_allows(allowed)}")]
    if gain.better:
        return [
            (
                False,
                f"no better than {who} by enough: {losses}, {gain.in_words()}, the gate asks "
                f"{gate.better_than_champion:.1%}",
            )
        ]
    reason = f"no better than {who} within noise: {losses}, {gain.in_words()}{_allows(allowed)}"
    return [(False, f"{reason}{_more_rows(gain.rows)}")]


def _allows(share: float) -> str:
    return f", the gate allows {share:.1%} worse at the interval's lower end" if share else ""


def _more_rows(rows: int) -> str:
    return "; hold more rows out: data.validation or data.validation_share" if rows < FEW_ROWS else ""


def _task(task: TaskResult, version: int) -> list[Check]:
    mean = task.means["candidate"]
    checks = []
    if task.at_least is not None and not mean >= task.at_least:
        checks.append((False, f"{task.name}: {mean:.1%}, the task asks {task.at_least:.1%}"))
    for who, other in (("the base", task.base), (f"version {version}", task.champion)):
        if other and other.worse and -other.value > task.allowed_drop:
            checks.append((False, f"{task.name}: {mean:.1%}, worse than {who}: {other.in_words()}{_drop(task)}"))
    return checks or [(True, f"{task.name}: {mean:.1%}, {task.base.in_words()} against the base")]


def _drop(task: TaskResult) -> str:
    return f", the task allows {task.allowed_drop:.1%} less" if task.allowed_drop else ""


def _general(gate: Gate, base: Score, candidate: Score, compared: Compared) -> list[Check]:
    change, of_base = compared.general, compared.general_of_base
    if change is None or of_base is None:
        return []
    right = [f"{sum(score.general)} of {len(score.general)}" for score in (candidate, base)]
    text = f"general ability: {right[0]} right, {right[1]} before: {change.in_words()}"
    if not of_base.better:
        return [(True, f"{text}; the base does no better than guessing, so none can be lost")]
    if -change.value > gate.general_drop and change.worse:
        return [(False, f"{text}, the gate allows {gate.general_drop:.1%} less")]
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
