"""Shapes of drawn masks beside those of real ones: a table and a picture; and `paper_code` beside the recipe.

    python benchmarks/mask_shapes.py table --root /data/isic2018 --out experiments/mask_shapes
    python benchmarks/mask_shapes.py validate --out experiments/mask_shapes

`table`: the Wasserstein distance of each figure to G's masks, in G's standard deviations, for 1,594 masks of every
source, with S's real masks as the floor. `validate`: the Kolmogorov-Smirnov distance of ours to the recipe's masks,
eight seeds of each, with the recipe against itself over its 28 pairs; about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import recipe
from scipy import stats
from tqdm import tqdm

from dermprompt.data.index import read_index
from dermprompt.data.split import draw_split
from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.realistic import RealisticMasks
from dermprompt.masks.shape import measure
from dermprompt.masks.transform import TransformedMasks

SIZE = 256
FIGURES = ("area", "eccentricity", "solidity", "centre_y", "centre_x", "roughness", "border_share")
COMPARED = ("area", "eccentricity", "solidity", "centre_y", "centre_x", "roughness", "corners")
NUM_MASKS = 1000


def read_masks(root: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks of G and of S, uint8 (N, SIZE, SIZE) in {0, 1}, of the paper's split."""
    index = read_index("isic", root, root)
    split = draw_split({id: image for id, (image, _) in index.contents.items()}, "paper", seed)
    paths = {one.id: one.mask for one in index.lesions}
    parts = split.generator, (*split.train, *split.val, *split.test)
    return tuple(np.stack([_read(paths[id]) for id in part]) for part in parts)  # type: ignore[return-value]


def _read(path: Path) -> np.ndarray:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
    return (cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_AREA) >= 0.5).astype(np.uint8)


def figures(masks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Every figure of every mask."""
    shapes = [{**asdict(measure(mask)), "corners": corners(mask)} for mask in masks]
    return {name: np.array([shape[name] for shape in shapes], float) for name in (*FIGURES, "corners")}


def corners(mask: np.ndarray) -> int:
    """Of the polygon that follows the outline to within a hundredth of the root of the area."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return len(cv2.approxPolyDP(max(outlines, key=len), 0.01 * float(mask.sum()) ** 0.5, True))


def table(root: Path, out: Path) -> None:
    """Write ``shapes.md``, ``shapes.json`` and ``shapes.png``."""
    generator, segmentation = read_masks(root)
    indices = range(len(generator))
    transform = TransformedMasks(generator, SIZE, 0)
    sources = {
        "real masks of S": segmentation,
        "paper_code": AutomaticMasks(SIZE, 0).sample(indices),
        "paper_text": AutomaticMasks(SIZE, 0, blur_sigma=5.0).sample(indices),
        "realistic": RealisticMasks(generator, SIZE, 0).sample(indices),
        "transform": transform.sample(indices),
    }
    real = figures(generator)
    rows = {name: _distances(figures(masks), real) for name, masks in sources.items()}
    medians = {name: _medians(figures(masks)) for name, masks in {"real masks of G": generator, **sources}.items()}
    (out / "shapes.json").write_text(json.dumps({"distances": rows, "medians": medians}, indent=1) + "\n")
    text = _format(rows) + "\n\n" + _format_medians(medians)
    (out / "shapes.md").write_text(text + "\n")
    cv2.imwrite(str(out / "shapes.png"), picture({"real masks of G": generator, **sources}))
    print(text)


def _distances(found: dict[str, np.ndarray], real: dict[str, np.ndarray]) -> dict[str, float]:
    distances = {
        name: float(stats.wasserstein_distance(found[name], real[name]) / real[name].std()) for name in FIGURES
    }
    return distances | {"mean": float(np.mean(list(distances.values())))}


def _medians(found: dict[str, np.ndarray]) -> dict[str, float]:
    medians = {name: float(np.median(found[name])) for name in FIGURES if name != "border_share"}
    return medians | {"touch the border": float((found["border_share"] > 0).mean())}


def _format(rows: dict[str, dict[str, float]]) -> str:
    names = (*FIGURES, "mean")
    lines = [f"| Wasserstein distance to G | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    return "\n".join([*lines, *(f"| {n} | {' | '.join(f'{row[k]:.3f}' for k in names)} |" for n, row in rows.items())])


def _format_medians(rows: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(rows.values())))
    lines = [f"| median | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    return "\n".join([*lines, *(f"| {n} | {' | '.join(f'{row[k]:.3f}' for k in names)} |" for n, row in rows.items())])


def picture(sources: dict[str, np.ndarray], number: int = 32, columns: int = 8, side: int = 72) -> np.ndarray:
    """32 masks of every source, grey uint8, with its name above."""
    every = {name: masks[:: max(1, len(masks) // number)][:number] for name, masks in sources.items()}
    blocks = [_block(name, masks, columns, side) for name, masks in every.items()]
    return np.vstack([np.hstack(blocks[i : i + 2]) for i in range(0, len(blocks), 2)])


def _block(name: str, masks: np.ndarray, columns: int, side: int) -> np.ndarray:
    small = [cv2.resize(mask * 255, (side, side), interpolation=cv2.INTER_AREA) for mask in masks]
    tiles = [np.pad(tile, 2, constant_values=90) for tile in small]
    grid = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    title = np.full((30, grid.shape[1]), 255, np.uint8)
    cv2.putText(title, name, (4, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 0, 1, cv2.LINE_AA)
    return np.pad(np.vstack([title, grid]), 8, constant_values=255)


def validate(out: Path, number: int = NUM_MASKS) -> None:
    """Write ``validation.md``: ours to the recipe, beside the recipe to itself."""
    pools, tries = [], 0
    for seed in tqdm(range(8), desc="the recipe's masks, by seed"):
        masks, tried = recipe.draw(number, 1000 + seed)
        pools.append(figures(masks))
        tries += tried
    sources = [AutomaticMasks(512, seed) for seed in range(8)]
    ours = [figures(source.sample(range(number))) for source in tqdm(sources, desc="ours, by seed")]
    head = "| figure | ours to the recipe: median of 64 pairs, highest "
    lines = [head + "| the recipe to itself: median of 28, 95 %, highest | holds |", "| --- | ---: | ---: | --- |"]
    for name in COMPARED:
        itself = [_ks(one[name], other[name]) for one, other in itertools.combinations(pools, 2)]
        to_it = [_ks(one[name], other[name]) for one, other in itertools.product(ours, pools)]
        bound, distance = np.quantile(itself, 0.95), np.median(to_it)
        holds = "yes" if distance <= bound else "NO"
        inner = f"{np.median(itself):.4f}, {bound:.4f}, {max(itself):.4f}"
        lines.append(f"| {name} | {distance:.4f}, {max(to_it):.4f} | {inner} | {holds} |")
    accepted = float(np.mean([source.acceptance(range(number)) for source in sources]))
    text = "\n".join([*lines, "", f"Accepted: ours {accepted:.1%}, the recipe {8 * number / tries:.1%} of the tries."])
    (out / "validation.md").write_text(text + "\n")
    print(text)


def _ks(first: np.ndarray, second: np.ndarray) -> float:
    return float(stats.ks_2samp(first, second).statistic)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("table", "validate"))
    parser.add_argument("--root", type=Path, help="ISIC 2018 Task 1, for the table")
    parser.add_argument("--out", type=Path, default=Path("experiments/mask_shapes"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.command == "table":
        table(arguments.root, arguments.out)
    else:
        validate(arguments.out)


if __name__ == "__main__":
    main()
