"""Generates images, draws masks and segments photographs, with the same functions as the stages."""

from __future__ import annotations

import io
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import dermprompt
from dermprompt.config import schema
from dermprompt.config.checks import check_sampler
from dermprompt.config.compose import compose
from dermprompt.config.generators import Sampler
from dermprompt.config.schema import Config
from dermprompt.data.fit import fit_image
from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.overlap import dice
from dermprompt.files import sha256
from dermprompt.pipeline import Pipeline
from dermprompt.stages.networks import open_generator, open_segmenter
from dermprompt.stages.score import enlarge, predict_logits
from dermprompt.stages.settings import DrawMasks, DrawSamples
from dermprompt.stages.synthesize import mask_source
from dermprompt.store.artifacts import Store
from dermprompt.studio.asked import Drawing, read_photograph
from dermprompt.studio.desk import Desk
from dermprompt.studio.keep import command
from dermprompt.studio.offers import Offer, box_offers, find_segmenters, prompt_of, read_offer
from dermprompt.studio.trust import Copies
from dermprompt.synthesis.draw import draw_images, sample_seed
from dermprompt.synthesis.samples import Condition, encode, said_of

# Networks that stay open: two generators being compared, and one more.
MOST_OPEN = 3

Tell = Callable[[dict[str, Any]], None]


