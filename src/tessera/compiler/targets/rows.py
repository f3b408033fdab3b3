from __future__ import annotations

from typing import Any


def by_name(name: str) -> Any:
    raise NotImplementedError


def host() -> Any:
    raise NotImplementedError
