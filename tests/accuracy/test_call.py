"""One call of a model as data: cast, copied, looked through."""

from __future__ import annotations

from collections import OrderedDict

import torch

from tessera.accuracy.call import Call, floating_tensors


def test_cast_keeps_integers_and_other_objects() -> None:
    numbers = torch.arange(3)
    call = Call.of({"a": torch.ones(2), "b": [numbers, {"c": torch.ones(1)}], "d": "text", "e": (None, 2.5)})
    cast = call.cast(torch.bfloat16).kwargs
    assert isinstance(cast["a"], torch.Tensor)
    assert cast["a"].dtype == torch.bfloat16
    assert isinstance(cast["b"], list)
    assert cast["b"][0] is numbers
    assert cast["b"][1]["c"].dtype == torch.bfloat16
    assert (cast["d"], cast["e"]) == ("text", (None, 2.5))


def test_a_copy_shares_nothing() -> None:
    call = Call.of((torch.zeros(2), [1]))
    copied = call.copy()
    assert isinstance(copied.args[0], torch.Tensor)
    copied.args[0].add_(1)
    assert torch.equal(call.args[0], torch.zeros(2))  # type: ignore[arg-type]


def test_plain_arguments_have_no_state_and_objects_may() -> None:
    assert not Call.of({"a": torch.ones(1), "b": [1, None, {"c": (True, "x")}]}).has_state
    assert Call.of({"cache": object()}).has_state


def test_floating_tensors_with_their_paths() -> None:
    half, single = torch.ones(1, dtype=torch.half), torch.ones(2)
    output = OrderedDict(logits=single, parts=(torch.arange(2), [half, None]), name="text", steps=iter([single]))
    assert [(path, tensor) for path, tensor in floating_tensors(output)] == [
        ("[logits]", single),
        ("[parts][1][0]", half),
    ]
    assert [path for path, _ in floating_tensors(single)] == [""]
