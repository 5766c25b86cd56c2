"""Which copies of training images the memorisation check finds, by kind of copy and by features.

    python benchmarks/memorisation.py --root /data/isic2018 [--out experiments/memorisation]

50 copies of each of six kinds, beside 1,000 real images that no generator saw (S): each is judged alone. The
threshold comes from one half of S; the share of false calls is that of the other half. Split `grouped`, seed 0:
near-duplicates stand on one side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from dermprompt.curation.memorisation import Embed, nearest, thumbnails
from dermprompt.data.clusters import clusters_path, load_clusters
from dermprompt.data.index import read_index
from dermprompt.data.split import draw_split
from dermprompt.evaluation.features import FeatureExtractor
from dermprompt.pretrained import PACKAGED

SIZE, COPIES, QUANTILE = 256, 50, 0.005
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left to right, upside down, or both."""
    return cv2.flip(image, int(rng.integers(-1, 2)))


def re_encoded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A JPEG of half the size and a quality of 40 to 80."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    file = cv2.imencode(".jpg", half, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 81))])[1]
    return cv2.resize(cv2.imdecode(file, cv2.IMREAD_COLOR), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each channel with its own gain, offset and gamma."""
    gain, offset, gamma = rng.uniform(0.7, 1.3, 3), rng.uniform(-25, 25, 3), rng.uniform(0.7, 1.4, 3)
    return np.clip(255 * (image / 255.0) ** gamma * gain + offset, 0, 255).astype(np.uint8)


def rotated(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By 10 to 80 degrees, mirrored at the border."""
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), float(rng.uniform(10, 80)), 1.0)
    return cv2.warpAffine(image, turn, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of 70 to 90 % of the side, enlarged."""
    side = int(SIZE * rng.uniform(0.7, 0.9))
    top, left = rng.integers(0, SIZE - side + 1, 2)
    return cv2.resize(image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def warped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretched to another lesion's proportions, with a smooth deformation of about 10 pixels."""
    noise = rng.normal(size=(2, 5, 5)).astype(np.float32) * 10
    dy, dx = (cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for one in noise)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    scale_y, scale_x = rng.uniform(0.7, 1.3, 2)
    rows, columns = (rows - SIZE / 2) * scale_y + SIZE / 2 + dy, (columns - SIZE / 2) * scale_x + SIZE / 2 + dx
    return cv2.remap(image, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, None, 4)


KINDS: dict[str, Change] = {
    "mirrored": mirrored,
    "re-encoded": re_encoded,
    "recoloured": recoloured,
    "rotated": rotated,
    "cropped": cropped,
    "warped to another shape": warped,
}


def read_parts(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """G's and S's images, uint8 NSS3 RGB."""
    index = read_index("isic", root, root)
    groups = load_clusters(clusters_path("isic2018"))
    split = draw_split({id: one[0] for id, one in index.contents.items()}, "grouped", 0, groups=groups)
    paths = {one.id: one.image for one in index.lesions}

    def read(ids: tuple[str, ...]) -> np.ndarray:
        images = [cv2.imread(str(paths[id])) for id in tqdm(ids, desc="read", disable=None)]
        return np.stack([cv2.resize(x, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., ::-1] for x in images])

    return read(split.generator), read((*split.train, *split.val, *split.test))


def rates(seen: np.ndarray, unseen: np.ndarray, embed: Embed) -> dict[str, float]:
    """Share of each kind of copy that is found, and of real images that are falsely called."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(unseen))
    known, tested = unseen[order[: len(order) // 2]], unseen[order[len(order) // 2 :]]
    threshold = float(np.quantile(nearest(known, seen, embed)[0], QUANTILE))
    found = {}
    for name, change in tqdm(KINDS.items(), desc="kinds", disable=None):
        chosen = rng.permutation(len(seen))[:COPIES]
        copies = np.stack([change(np.ascontiguousarray(seen[i]), rng) for i in chosen])
        found[name] = float((nearest(copies, seen, embed)[0] < threshold).mean())
    return found | {"falsely called, of real images": float((nearest(tested, seen, embed)[0] < threshold).mean())}


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seen, unseen = read_parts(options.root)
    features = {
        "thumbnails": thumbnails,
        PACKAGED: FeatureExtractor(PACKAGED, None, torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    }
    columns = {name: rates(seen, unseen, embed) for name, embed in features.items()}
    lines = [f"| kind of copy | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for kind in next(iter(columns.values())):
        lines.append(f"| {kind} | " + " | ".join(f"{100 * column[kind]:.1f} %" for column in columns.values()) + " |")
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "table.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
