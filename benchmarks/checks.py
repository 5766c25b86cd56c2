"""What the checks of a job cost before its work: ``python benchmarks/checks.py``, in seconds of this process.

Composing, imports and building what is trained take their time anyway; the checks are what is done beside them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hydra

from dermprompt.config import compose
from dermprompt.config.checks import check
from dermprompt.config.targets import check_composed
from dermprompt.export.place import check_replaceable
from dermprompt.job.run import _check_run_folder
from dermprompt.stages.rehearsal import rehearse

JOB = ["data=phantom", "generator=pix2pixhd", "trainer=cpu", "synthesis.count=1000", *sys.argv[1:]]
STAGES = {"train_base", "train_generator", "train_judge", "train_segmenter"}
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """The median of some calls, of this process's own time."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return sorted(found)[REPEATS // 2]


def main() -> None:
    """Print what each check costs, and their sum."""
    compose.register()
    with hydra.initialize_config_dir(str(compose.CONF), version_base="1.3"):
        composed = hydra.compose("config", JOB, return_hydra_config=True)
        config = compose.freeze(hydra.compose("config", JOB))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        compose.dump(config, run / "config.yaml")
        costs = {
            "targets of the composed configuration": seconds(lambda: check_composed(composed, compose.CONF)),
            "values and keys": seconds(lambda: check(config)),
            "the run's folder": seconds(lambda: (_check_run_folder(run), check_replaceable(run / "isic"))),
            "networks and Trainer, built once": seconds(lambda: rehearse(config, STAGES)),
        }
    for name, cost in costs.items():
        print(f"{cost:7.3f} s  {name}")
    print(f"{sum(costs.values()):7.3f} s  in all")


if __name__ == "__main__":
    main()