class Studio:
    """The worker's tasks, each a method that reports events through ``tell``."""

    def __init__(self, config: Config, desk: Desk) -> None:
        self.config, self.desk = config, desk
        self.pipeline = Pipeline(config, Store(Path(config.paths.store).expanduser().resolve()))
        self.runtime = Runtime.of(config)
        self.copies = Copies(self.pipeline)
        self._open: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._sources: dict[tuple[str, int], Any] = {}

    def warm_up(self) -> None:
        """Open the networks that the first image needs, and run them once."""
        offer = box_offers(self.config)[0]
        generator = self._generator(offer, Sampler("dpm", 2, 2.0, 1.0, 0.0))
        blank = np.ones((offer.image_size, offer.image_size), np.uint8)
        draw_images(generator, [Condition(blank, "blank", prompt="warm")], [0])

    def draw(self, tell: Tell, offer: dict[str, Any], drawing: dict[str, Any]) -> None:
        """Generate an image; report the image, then how far it can be trusted."""
        start = time.monotonic()
        asked, own = Drawing(**drawing), read_offer(offer)
        condition, mask = self._condition(asked, own)
        sampler = _sampler(own, asked)
        generator = self._generator(own, sampler)
        unread = _check_words(generator, condition.prompt) if own.sampler else []
        with _steps(generator, sampler.num_steps if sampler else 1, tell):
            image = draw_images(generator, [condition], [sample_seed(asked.seed, 0)]).array()[0]
        record = {
            "generator": {"id": own.id, "kind": own.kind, "title": own.title, "digest": own.digest},
            "drawing": {**drawing, **(asdict(sampler) if sampler else {})},
            "maker": Path(own.folder).name,
            "prompt": condition.prompt,
            "sample_seed": sample_seed(asked.seed, 0),
            "unread": unread,
            "size": own.image_size,
            "seconds": round(time.monotonic() - start, 3),
            "versions": {"dermprompt": dermprompt.__version__, "torch": torch.__version__},
            "command": command(own, asked, sampler, self.desk.mask_file(asked.mask), self.config),
        }
        id = sha256(json.dumps([record["generator"], record["drawing"]], sort_keys=True))[:16]
        self._keep(id, image, record)
        tell({"picture": {"id": id, **record}})
        trust = self._trust(own, id, image, mask)
        self.desk.amend(id, trust=trust)
        tell({"trust": trust})

    def roll(self, tell: Tell, masks: str, seed: int, size: int) -> None:
        """Draw a mask with the mask source ``masks``, fitted to the configuration's data if it needs real masks."""
        if (masks, size) not in self._sources:
            self._sources[masks, size] = self._source(masks, size)
        (mask,) = self._sources[masks, size].sample([seed])
        tell({"mask": self.desk.save_mask(mask)})

    def segment(self, tell: Tell, photograph: str, segmenter: str, size: int) -> None:
        """Segment a photograph; report the mask of ``size`` pixels."""
        pixels = read_photograph(self.desk.load_photograph(photograph))
        mask = self._segmented(segmenter, fit_image(pixels, size, "squeeze"))
        tell({"mask": self.desk.save_mask(mask), "area": round(float(mask.mean()), 4)})

    def _condition(self, asked: Drawing, offer: Offer) -> tuple[Condition, np.ndarray]:
        """The condition of the image, and its mask."""
        if not Path(offer.folder).is_dir():
            raise ValueError(f"{offer.title} is not in the store any more: {offer.folder} was removed")
        mask = self.desk.load_mask(asked.mask)
        if len(mask) != offer.image_size:
            raise ValueError(f"the mask has {len(mask)} pixels a side; {offer.title} draws {offer.image_size}")
        if not mask.any():
            raise ValueError("the mask is empty; paint where the lesion is")
        attributes = None if asked.attributes is None else tuple(asked.attributes)
        prompt = prompt_of(asked, offer)
        return Condition(mask, f"painted/{asked.mask}", None, prompt, asked.diagnosis, attributes), mask

    def _generator(self, offer: Offer, sampler: Sampler | None) -> Any:
        """The opened generator with the sampler's settings; closes the least recently used of too many networks."""
        key = (offer.id, offer.digest)
        if key not in self._open:
            synthesis = self.config.synthesis
            settings = DrawSamples(offer.kind, 1, 0, synthesis.precision, synthesis.compile, offer.reading, sampler)
            base = None if offer.base is None else Path(offer.base)
            self._open[key] = open_generator(settings, self.runtime, Path(offer.folder), base)
        self._open.move_to_end(key)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        for name, value in (asdict(sampler) if sampler else {}).items():
            setattr(self._open[key], name, value)
        return self._open[key]

    def _source(self, masks: str, size: int) -> Any:
        same_group = self.config.masks.name == masks
        settings = self.config.masks if same_group else compose(["+experiment=studio", f"masks={masks}"]).masks
        drawn = DrawMasks(settings, 1, size, self.config.seed)
        learnt = not isinstance(settings, schema.AutomaticMasks)
        known, cache = (self.pipeline.generator_set.path, self.pipeline.cache(size).path) if learnt else (None, None)
        return mask_source(drawn, known, cache)

    def _keep(self, id: str, image: np.ndarray, record: dict[str, Any]) -> None:
        said = said_of(record["maker"], 0)
        files = {
            ".jpg": encode(image, said),
            ".png": png_with(image, {"Comment": said, "dermprompt": json.dumps(record)}),
            ".json": json.dumps({"id": id, "made": time.time(), **record}).encode(),
        }
        self.desk.save_picture(id, files)

    def _trust(self, offer: Offer, id: str, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        found = self._segmented("box", image)
        overlap = round(float(dice(found[None], mask[None])[0]), 4)
        copy, nearest = self.copies.of(offer, image)
        if nearest is not None:
            self.desk.save_picture(id, {".nearest.png": png_with(nearest, {})})
        return {"mask": {"dice": overlap, "outline": self.desk.save_mask(found)}, "copy": copy}

    def _segmented(self, id: str, image: np.ndarray) -> np.ndarray:
        """A segmenter's mask of an image uint8 SS3, uint8 SS in {0, 1}."""
        folders = find_segmenters(self.config)
        if id not in folders:
            raise ValueError(f"no segmenter {id!r} is here; there is {', '.join(folders)}")
        key = ("segmenter", folders[id])
        if key not in self._open:
            self._open[key] = open_segmenter(self.runtime, Path(folders[id]))
        network, side = self._open[key]
        (logits,) = predict_logits(network, fit_image(image, side, "squeeze")[None])
        return enlarge(logits[0], image.shape[:2])


def _sampler(offer: Offer, asked: Drawing) -> Sampler | None:
    """The requested sampler, checked as on the command line."""
    if offer.sampler is None:
        return None
    sampler = replace(offer.sampler, **asked.sampling())
    check_sampler("drawing", sampler)
    return sampler


def _check_words(generator: Any, prompt: str) -> list[str]:
    """The words that have no effect on a generator. Raises ValueError for a prompt that is too long."""
    encoder = generator.base.text_encoder
    length = encoder.length(prompt)
    if length > encoder.context_length:
        raise ValueError(f"the prompt has {length} tokens; this generator reads at most {encoder.context_length}")
    return encoder.unread(prompt)


@contextmanager
def _steps(generator: Any, total: int, tell: Tell) -> Iterator[None]:
    """Report each step, i.e. each run of the first network; if the job was cancelled, ``tell`` raises and ends it."""
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        tell({"step": min(done, total), "of": total})

    handle = generator.networks[0].register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()


def png_with(image: np.ndarray, texts: dict[str, str]) -> bytes:
    """A PNG of uint8 HW3, with texts in its metadata that say what it is."""
    said, buffer = PngInfo(), io.BytesIO()
    for key, value in texts.items():
        said.add_itxt(key, value)
    Image.fromarray(image).save(buffer, "PNG", pnginfo=said)
    return buffer.getvalue()
