"""A program that runs on two ranks and leaves a dump of each of its runs: right ones, and one for every planted fault.

Started by test_ranks.py as `python -m tests.accuracy.rank_runs FOLDER RANK`; the ranks meet at a file, over loopback.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.dumps import dump

SIZE = 2


class Block(nn.Module):
    """x + down(relu(up(norm(x))))"""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of float[4, 16] the same."""
        y = self.down(self.up(self.norm(x)).relu())
        return x + (y.to_local() if isinstance(y, DTensor) else y)


class Net(nn.Module):
    """Two blocks and a head, always with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.head = nn.ModuleList([Block(), Block()]), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of float[4, 16] float[4, 4]."""
        for block in self.blocks:
            x = block(x)
        result: torch.Tensor = self.head(x)
        return result


class Manual(nn.Module):
    """A block whose parallelism is written by hand, on plain tensors. forgets: this rank uses its own sum."""

    def __init__(self, block: Block, rank: int, *, forgets: bool) -> None:
        super().__init__()
        self.norm, self.up, self.down = block.norm, nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.bias, self.forgets = nn.Parameter(block.down.bias.detach().clone()), forgets
        self.up.weight.data = block.up.weight.data.chunk(SIZE, 0)[rank].clone()
        self.up.bias.data = block.up.bias.data.chunk(SIZE)[rank].clone()
        self.down.weight.data = block.down.weight.data.chunk(SIZE, 1)[rank].clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of float[4, 16] the same."""
        own = self.down(self.up(self.norm(x)).relu())
        total = own.clone()
        dist.all_reduce(total)
        return x + ((own if self.forgets else total) + self.bias)


class WrongKernel(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """On one rank one element of the third product is wrong."""

    def __init__(self, rank: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rank, self.paused, self.calls = rank, False, 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Local kernels only."""
        if any(hasattr(kind, "_local_tensor") for kind in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm.default and not self.paused and self.rank == 1:
            self.calls += 1
            if self.calls == 3:
                result[0, 0] *= 1.01
        return result

    @contextmanager
    def native(self) -> Iterator[None]:
        """Within it, kernels are right."""
        self.paused = True
        yield
        self.paused = False


def inputs() -> torch.Tensor:
    """float[4, 16]"""
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(3))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a distributed tensor, any other itself."""
    return tensor.full_tensor().detach().clone() if isinstance(tensor, DTensor) else tensor.detach().clone()


def step(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients."""
    output = model(x)
    output.square().mean().backward()
    return [whole(output), *(whole(weight.grad) for weight in model.parameters() if weight.grad is not None)]


class Runs:
    """All runs of one rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        self.mesh = init_device_mesh("cpu", (SIZE,), mesh_dim_names=("tp",))
        self.x = inputs()
        self.part = self.x.chunk(SIZE)[rank]

    def tensor_parallel(self, second: RowwiseParallel | None = None) -> Net:
        """Sharded columns and rows. second: how the second block's are."""
        plan: dict[str, Any] = {}
        for number, rows in enumerate((RowwiseParallel(), second or RowwiseParallel())):
            plan |= {f"blocks.{number}.up": ColwiseParallel(), f"blocks.{number}.down": rows}
        return parallelize_module(Net(), self.mesh, plan)  # type: ignore[return-value]

    def manual(self, *, forgets: bool) -> Net:
        """The second block may forget."""
        model = Net()
        first, second = (Manual(block, self.rank, forgets=False) for block in model.blocks)
        second.forgets = forgets
        model.blocks = nn.ModuleList([first, second])
        return model

    def right(self) -> None:
        """Every way to run, watched and not watched."""
        ways: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
            "tensor": (self.tensor_parallel, self.x),
            "data": (lambda: DistributedDataParallel(Net()), self.part),
            "sharded": (lambda: fully_shard(Net()), self.part),
        }
        for name, (make, x) in ways.items():
            expected, model = step(make(), x), make()
            dump(model, x, self.folder / f"{name}-backward", backward=True)
            dump(model, x, self.folder / f"{name}-steps", steps=2, optimizer=adam)
            same = all(torch.equal(a, b) for a, b in zip(step(model, x), expected, strict=True))
            (self.folder / f"{name}.{self.rank}.{'same' if same else 'changed'}").touch()
        dump(self.manual(forgets=False), self.x, self.folder / "manual")

    def wrong(self) -> None:
        """One fault each."""
        folder, x, second = self.folder, self.x, self.rank == 1
        terms = RowwiseParallel(output_layouts=Partial(), use_local_output=True)
        dump(self.tensor_parallel(terms), x, folder / "forgotten")
        dump(self.manual(forgets=second), x, folder / "forgotten-on-one")
        model = self.tensor_parallel()
        local = model.blocks[1].up.weight._local_tensor  # type: ignore[union-attr]
        both = [torch.empty_like(local) for _ in range(SIZE)]
        dist.all_gather(both, local.detach().clone())  # type: ignore[arg-type]
        local.data.copy_(both[1 - self.rank])  # type: ignore[union-attr, operator]
        dump(model, x, folder / "order", tensors="whole")
        for name, factor in (("replica", 1.001), ("drift", 1 + 2e-7)):
            model = self.tensor_parallel()
            model.blocks[1].norm.weight.data.mul_(factor if second else 1)  # type: ignore[union-attr, operator]
            dump(model, x, folder / name)
        mode = WrongKernel(self.rank)
        dump(self.tensor_parallel(), x, folder / "kernel", context=lambda: mode, native=mode.native)
        dump(Net(), self.part, folder / "unreduced-backward", backward=True, data_parallel=True)
        summed = DistributedDataParallel(Net())
        summed.register_comm_hook(None, _sum)
        dump(summed, self.part, folder / "summed-backward", backward=True)
        sharded = fully_shard(Net())
        sharded.blocks[1].up.weight._local_tensor.data.mul_(1.01 if second else 1)  # type: ignore[union-attr, operator]
        dump(sharded, self.part, folder / "shard-backward", backward=True, tensors="whole")
        for name, make in (("tensor", self.tensor_parallel), ("sharded", lambda: fully_shard(Net()))):
            part = x if name == "tensor" else self.part
            dump(
                make(),
                part,
                folder / f"{name}-rate-steps",
                steps=2,
                optimizer=partial(adam, rate=1.05 if second else 1),
            )


def adam(weights: Any, rate: float = 1.0) -> torch.optim.Optimizer:
    """The optimizer of all runs. rate: times the learning rate."""
    return torch.optim.AdamW(weights, lr=1e-2 * rate)


def _sum(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    made: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    dist.all_reduce(bucket.buffer())
    made.set_result(bucket.buffer())
    return made


# PyTorch reads them, and does not know annotations that are text.
_sum.__annotations__.update({"bucket": dist.GradBucket, "return": torch.futures.Future[torch.Tensor]})


def main(folder: Path, rank: int) -> None:
    """Run as one rank."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=SIZE,
        timeout=datetime.timedelta(minutes=15),
    )
    runs = Runs(folder, rank)
    runs.right()
    runs.wrong()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
