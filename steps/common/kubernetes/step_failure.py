"""Why a step ended as it did, out of what Argo says of its pod."""

import re

# "main: Error (exit code 2): what the step said last"
OF_A_CONTAINER = re.compile(r"^main: \w+ \(exit code \d+\)(: (?P<said>.*))?$", re.DOTALL)


def reason(message: str) -> str:
    """Return a node's message without what Argo puts in front of it; as it is where the step said nothing."""
    match = OF_A_CONTAINER.match(message.strip())
    return (match["said"] or "").strip() or message.strip() if match else message.strip()


def task_of(display_name: str) -> str:
    """Return the task of a node; a task that may be tried again has a node an attempt: `pull(1)`."""
    return display_name.partition("(")[0]
