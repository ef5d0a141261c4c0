"""Why a step failed, from what Argo reports about its pod."""

import re

# "main: Error (exit code 2): the step's last words"
CONTAINER_MESSAGE = re.compile(r"^main: \w+ \(exit code \d+\)(: (?P<words>.*))?$", re.DOTALL)


def reason(message: str) -> str:
    """Return a node's message without Argo's prefix; unchanged if the step left no message."""
    match = CONTAINER_MESSAGE.match(message.strip())
    return (match["words"] or "").strip() or message.strip() if match else message.strip()


def task_of(display_name: str) -> str:
    """Return the task of a node; a task with retries has one node per attempt, such as `pull(1)`."""
    return display_name.partition("(")[0]
