"""What the user may ask, by the message of what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tessera.bringup.config import BringupConfig
from tessera.core.errors import UsageError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": " "}, "no model given; give builtin:minilm, a Hugging Face model folder or python:module:function"),
        ({"dtype": "float8"}, "dtype is 'float8'; it must be one of: float32, bfloat16"),
        ({"batch": 0}, "batch is 0; it must be from 1 to 4096"),
        ({"tokens": 1}, "tokens is 1; it must be from 2 to 1048576"),
        ({"threads": 0}, "threads is 0; it must be from 1 to 4096"),
        ({"json": Path("a"), "report": Path("./a")}, "the JSON and the report would both be written to a"),
    ],
)
def test_bad_values(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="^" + said.replace("(", r"\(")):
        BringupConfig(**values)


def test_defaults_are_the_default_job() -> None:
    config = BringupConfig()
    assert (config.model, config.dtype, config.batch, config.tokens) == ("builtin:minilm", "float32", 8, 128)
