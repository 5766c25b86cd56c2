"""The device of the tests in this folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU that computes in float32 what is said to be, or what ``DERMPROMPT_TEST_DEVICE`` names (``cpu``)."""
    import torch

    name = os.environ.get("DERMPROMPT_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU; DERMPROMPT_TEST_DEVICE=cpu runs it on the CPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device(name)
