"""Training: a diverging one stops and keeps its last good checkpoint; one that ran out of time resumes exactly."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from forked import fork_ranks
from lightning.pytorch.callbacks import Callback
from small_disk import fill, small_disk
from torch import Tensor, nn
from torch.utils.data import DataLoader
from warm_up import fit_warm

from dermprompt.distributed.launch import Call
from dermprompt.distributed.processes import Runtime
from dermprompt.files import read_json
from dermprompt.generator.batches import make_loader
from dermprompt.stages.settings import Nothing
from dermprompt.store.artifacts import Unfinished
from dermprompt.training.callbacks import StopInTime, first_training, read_curves
from dermprompt.training.checkpoints import LAST
from dermprompt.training.fit import fit


class Diverging(lightning.LightningModule):
    """A single weight whose loss becomes NaN at some step."""

    def __init__(self, last_good: int) -> None:
        super().__init__()
        self.layer, self.last_good = nn.Linear(1, 1), last_good

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        if self.global_step >= self.last_good:
            loss = loss * torch.nan
        self.log("toy/train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def make_trainer(**settings: object) -> lightning.Trainer:
    return lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **settings)  # type: ignore


def test_a_loss_that_is_no_number_stops_before_a_checkpoint(tmp_path: Path) -> None:
    loader = DataLoader(torch.ones(4, 1), batch_size=1)
    with pytest.raises(ValueError, match=r"step 10: toy/train/loss nan\. .* lower its learning rate"):
        fit(Diverging(9), loader, make_trainer, tmp_path, seed=0, max_steps=40)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 8
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())


class Named(Diverging):
    """Batches that say which rows they are."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch["values"], batch_idx)


def test_the_batch_whose_loss_is_no_number_is_named(tmp_path: Path) -> None:
    rows = [{"values": torch.ones(2, 1), "rows": torch.tensor(pair)} for pair in ([0, 1], [2, 3])]
    loader = DataLoader(rows, batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"step 4: toy/train/loss nan on cc, dd\. "):
        fit(Named(3), loader, make_trainer, tmp_path, seed=0, max_steps=8, ids=("aa", "bb", "cc", "dd"))


class TooLarge(Diverging):
    """A step for which the device's memory is too small."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_too_little_memory_names_the_setting_to_lower(tmp_path: Path) -> None:
    loader = DataLoader(torch.ones(4, 1), batch_size=1)
    with pytest.raises(ValueError, match=r"^generator\.batch_size: .* lower it"):
        fit(TooLarge(9), loader, make_trainer, tmp_path, seed=0, max_steps=4, batch_key="generator.batch_size")


class Line(lightning.LightningModule):
    """Fits y = 3x, with momentum, and draws from torch's global state; keeps what it saw at which step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.zeros_(self.layer.bias)
        self.seen: list[tuple[int, list[float]]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append((self.global_step, batch[:, 0].tolist()))
        loss = (self.layer(batch) - 3 * batch.sum(1, keepdim=True)).square().mean()
        self.log("toy/train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("toy/val/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.1)


class Items(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, items: list[int]) -> Tensor:
        return torch.randn(12, 4, generator=torch.Generator().manual_seed(0))[items]


def fit_line(folder: Path, seconds: float | None, max_steps: int = 14) -> Line:
    """Four steps an epoch, so that the last step is within one."""
    module, loader = Line(), make_loader(Items(), 12, 3, seed=7)
    first_training.cache_clear()  # as in a process of its own
    stop = () if seconds is None else (StopInTime(folder, seconds),)
    fit(
        module,
        loader,
        make_trainer,
        folder,
        0,
        max_steps=max_steps,
        validation=DataLoader(torch.ones(2, 4)),
        callbacks=stop,
    )
    return module


def test_a_training_that_is_stopped_and_continued_is_the_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = fit_line(tmp_path / "straight", None)
    for call in (1, 2, 3):
        with pytest.raises(Unfinished) as stopped:
            fit_line(tmp_path / "pieces", 0)
        assert (stopped.value.code, stopped.value.step, stopped.value.num_steps) == (75, 4 * call, 14)
        said = rf"stopped after 0\.0 min at step {4 * call} of 14; the same command continues"
        assert re.search(said, capsys.readouterr().out)
        saved = torch.load(tmp_path / "pieces" / "last.ckpt", weights_only=True)
        assert saved["global_step"] == 4 * call
    last = fit_line(tmp_path / "pieces", 0)
    assert straight.seen[-2:] == last.seen
    torch.testing.assert_close(last.state_dict(), straight.state_dict(), rtol=0, atol=0)
    curves = [read_curves(tmp_path / name / "curves.csv")["toy/train/loss"] for name in ("straight", "pieces")]
    assert curves[0] == curves[1]


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    one, two = fit_line(tmp_path / "one", None), fit_line(tmp_path / "two", 3600)
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=0)


def test_the_last_epoch_is_finished_though_the_time_is_up(tmp_path: Path) -> None:
    assert fit_line(tmp_path, 0, max_steps=4).global_step == 4


def test_an_epoch_that_would_not_end_in_time_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every step takes a second: epochs of four seconds, of which two fit into eleven."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("dermprompt.training.callbacks.time", clock)
    step = Line.training_step

    def slow(self: Line, batch: Tensor, batch_idx: int) -> Tensor:
        clock.now += 1
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Line, "training_step", slow)
    with pytest.raises(Unfinished) as stopped:
        fit_line(tmp_path, 11)
    assert stopped.value.step == 8


