"""A base model that no single GPU holds: each rank owns some layers and receives the others one at a time.

FSDP2 does this for a model that is trained whole. Here the base is frozen and in 4 bits, so there is less to do: it has no
gradients and no optimizer state, and a layer is broadcast as it is stored, half a byte per parameter. FSDP2 itself cuts
weights into DTensors, which the types and kernels of bitsandbytes do not support.

All ranks broadcast and receive the layers in the same order, that of the passes: down through the layers and back up, with
the next layer prefetched. So the ranks agree on each round of passes before it begins. A rank that has nothing to compute
goes through the layers with the others, and so does one that ran out of memory halfway. The adapter is small, and whole in
every rank.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steps.common.model.base_model import load_base_model
from steps.common.runtime.errors import UserError
from steps.tune.distributed.decoder_layers import decoder_layers_and_rest
from steps.tune.distributed.flat_layer import FlatLayer, flatten_layer
from steps.tune.distributed.process_group import ProcessGroup


class ShardedBase:
    """The base model, its layers sharded across ranks."""

    def __init__(self, group: ProcessGroup) -> None:
        """Shard across the ranks of `group`."""
        self._group = group
        self._device = torch.device("cpu")
        self._layers: list[FlatLayer] = []
        self._round: list[int] = []  # layer numbers, in the order in which this round's passes use them
        self._position = 0  # in the round: uses that have begun
        self._in_flight: dict[int, Any] = {}  # broadcasts, by position in the round
        self._in_backward = False

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model in `folder`, of which this rank reads only its own layers.

        Raises:
            UserError: the model's decoder layers cannot be found.
        """
        from accelerate.hooks import remove_hook_from_submodules

        names, rest = decoder_layers_and_rest(folder)
        if len(names) < 2:
            raise UserError(
                "tune: cannot find this model's decoder layers, so it cannot be sharded across GPUs; choose a GPU that "
                "holds the whole model (compute.instance_types)"
            )
        self._device = torch.device(device)
        owners = [number % self._group.world_size for number in range(len(names))]
        # A torch.device, not a string: with "cpu" next to another device in the map, transformers refuses to quantise.
        here: dict[str, Any] = dict.fromkeys([*rest, *names], self._device)
        elsewhere = {name: "meta" for name, owner in zip(names, owners, strict=True) if owner != self._group.rank}
        model = load_base_model(folder, device, in_4_bits=in_4_bits, device_map=here | elsewhere)
        remove_hook_from_submodules(model)
        # The Trainer reads this to decide whether the model is spread over several devices.
        model.hf_device_map = {"": self._device}
        for number, (name, owner) in enumerate(zip(names, owners, strict=True)):
            layer = model.get_submodule(name)
            self._layers.append(flatten_layer(layer, owner, self._group.rank, self._device))
            layer.register_forward_pre_hook(lambda _layer, _args, number=number: self._before_forward(number))
            layer.register_forward_hook(
                lambda _layer, _args, output, number=number: self._after_forward(number, output)
            )
        return model

    def begin_forward_passes(self, count: int) -> None:
        """Begin a round of forward passes without gradients."""
        self._begin_round(list(range(len(self._layers))) * count)

    def begin_training_pass(self, *, reference_pass: bool) -> None:
        """Begin a round of a forward and a backward pass, together with the other ranks.

        Args:
            reference_pass: whether a forward pass without gradients comes first on this rank. If it does on any rank, the
                others go through its layers too.
        """
        _, any_reference_pass = self._group.any([True, reference_pass], self._device)
        self._begin_round(self._training_round(reference_pass=any_reference_pass))
        if any_reference_pass and not reference_pass:
            self._shadow_until(len(self._layers))

    def end_pass(self) -> None:
        """Take part in what is left of the round, and free the layers of other ranks."""
        self._in_backward = False
        for number, layer in enumerate(self._layers):
            if self._position not in self._in_flight or self._round[self._position] != number:
                layer.reshard()
        self._shadow_until(len(self._round))

    def shadow_remaining_passes(self) -> None:
        """Take part in the rounds of the other ranks until none has any left."""
        while True:
            computes, reference_pass = self._group.any([False, False], self._device)
            if not computes:
                return
            self._begin_round(self._training_round(reference_pass=reference_pass))
            self.end_pass()

    def _training_round(self, *, reference_pass: bool) -> list[int]:
        forward = list(range(len(self._layers)))
        # The last layer stays unsharded: the backward pass begins with it.
        return [*(forward if reference_pass else []), *forward, *reversed(forward[:-1])]

    def _begin_round(self, layers: list[int]) -> None:
        self._round, self._position = layers, 0

    def _before_forward(self, number: int) -> None:
        """Unshard a layer before its forward pass; when that is recomputed in the backward pass, it already is."""
        if not self._in_backward:
            self._unshard(number)
            self._prefetch()

    def _after_forward(self, number: int, output: Any) -> None:
        """Reshard a layer after its forward pass, and unshard it again when the backward pass reaches it."""
        if self._in_backward:
            return
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: self._before_backward(number))
            if number == len(self._layers) - 1:
                return
        self._layers[number].reshard()

    def _before_backward(self, number: int) -> None:
        """Unshard a layer in place of the one above it, whose backward pass has ended."""
        self._in_backward = True
        if number == len(self._layers) - 1:
            return
        self._layers[number + 1].reshard()
        self._unshard(number)
        self._prefetch()

    def _unshard(self, number: int) -> None:
        if self._round[self._position] != number:
            raise RuntimeError(f"layer {number} is computed where layer {self._round[self._position]} is due")
        self._broadcast(self._position)
        self._in_flight.pop(self._position).wait()
        self._position += 1

    def _prefetch(self) -> None:
        if self._position < len(self._round):
            self._broadcast(self._position)

    def _broadcast(self, position: int) -> None:
        """Start the broadcast of the layer at a position of the round, unless it is already in flight."""
        if position not in self._in_flight:
            layer = self._layers[self._round[position]]
            self._in_flight[position] = dist.broadcast(layer.unshard(), layer.owner, async_op=True)

    def _shadow_until(self, position: int) -> None:
        """Take part in the broadcasts up to a position of the round without computing anything."""
        while self._position < position:
            number = self._round[self._position]
            self._unshard(number)
            self._layers[number].reshard()
