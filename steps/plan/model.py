"""Which model the recipe means: pinned, listed, with its constants."""

import json
from pathlib import Path

from presets.model_preset import Architecture, Source, UnknownPresetError, find
from steps.common import volumes
from steps.common.errors import UserError
from steps.common.resolved import ResolvedModel
from steps.common.sources.listing import Listing, SourceFile
from steps.common.sources.pin import pin


def resolve_model(reference: str) -> ResolvedModel:
    """Resolve a preset's name or a URI.

    Raises:
        UserError: unknown preset or scheme, no such repository, no access to it, or a config that lacks constants.
    """
    if "://" in reference:
        files = pin(Source(uri=reference))
        return _resolved(reference.rstrip("/").rpartition("/")[2], files, _read_architecture(files), files.licence)
    try:
        preset, source = find(reference)
    except UnknownPresetError as error:
        raise UserError(f"model: {error}") from None
    return _resolved(preset.name, _published(source) or pin(source), preset.architecture, preset.licence)


def _resolved(name: str, files: Listing, architecture: Architecture, licence: str) -> ResolvedModel:
    return ResolvedModel(
        name=name,
        uri=files.uri,
        digest=files.digest,
        bytes=files.bytes,
        licence=licence or "unknown",
        architecture=architecture,
    )


def _published(source: Source) -> Listing | None:
    """A pinned source that is on the volume already needs no network: its manifest is its listing."""
    for file in volumes.weights().glob("models/*/manifest.json"):
        manifest = json.loads(file.read_text())
        if manifest["uri"] == source.uri:
            return Listing(uri=source.uri, files=[SourceFile(**f) for f in manifest["source_files"]])
    return None


def _read_architecture(files: Listing) -> Architecture:
    import httpx2

    config = next((f for f in files.files if f.name == "config.json"), None)
    if config is None:
        raise UserError(f"model {files.uri}: has no config.json, and no preset tells its constants")
    try:
        if config.url.startswith("http"):
            from huggingface_hub.utils._headers import build_hf_headers

            response = httpx2.get(config.url, headers=build_hf_headers(), follow_redirects=True, timeout=30)
            text = response.raise_for_status().text
        else:
            text = Path(config.url).read_text()
        return Architecture.from_config(json.loads(text))
    except KeyError as error:
        raise UserError(
            f"model {files.uri}: its config.json has no {error}; only dense decoders can be tuned"
        ) from None
    except (httpx2.HTTPError, ValueError) as error:
        raise UserError(f"model {files.uri}: cannot read its config.json: {error}") from None
