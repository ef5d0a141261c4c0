"""A training that is interrupted sends the rest of its curve before its process ends."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.handover.resolved import Resolved
from steps.common.model.prepared_rows import TRAIN, write_rows
from steps.common.runtime.errors import InterruptedStepError
from steps.tune import adapted_model, train_process
from tests.support.golden import golden


class RecordedCurve:
    """Records whether it has been closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_an_interrupted_training_closes_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise InterruptedStepError("SIGTERM")

    curve = RecordedCurve()
    monkeypatch.setattr(train_process, "LossCurve", lambda _: curve)
    monkeypatch.setattr(adapted_model, "load_adapted_model", interrupted)
    write_rows(tmp_path / TRAIN, [])
    stored = golden("version/resolved.json")
    rung = SimpleNamespace(device=SimpleNamespace(kind="cpu"), sharded=False, activations="kept")
    job: Any = SimpleNamespace(
        resolved=Resolved.read(stored.read_text(), stored),
        hardware=SimpleNamespace(rung=rung),
        base_folder=str(tmp_path),
        rows_folder=str(tmp_path),
        folder=str(tmp_path),
    )
    with pytest.raises(InterruptedStepError):
        train_process.run_train_process(job)
    assert curve.closed
