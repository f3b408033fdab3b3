"""`tessera.explain_choice`: whose kernel would serve a call, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tessera.aten.classify import Place
from tessera.aten.measured import Measurement
from tessera.aten.plan import refusal
from tessera.aten.policy import Policy, make_policy, unknown_operator
from tessera.aten.record import NO_KERNEL
from tessera.aten.switch import paused, policy_in_force
from tessera.core.errors import UsageError
from tessera.ops.table import VARIANTS, Overload


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whose kernel would serve a call. `operator` is the overload: "add.Tensor".

    reason: why it is the vendor's, as records say it; empty where it is ours. detail: what the reason follows from.
    place, measurement: where the call belongs among what is measured, and what decided; None where nothing was asked.
    """

    operator: str
    ours: bool
    policy: str
    reason: str
    detail: str
    place: Place | None
    measurement: Measurement | None

    def __str__(self) -> str:
        whose = "ours" if self.ours else "PyTorch's"
        why = "; ".join(text for text in (self.reason, self.detail) if text)
        return f"{self.operator}: {whose}, by the policy {self.policy!r}" + (f": {why}" if why else "")


def explain_choice(op: str | Overload | torch._ops.OpOverloadPacket, *args: Any, **kwargs: Any) -> Choice:
    """Whose kernel would serve `op(*args, **kwargs)`, and why.

    The policy in force decides; where nothing is switched on, that of `tessera.enable()`. The call is not made, but a
    kernel of ours may be compiled, to see whether it takes the call.

    Args:
        op: an ATen operator or overload, "mm", "add.Tensor", torch.ops.aten.add; the arguments are the schema's.

    Raises: UsageError for a name that is no ATen operator, and for arguments that none of its overloads takes.
    """
    overload = _resolve(op, args, kwargs)
    policy = policy_in_force() or make_policy()
    return _choice(overload, policy, args, kwargs)


def _choice(overload: Overload, policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Choice:
    full_name = overload._name
    variant = VARIANTS.get(full_name)

    def made(reason: str, detail: str = "", place: Place | None = None, found: Measurement | None = None) -> Choice:
        return Choice(
            operator=full_name.removeprefix("aten::"), ours=not reason, policy=policy.name, reason=reason,
            detail=detail, place=place, measurement=found,
        )  # fmt: skip

    if variant is None:
        return made(NO_KERNEL)
    standing = policy.standing(full_name, torch.get_num_threads())
    if standing.reason:
        return made(standing.reason, standing.detail)
    verdict = policy.choice(variant, args, kwargs)
    reason = verdict.reason
    if not reason:
        with paused(), torch.no_grad():
            reason = refusal(variant, args, kwargs)
    return made(reason, verdict.detail, verdict.place, verdict.measurement)


def _resolve(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Overload:
    if isinstance(op, torch._ops.OpOverload):
        return op
    name = str(op).removeprefix("aten.") if isinstance(op, torch._ops.OpOverloadPacket) else op
    packet, _, overload = name.removeprefix("aten::").partition(".")
    found = getattr(torch.ops.aten, packet, None)
    if found is None:
        raise unknown_operator(name)
    try:
        resolved: Overload = getattr(
            found, overload or torch._C._jit_resolve_packet(f"aten::{packet}", *args, **kwargs)
        )
        return resolved
    except AttributeError as error:
        raise unknown_operator(name) from error
    except RuntimeError as error:
        raise UsageError(f"no overload of aten::{packet} takes these arguments: {error}") from error
