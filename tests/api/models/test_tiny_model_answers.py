"""The tiny model behind its real gateway, asked through the front door by the real client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from api.models import model_owners
from steps.common.handover.resolved import ResolvedChat
from steps.common.runtime.cluster_settings import API_KEY_SETTING
from steps.common.storage import volumes
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.places import processes
from tests.support.commands import free_port
from tests.support.running_api import running_api

NAME, KEY = "pets-chat", "the-gateways-own-key"
ASKED: Any = [{"role": "user", "content": "when do you have food"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("tiny-served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        patch.setenv(API_KEY_SETTING, KEY)
        process = processes.start_server(NAME, tiny_model, folder / "work", 180, ResolvedChat())
        upstream = Upstream(port=process.port, version=1, run="r", base="b", adapter_sha256="a")
        rules = Rules(name=NAME, host="127.0.0.1", port=free_port(), answer_seconds=60, request_bytes=1 << 20)
        gateway = processes.start_gateway(rules, [KEY], [upstream], upstream)
        with running_api(folder) as api:
            api.key("pets")
            with api.services.sessions() as session:
                model_owners.claim(session, "pets", NAME, None)
            yield api.client("pets")
        gateway.process.stop()
        process.stop()


@pytest.fixture(autouse=True)
def _same_folder(
    client: openai.OpenAI, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = next(tmp_path_factory.getbasetemp().glob("tiny-served*"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
    monkeypatch.setenv(API_KEY_SETTING, KEY)


def test_a_chat_is_answered_the_same_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=NAME, messages=ASKED, max_tokens=8, temperature=0)
    stream = client.chat.completions.create(
        model=NAME,
        messages=ASKED,
        max_tokens=8,
        temperature=0,
        stream=True,
    )
    chunks: list[Any] = list(stream)
    assert len(chunks) > 2
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert whole.model == NAME


def test_completions_and_responses_are_answered_too(client: openai.OpenAI) -> None:
    assert client.completions.create(model=NAME, prompt="when do you", max_tokens=4).choices[0].text
    assert client.responses.create(model=NAME, input="when do you have food", max_output_tokens=8).output


def test_a_mistake_is_told_in_the_models_own_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model=NAME, messages=[])
