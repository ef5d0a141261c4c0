"""Writes the folder of a version for MLflow, which loads it as a transformers model with a PEFT adapter.

Not with `mlflow.transformers.log_model`: it loads the base, and copies a local base whole into the registry.
"""

import json
import shutil
from pathlib import Path

from steps.common.adapter.adapter_files import read_adapter_base
from steps.common.handover.resolved import Resolved
from steps.common.registry import versions

TOKENIZER = ("tokenizer", "special_tokens_map", "vocab", "merges", "chat_template", "added_tokens")


def package(folder: Path, resolved: Resolved, base: Path, adapter: Path, report: Path) -> None:
    """Write MLmodel, adapter, tokenizer, recipe, report, requirements and an input example into `folder`."""
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

    shutil.copytree(adapter, folder / versions.ADAPTER_FOLDER)
    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    for file in base.iterdir():
        if file.name.startswith(TOKENIZER):
            shutil.copyfile(file, tokenizer / file.name)
    packages = read_adapter_base(adapter).packages
    requirements = [f"{name}=={version}" for name, version in packages.items()]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    (folder / "recipe.json").write_text(resolved.recipe.model_dump_json(indent=2) + "\n")
    (folder / versions.RESOLVED_FILE).write_text(resolved.model_dump_json(indent=2) + "\n")
    shutil.copyfile(report, folder / versions.EVALUATION_FILE)
    example = {"messages": [{"role": "user", "content": _question(resolved)}]}
    (folder / "input_example.json").write_text(json.dumps(example) + "\n")
    model = Model(signature=ModelSignature(inputs=CHAT_MODEL_INPUT_SCHEMA, outputs=CHAT_MODEL_OUTPUT_SCHEMA))
    model.add_flavor(
        "transformers",
        transformers_version=packages["transformers"],
        code=None,
        task="text-generation",
        inference_task="llm/v1/chat",
        framework="pt",
        instance_type="TextGenerationPipeline",
        pipeline_model_type=_class(base),
        source_model_name=resolved.model.uri,
        local_base_model_path=str(base),
        peft_adaptor=versions.ADAPTER_FOLDER,
        tokenizer_type="TokenizersBackend",
        components=["tokenizer"],
    )
    model.add_flavor("python_function", loader_module="mlflow.transformers", env={"virtualenv": "python_env.yaml"})
    model.save(str(folder / "MLmodel"))


def _class(base: Path) -> str:
    config = json.loads((base / "config.json").read_text())
    return str((config.get("architectures") or ["AutoModelForCausalLM"])[0])


def _question(resolved: Resolved) -> str:
    questions = resolved.recipe.evaluate.questions
    return questions[0].ask if questions else "Hello"
