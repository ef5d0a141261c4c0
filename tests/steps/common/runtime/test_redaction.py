"""Secrets are stripped where they are read, refused unquoted, and taken out of whatever leaves a process."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import RedactedStream, redact, redact_all, without_credentials
from steps.common.runtime.secret import SECRETS, read_secret, strip_secrets
from steps.common.storage.files import write_text
from tests.support.commands import fineline

KEY = "sk-5e2a9f17c4"
BROKEN = "sk-5e2a9f17c4\nd8b06e3312"


def run_step(folder: Path, entrypoint: str, inputs: dict[str, str], **settings: str) -> tuple[int, str]:
    """Run a step as its container does; return its exit code and everything that it left behind, as text."""
    (folder / "inputs.json").write_text(json.dumps([{"name": k, "value": v} for k, v in inputs.items()]))
    command = [sys.executable, "-m", "hera.workflows.runner", "-e", entrypoint, str(folder / "inputs.json")]
    own = {"hera__outputs_directory": str(folder / "outputs"), **settings}
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    left = [file.read_text(errors="replace") for file in (folder / "outputs").rglob("*") if file.is_file()]
    return done.returncode, "\n".join([done.stdout, done.stderr, *left])


def test_the_line_break_at_the_end_of_a_file_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SECRETS:
        monkeypatch.setenv(setting, f" {KEY}\r\n")
    strip_secrets()
    assert {os.environ[setting] for setting in SECRETS} == {KEY}
    assert read_secret("HF_TOKEN") == KEY


@pytest.mark.parametrize("setting", list(SECRETS))
def test_a_secret_with_a_line_break_inside_is_refused_unquoted(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting, BROKEN)
    with pytest.raises(UserError, match=f"^{setting}: has a line break or another control character inside") as error:
        strip_secrets()
    assert "5e2a9f17c4" not in str(error.value)
    assert "d8b06e3312" not in str(error.value)


def test_a_step_and_the_command_end_with_one_line_that_does_not_quote_the_key(tmp_path: Path) -> None:
    code, left = run_step(
        tmp_path,
        "steps.restore.step:restore",
        {"name": "m", "version": "1", "force": "false", "run": "back-1", "hold_hours": "1"},
        FINELINE_API_KEY=BROKEN,
    )
    assert code == 2
    assert "error: FINELINE_API_KEY: has a line break" in left
    assert "5e2a9f17c4" not in left
    assert "d8b06e3312" not in left
    done = fineline("plan", environment={"HF_TOKEN": BROKEN})
    assert done.returncode == 2
    assert done.stderr.startswith("fineline: HF_TOKEN: has a line break")
    assert "5e2a9f17c4" not in done.stdout + done.stderr


def test_a_step_redacts_its_log_and_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "leaking.py").write_text(
        "import sys\n"
        "from hera.workflows.io import Input, Output\n"
        "from steps.common.runtime.exit_codes import step\n"
        "class LeakInput(Input):\n"
        "    fails: str\n"
        "class LeakOutput(Output):\n"
        "    outcome: str\n"
        "@step\n"
        "def leak(input: LeakInput) -> LeakOutput:\n"
        "    import os\n"
        "    key = os.environ['HF_TOKEN']\n"
        "    print('in a line', key, file=sys.stderr)\n"
        "    if input.fails == 'true':\n"
        "        raise ValueError(f'refused {key}')\n"
        "    return LeakOutput(outcome=f'ended with {key} at https://me:{key}@example.org/x?sig={key}')\n"
    )
    settings = {"HF_TOKEN": f"{KEY}\n", "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    code, left = run_step(tmp_path, "leaking:leak", {"fails": "true"}, **settings)
    assert code == 1
    assert "ValueError: refused [redacted]" in left
    assert KEY not in left
    code, left = run_step(tmp_path, "leaking:leak", {"fails": "false"}, **settings)
    assert code == 0
    assert "in a line [redacted]" in left
    assert "ended with [redacted] at https://example.org/x?sig=[redacted]" in left
    assert KEY not in left


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pw@host/rows.jsonl", "https://host/rows.jsonl"),
        ("https://ghp_token@host/rows.jsonl", "https://host/rows.jsonl"),
        ("postgresql://me:p@w@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        (
            "see https://host/a?x=1&X-Amz-Signature=abc%2F&y=2.",
            "see https://host/a?x=1&X-Amz-Signature=[redacted]&y=2.",
        ),
        ("https://a.blob/c/f?sv=1&sig=abc%3D", "https://a.blob/c/f?sv=1&sig=[redacted]"),
        ("https://host/f?token=abc#x", "https://host/f?token=[redacted]#x"),
        ("AccountName=a;AccountKey=abc==;", "AccountName=a;AccountKey=[redacted];"),
        ("git+file://me:pw@host/a", "git+file://host/a"),
        ("a: xhf://me:pw@host/a", "a: xhf://host/a"),
        ("hf://gpt2@main", "hf://gpt2@main"),
        ('"hf://gpt2@main"', '"hf://gpt2@main"'),
        ("hf://datasets/org/name@abc/rows.jsonl", "hf://datasets/org/name@abc/rows.jsonl"),
        ("pypi://smol==1.0/a@b/model.gguf", "pypi://smol==1.0/a@b/model.gguf"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("https://host/mail?to=me@host", "https://host/mail?to=me@host"),
    ],
)
def test_keys_are_taken_out_of_addresses(address: str, shown: str) -> None:
    assert without_credentials(address) == shown
    assert redact(json.dumps(address)) == json.dumps(shown)


@pytest.mark.parametrize("part", ["a.", "a://", "a-b://c.", "?sig=", "://"])
def test_each_part_of_a_long_text_is_read_once(part: str) -> None:
    text = part * 100_000  # read again for each part, it would take minutes
    assert "me:pw" not in without_credentials(f"{text} s3://me:pw@host/a {text}")


def test_a_value_is_found_as_json_and_urls_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", 'pass"word/1')
    assert redact('{"a": "pass\\"word/1"} pass%22word%2F1') == '{"a": "[redacted]"} [redacted]'
    assert redact_all({"a": ['pass"word/1', 1, None]}) == {"a": ["[redacted]", 1, None]}


def test_the_password_of_a_proxy_is_a_secret_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:prox%79word@proxy:3128")
    assert redact("407 for proxyword") == "407 for [redacted]"


def test_a_stream_is_redacted_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    inner = io.StringIO()
    stream = RedactedStream(inner)
    for part in ("a ", KEY[:5], KEY[5:], " b\nlast ", KEY):
        stream.write(part)
    assert inner.getvalue() == "a [redacted] b\n"
    stream.flush()
    assert inner.getvalue() == "a [redacted] b\nlast [redacted]"


def test_files_and_mlflow_get_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_API_KEY", KEY)
    write_text(tmp_path / "outcome.json", json.dumps({"reason": f"401 with {KEY}"}))
    assert "401 with [redacted]" in (tmp_path / "outcome.json").read_text()
    store: Any = tracking.client(tracking.default_uri())
    run = store.create_run(tracking.experiment(store, "m"), tags={"why": f"refused {KEY}"}).info.run_id
    store.set_tag(run, "fineline.url", f"http://me:pw@host?sig={KEY}")
    assert store.get_run(run).data.tags["why"] == "refused [redacted]"
    database = (Path(os.environ["FINELINE_RUNS"]) / "mlflow.db").read_bytes()
    assert KEY.encode() not in database
    assert b"me:pw" not in database


def test_the_password_of_the_registry_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pw-123456@mlflow.example.org")
    kept = tracking.kept_uri(tracking.default_uri())
    assert kept == "https://mlflow.example.org"
    assert tracking.uri_to_connect(kept) == "https://me:pw-123456@mlflow.example.org"
    assert tracking.uri_to_connect("https://other.example.org") == "https://other.example.org"
