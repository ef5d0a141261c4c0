"""The watch window: the new version has the traffic, but is not champion yet."""

import itertools
import time
from collections.abc import Callable

from pydantic import BaseModel

from recipes.serving import Serve
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import Progress, say
from steps.rollout.gateway.traffic import Traffic
from steps.rollout.trial.ask import Messages, NoAnswerError, ask
from steps.rollout.trial.latency import of_histogram, percentile, slower, too_slow

EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
# So many failures are no accident: switch back at once, not at the end of the window.
NO_ACCIDENT = 3
# Both versions need so many answers before the latencies of users' own requests are compared.
ENOUGH_ANSWERS = 50


class WatchResult(BaseModel):
    """The result of the watch window."""

    seconds: float
    probes: int
    probe_failures: int
    probe_p95_seconds: float | None = None
    answers: int = 0  # by the gateway's count, including the probes
    failures: int = 0
    p95_seconds: float | None = None


def watch(
    url: str,
    name: str,
    messages: list[Messages],
    serve: Serve,
    answer_tokens: int,
    new: Callable[[], Traffic | None],
    old: Traffic | None,
    old_seconds: list[float],
) -> WatchResult:
    """Probe the users' address, and read the gateway's counts, until the window is over.

    Args:
        url: base URL that users have, including /v1.
        name: name of the model.
        messages: chats to ask in turn.
        serve: the recipe's limits.
        answer_tokens: length limit of an answer.
        new: returns the gateway's counts of the new version; None if they are not available.
        old: the counts of the old version when the traffic was switched.
        old_seconds: how long the old version took to answer the same chats.

    Raises:
        RefusedError: too many answers failed, or they took too long.
    """
    seconds: list[float] = []
    failed: list[str] = []
    # A server that hangs has to be found out within the window or soon after it.
    longest = min(serve.answer_seconds, max(serve.watch_seconds, PATIENCE_SECONDS))
    start, first = time.monotonic(), new()
    progress = Progress(round(serve.watch_seconds), "s of the watch window")
    found = Traffic()
    for chat in itertools.cycle(messages):
        asked = time.monotonic()
        try:
            answer = ask(url, name, chat, answer_tokens, longest)
            seconds.append(answer.seconds)
        except NoAnswerError as error:
            failed.append(str(error))
        if first is not None and (now := new()) is not None:
            found = now.since(first)
        answers, failures = max(found.answers, len(seconds) + len(failed)), max(found.failures, len(failed))
        passed = time.monotonic() - start
        over = passed >= serve.watch_seconds
        if failures > serve.watch_errors * answers and (over or failures >= NO_ACCIDENT):
            why = f", the last: {failed[-1]}" if failed else ""
            raise RefusedError(
                f"{failures} of {answers} answers failed in the {passed:.0f} s since the traffic was switched{why}; "
                f"serve.watch_errors allows {serve.watch_errors:.0%}"
            )
        if over:
            break
        progress.update(round(passed))
        time.sleep(max(0.0, min(EVERY_SECONDS - (time.monotonic() - asked), serve.watch_seconds - passed)))
    p95 = of_histogram(found.buckets)
    if slow := too_slow(seconds, old_seconds, serve.watch_latency_factor) or _users_wait(found, old, serve):
        raise RefusedError(slow)
    say(f"{answers} answers in {passed:.0f} s since the traffic was switched, {failures} failed")
    return WatchResult(
        seconds=passed,
        probes=len(seconds) + len(failed),
        probe_failures=len(failed),
        probe_p95_seconds=percentile(seconds) if seconds else None,
        answers=answers,
        failures=failures,
        p95_seconds=p95,
    )


def _users_wait(found: Traffic, old: Traffic | None, serve: Serve) -> str:
    """Compare the latencies of users' requests, which differ before and after: only with many answers on both sides."""
    if old is None or min(found.answers, old.answers) < ENOUGH_ANSWERS:
        return ""
    now, before = of_histogram(found.buckets), of_histogram(old.buckets)
    return slower(now, before, serve.watch_latency_factor) if now and before else ""
