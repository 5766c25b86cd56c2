"""Which device a process works on."""

from __future__ import annotations

import pytest
import torch

from dermprompt.distributed.processes import choose_device


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_is_no_cpu(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"trainer\.accelerator={accelerator}: no GPU"):
        choose_device({"accelerator": accelerator})
    assert choose_device({"accelerator": "auto"}).type == "cpu"


def test_each_rank_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device({"accelerator": "gpu", "devices": 2}) == torch.device("cuda", 1)
    assert choose_device({"accelerator": "gpu", "devices": [2, 5]}) == torch.device("cuda", 5)
    assert choose_device({"accelerator": "cpu", "devices": 2}).type == "cpu"
