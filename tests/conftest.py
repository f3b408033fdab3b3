"""What every test starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run, so that a failure can be repeated."""
    torch.manual_seed(0)
