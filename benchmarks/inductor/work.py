"""What a user does with a model, and every number that comes of it, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import nn

from benchmarks.inductor.families import Inputs
from tessera.accuracy.call import floating_tensors
from tessera.accuracy.double import InDouble
from tessera.accuracy.judge import SMALL_ELEMENTS, Judgement, hold, judge, refuse

Numbers = dict[str, torch.Tensor]
_RATE, _MOMENTUM = 1e-2, 0.9
_NO_DIGIT = 0.1


class Mode(str, Enum):
    """`forward`: outputs without gradients, in evaluation mode. `training`: a whole step of SGD."""

    FORWARD = "forward"
    TRAINING = "training"


class Backend(str, Enum):
    """Who makes the kernels; the values of the two compilers are those of Inductor's option `cpu_backend`."""

    EAGER = "eager"
    CPP = "cpp"
    OURS = "triton"


class Work:
    """A copy of the model that runs one mode on one back end; compiled at the first call.

    A step of training is not undone: the next call goes on from there.
    """

    def __init__(self, model: nn.Module, mode: Mode, backend: Backend, *, dynamic: bool = False) -> None:
        self._mode = mode
        self.model = copy.deepcopy(model).train(mode is Mode.TRAINING)
        self._run: Callable[..., Any] = self.model
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=_RATE, momentum=_MOMENTUM)
        if backend is not Backend.EAGER:
            self._run = torch.compile(self.model, dynamic=dynamic, options={"cpu_backend": backend.value})

    def __call__(self, inputs: Inputs) -> Any:
        """One forward pass, or one step of training; returns what the model returns."""
        if self._mode is Mode.FORWARD:
            with torch.no_grad():
                return self._run(**inputs)
        self._optimizer.zero_grad()
        output = self._run(**inputs)
        output["loss"].backward()
        self._optimizer.step()
        return output

    def numbers(self, calls: Sequence[Inputs]) -> Numbers:
        """Outputs and, of training, also gradients, weights after the step, and buffers (running averages)."""
        found: Numbers = {}
        for place, inputs in enumerate(calls):
            output = self(inputs)
            found |= {f"call {place}, {name}": tensor.detach().clone() for name, tensor in self._named(output)}
        return found

    def _named(self, output: Any) -> Iterator[tuple[str, torch.Tensor]]:
        yield from floating_tensors(output, "output")
        if self._mode is Mode.FORWARD:
            return
        for name, weight in self.model.named_parameters():
            if weight.grad is not None:
                yield f"gradient {name}", weight.grad
            yield f"weight {name}", weight
        for name, buffer in self.model.named_buffers():
            if buffer.is_floating_point():
                yield f"buffer {name}", buffer


def exact(model: nn.Module, mode: Mode, calls: Sequence[Inputs]) -> Numbers:
    """The numbers in float64 throughout."""
    wide = [
        {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
        for inputs in calls
    ]
    work = Work(copy.deepcopy(model).double(), mode, Backend.EAGER)
    # On a CPU the backward pass runs on the caller's thread, where the mode holds.
    with InDouble():  # type: ignore[no-untyped-call]
        return work.numbers(wide)


def native(model: nn.Module, mode: Mode, calls: Sequence[Inputs]) -> Numbers:
    """The numbers of eager PyTorch, with channels last wherever there are channels.

    `torch.compile` lays the inputs of convolutions out so, and leaves them to PyTorch. Its convolution then sums its
    products one after another and loses two to three and a half times as much as otherwise (a 3 × 3 one of 64 to 256
    channels in float32, PyTorch 2.13 with AVX-512): that is no compiler's loss.
    """
    return Work(copy.deepcopy(model).to(memory_format=torch.channels_last), mode, Backend.EAGER).numbers(calls)


def compare(ours: Mapping[str, torch.Tensor], theirs: Numbers, reference: Numbers) -> dict[str, Judgement]:
    """Judge every number of ours; one that is missing is infinitely wrong.

    Tensors of few elements, such as a loss, are judged with the largest error that torch has on any tensor of many.
    Gradients that are zero but for rounding (of a key's bias in attention) say nothing of it: where torch has no right
    digit, none counts.
    """
    standards = {name: hold(native, reference[name]) for name, native in theirs.items()}
    errors = [one.torch_loss.error for one in standards.values() if one.reference.numel() >= SMALL_ELEMENTS]
    noise = max((error for error in errors if error < _NO_DIGIT), default=0.0)
    return {
        name: judge(ours[name], standard, noise=noise) if name in ours else refuse(standard, "is missing")
        for name, standard in standards.items()
    }
