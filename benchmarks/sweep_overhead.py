"""What a sweep's job costs that finds everything made, beside jobs of bare Hydra that do nothing.

A sweep of two generators by three counts on the phantom is run once; then again, as far as ``stage=evaluate``, in
which each job looks all of its work up in the store. ``python benchmarks/sweep_overhead.py``
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"
TINY = Path(__file__).parents[1] / "tests" / "conf"
SWEEP = ["-m", "generator=pix2pixhd,warp", "synthesis.count=4,8,12"]
SETTINGS = ["data=phantom", "data.num_images=40", "trainer=cpu", "scale=tiny"]
SETTINGS += ["generator/base=scratch", "generator/base/codec=pca"]
SETTINGS += ["synthesis.batch_size=4", "evaluation.gallery=2"]
SETTINGS += [f"hydra.searchpath=[file://{TINY}]"]
BARE = (
    "import hydra, sys; from dermprompt.config import compose; compose.register();"
    f"hydra.main(version_base='1.3', config_path={str(CONF)!r}, config_name='config')(lambda composed: None)()"
)


def seconds(command: list[str]) -> float:
    """The wall time of a command in success."""
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def measure(sweep: list[str], one: list[str], repeats: int) -> tuple[float, float]:
    """Seconds of a process with one job, and of each further job of a sweep of six (medians)."""
    alone = statistics.median(seconds(one) for _ in range(repeats))
    return alone, (statistics.median(seconds(sweep) for _ in range(repeats)) - alone) / 5


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        places = [f"paths.store={folder}/store", f"paths.runs={folder}/runs"]
        ours, bare = [sys.executable, "-m", "dermprompt"], [sys.executable, "-c", BARE]
        job = ["generator=pix2pixhd", "synthesis.count=12", *SETTINGS, *places, "stage=evaluate"]
        print(f"made once: {seconds([*ours, *SWEEP, *SETTINGS, *places]):.1f} s")
        for name, command in (("dermprompt, all made", ours), ("bare Hydra", bare)):
            alone, further = measure(
                [*command, *SWEEP, *SETTINGS, *places, "stage=evaluate"], [*command, *job], repeats
            )
            print(f"{name}: {alone:.2f} s for a process with one job, {further:.2f} s for each further job of a sweep")
        print(f"with the report and its page: {seconds([*ours, *job[:-1]]):.1f} s")


if __name__ == "__main__":
    main()