def test_a_second_training_of_the_process_waits_for_the_next_call(tmp_path: Path) -> None:
    fit_line(tmp_path / "first", 0, max_steps=4)
    loader = make_loader(Items(), 12, 3, seed=7)
    module = Line()
    with pytest.raises(Unfinished) as stopped:
        fit(module, loader, make_trainer, tmp_path, 0, max_steps=14, callbacks=(StopInTime(tmp_path, 0),))
    assert (stopped.value.step, module.seen) == (0, [])
    assert not (tmp_path / "last.ckpt").exists()


class Wide(Line):
    """Weights of which checkpoints take some room; a part of them is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.known = nn.Linear(4, 50_000, bias=False), nn.Linear(100, 1000)
        self.known.requires_grad_(False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + self.wide(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([*self.layer.parameters(), *self.wide.parameters()], 0.01)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("known")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"known.{key}": value for key, value in self.known.state_dict().items()}


def fit_wide(folder: Path, *callbacks: Callback) -> Wide:
    torch.manual_seed(0)
    module, loader = Wide(), make_loader(Items(), 12, 3, seed=7)
    fit(module, loader, make_trainer, folder, 0, max_steps=16, callbacks=callbacks)
    return module


def test_a_disk_too_small_is_said_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Line, "training_step", lambda *args: seen.append(1))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    with pytest.raises(OSError, match=r"^the disk is too small .* need 7 MiB more and 1 MiB are free under .*wide;"):
        fit_wide(tmp_path / "wide")
    assert not seen
    assert not (tmp_path / "wide" / LAST).exists()


def test_the_room_that_is_asked_for_is_that_of_its_checkpoints(tmp_path: Path) -> None:
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dermprompt.training.checkpoints.check_room", lambda folder, size: asked.append(size))
        fit_wide(tmp_path)
    assert asked == [pytest.approx((tmp_path / LAST).stat().st_size, rel=0.02)]


class Fills(Callback):
    """Fills the disk in the third epoch."""

    def __init__(self, filler: Path) -> None:
        self.filler = filler

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.current_epoch == 2:
            fill(self.filler)


def test_a_disk_that_fills_up_under_a_training_costs_it_an_epoch(tmp_path: Path) -> None:
    straight = fit_wide(tmp_path / "straight")
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 10 << 20):
        with pytest.raises(OSError, match="No space left"):
            fit_wide(disk / "training", Fills(disk / "filler"))
        assert torch.load(disk / "training" / LAST, weights_only=True)["global_step"] == 8
        with pytest.raises(OSError, match="the disk is too small"):
            fit_wide(disk / "training")
        (disk / "filler").unlink()
        again = fit_wide(disk / "training")
        curves = [read_curves(at / "curves.csv") for at in (tmp_path / "straight", disk / "training")]
    assert again.seen[0][0] == 8
    torch.testing.assert_close(again.state_dict(), straight.state_dict(), rtol=0, atol=0)
    assert curves[0] == curves[1]


def test_half_a_line_of_the_curves_is_cut_off(tmp_path: Path) -> None:
    fit_line(tmp_path / "straight", None)
    with pytest.raises(Unfinished):
        fit_line(tmp_path / "pieces", 0)
    with (tmp_path / "pieces" / "curves.csv").open("a") as file:
        file.write("8,toy/tr")
    fit_line(tmp_path / "pieces", None)
    assert read_curves(tmp_path / "pieces" / "curves.csv") == read_curves(tmp_path / "straight" / "curves.csv")


def test_a_stop_is_passed_on_from_another_process() -> None:
    stopped = pickle.loads(pickle.dumps(Unfinished(3, 10)))
    assert (stopped.step, stopped.num_steps, stopped.code) == (3, 10, 75)


@pytest.mark.parametrize("dies_at", [5, 6, 9, 10])
def test_a_kill_amid_a_group_of_batches_changes_neither_rates_nor_weights(dies_at: int, tmp_path: Path) -> None:
    """Batches 5, 6, 9 and 10 are the second and third of a group; the groups' first step of warm-up is over."""
    straight = fit_warm(tmp_path / "straight")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_warm(tmp_path / "killed", dies_at)
    last = fit_warm(tmp_path / "killed")
    assert straight.rates[0] < straight.rates[3] < straight.rates[4] == straight.rates[9] == 0.1
    assert last.rates == {step: rate for step, rate in straight.rates.items() if step in last.rates}
    assert len(last.rates) < len(straight.rates)
    torch.testing.assert_close(last.state_dict(), straight.state_dict(), rtol=0, atol=0)


def on_two_ranks(folder: Path, dies_at: int | None = None) -> list[dict[str, Any]]:
    """What the ranks say of their training."""
    folder.mkdir(exist_ok=True)
    Call("warm_up.train", Nothing(), Runtime({"devices": 2}, {}), {"dies_at": dies_at}).on_all_devices(folder)
    return [read_json(folder / f"trained-{rank}.json") for rank in (0, 1)]


@pytest.mark.slow
def test_a_kill_of_two_ranks_amid_a_group_of_batches_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate of every step is that of the undisturbed training, on both ranks, and so are the weights."""
    fork_ranks(monkeypatch)
    straight = on_two_ranks(tmp_path / "straight")
    with pytest.raises(ChildProcessError):
        on_two_ranks(tmp_path / "killed", 9)
    last = on_two_ranks(tmp_path / "killed")
    rising = [0.1 * min(1, (step + 1) / 5) for step in range(10)]
    for before, after in zip(straight, last, strict=True):
        assert list(before["rates"].values()) == pytest.approx(rising)
        assert after["rates"] == {step: before["rates"][step] for step in after["rates"]}
        assert 0 < len(after["rates"]) < 10
        assert before["weights"] == after["weights"] == straight[0]["weights"]
