"""The live gate: does the new server give the answers that the candidate gave in its evaluation?

A model that did well offline can be broken when served: another base, weights that were not merged, a chat template other
than the one it was trained with. So the evaluation's questions are asked over HTTP before the server gets any traffic. The
old server is asked as well, for the record and to compare latencies.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from recipes.serving import Serve
from steps.common.handover.report import read_report
from steps.common.rows.cells.thought_marks import behind_thought
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say
from steps.rollout.trial.ask import Messages, NoAnswerError, ask
from steps.rollout.trial.latency import percentile, too_slow
from steps.rollout.trial.similarity import similarity

GREETING = "Hello"
# A pod is ready before each node's kube-proxy has written its Service's rules; until then a connection is refused.
REACH_SECONDS = 30.0


@dataclass(frozen=True)
class LiveQuestion:
    """A question of the evaluation, with the answers of the candidate and of the champion at that time."""

    messages: Messages
    candidate: str
    champion: str = ""
    expect: str = ""  # what the candidate's answer contained

    @property
    def asked(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]


class LiveAnswer(BaseModel):
    """A question, and the servers' answers to it."""

    asked: str
    offline: str
    new: str
    new_seconds: float
    likeness: float
    old: str | None = None
    old_seconds: float | None = None


class LiveGate(BaseModel):
    """The result of the live gate."""

    passed: bool
    verdict: str
    alike: float  # mean similarity of the new server's answers and the evaluation's
    asked: list[LiveAnswer]

    @property
    def old_seconds(self) -> list[float]:
        """The latencies of the old server."""
        return [one.old_seconds for one in self.asked if one.old_seconds is not None]


def questions(report: Path) -> list[LiveQuestion]:
    """Return the evaluation's questions: those of its own, and the held-out rows whose chats it has kept."""
    found = []
    for one in read_report(report).answers:
        messages = [turn.model_dump() for turn in one.messages or []]
        if not messages and one.expect is not None:
            messages = [{"role": "user", "content": one.asked}]
        if messages:
            expect = (one.expect or "") if one.candidate_meets else ""
            # Earlier releases kept the thoughts as well.
            found.append(LiveQuestion(messages, behind_thought(one.candidate), one.champion or "", expect))
    return found


def smoke(url: str, name: str, asked: list[LiveQuestion], answer_tokens: int, seconds: float) -> None:
    """Ask the first question, or say hello if there is none, and accept any answer.

    Raises:
        RefusedError: there is no answer, or an empty one.
    """
    first = asked[0] if asked else LiveQuestion([{"role": "user", "content": GREETING}], GREETING)
    try:
        answer = ask(url, name, first.messages, answer_tokens, seconds, reach_seconds=REACH_SECONDS)
    except NoAnswerError as error:
        raise RefusedError(f"the new server fails on {first.asked!r}: {error}") from None
    say(f"asked: {first.asked} answered: {' '.join(answer.text.split())}")
    if first.candidate and not answer.text.strip():
        raise RefusedError(f"the new server gave an empty answer to {first.asked!r}")


def live_gate(
    new: str, old: str | None, name: str, asked: list[LiveQuestion], serve: Serve, answer_tokens: int
) -> LiveGate:
    """Ask both servers the evaluation's questions, and judge the new one.

    Args:
        new: base URL of the new server, including /v1.
        old: the same of the server that has the traffic; None if there is none.
        name: name of the model.
        asked: the evaluation's questions.
        serve: the recipe's limits.
        answer_tokens: length limit of an answer.

    Returns:
        The result, passed or not. If the old server does not answer, that does not count against the new one.
    """
    found: list[LiveAnswer] = []
    failed: list[str] = []
    for question in asked:
        try:
            answer = ask(new, name, question.messages, answer_tokens, serve.answer_seconds)
        except NoAnswerError as error:
            failed.append(f"it fails on {question.asked!r}: {error}")
            continue
        if question.expect.casefold() not in answer.text.casefold():
            failed.append(
                f"it no longer answers {question.asked!r} with {question.expect!r}, but with {_short(answer.text)!r}"
            )
        one = LiveAnswer(
            asked=question.asked,
            offline=question.candidate,
            new=answer.text,
            new_seconds=answer.seconds,
            likeness=similarity(question.candidate, answer.text),
        )
        if old:
            _ask_old(one, old, name, question, answer_tokens, serve.answer_seconds)
        found.append(one)
    # Where the evaluation's answer was a thought that did not end in time, there is nothing to compare with.
    compared = [one for one in found if one.offline]
    alike = fmean(one.likeness for one in compared) if compared else 1.0
    if alike < serve.answers_alike:
        worst = min(compared, key=lambda one: one.likeness)
        failed.append(
            f"its answers match the evaluation's with a similarity of {alike:.2f}, below serve.answers_alike "
            f"{serve.answers_alike:g}; {worst.asked!r}: {_short(worst.new)!r}, not {_short(worst.offline)!r}"
        )
    seconds = [one.new_seconds for one in found]
    before = [one.old_seconds for one in found if one.old_seconds is not None]
    if slow := too_slow(seconds, before, serve.watch_latency_factor):
        failed.append(slow)
    said = f"{len(compared)} answers over HTTP match the evaluation's with a similarity of {alike:.2f}"
    if seconds:
        said += f"; their 95th percentile took {percentile(seconds):.2f} s"
    verdict = "; ".join(failed) or said
    say(verdict)
    return LiveGate(passed=not failed, verdict=verdict, alike=alike, asked=found)


def _ask_old(one: LiveAnswer, url: str, name: str, question: LiveQuestion, answer_tokens: int, seconds: float) -> None:
    try:
        answer = ask(url, name, question.messages, answer_tokens, seconds)
    except NoAnswerError as error:
        say(f"the old server fails on {question.asked!r}: {error}")
        return
    one.old, one.old_seconds = answer.text, answer.seconds


def _short(text: str) -> str:
    return " ".join(text.split())[:80]
