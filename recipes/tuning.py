"""The part of a recipe for how the adapter is trained."""

from typing import Any, Literal

from pydantic import Field, model_validator

from recipes.recipe_part import RecipePart

DPO_LEARNING_RATE = 1e-5  # ten times TRL's default for full fine-tuning in DPOTrainer
EVALUATION_SHARE = 0.1  # the largest share of the training time that held-out measurements may take
DPO_ALONE = ("beta", "sft_weight")


class Tune(RecipePart):
    """How the adapter is trained."""

    method: Literal["qlora", "lora"] = Field(
        default="qlora", description="qlora: 4-bit base (NF4 with double quantisation). lora: bf16 base."
    )
    objective: Literal["sft", "dpo"] = Field(
        default="sft",
        description="sft: learn what the assistant says. dpo: learn which of two answers is preferred, from rows with "
        "`chosen` and `rejected`.",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="dpo only. The larger the value, the less the model may move away from its base. Usual: 0.01 to 0.5.",
    )
    sft_weight: float = Field(
        default=0.0,
        ge=0,
        description="dpo only. Weight of the chosen answer's loss per token, added to the preference loss so that the chosen "
        "answer does not become less likely along with the rejected one. If you need it, start with 1.",
    )
    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="Peak learning rate, about ten times that of full fine-tuning. With dpo the default is 1e-5; usual: 5e-6 "
        "to 5e-5, and more with only a few hundred pairs.",
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the optimizer steps in which the learning rate rises to its peak.",
    )
    batch_tokens: int = Field(
        default=8192,
        ge=8,
        description="Tokens per optimizer step over all rows. With pairs, both sides count.",
    )
    rank: int = Field(default=16, ge=1, le=512, description="Rank of the adapter.")
    alpha: float = Field(default=32, gt=0, description="Numerator of the adapter's scale, which is alpha / rank.")
    rslora: bool = Field(
        default=False,
        description="Scale the adapter by alpha / sqrt(rank). With alpha / rank, a high rank learns little more than a low "
        "one (rsLoRA).",
    )
    dora: bool = Field(
        default=False,
        description="Learn the magnitude and the direction of each weight separately (DoRA). Better at low ranks; slower, "
        "needs more memory, and vLLM serves it in merged form only.",
    )
    lora_plus: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="Learning rate of the adapter's B matrix as a multiple of the A matrix's (LoRA+). 1: plain LoRA. Usual: "
        "16, with half the learning_rate.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    targets: list[str] = Field(
        default=[],
        description="Names of the linear layers that get an adapter. Empty: the preset's, or all but the head.",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of the optimizer (AdamW).")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Norm at which the gradient is clipped.")
    checkpoint_every: int = Field(default=20, ge=1, description="Optimizer steps between two checkpoints.")
    evaluations: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="Number of held-out loss measurements during training, evenly spaced, in addition to one before it. They "
        "use as many held-out rows as take at most a tenth of the training time. 0: never measure.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Stop training after this many measurements in a row without a lower held-out loss, and keep the adapter "
        "with the lowest loss. 0: train to the last step and keep the final adapter.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the layers with torch.compile: optimizer steps are 14 to 19 % faster on a GPU after 5 to 15 "
        "minutes of compilation, so it pays off in runs of hours. Needs a C++ compiler. Every micro-batch is padded to its "
        "full length.",
    )
    seed: int = Field(
        default=17, ge=0, description="Seed of the held-out split, the row order and the adapter's initial weights."
    )

    @model_validator(mode="before")
    @classmethod
    def _learning_rate_of_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("objective") == "dpo" and "learning_rate" not in given:
            return {**given, "learning_rate": DPO_LEARNING_RATE}
        return given

    @model_validator(mode="after")
    def _patience_needs_evaluations(self) -> "Tune":
        if self.patience and not self.evaluations:
            raise ValueError("patience has no effect without held-out measurements; set tune.evaluations")
        if self.patience and self.patience >= self.evaluations:
            raise ValueError(
                f"patience {self.patience} never stops a training with evaluations {self.evaluations}; raise tune.evaluations"
            )
        return self

    @property
    def shareable(self) -> bool:
        """Whether a base that fits on no single GPU can be sharded across several.

        DoRA needs the norm of every weight before anything is computed, and compiled code cannot wait for a layer.
        """
        return not (self.dora or self.compile)

    def evaluated_tokens(self, train_tokens: float, held_out_tokens: float) -> float:
        """Return how many held-out tokens all measurements during training read together.

        Args:
            train_tokens: tokens trained on in all epochs.
            held_out_tokens: tokens of all held-out rows.
        """
        if not self.evaluations:
            return 0.0
        # Training on a token takes a forward and a backward pass, about three times a forward pass alone.
        return min((self.evaluations + 1) * held_out_tokens, 2 * EVALUATION_SHARE * train_tokens)

    @model_validator(mode="after")
    def _dpo_keys_need_dpo(self) -> "Tune":
        fields = type(self).model_fields
        for name in DPO_ALONE:
            if self.objective != "dpo" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} has no effect with objective {self.objective}; set tune.objective=dpo")
        return self
