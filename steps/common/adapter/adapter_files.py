"""An adapter's folder: PEFT's two files, and beside them what its base was while it was learnt."""

from pathlib import Path

from pydantic import BaseModel

from steps.common.storage.files import digest_of, sha256_of

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
BASE_FILE = "base.json"
# Names in the file of weights: of a layer of the base, and of what an adapter has for it.
PEFT_PREFIX = "base_model.model."
LORA_A, LORA_B, LORA_MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class AdapterBase(BaseModel):
    """The base that an adapter was learnt on."""

    uri: str
    digest: str
    method: str
    quantised: list[str]  # names of the linear layers that were in NF4; none with method "lora"
    packages: dict[str, str]  # versions of what it was learnt with


def read_adapter_base(adapter: Path) -> AdapterBase:
    """Return what the adapter was learnt on."""
    return AdapterBase.model_validate_json((adapter / BASE_FILE).read_text())


def adapter_sha256(adapter: Path) -> str:
    """Return the hash of the adapter's weights."""
    return sha256_of(adapter / WEIGHTS_FILE)


def merged_key(adapter: Path) -> str:
    """Return the address of this adapter merged into its base."""
    return digest_of(
        [
            read_adapter_base(adapter).model_dump(exclude={"packages"}),
            sha256_of(adapter / CONFIG_FILE),
            adapter_sha256(adapter),
        ]
    )
