"""The losses of a training in MLflow, while it goes on."""

import time

from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking

SECONDS = 5.0


class LossCurve:
    """Sends the losses to MLflow every few seconds, together: a call a step would slow a fast training down."""

    def __init__(self, resolved: Resolved) -> None:
        self._run = resolved.tracking.run_id
        self._client = tracking.client(resolved.tracking.uri) if self._run else None
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._sent = time.monotonic()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Keep a step's values, and send what is kept when it is time."""
        self._waiting.append((step, values))
        if time.monotonic() - self._sent > SECONDS:
            self.send()

    def send(self) -> None:
        """Send what is kept."""
        if self._client and self._waiting:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(f"tune/{name}", value, now, step) for step, kept in self._waiting for name, value in kept.items()
            ]
            self._client.log_batch(self._run, metrics=metrics)
        self._waiting.clear()
        self._sent = time.monotonic()
