"""The part of a recipe that says how the adapter is learnt."""

from typing import Any, Literal

from pydantic import Field, model_validator

from recipes.recipe_part import RecipePart

DPO_LEARNING_RATE = 1e-5  # ten times what TRL's DPOTrainer takes for full tuning
EVALUATION_SHARE = 0.1  # of a training's time that its measurements may take
DPO_ALONE = ("beta", "sft_weight")


class Tune(RecipePart):
    """How the adapter is learnt."""

    method: Literal["qlora", "lora"] = Field(
        default="qlora", description="qlora: base in 4 bits (NF4, double quantisation). lora: base in bf16."
    )
    objective: Literal["sft", "dpo"] = Field(
        default="sft",
        description="sft: what the assistant says is learnt. dpo: that one answer is preferred to another, from pairs "
        "(chosen, rejected).",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="dpo: the larger, the less the model may move away from the base; 0.01 to 0.5 is usual.",
    )
    sft_weight: float = Field(
        default=0.0,
        ge=0,
        description="dpo: weight of the chosen answer's own loss a token beside the preference's, so that it does not become "
        "less likely along with the rejected one; 1 is usual where it is wanted.",
    )
    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="Peak; about ten times that of full tuning. dpo: 1e-5 where it is not set; 5e-6 to 5e-5 is usual, more "
        "with few hundred pairs.",
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    batch_tokens: int = Field(
        default=8192, ge=8, description="Tokens in an optimizer step, all rows together; of pairs, both sides."
    )
    rank: int = Field(default=16, ge=1, le=512, description="Rank of the adapter.")
    alpha: float = Field(default=32, gt=0, description="The adapter's scale is alpha / rank.")
    rslora: bool = Field(
        default=False,
        description="The scale is alpha / sqrt(rank): with alpha / rank a high rank learns little more than a low one.",
    )
    dora: bool = Field(
        default=False,
        description="Length and direction of each weight are learnt apart (DoRA). Better with low ranks; slower, takes more "
        "memory, and vLLM serves it merged alone.",
    )
    lora_plus: float = Field(
        default=1.0,
        ge=1,
        le=100,
        description="Learning rate of the adapter's second matrix (B), as a multiple of the first's (LoRA+). 1: plain "
        "LoRA; 16 is usual, with half the learning_rate.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On the adapter's input.")
    targets: list[str] = Field(
        default=[], description="Names of the linear layers that get an adapter. Empty: all but the head."
    )
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=20, ge=1, description="Optimizer steps between two checkpoints.")
    evaluations: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="How often the held-out loss is measured meanwhile, evenly spread, and once before; on as many held-out "
        "rows as cost a tenth of the training at the most. 0: never.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="The training ends when so many of these measurements in a row found no lower loss, and the adapter of the "
        "lowest is kept. 0: it goes on to its last step, and that one's adapter is kept.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the layers (torch.compile): steps are 14 to 19 % shorter on a GPU, after 5 to 15 minutes of "
        "compiling, so for runs of hours. Needs a C++ compiler. Every micro-batch is filled up to its full length.",
    )
    seed: int = Field(default=17, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("objective") == "dpo" and "learning_rate" not in given:
            return {**given, "learning_rate": DPO_LEARNING_RATE}
        return given

    @model_validator(mode="after")
    def _patience_with_what(self) -> "Tune":
        if self.patience and not self.evaluations:
            raise ValueError("patience is of no account without measurements; set tune.evaluations")
        if self.patience and self.patience >= self.evaluations:
            raise ValueError(
                f"patience {self.patience} ends nothing with evaluations {self.evaluations}; set tune.evaluations higher"
            )
        return self

    @property
    def shareable(self) -> bool:
        """Whether a base that fits no GPU can be dealt out among several.

        DoRA asks every weight for its length before anything is computed, and what is compiled cannot wait for a layer.
        """
        return not (self.dora or self.compile)

    def evaluated_tokens(self, train_tokens: float, held_out_tokens: float) -> float:
        """Return how many held-out tokens are read while it is learnt, by all measurements together.

        Args:
            train_tokens: learnt from, in all epochs.
            held_out_tokens: that there are.
        """
        if not self.evaluations:
            return 0.0
        # Learning from a token takes a forward pass and a backward pass; reading one takes the first of them.
        return min((self.evaluations + 1) * held_out_tokens, 2 * EVALUATION_SHARE * train_tokens)

    @model_validator(mode="after")
    def _what_only_dpo_knows(self) -> "Tune":
        fields = type(self).model_fields
        for name in DPO_ALONE:
            if self.objective != "dpo" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} is of no account with the objective {self.objective}; set tune.objective=dpo")
        return self
