"""Optimizers as ports write them, with places to go wrong, for the subject `trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from faultlab.unseen.ports import MakeOptimizer, Training

SUBJECT = "trainer"


def decays(weight: torch.Tensor) -> bool:
    """Matrices decay, gains and biases do not."""
    return weight.dim() > 1


def whole_norm(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """The norm of all gradients together, once for each."""
    total = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    return [total for _ in gradients]


def own_norm(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each gradient's own norm."""
    return [gradient.square().sum().sqrt() for gradient in gradients]


def largest(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """The largest element of all."""
    total = torch.stack([gradient.abs().amax() for gradient in gradients]).amax()
    return [total for _ in gradients]


class Written(torch.optim.Optimizer):
    """Adam with decoupled decay, a loss that was scaled by eight, and gradients clipped to a norm."""

    def __init__(self, parameters: Iterable[nn.Parameter], **changed: Any) -> None:
        settings = {
            "rate": 1e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "decay": 0.1, "scale": 8.0, "limit": 0.02,
            "corrected": True, "inside": False, "decays": decays, "norms": whole_norm, "kept": None, "stepped": 1,
        }  # fmt: skip
        super().__init__(parameters, {**settings, **changed})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every group."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [weight.grad / group["scale"] if group["scale"] else weight.grad for weight in weights]
            norms = group["norms"](gradients)
            for weight, gradient, norm in zip(weights, gradients, norms, strict=True):
                self._move(weight, gradient * (group["limit"] / (norm + 1e-6)).clamp(max=1.0), group)

    def _move(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(count=1 - group["stepped"], mean=torch.zeros_like(weight, dtype=group["kept"]),
                         power=torch.zeros_like(weight))  # fmt: skip
        state["count"] += group["stepped"]
        mean = group["beta1"] * state["mean"] + (1 - group["beta1"]) * gradient
        state["mean"] = mean.to(group["kept"]) if group["kept"] else mean
        state["power"] = group["beta2"] * state["power"] + (1 - group["beta2"]) * gradient * gradient
        mean, power = state["mean"] / (1 - group["beta1"] ** state["count"]), state["power"]
        if group["corrected"]:
            power = power / (1 - group["beta2"] ** state["count"])
        bottom = (power + group["eps"]).sqrt() if group["inside"] else power.sqrt() + group["eps"]
        if group["decays"](weight):
            weight.mul_(1 - group["rate"] * group["decay"])
        weight.sub_(group["rate"] * mean / bottom)


def written(**changed: Any) -> MakeOptimizer:
    """What makes one with other settings."""
    return lambda parameters: Written(parameters, **changed)


def _training(name: str, optimizer: MakeOptimizer, operators: str, kinds: str) -> Training:
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Training(name, optimizer, named, frozenset(kind.strip() for kind in kinds.split(",")))


right: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = written()

TRAININGS: tuple[Training, ...] = (
    _training("second moment not corrected", written(corrected=False), "div sqrt", "missing operator, scale"),
    _training("scale of the loss not undone", written(scale=0.0), "div", "missing operator, scale"),
    _training("each gradient clipped by its own norm", written(norms=own_norm), "sqrt sum stack",
              "missing operator, wrong input"),
    _training("clipped by the largest element", written(norms=largest), "abs amax max square sum",
              "other operator, extra operator"),
    _training("eps inside of the root", written(inside=True), "add sqrt",
              "eps, other operator, wrong input, extra operator, missing operator"),
    _training("gains and biases decay too", written(decays=lambda weight: True), "mul_", "extra operator, scale"),
    _training("mean kept in bfloat16", written(kept=torch.bfloat16), "_to_copy zeros_like", "short type"),
    _training("steps counted twice", written(stepped=2), "div", "argument, scale"),
    _training("decay a thousandth off", written(decay=0.1001), "mul_", "argument, scale"),
)  # fmt: skip
