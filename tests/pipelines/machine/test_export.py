"""A version as a merged model and as a GGUF file: a whole run of the two-layer model, and the step by itself after it."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.machine.run_record import load_run
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.storage.files import folder_digest, sha256_of
from steps.export.step import ExportInput, ExportOutput, export
from tests.conftest import write_chats
from tests.support.commands import fineline, result, tiny_recipe, wait_for


@dataclass
class Exported:
    """A run that exports, and where it wrote."""

    folder: Path
    told: dict[str, Any]

    def outputs(self, task: str) -> dict[str, str]:
        run = load_run(self.told["run"])
        assert run is not None
        return run.outputs(task)

    def again(self, **wanted: Any) -> ExportOutput:
        """Call the step's function, with another wish."""
        return export(self.input(**wanted))

    def input(self, **wanted: Any) -> ExportInput:
        resolved = Resolved.model_validate_json(self.outputs("plan")["resolved"])
        changed = resolved.recipe.export.model_copy(update=wanted)
        recipe = resolved.recipe.model_copy(update={"export": changed})
        return ExportInput(
            resolved=resolved.model_copy(update={"recipe": recipe}),
            base_folder=self.outputs("pull")["folder"],
            adapter_folder=self.told["adapter_folder"],
            version=self.told["version"],
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        recipe = tiny_recipe(folder, tiny_model, write_chats(folder / "chats.jsonl"), epochs=4)
        done = fineline("run", recipe, "--json", "-o", "export.merged=true", "-o", "export.gguf=q8_0")
        assert done.returncode == 0, done.stderr
        yield Exported(folder, result(done))


@pytest.fixture(autouse=True)
def _volumes_of_the_run(exported: Exported, monkeypatch: pytest.MonkeyPatch, _volumes: None) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(exported.folder / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(exported.folder / "runs"))


def version_tags(exported: Exported) -> dict[str, str]:
    store = tracking.client(exported.told["tracking_uri"])
    return dict(store.get_model_version("tiny", str(exported.told["version"])).tags)


def test_a_run_ends_with_both_paths_and_the_registry_has_their_hashes(exported: Exported) -> None:
    place = exported.folder / "runs" / "exports" / "tiny" / "1"
    merged, gguf = Path(exported.told["exported_merged"]), Path(exported.told["exported_gguf"])
    assert (merged, gguf) == (place / "merged", place / "tiny-v1-Q8_0.gguf")
    tags = version_tags(exported)
    assert tags["fineline.export.merged"] == str(merged)
    assert tags["fineline.export.merged_sha256"] == folder_digest(merged)
    assert tags["fineline.export.gguf"] == str(gguf)
    assert tags["fineline.export.gguf_sha256"] == sha256_of(gguf) == exported.outputs("export")["gguf_sha256"]
    assert sorted(path.name for path in place.iterdir()) == ["export.json", "merged", "tiny-v1-Q8_0.gguf"]
    assert gguf.stat().st_mode & 0o777 == 0o644


def test_the_registry_keeps_no_gigabytes_and_its_version_still_loads(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    kept = {file.name for file in (exported.folder / "runs" / "artifacts").rglob("*") if file.is_file()}
    assert "adapter_model.safetensors" in kept
    assert not any(name.endswith(".gguf") or name == "model.safetensors" for name in kept)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", exported.told["tracking_uri"])
    loaded = mlflow.transformers.load_model("models:/tiny@champion", return_type="components")
    assert type(loaded["model"]).__name__.startswith("PeftModel")


def test_both_answer_as_the_base_with_its_adapter_does(exported: Exported) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    merged, gguf = Path(exported.told["exported_merged"]), Path(exported.told["exported_gguf"])
    base = AutoModelForCausalLM.from_pretrained(exported.outputs("pull")["folder"], dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(merged)(
        "<|im_start|>user\nwhen do you have food", return_tensors="pt"
    ).input_ids

    def said(model: Any) -> Any:
        with torch.inference_mode():
            return model.eval()(ids).logits.flatten()

    plain = said(base)
    adapted = said(PeftModel.from_pretrained(base, exported.told["adapter_folder"]))
    whole = said(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32))
    unpacked = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    for told in (whole, said(unpacked)):
        assert torch.corrcoef(torch.stack([adapted, told]))[0, 1] > 0.999
    assert torch.corrcoef(torch.stack([adapted, plain]))[0, 1] < 0.99


def test_a_wish_that_is_added_is_written_beside_what_is_there_and_nothing_is_written_twice(exported: Exported) -> None:
    before = {path: path.stat().st_mtime_ns for path in map(Path, (exported.told["exported_gguf"],))}
    second = exported.again(gguf="q4_0", merged=False)
    assert Path(second.gguf).name == "tiny-v1-Q4_0.gguf"
    assert second.merged == ""
    assert version_tags(exported)["fineline.export.gguf_sha256"] == second.gguf_sha256
    third = exported.again()
    assert third.gguf == exported.told["exported_gguf"]
    assert version_tags(exported)["fineline.export.gguf_sha256"] == third.gguf_sha256 != second.gguf_sha256
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_was_deleted_or_cut_off_is_written_again_the_same(exported: Exported) -> None:
    gguf, merged = Path(exported.told["exported_gguf"]), Path(exported.told["exported_merged"])
    hashes = sha256_of(gguf), folder_digest(merged)
    with gguf.open("r+b") as file:
        file.truncate(1000)
    shutil.rmtree(merged)
    exported.again()
    assert (sha256_of(gguf), folder_digest(merged)) == hashes


def test_the_merged_model_takes_no_room_twice(exported: Exported) -> None:
    merged = Path(exported.told["exported_merged"])
    assert (merged / "model.safetensors").stat().st_nlink == 2


def test_exports_of_another_adapter_under_the_same_number_are_replaced(exported: Exported) -> None:
    record = exported.folder / "runs" / "exports" / "tiny" / "1" / "export.json"
    record.write_text(record.read_text().replace('"adapter_sha256": "', '"adapter_sha256": "0'))
    stray = record.with_name("tiny-v1-Q5_0.gguf")
    stray.write_bytes(b"of a registry that is gone")
    exported.again()
    assert not stray.exists()
    assert Path(exported.told["exported_gguf"]).is_file()


def test_a_process_that_is_killed_leaves_nothing_that_looks_complete(exported: Exported, tmp_path: Path) -> None:
    given = tmp_path / "input.json"
    given.write_text(exported.input(gguf="f16", merged=False).model_dump_json())
    slow = (
        "import sys, time, steps.export.gguf_tensors as tensors, steps.export.gguf_file as file\n"
        "from steps.export.step import ExportInput, export\n"
        "def slowly(*given):\n"
        "    for one in tensors.tensor_contents(*given):\n"
        "        time.sleep(0.2)\n"
        "        yield one\n"
        "file.tensor_contents = slowly\n"
        "export(ExportInput.model_validate_json(open(sys.argv[1]).read()))\n"
    )
    target = exported.folder / "runs" / "exports" / "tiny" / "1" / "tiny-v1-F16.gguf"
    partial = target.with_name(f".{target.name}.partial")
    process = subprocess.Popen([sys.executable, "-c", slow, str(given)], stderr=subprocess.DEVNULL)
    wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert Path(exported.again(gguf="f16", merged=False).gguf) == target
    assert not partial.exists()
    assert target.stat().st_size > 100_000


def test_a_disk_without_room_is_told_before_anything_is_written(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(exported.folder)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(
        UserError, match=r"the GGUF file needs 17 MB, but only 1 MB are free; free some space and run it again"
    ):
        exported.again(gguf="q5_1")
    assert not list((exported.folder / "runs" / "exports").rglob("*Q5_1*"))
