"""A training's metrics in MLflow, while it runs: sent beside the training, which neither waits for MLflow nor fails by it."""

import threading
import time
from collections import deque

from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking
from steps.common.runtime.progress import say

SEND_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 60.0  # between two batches; the longer if MLflow does not answer
MOST_POINTS = 100_000  # that are kept meanwhile; then the oldest are dropped
AT_ONCE = 1000  # metrics in a batch: MLflow refuses more
LAST_SECONDS = 15.0  # for what is left at the end of the training


class LossCurve:
    """Sends metrics to MLflow in batches every few seconds, from a thread of its own."""

    def __init__(self, resolved: Resolved) -> None:
        """Prepare MLflow's client, unless the run is not tracked; nothing is sent yet."""
        self._run = resolved.tracking.run_id
        self._client: tracking.RegistryClient | None = None
        self._pending: deque[tuple[str, float, int, int]] = deque(maxlen=MOST_POINTS)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="mlflow-curve", daemon=True)
        if self._run:
            with tracking.telling("the training's curve"):
                # For the whole process, which asks MLflow nothing else: the thread must not change the environment.
                tracking.set_patience(tracking.BRIEF)
                self._client = tracking.client(resolved.tracking.uri, patience=None)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Queue a step's metrics; this returns at once."""
        now = int(time.time() * 1000)
        if self._client:
            if not self._thread.ident:
                self._thread.start()
            self._pending.extend((f"tune/{name}", value, now, step) for name, value in values.items())

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._ending.set()
        if self._thread.ident:
            self._thread.join(LAST_SECONDS)
            if self._thread.is_alive() or self._pending:
                say("the end of the training's curve did not reach MLflow; the tuning's report has all of it")

    def _send_all(self) -> None:
        wait, failing = SEND_SECONDS, False
        while not self._ending.wait(wait) or self._pending:
            last = self._ending.is_set()
            try:
                self._send()
                wait, failing = SEND_SECONDS, False
            except Exception as error:  # whatever is wrong with MLflow, the training goes on
                if not failing:
                    say(f"the training goes on without its curve in MLflow: {' '.join(str(error).split())[:300]}")
                wait, failing = min(LONGEST_WAIT_SECONDS, 2 * wait), True
                if last:
                    return

    def _send(self) -> None:
        from mlflow.entities import Metric

        while self._client and self._pending:
            batch = [self._pending.popleft() for _ in range(min(AT_ONCE, len(self._pending)))]
            try:
                self._client.log_batch(self._run, metrics=[Metric(*point) for point in batch])
            except Exception:
                room = max(0, MOST_POINTS - len(self._pending))
                self._pending.extendleft(reversed(batch[len(batch) - min(room, len(batch)) :]))
                raise
