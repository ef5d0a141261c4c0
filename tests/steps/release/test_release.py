"""The exit handler's report on a run: which step failed and why, and the webhook that is notified."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

import steps.release.webhook
from steps.release.outcome import Outcome, failure
from steps.release.step import ReleaseInput, release
from steps.release.webhook import notify

FAILED = [
    {
        "displayName": "pull(0)",
        "message": "main: Error (exit code 137)",
        "finishedAt": "2026-01-01T00:00:00Z",
    },
    {
        "displayName": "pull(1)",
        "message": "main: Error (exit code 2): hf://a/b: is gated; accept its licence",
        "finishedAt": "2026-01-01T00:01:00Z",
    },
]
# The parent of the attempts, which ends with the last of them or a moment later.
ABOVE = {
    "displayName": "pull",
    "message": "retryStrategy.expression evaluated to false",
    "finishedAt": "2026-01-01T00:01:00Z",
}


class Receiver:
    """A webhook in this process."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.taken.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(steps.release.webhook, "WAIT_SECONDS", 0.01)
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


@pytest.mark.parametrize("failures", [json.dumps(FAILED), json.dumps(json.dumps(FAILED))])
def test_the_reason_is_the_last_word_of_the_last_attempt(failures: str) -> None:
    assert failure(failures) == "pull: hf://a/b: is gated; accept its licence"


@pytest.mark.parametrize("later", ["2026-01-01T00:01:00Z", "2026-01-01T00:01:01Z"])
@pytest.mark.parametrize("above", [ABOVE, {"displayName": "store-x1", "message": ""}, {"displayName": "store-x1"}])
def test_the_nodes_above_the_attempts_have_nothing_to_say(above: dict[str, str], later: str) -> None:
    one = above | {"finishedAt": later}
    for failures in ([*FAILED, one], [one, *FAILED]):
        assert failure(json.dumps(failures)) == "pull: hf://a/b: is gated; accept its licence"


def test_a_run_that_was_stopped_says_so() -> None:
    stopped = {
        "displayName": "store-x1",
        "message": "Stopped with strategy 'Stop'",
        "finishedAt": "2026-01-01T00:02:00Z",
    }
    assert failure(json.dumps([stopped])) == "store-x1: Stopped with strategy 'Stop'"


def test_a_task_that_is_not_tried_again_says_it_itself() -> None:
    alone = {"displayName": "approve", "message": "main: Error (exit code 1)", "finishedAt": "2026-01-01T00:02:00Z"}
    assert failure(json.dumps([*FAILED, alone])) == "approve: main: Error (exit code 1)"


@pytest.mark.parametrize("failures", ["", "[]", "null", '"[]"', "not JSON"])
def test_without_a_failure_there_is_no_reason(failures: str) -> None:
    assert failure(failures) == ""


def test_the_webhook_is_told_state_reason_and_model(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_WEBHOOK", receiver.url)
    told = release(
        ReleaseInput(run="a-1", status="Failed", recipe="pet-store", failures=json.dumps(FAILED), seconds=75)
    )
    (taken,) = receiver.taken
    assert (
        taken["text"] == told.outcome == "pet-store (a-1) failed in 1m15s: pull: hf://a/b: is gated; accept its licence"
    )
    assert (taken["state"], taken["model"], taken["run"]) == ("Failed", "pet-store", "a-1")
    assert taken["reason"] == "pull: hf://a/b: is gated; accept its licence"


def test_a_recipe_that_cannot_be_read_is_told_all_the_same(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_WEBHOOK", receiver.url)
    release(ReleaseInput(run="a-1", status="Failed", recipe="{broken", failures="[]"))
    assert receiver.taken[0]["model"] == ""


OUTCOME = Outcome(
    run="a-1",
    model="a",
    state="Succeeded",
    reason="",
    version="3",
    url="http://a.b.svc/v1",
    seconds=5,
    cost=None,
    link="",
)


def test_a_webhook_that_is_busy_is_asked_again(receiver: Receiver) -> None:
    receiver.answers = [503, 429]
    assert notify(receiver.url, OUTCOME)
    assert receiver.taken[0]["text"] == "a (a-1) succeeded in 5s: version 3 is registered, served at http://a.b.svc/v1"


@pytest.mark.parametrize("answers", [[404], [500, 500, 500]])
def test_a_webhook_that_refuses_is_only_noted_and_its_address_is_not_shown(
    receiver: Receiver, answers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = list(answers)
    assert not notify(receiver.url, OUTCOME)
    noted = capsys.readouterr().err
    assert f"status {answers[0]}" in noted
    assert "key" not in noted
    assert not receiver.taken
