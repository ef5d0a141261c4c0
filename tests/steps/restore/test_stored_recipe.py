"""A version that somebody changed in a real registry starts nothing: it is refused in one line."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from steps.common.adapter.adapter_files import WEIGHTS_FILE
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.restore.step import RestoreInput, restore
from tests.support.golden import RELEASES, register_golden

Change = Callable[[dict[str, Any]], Any]
VLLM = {"runtime": "vllm", "form": "adapter", "gpus": 1, "rank": 8, "max_adapters": 4}
MISTRAL = ["--tokenizer-mode=mistral", "--config-format=mistral", "--load-format=mistral"]  # of presets since 0.1.0


def _plan(**changes: Any) -> Change:
    return lambda stored: stored["served"].update({**VLLM, **changes})


def _model(**changes: Any) -> Change:
    return lambda stored: stored["model"].update(changes)


CHANGES: list[tuple[Change, str]] = [
    (_plan(arguments=["--enable-lora", "--trust-remote-code"]), "serving_plan.arguments has '--enable-lora', which is"),
    (_plan(arguments=[*MISTRAL, "--load-format=tensorizer"]), "serving_plan.arguments has '--load-format=tensorizer'"),
    (_plan(rank=7), "serving_plan.rank is 7, which does not follow"),
    (_plan(gpus=8), "serving_plan.gpus is 8"),
    (_plan(instance_type="x, y"), "serving_plan.instance_type is 'x, y'"),
    (_model(digest="../../runs/merged"), "model.digest is '../../runs/merged'"),
    (_model(digest="a" * 64), "model.digest is 'a{64}', and '8af4"),
    (_model(uri="hf://somebody/else@1"), "model.uri is 'hf://somebody/else@1', and 'file:///home/ada/tiny-model' was"),
    (_plan(arguments=["--tool-call-parser=mine"]), "serving_plan.arguments has '--tool-call-parser=mine'"),
    (lambda stored: stored.update(chat={"tool_parser": "mine --x"}), "chat.tool_parser is 'mine --x', which is in no"),
    (lambda stored: stored.update(run="../other"), "run is '../other'"),
    (lambda stored: stored["recipe"].update(name="pet-store"), "recipe.name is 'pet-store', and 'tiny' was"),
    (lambda stored: stored.update(code_version="{{workflow.name}}"), "it contains '{{'"),
]


def test_what_fineline_cannot_have_written_is_refused() -> None:
    register_golden("tiny")
    (adapter,) = (volumes.runs() / "artifacts").rglob(WEIGHTS_FILE)
    file = adapter.parents[1] / versions.RESOLVED_FILE
    original = file.read_text()
    for change, line in CHANGES:
        shutil.rmtree(volumes.runs() / "restored", ignore_errors=True)
        stored = json.loads(original)
        change(stored)
        file.write_text(json.dumps(stored))
        with pytest.raises(UserError, match=line) as raised:
            restore(RestoreInput(name="tiny", version="1"))
        assert str(raised.value).startswith("tiny version 1: its resolved.json in the registry was changed: ")
        assert "\n" not in str(raised.value)
    shutil.rmtree(volumes.runs() / "restored", ignore_errors=True)
    file.write_text(original)
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"!")
    with pytest.raises(
        UserError, match=r"tiny version 1: the registry's adapter has the SHA-256 \w{12}, and 9afe51917962"
    ):
        restore(RestoreInput(name="tiny", version="1"))


def test_what_a_preset_gives_to_vllm_is_taken_and_the_registry_that_was_asked_counts() -> None:
    stored = json.loads((RELEASES[0] / "version" / "resolved.json").read_text())
    _plan(arguments=MISTRAL)(stored)
    stored["tracking"] = {"uri": "https://registry.example.org", "run_id": "0" * 32}
    register_golden("tiny", RELEASES[0], json.dumps(stored))
    restored = restore(RestoreInput(name="tiny", version="1")).resolved
    assert restored.serving_plan.arguments == MISTRAL
    assert restored.tracking.uri == tracking.kept_uri(tracking.default_uri())
    assert restored.tracking.run_id == ""
