"""An adapter's folder: PEFT's two files, and a description of the base model that it was trained on."""

from pathlib import Path

from steps.common.storage.files import digest_of, sha256_of
from steps.common.storage.record import Record

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
BASE_FILE = "base.json"
# In the names of the file's tensors: before a layer of the base model, and after it.
PEFT_PREFIX = "base_model.model."
LORA_A, LORA_B, LORA_MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class AdapterBase(Record):
    """The base model that an adapter was trained on."""

    uri: str
    digest: str
    method: str
    quantised: list[str]  # names of the linear layers that were in NF4; empty for method "lora"
    packages: dict[str, str]  # versions of the libraries that it was trained with


def read_adapter_base(adapter: Path) -> AdapterBase:
    """Return the description of the base model that an adapter was trained on."""
    return AdapterBase.read((adapter / BASE_FILE).read_text(), adapter / BASE_FILE)


def adapter_sha256(adapter: Path) -> str:
    """Return the SHA-256 of an adapter's weights."""
    return sha256_of(adapter / WEIGHTS_FILE)


def merged_key(adapter: Path) -> str:
    """Return the key under which the merged model of this adapter and its base is stored."""
    return merged_key_of(read_adapter_base(adapter), sha256_of(adapter / CONFIG_FILE), adapter_sha256(adapter))


def merged_key_of(base: AdapterBase, config_sha256: str, weights_sha256: str) -> str:
    """Return the same of an adapter whose files have these hashes."""
    trained_on = base.model_dump(include={"uri", "digest", "method", "quantised"})
    return digest_of([trained_on, config_sha256, weights_sha256])
