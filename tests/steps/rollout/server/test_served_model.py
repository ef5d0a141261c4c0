"""A real model behind a real Envoy: what a client does wrong is told the client, and harms nobody else."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx2
import pytest

from recipes.reader import load as load_recipe
from steps.common.handover.resolved import ResolvedChat
from steps.common.machine import servers
from steps.common.runtime.errors import RefusedError
from steps.common.storage import volumes
from steps.rollout.gateway.admin import EnvoyAdmin
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.places import processes
from steps.rollout.trial.watch import watch
from tests.support.commands import free_port

NAME = "pet-store"
HELLO = [{"role": "user", "content": "when do you have food"}]
# As the templates of Gemma 2 and Mistral do.
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
# An argument of the template, without which no chat is answered.
SHOP = (
    "{% if shop is not defined or shop != 'open' %}{{ raise_exception('The shop is ' + (shop or 'lost')) }}{% endif %}"
)
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
IMAGE = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}]
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO, "max_tokens": 2},
    TEXT: {"prompt": "when do you have food", "max_tokens": 2},
    RESPONSES: {"input": "when do you have food", "max_output_tokens": 2},
}


def system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}, *HELLO]


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": []}, "messages: list should have at least 1 item"),
    (CHAT, {"messages": None}, "messages: "),
    (CHAT, {"messages": "hello"}, "messages: "),
    (CHAT, {"messages": ["hello"]}, "messages.0: "),
    (CHAT, {"messages": [{"content": "no role"}]}, "messages.0.role: field required"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content: must be a text or a list of parts"),
    (CHAT, {"messages": [{"role": "user", "content": IMAGE}]}, "does not take parts of type 'image_url'"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "must have a text"),
    (CHAT, {"messages": system("be kind")}, "template refuses the request: System role not supported"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "cannot be read"),
    (CHAT, {"max_tokens": 0}, "max_tokens: input should be greater than or equal to 1"),
    (CHAT, {"max_tokens": "many"}, "max_tokens: "),
    (CHAT, {"max_tokens": None, "max_completion_tokens": -1}, "max_completion_tokens: "),
    (CHAT, {"temperature": "hot"}, "temperature: "),
    (CHAT, {"temperature": -1}, "temperature: "),
    (CHAT, {"top_p": 7}, "top_p: "),
    (CHAT, {"frequency_penalty": -1}, "frequency_penalty: "),
    (CHAT, {"seed": 2**70}, "seed: "),
    (CHAT, {"stop": ""}, "stop: must be a text"),
    (CHAT, {"logit_bias": {"99999999": 5}}, "logit_bias: the model has no token 99999999"),
    (CHAT, {"logit_bias": [5]}, "logit_bias: "),
    (CHAT, {"tools": "none"}, "tools: "),
    (CHAT, {"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs: 'chat_template' is not accepted"),
    (CHAT, {"chat_template_kwargs": {"shop": "closed"}}, "template refuses the request: The shop is closed"),
    (CHAT, {"generation_config": "{}"}, "generation_config: this field is not accepted"),
    (CHAT, {"unheard_of": 1}, "unheard_of"),
    (CHAT, {"messages": [{"role": "user", "content": "food " * 3000}]}, "the model's context has"),
    (CHAT, {"messages": system("be kind"), "stream": True}, "System role not supported"),
    (CHAT, {"messages": [{"role": "user", "content": "food " * 3000}], "stream": True}, "the model's context has"),
    (TEXT, {"prompt": ""}, "prompt: "),
    (TEXT, {"prompt": [1, 2]}, "prompt: "),
    (TEXT, {"max_tokens": 0}, "max_tokens: "),
    (RESPONSES, {"input": []}, "input: "),
    (RESPONSES, {"input": 5}, "input"),
    (RESPONSES, {"input": [{"type": "nothing"}]}, "does not take parts of type 'nothing'"),
    (RESPONSES, {"input": [{"type": "message", "role": 3}]}, "whose role is a text"),
    (RESPONSES, {"input": IMAGE}, "does not take parts of type 'image_url'"),
    (RESPONSES, {"instructions": "be kind"}, "System role not supported"),
    (RESPONSES, {"max_output_tokens": 0}, "max_output_tokens: "),
]


@dataclass
class Served:
    """The gateway of a served model."""

    gateway: servers.Gateway
    upstream: Upstream

    @property
    def url(self) -> str:
        return self.gateway.url.removesuffix("/v1")

    def traffic(self) -> Traffic:
        return read(EnvoyAdmin(Path(self.gateway.admin)).statistics(), self.upstream.cluster)


@contextmanager
def serving(folder: Path, merged: Path, chat: ResolvedChat | None = None) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        process = processes.start_server(NAME, merged, folder / "work", 180, chat or ResolvedChat())
        upstream = Upstream(port=process.port, version=1, run="r", base="b", adapter_sha256="a")
        rules = Rules(name=NAME, host="127.0.0.1", port=free_port(), answer_seconds=60, request_bytes=1 << 20)
        gateway = processes.start_gateway(rules, [], [upstream], upstream)
        yield Served(gateway, upstream)
        gateway.process.stop()
        process.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    merged = copytree(tiny_model, folder / "merged")
    template = merged / "chat_template.jinja"
    template.write_text(NO_SYSTEM + SHOP + template.read_text())
    with serving(folder, merged, ResolvedChat(template_arguments={"shop": "open"})) as found:
        yield found


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Served]:
    """A model that cannot generate: its weights are no numbers, and sampling from its probabilities fails."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("broken")
    merged = copytree(tiny_model, folder / "merged")
    weights = load_file(merged / "model.safetensors")
    save_file(
        {name: tensor * float("nan") for name, tensor in weights.items()},
        merged / "model.safetensors",
        {"format": "pt"},
    )
    (merged / "generation_config.json").write_text(json.dumps({"do_sample": True}))
    with serving(folder, merged) as found:
        yield found


