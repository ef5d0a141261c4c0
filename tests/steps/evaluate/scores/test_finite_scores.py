"""A model whose loss is not a number ends the evaluation in words, before anything is compared."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from steps.common.model.packs import TokenRow
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError
from steps.evaluate.scores.score import EvaluationSet, score


@pytest.mark.parametrize(
    ("who", "remedy"), [("base", "choose another base model"), ("candidate", r"lower tune\.learning_rate")]
)
def test_a_loss_that_is_not_finite_is_one_line(who: str, remedy: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    rows = [TokenRow([5, 6, last], [-100, 6, last]) for last in (7, 8)]
    evaluation = EvaluationSet(rows, [Conversation.of(("user", "when?"))], 4, general=False)
    with pytest.raises(UserError, match=f"the {who}'s loss is not finite on 2 of 2 held-out rows; {remedy}"):
        score(folder, evaluation, 64, "cpu", who)
