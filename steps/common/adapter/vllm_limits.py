"""Which adapters vLLM takes: read from vLLM 0.32 (vllm/lora/peft_helper.py, vllm/config/lora.py), and tried against it.

vLLM itself says no more than "was found but could not be loaded", on the first request; here it is said before, and why.
"""

from typing import Any

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
# Ways to begin an adapter that leave the base as it is; others (PiSSA, OLoRA, CorDA, LoftQ) change the base's weights.
PLAIN_BEGINNINGS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
NOT_TAKEN = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has a bias",
    "alora_invocation_tokens": "it is an activated LoRA",
    "layer_replication": "it replicates layers",
    "use_bdlora": "it is block-diagonal",
    "use_qalora": "it is a QA-LoRA",
    "trainable_token_indices": "it has learnt tokens of the embedding",
}


def required_max_lora_rank(rank: int) -> int:
    """Return the smallest --max-lora-rank that is enough for an adapter.

    Raises:
        ValueError: vLLM takes none of that rank.
    """
    for allowed in MAX_LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise ValueError(f"vLLM takes adapters up to rank {MAX_LORA_RANKS[-1]}, and this one has {rank}")


def adapter_rank(config: dict[str, Any]) -> int:
    """Return the largest rank in an adapter, from PEFT's `adapter_config.json`."""
    return max(int(config["r"]), *(int(rank) for rank in (config.get("rank_pattern") or {}).values()), 0)


def vllm_refusals(config: dict[str, Any], largest_rank: int) -> list[str]:
    """Return why vLLM would not take an adapter; nothing where it would.

    Args:
        config: PEFT's `adapter_config.json`.
        largest_rank: the server's --max-lora-rank.
    """
    found = []
    if config.get("peft_type") != "LORA":
        found.append(f"it is no LoRA but {config.get('peft_type')}")
    found += [why for key, why in NOT_TAKEN.items() if config.get(key)]
    if saved := config.get("modules_to_save"):
        found.append(f"it has whole modules: {', '.join(saved)}")
    if config.get("bias", "none") != "none":
        found.append("it has a bias")
    begun = config.get("init_lora_weights", True)
    if isinstance(begun, str) and begun.lower() not in PLAIN_BEGINNINGS:
        found.append(f"its beginning ({begun}) has changed the base")
    if (rank := adapter_rank(config)) > largest_rank:
        found.append(f"its rank {rank} is above the server's {largest_rank}")
    return found