def ask(client: httpx2.Client, path: str, **changed: Any) -> httpx2.Response:
    return client.post(path, json={"model": NAME, **GOOD[path], **changed})


@pytest.mark.parametrize(("path", "change", "reason"), FAULTS)
def test_a_clients_fault_is_a_json_400_and_the_next_requests_are_answered(
    served: Served, path: str, change: dict[str, Any], reason: str
) -> None:
    before = served.traffic()
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        for _ in range(3):
            answer = ask(client, path, **change)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json"), answer.text
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", 400)
            assert reason in error["message"]
            assert "\n" not in error["message"]
            assert [ask(client, path).status_code for _ in range(3)] == [200] * 3
    assert served.traffic().since(before).failures == 0


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
def test_an_answer_names_the_model_as_it_was_asked_for(served: Served, path: str) -> None:
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        assert ask(client, path).json()["model"] == NAME
        lines = ask(client, path, stream=True).text.splitlines()
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [NAME]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    named = [event.get("response", event)["model"] for event in events if "model" in event.get("response", event)]
    assert len(named) >= 3
    assert set(named) == {NAME}


def test_no_more_is_generated_than_the_context_has_room_for(served: Served) -> None:
    long = [{"role": "user", "content": "food " * 200}]
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        usage = ask(client, CHAT, messages=long, max_tokens=10**9, temperature=0).json()["usage"]
    assert usage["total_tokens"] == 512


def test_without_being_asked_for_nothing_is_streamed(served: Served) -> None:
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        for path in (CHAT, TEXT, RESPONSES):
            assert ask(client, path).headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
def test_what_the_server_does_wrong_is_a_json_500_on_a_connection_that_ends(
    broken: Served, path: str, stream: bool
) -> None:
    before = broken.traffic()
    with httpx2.Client(base_url=f"http://127.0.0.1:{broken.upstream.port}", timeout=60) as client:
        answer = ask(client, path, stream=stream)
    assert (answer.status_code, answer.headers["connection"]) == (500, "close")
    assert answer.json()["error"]["type"] == "server_error"
    with httpx2.Client(base_url=broken.url, timeout=60) as client:
        assert ask(client, path, stream=stream).status_code == 500
        assert ask(client, path, stream=stream, max_tokens=0).status_code == 400
    assert broken.traffic().since(before).failures == 1


@contextmanager
def users(served: Served, bad: int, of: int) -> Iterator[None]:
    """Ask as users do, of whose requests so many are at fault."""
    over = threading.Event()

    def keep_asking() -> None:
        with httpx2.Client(base_url=served.url, timeout=60) as client:
            number = 0
            while not over.is_set():
                number += 1
                path, change, _ = FAULTS[number % len(FAULTS)] if number % of < bad else (CHAT, {}, "")
                ask(client, path, **change)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(60)


def test_the_watch_accepts_a_good_server_whose_clients_are_at_fault_in_a_fifth_of_their_requests(
    served: Served,
) -> None:
    serve = load_recipe("pet-store").serve.model_copy(update={"watch_seconds": 5})
    with users(served, 1, 5):
        result = watch(f"{served.url}/v1", NAME, [HELLO], serve, 2, served.traffic, None, [])
    assert result.failures == 0
    assert result.answers > result.probes


def test_the_watch_refuses_a_server_that_fails_among_many_clients_that_are_at_fault(broken: Served) -> None:
    serve = load_recipe("pet-store").serve.model_copy(update={"watch_seconds": 5})
    with users(broken, 4, 5), pytest.raises(RefusedError, match="answers failed"):
        watch(f"{broken.url}/v1", NAME, [HELLO], serve, 2, broken.traffic, None, [])
