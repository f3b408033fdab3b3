"""One watched run: forward, backward and steps as asked, in the model's own type or in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from tessera.accuracy.call import Call, floating_tensors
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.recorder import OPTIMIZER, Observer, Recorder
from tessera.accuracy.capture.records import Final, Op, Trace
from tessera.accuracy.capture.state import lent, main_type, names_of
from tessera.accuracy.capture.unwatched import unwatched
from tessera.accuracy.double import InDouble

_SEED = 20260102

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeRecorder = Callable[
    [RandomTape, Mapping[int, str], Sequence[Observer], Callable[[Op], None] | None], Recorder
]


def plain_descent(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that is used if none is given: gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)


def fixed_direction(tensor: torch.Tensor) -> torch.Tensor:
    """Fixed random weights of one sign pattern for each size, so that every run has the same backward pass."""
    return direction_of(tensor.shape).to(dtype=tensor.dtype, device=tensor.device)


def direction_of(shape: Sequence[int]) -> torch.Tensor:
    """The direction for tensors of a shape, in bfloat16, so that it is the same number in every type."""
    size = math.prod(shape)
    # Drawn by numpy, for PyTorch's own may be replaced by a candidate's kernel while it runs.
    drawn = np.random.Generator(np.random.PCG64(_SEED + size)).standard_normal(size)
    return torch.from_numpy(drawn).bfloat16().view(tuple(shape))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every run does.

    calls: one for each step, used in turn. previous: a call made before, unwatched, so that what a model keeps from one
    call to the next is there to be wrong. backward: gradients of the outputs against fixed directions, which
    `direction` makes, or of the output `loss` if there is one. steps: of training with `optimizer`; 0 means a single
    call.
    """

    calls: tuple[Call, ...]
    previous: Call | None = None
    backward: bool = False
    steps: int = 0
    optimizer: MakeOptimizer = plain_descent
    direction: Callable[[torch.Tensor], torch.Tensor] = fixed_direction

    @property
    def trains(self) -> bool:
        """Whether weights are written to."""
        return self.steps > 0


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How one run differs from the others: types of weights and inputs, float64, where its kernels come from.

    optimizer: what it trains with if not with the job's.
    """

    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    inputs: torch.dtype | None = None
    double: bool = False
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    optimizer: MakeOptimizer | None = None


def watch_previous(model: nn.Module, job: Job, setup: Setup, tape: RandomTape) -> Trace:
    """Record the call that is made before the watched one; an empty trace if there is none."""
    if job.previous is None:
        return Trace()
    return watch(model, replace(job, calls=(job.previous,), previous=None), setup, tape)


def watch(
    model: nn.Module,
    job: Job,
    setup: Setup,
    tape: RandomTape,
    observers: Sequence[Observer] = (),
    sink: Callable[[Op], None] | None = None,
    make_recorder: MakeRecorder = Recorder,
) -> Trace:
    """Run the model and record it. What the model raises ends the run and is noted in the trace.

    sink: gets every record as it is made. make_recorder: makes what watches.
    """
    calls = [_prepared(call, job, setup) for call in job.calls]
    previous = None if job.previous is None else _prepared(job.previous, job, setup)
    with ExitStack() as stack:
        # The candidate's own modes lie outside ours, so that what they make of an operator is what is seen.
        stack.enter_context(setup.context())
        stack.enter_context(_seeded())
        stack.enter_context(_lent(model, job, setup))
        if setup.double:
            stack.enter_context(InDouble())  # type: ignore[no-untyped-call]
        error = "" if previous is None else _attempt(lambda: previous.run(model, gradients=job.backward))
        torch.manual_seed(_SEED)
        tape.rewind()
        inputs = {f"input {name}": tensor for call in calls for name, tensor in call.tensors().items()}
        recorder = make_recorder(tape, names_of(model, inputs), observers, sink)
        with recorder.watching(model):
            # Also if the previous call failed: what was recorded until then shows why.
            recorder.trace.error = _attempt(_Run(model, job, calls, recorder, setup.optimizer).go) or error
        recorder.trace.dtype = "float64" if setup.double else str(main_type(model)).removeprefix("torch.")
        return recorder.trace


def _lent(model: nn.Module, job: Job, setup: Setup) -> AbstractContextManager[None]:
    gradients = job.backward or job.trains
    return lent(model, setup.dtypes, double=setup.double, trained=job.trains, gradients=gradients)


def _prepared(call: Call, job: Job, setup: Setup) -> Call:
    call = call.copy()
    if setup.inputs is not None:
        call = call.cast(setup.inputs)
    if setup.double:
        call = call.cast(torch.float64)
    return call.with_gradients() if job.backward or job.trains else call


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers for every run, and the caller's generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


def _attempt(run: Callable[[], object]) -> str:
    """Run a model; returns how it failed, for that is part of the record, or an empty string."""
    try:
        run()
    except Exception as error:  # A model, and a candidate's kernels the more, may fail in any way.
        return f"{type(error).__name__}: {error}"
    return ""


class _Run:
    def __init__(
        self, model: nn.Module, job: Job, calls: list[Call], recorder: Recorder, optimizer: MakeOptimizer | None
    ) -> None:
        self._model = model
        self._make_optimizer = optimizer or job.optimizer
        self._job = job
        self._calls = calls
        self._recorder = recorder

    def go(self) -> None:
        """All the steps."""
        job, recorder = self._job, self._recorder
        optimizer = self._make_optimizer(self._model.parameters()) if job.trains else None
        for step in range(max(job.steps, 1)):
            call = self._calls[step % len(self._calls)]
            recorder.step, recorder.phase = step, "forward"
            output = call.run(self._model, gradients=job.backward or job.trains)
            mark = f" after step {step + 1}" if job.trains else ""
            self._outputs(output, mark)
            if job.backward or job.trains:
                recorder.phase = "backward"
                self._backward(output)
                self._gradients(call, mark)
            if optimizer is not None:
                recorder.phase = "step"
                recorder.modules.append((OPTIMIZER, type(optimizer).__name__))
                optimizer.step()
                optimizer.zero_grad()
                recorder.modules.pop()
                self._weights(mark)
        self._state(call)

    def _outputs(self, output: object, mark: str) -> None:
        for path, tensor in floating_tensors(output):
            self._keep(f"output{path}{mark}", tensor)

    def _backward(self, output: object) -> None:
        loss = output.get("loss") if isinstance(output, Mapping) else None
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        tensors = [tensor for _, tensor in floating_tensors(output) if tensor.requires_grad]
        with unwatched():
            directions = [self._job.direction(tensor) for tensor in tensors]
        torch.autograd.backward(tensors, directions)

    def _gradients(self, call: Call, mark: str) -> None:
        for name, weight in self._model.named_parameters():
            if weight.grad is not None:
                self._keep(f"gradient {name}{mark}", weight.grad)
        for name, tensor in call.tensors().items():
            if tensor.grad is not None:
                self._keep(f"gradient input {name}{mark}", tensor.grad)

    def _weights(self, mark: str) -> None:
        for name, weight in self._model.named_parameters():
            self._keep(f"parameter {name}{mark}", weight)

    def _state(self, call: Call) -> None:
        """What a call leaves behind: buffers of the model, and caches among its inputs."""
        for name, buffer in self._model.named_buffers():
            self._keep(f"buffer {name}", buffer)
        if call.has_state:
            for index, value in enumerate((*call.args, *call.kwargs.values())):
                for path, tensor in floating_tensors(value):
                    self._keep(f"state {index}{path}", tensor)

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        edge = self._recorder.edge(tensor)
        self._recorder.trace.finals.append(Final(name, edge.value, edge.producer))
