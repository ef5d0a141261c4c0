"""Tells a run's outcome to an address that the user has set."""

import time

from steps.common.runtime.progress import say
from steps.release.outcome import Outcome

TRIES, WAIT_SECONDS, LONGEST_SECONDS = 3, 2.0, 10.0


def tell(url: str, outcome: Outcome) -> bool:
    """Post the outcome as JSON, with its line as `text`, as chat services take it; return whether that was taken.

    A webhook that does not answer is told in the log and changes nothing of how the run ended.
    """
    import httpx2

    body = {"text": outcome.in_words(), **outcome.model_dump()}
    why = ""
    for attempt in range(TRIES):
        time.sleep(WAIT_SECONDS * attempt)
        try:
            answer = httpx2.post(url, json=body, timeout=LONGEST_SECONDS)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = type(error).__name__
            continue
        if answer.is_success:
            return True
        why = f"status {answer.status_code}"
        if answer.status_code < 500 and answer.status_code != 429:
            break
    say(f"the webhook was not told: {why}")  # its address may hold a key, and is not shown
    return False
