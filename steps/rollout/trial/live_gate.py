"""The live gate: does the new server answer as the candidate did in its evaluation?

A model that is fine offline can be broken as a server: another base, weights that were not merged, a chat template that
is not the one it learnt. So it is asked over HTTP what the evaluation asked, before it gets any traffic. The server that
it is to replace is asked the same, for the record and for its latency.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from recipes.serving import Serve
from steps.common.handover.report import read_report
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say
from steps.rollout.trial.ask import Messages, NoAnswerError, ask
from steps.rollout.trial.latency import percentile, too_slow
from steps.rollout.trial.likeness import likeness

GREETING = "Hello"


@dataclass(frozen=True)
class LiveQuestion:
    """What the evaluation asked, and what the candidate, and the champion of that day, answered."""

    messages: Messages
    candidate: str
    champion: str = ""
    expect: str = ""  # what an answer of the candidate's contained

    @property
    def asked(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]


class LiveAnswer(BaseModel):
    """One question, and how the servers answered it."""

    asked: str
    offline: str
    new: str
    new_seconds: float
    likeness: float
    old: str | None = None
    old_seconds: float | None = None


class LiveGate(BaseModel):
    """What the live gate found."""

    passed: bool
    verdict: str
    alike: float  # mean likeness of the new server's answers to the evaluation's
    asked: list[LiveAnswer]

    @property
    def old_seconds(self) -> list[float]:
        """The latencies of the old server."""
        return [one.old_seconds for one in self.asked if one.old_seconds is not None]


def questions(report: Path) -> list[LiveQuestion]:
    """Return what the evaluation asked; its own questions, and the held-out rows whose chats it has kept."""
    found = []
    for one in read_report(report).answers:
        messages = [turn.model_dump() for turn in one.messages or []]
        if not messages and one.expect is not None:
            messages = [{"role": "user", "content": one.asked}]
        if messages:
            expect = (one.expect or "") if one.candidate_meets else ""
            found.append(LiveQuestion(messages, one.candidate, one.champion or "", expect))
    return found


def smoke(url: str, name: str, asked: list[LiveQuestion], answer_tokens: int, seconds: float) -> None:
    """Ask the first question, or say hello where there is none: any answer will do.

    Raises:
        RefusedError: there is none.
    """
    first = asked[0] if asked else LiveQuestion([{"role": "user", "content": GREETING}], GREETING)
    try:
        answer = ask(url, name, first.messages, answer_tokens, seconds)
    except NoAnswerError as error:
        raise RefusedError(f"the new server fails on {first.asked!r}: {error}") from None
    say(f"asked: {first.asked} answered: {' '.join(answer.text.split())}")
    if first.candidate and not answer.text.strip():
        raise RefusedError(f"the new server gave an empty answer to {first.asked!r}")


def live_gate(
    new: str, old: str | None, name: str, asked: list[LiveQuestion], serve: Serve, answer_tokens: int
) -> LiveGate:
    """Ask both servers and judge the new one.

    Args:
        new: base URL of the new server, with /v1.
        old: likewise of the one that has the traffic; None where there is none.
        name: of the model.
        asked: what the evaluation asked.
        serve: the recipe's limits.
        answer_tokens: longest answer.

    Returns:
        What it found, passed or not. An old server that does not answer is no reason to refuse the new one.
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
            failed.append(f"it no longer says {question.expect!r} to {question.asked!r}: {_short(answer.text)!r}")
        one = LiveAnswer(
            asked=question.asked,
            offline=question.candidate,
            new=answer.text,
            new_seconds=answer.seconds,
            likeness=likeness(question.candidate, answer.text),
        )
        if old:
            _ask_old(one, old, name, question, answer_tokens, serve.answer_seconds)
        found.append(one)
    alike = fmean(one.likeness for one in found) if found else 1.0
    if alike < serve.answers_alike:
        worst = min(found, key=lambda one: one.likeness)
        failed.append(
            f"its answers are {alike:.2f} alike to the evaluation's, serve.answers_alike asks {serve.answers_alike}; "
            f"{worst.asked!r}: {_short(worst.new)!r}, not {_short(worst.offline)!r}"
        )
    seconds = [one.new_seconds for one in found]
    before = [one.old_seconds for one in found if one.old_seconds is not None]
    if slow := too_slow(seconds, before, serve.watch_latency_factor):
        failed.append(slow)
    said = f"{len(found)} answers over HTTP are {alike:.2f} alike to the evaluation's"
    if seconds:
        said += f", the 95th percentile took {percentile(seconds):.2f} s"
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
