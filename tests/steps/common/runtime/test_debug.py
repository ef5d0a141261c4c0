"""What FINELINE_DEBUG shows of a step that is a process: the cause, before the one line."""

import pytest

from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step


@step
def fails() -> None:
    try:
        int("twelve")
    except ValueError:
        raise UserError("epochs: 'twelve' is not a number; write 12") from None


def ended(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as error:
        fails()
    assert error.value.code == 2
    return capsys.readouterr().err


def test_a_steps_error_is_one_line_and_with_debug_its_cause_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("hera__outputs_directory", "/nowhere")
    line = "error: epochs: 'twelve' is not a number; write 12"
    assert ended(capsys).splitlines() == [line]
    monkeypatch.setenv("FINELINE_DEBUG", "1")
    shown = ended(capsys).splitlines()
    assert shown[-1] == line
    assert "ValueError: invalid literal for int() with base 10: 'twelve'" in shown
