"""A base that no single GPU holds: each process has the weights of some layers, and is lent those of the others in turn.

What FSDP2 does with a model that is learnt whole, made for one that is frozen and in 4 bits, where there is less to do: the
base has no gradients and no moments, and what is lent is the layer as it is stored, half a byte a parameter. PyTorch's own
cuts tensors into DTensors, which the types and products of bitsandbytes do not know.

All processes lend and borrow the layers in the same order, which is that of the passes: down and up through the layers, while
the next one is on its way. So each round of passes is agreed on before it begins, one that has nothing to compute goes through
the layers with the others, and so does one whose memory ran out halfway. The adapter is small, and whole in each.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steps.common.model import base_model
from steps.common.model.layers import weight_modules
from steps.common.runtime.errors import UserError
from steps.tune.together.loan import Loan, make_loan
from steps.tune.together.team import Team


class Sharded:
    """The base, dealt out among the processes layer by layer."""

    def __init__(self, team: Team) -> None:
        """Set it up.

        Args:
            team: who has a part of it.
        """
        self._team = team
        self._device = torch.device("cpu")
        self._loans: list[Loan] = []
        self._turns: list[int] = []  # layers that the round computes, in order
        self._at = 0  # turns that have begun
        self._under_way: dict[int, Any] = {}  # broadcasts, by turn
        self._goes_back = False  # the backward pass has begun

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model of a folder, of which this process has read its own layers.

        Raises:
            UserError: the model's layers cannot be told apart.
        """
        from accelerate.hooks import remove_hook_from_submodules

        names, beside = weight_modules(folder)
        if len(names) < 2:
            raise UserError(
                "tune: this model's layers cannot be told apart, so that it cannot be shared among GPUs; take a GPU that "
                "holds it, see compute.instance_types"
            )
        self._device = torch.device(device)
        owners = [number % self._team.size for number in range(len(names))]
        # As torch's own type: with "cpu" beside another place transformers refuses to quantise.
        here: dict[str, Any] = dict.fromkeys([*beside, *names], self._device)
        elsewhere = {name: "meta" for name, owner in zip(names, owners, strict=True) if owner != self._team.rank}
        model = base_model.load_base_model(folder, device, in_4_bits=in_4_bits, device_map=here | elsewhere)
        remove_hook_from_submodules(model)
        model.hf_device_map = {"": self._device}  # by which the Trainer tells a model that several devices hold
        for number, (name, owner) in enumerate(zip(names, owners, strict=True)):
            layer = model.get_submodule(name)
            self._loans.append(make_loan(layer, owner, self._team.rank, self._device))
            layer.register_forward_pre_hook(lambda _layer, _args, number=number: self._before(number))
            layer.register_forward_hook(lambda _layer, _args, output, number=number: self._after(number, output))
        return model

    def begin_reading(self, times: int) -> None:
        """Begin forward passes without gradients, of which every process makes as many, or fewer."""
        self._expect(list(range(len(self._loans))) * times)

    def begin(self, *, reads: bool) -> None:
        """Begin the passes of a part, with the others.

        Args:
            reads: whether a forward pass without gradients goes before.
        """
        _, any_reads = self._team.any([True, reads], self._device)
        self._expect(self._round(reads=any_reads))
        if any_reads and not reads:
            self._go_along(len(self._loans))

    def end(self) -> None:
        """Go through what is left of the round, and give back what was borrowed."""
        self._goes_back = False
        for number, loan in enumerate(self._loans):
            if self._at not in self._under_way or self._turns[self._at] != number:
                loan.give_back()
        self._go_along(len(self._turns))

    def accompany(self) -> None:
        """Go through the rounds of the others, until none has a part left."""
        while True:
            computes, reads = self._team.any([False, False], self._device)
            if not computes:
                return
            self._expect(self._round(reads=reads))
            self.end()

    def _round(self, *, reads: bool) -> list[int]:
        down = list(range(len(self._loans)))
        # The last layer stays for the backward pass, which begins with it.
        return [*(down if reads else []), *down, *reversed(down[:-1])]

    def _expect(self, turns: list[int]) -> None:
        self._turns, self._at = turns, 0

    def _before(self, number: int) -> None:
        """Borrow a layer before its forward pass; in the backward pass, where that is made again, it is there."""
        if not self._goes_back:
            self._borrow(number)
            self._lend_next()

    def _after(self, number: int, output: Any) -> None:
        """Give it back after that, and borrow it again when the backward pass comes to it."""
        if self._goes_back:
            return
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: self._back_to(number))
            if number == len(self._loans) - 1:
                return
        self._loans[number].give_back()

    def _back_to(self, number: int) -> None:
        """Take a layer in place of the one after it, which is done with."""
        self._goes_back = True
        if number == len(self._loans) - 1:
            return
        self._loans[number + 1].give_back()
        self._borrow(number)
        self._lend_next()

    def _borrow(self, number: int) -> None:
        if self._turns[self._at] != number:
            raise RuntimeError(f"layer {number} is computed where layer {self._turns[self._at]} is due")
        self._lend(self._at)
        self._under_way.pop(self._at).wait()
        self._at += 1

    def _lend_next(self) -> None:
        if self._at < len(self._turns):
            self._lend(self._at)

    def _lend(self, turn: int) -> None:
        """Set the broadcast of a turn's layer on its way, unless it is."""
        if turn not in self._under_way:
            loan = self._loans[self._turns[turn]]
            self._under_way[turn] = dist.broadcast(loan.borrow(), loan.owner, async_op=True)

    def _go_along(self, until: int) -> None:
        """Take part in the turns up to one, and compute nothing."""
        while self._at < until:
            number = self._turns[self._at]
            self._borrow(number)
            self._loans[number].give_back()
