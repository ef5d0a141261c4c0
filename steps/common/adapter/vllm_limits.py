"""Which adapters vLLM supports: from vLLM 0.32 (vllm/lora/peft_helper.py, vllm/config/lora.py), and tested against it.

vLLM itself reports an unsupported adapter only on the first request, as "was found but could not be loaded", without a
reason. Here it is refused beforehand, with the reason.
"""

from typing import Any

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the values that --max-lora-rank accepts
# Initialisations that leave the base model's weights unchanged; PiSSA, OLoRA, CorDA and LoftQ change them.
BASE_PRESERVING_INITIALISATIONS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
UNSUPPORTED = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has a bias",
    "alora_invocation_tokens": "it is an activated LoRA",
    "layer_replication": "it replicates layers",
    "use_bdlora": "it is block-diagonal",
    "use_qalora": "it is a QA-LoRA",
    "trainable_token_indices": "it has trained token embeddings",
}


def required_max_lora_rank(rank: int) -> int:
    """Return the smallest --max-lora-rank that an adapter of a rank needs.

    Raises:
        ValueError: the rank is higher than vLLM supports.
    """
    for allowed in MAX_LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise ValueError(f"the adapter has rank {rank}, and vLLM supports ranks up to {MAX_LORA_RANKS[-1]}")


def adapter_rank(config: dict[str, Any]) -> int:
    """Return the highest rank in an adapter, from PEFT's `adapter_config.json`."""
    return max(int(config["r"]), *(int(rank) for rank in (config.get("rank_pattern") or {}).values()), 0)


def vllm_refusals(config: dict[str, Any], largest_rank: int) -> list[str]:
    """Return the reasons why vLLM would refuse an adapter; an empty list if it would load it.

    Args:
        config: PEFT's `adapter_config.json`.
        largest_rank: the server's --max-lora-rank.
    """
    found = []
    if config.get("peft_type") != "LORA":
        found.append(f"it is not a LoRA but a {config.get('peft_type')}")
    found += [why for key, why in UNSUPPORTED.items() if config.get(key)]
    if saved := config.get("modules_to_save"):
        found.append(f"it has fully trained modules: {', '.join(saved)}")
    if config.get("bias", "none") != "none":
        found.append("it has a bias")
    initialisation = config.get("init_lora_weights", True)
    if isinstance(initialisation, str) and initialisation.lower() not in BASE_PRESERVING_INITIALISATIONS:
        found.append(f"its initialisation ({initialisation}) changed the base model")
    if (rank := adapter_rank(config)) > largest_rank:
        found.append(f"its rank {rank} is above the server's maximum of {largest_rank}")
    return found
