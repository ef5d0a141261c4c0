"""A training's metrics in MLflow, while it runs."""

import time

from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking

SEND_SECONDS = 5.0


class LossCurve:
    """Sends metrics to MLflow in batches every few seconds; one call per step would slow down a fast training."""

    def __init__(self, resolved: Resolved) -> None:
        self._run = resolved.tracking.run_id
        self._client = tracking.client(resolved.tracking.uri) if self._run else None
        self._pending: list[tuple[int, dict[str, float]]] = []
        self._sent = time.monotonic()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a step's metrics, and send what is pending if it is time."""
        self._pending.append((step, values))
        if time.monotonic() - self._sent > SEND_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what is pending."""
        if self._client and self._pending:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(f"tune/{name}", value, now, step)
                for step, values in self._pending
                for name, value in values.items()
            ]
            self._client.log_batch(self._run, metrics=metrics)
        self._pending.clear()
        self._sent = time.monotonic()
