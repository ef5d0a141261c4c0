"""Posts a run's outcome to a webhook that the user has set."""

import time

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.runtime.redaction import redact_all
from steps.common.web.trusted_hosts import TRUSTED_SETTING, may_be_sent_a_token
from steps.common.web.web_client import web_client
from steps.release.outcome import Outcome

TRIES, WAIT_SECONDS, LONGEST_SECONDS = 3, 2.0, 10.0


def notify(url: str, outcome: Outcome) -> bool:
    """Post the outcome as JSON, with its one line as `text`, which chat services display; return whether it was accepted.

    A webhook that does not answer is logged, and does not change how the run ended.
    """
    import httpx2

    if not may_be_sent_a_token(url):
        say(f"the webhook could not be notified: its URL is not https; use https, or add its host to {TRUSTED_SETTING}")
        return False
    body = redact_all({"text": outcome.in_words(), **outcome.model_dump()})
    why = ""
    for attempt in range(TRIES):
        time.sleep(WAIT_SECONDS * attempt)
        try:
            with web_client(timeout=LONGEST_SECONDS, follow_redirects=False) as client:
                answer = client.post(url, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = type(error).__name__
            continue
        except UserError as error:
            why = str(error)
            break
        if answer.is_success:
            return True
        why = f"status {answer.status_code}"
        if answer.status_code < 500 and answer.status_code != 429:
            break
    say(f"the webhook could not be notified: {why}")  # its URL may hold a key, and is not shown
    return False
