"""The base model that the recipe names: pinned to a commit, listed, with its constants."""

import json
from typing import Any

from presets.architecture import Architecture
from presets.model_preset import Chat, ModelPreset, ModelSource, UnknownPresetError, find
from recipes.recipe import Recipe
from steps.common.handover.resolved import KnownModel, ResolvedChat, ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.weights import store
from steps.common.weights.sources.listing import Listing, is_adapter_file
from steps.common.weights.sources.revision import pin
from steps.common.weights.sources.small_file import read_small
from steps.common.weights.sources.weights_index import SINGLE
from steps.plan.model_files.loadable import refuse_foreign_code
from steps.plan.model_files.token_ids import refuse_ids_beyond
from steps.plan.model_files.weight_headers import compare_with_config, read_tensors


def listed_files(reference: str) -> Listing | None:
    """Return the files of the model that a URI names, pinned; None for a preset, whose source need not be asked.

    Raises:
        UserError: the scheme is unknown, the source has no such model, or denies access.
        UnreachableError: the source did not answer, even when asked again.
    """
    return pin(ModelSource(uri=reference)) if "://" in reference else None


def resolve_model(reference: str, listed: Listing | None = None) -> ResolvedModel:
    """Resolve a preset's name or a URI.

    Args:
        reference: the name or the URI.
        listed: what `listed_files` has returned, if it was called.

    Raises:
        UserError: the preset or the scheme is unknown, the repository does not exist or access is denied, the config lacks
            a constant, or the model's files cannot be loaded: see `steps/plan/model_files/`.
        UnreachableError: the source did not answer, even when asked again.
    """
    if listed := listed or listed_files(reference):
        shape = _inspected(listed)
        _tell_left_out(listed)
        return _resolved(reference.rstrip("/").rpartition("/")[2], listed, shape, listed.licence, [])
    preset, source = preset_of(reference)
    published = _published(source)
    files = published or pin(source)
    if published is None:
        read_tensors(files)  # a mirror may lack what the preset's source has
    return _resolved(preset.name, files, preset.architecture, preset.licence, preset.lora_targets)


def resolved_chat(recipe: Recipe) -> ResolvedChat:
    """Return how the model is asked.

    Raises:
        UserError: the preset is unknown.
    """
    chat = Chat(style="") if "://" in recipe.model else preset_of(recipe.model)[0].chat
    wanted = recipe.chat.tool_parser
    return ResolvedChat(
        template_arguments=chat.template_arguments | recipe.chat.template_arguments,
        tool_parser={"auto": chat.tool_parser, "none": ""}.get(wanted, wanted),
        end_of_turn=chat.end_of_turn,
    )


def check_tunable(reference: str, method: str) -> None:
    """Refuse a preset that cannot be tuned at all, or not with this method.

    Raises:
        UserError: with the reason.
    """
    if "://" in reference:
        return
    preset, _ = preset_of(reference)
    if preset.cannot_be_tuned:
        raise UserError(f"model: {preset.name} cannot be tuned: {preset.cannot_be_tuned}")
    if preset.cannot_be_quantised and method == "qlora":
        raise UserError(
            f"tune.method: {preset.name} cannot be tuned with qlora: {preset.cannot_be_quantised}; set tune.method=lora"
        )


def check_context(recipe: Recipe, shape: Architecture) -> None:
    """Refuse rows that are longer than the model's context.

    Raises:
        UserError: with both lengths.
    """
    if recipe.data.max_tokens > shape.context:
        raise UserError(
            f"data.max_tokens: {recipe.data.max_tokens} exceeds the model's context of {shape.context} tokens; lower it"
        )


def known_model(reference: str, listed: Listing | None = None) -> KnownModel:
    """Return what is known about a model without asking the source of a preset; a URI's source is asked.

    Args:
        reference: a preset's name or a URI.
        listed: what `listed_files` has returned, if it was called.

    Raises:
        UserError: see `resolve_model`.
    """
    if "://" in reference:
        return resolve_model(reference, listed)
    preset, source = preset_of(reference)
    return KnownModel(
        name=preset.name,
        uri=source.uri,
        bytes=source.bytes,
        licence=preset.licence,
        architecture=preset.architecture,
    )


def pinned_model(reference: str, known: KnownModel) -> ResolvedModel:
    """Return a known model pinned. A model that a URI names is pinned already.

    Raises:
        UserError: see `resolve_model`.
    """
    return known if isinstance(known, ResolvedModel) else resolve_model(reference)


def read_config(files: Listing) -> dict[str, Any] | None:
    """Return the content of a model's config.json; None if it has none.

    Raises:
        UserError: it cannot be read.
        UnreachableError: the source did not answer, even when asked again.
    """
    return _read_json(files, "config.json")


def preset_of(reference: str) -> tuple[ModelPreset, ModelSource]:
    """Return the preset that a recipe names, and its source.

    Raises:
        UserError: the preset is unknown.
    """
    try:
        return find(reference)
    except UnknownPresetError as error:
        raise UserError(f"model: {error}") from None


def _resolved(name: str, files: Listing, architecture: Architecture, licence: str, targets: list[str]) -> ResolvedModel:
    return ResolvedModel(
        name=name,
        uri=files.uri,
        digest=files.digest,
        bytes=files.bytes,
        licence=licence or "unknown",
        architecture=architecture,
        targets=targets,
    )


def _published(source: ModelSource) -> Listing | None:
    """Return the listing of a pinned source that is on the volume already: its manifest, which needs no network."""
    manifest = next((found for _, found in store.folders_of(source.uri, "models")), None)
    if manifest is None:
        return None
    return Listing(uri=source.uri, files=manifest["source_files"], left_out=manifest.get("left_out", []))


def _inspected(files: Listing) -> Architecture:
    """Return a model's constants, after asking of its files all that can be asked without its weights.

    Raises:
        UserError: it is not a dense decoder that can be tuned as it is; the line says why.
    """
    config = read_config(files)
    if config is None:
        raise UserError(f"model {files.uri}: has no config.json, and no preset provides its constants")
    refuse_foreign_code(files.uri, config, _read_json(files, "tokenizer_config.json") or {})
    try:
        shape = Architecture.from_config(config)
    except KeyError as error:
        raise UserError(
            f"model {files.uri}: its config.json does not set {error.args[0]}; only dense decoders can be tuned"
        ) from None
    except ValueError as error:
        raise UserError(f"model {files.uri}: {error}") from None
    compare_with_config(files.uri, read_tensors(files), config, shape)
    padding = config.get("pad_token_id")
    refuse_ids_beyond(files, shape.vocabulary, padding if isinstance(padding, int) else 0)
    return shape


def _tell_left_out(files: Listing) -> None:
    """Say which files that look like a part of the model are none."""
    adapter = [file.name for file in files.left_out if is_adapter_file(file.name)]
    if adapter:
        say(
            f"model {files.uri}: {' and '.join(adapter)} beside the full model left alone: it is tuned without that adapter"
        )
    names = {file.name for file in files.files}
    others = [file.name for file in files.left_out if file.name not in adapter and file.name.endswith(".safetensors")]
    if others:
        taken = SINGLE if SINGLE in names else "the shards of its index"
        say(f"model {files.uri}: its weights are {taken}; left alone: {', '.join(others)}")


def _read_json(files: Listing, name: str) -> dict[str, Any] | None:
    """Return the content of a small file of a model; None if it has no such file."""
    file = next((file for file in files.files if file.name == name), None)
    if file is None:
        return None
    try:
        found = json.loads(read_small(file))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"model {files.uri}: its {name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"model {files.uri}: its {name} is not a JSON object")
    return found
