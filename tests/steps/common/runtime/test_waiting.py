"""A wait is reported at once, when it changes, and every half minute."""

import pytest

from steps.common.runtime.waiting import WaitingLine


def test_a_wait_is_reported_at_once_when_it_changes_and_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    line = WaitingLine(clock=lambda: now)
    for second in range(70):
        now = 100.0 + second
        line.report("the model server" if second < 35 else "the gateway", f"{second} lines")
    assert capsys.readouterr().err.splitlines() == [
        "progress: waiting for the model server, 0 lines",
        "progress: waiting for the model server, 30 lines, 30s",
        "progress: waiting for the gateway, 35 lines, 35s",
        "progress: waiting for the gateway, 65 lines, 1m05s",
    ]
