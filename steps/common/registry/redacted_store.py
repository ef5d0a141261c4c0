"""What is sent to MLflow, without secrets."""

import functools
from typing import Any

from steps.common.runtime.redaction import redact_all


class RedactedStore:
    """An `MlflowClient` whose calls are redacted: tags, parameters, names, descriptions."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*arguments: Any, **named: Any) -> Any:
            return found(*redact_all(arguments), **redact_all(named))

        return call
