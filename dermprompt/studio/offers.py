"""The available generators and segmenters: those in the package, and those in a store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dermprompt.config.generators import PretrainedBase, Sampler
from dermprompt.config.schema import KINDS, Config, take
from dermprompt.files import read_json
from dermprompt.generator.source import pretrained_artifact, resolve_base
from dermprompt.prompts.template import TEMPLATES
from dermprompt.prompts.vocabulary import Vocabulary
from dermprompt.stages.prepare import load_generator_set
from dermprompt.stages.settings import OpenBase
from dermprompt.store.artifacts import RECORD, Recipe, read_artifact, read_recipe, recorded
from dermprompt.studio.asked import Named
from dermprompt.weights.box import BOX, digest, in_box

TITLES = {"controlnet": "ControlNet", "pix2pixhd": "Pix2PixHD"}
BOX_SIZE = 128


@dataclass(frozen=True)
class Training:
    """The store's folders with the images that a generator has seen, and with those that it has not.

    ``pool``: the images without a mask that its base has seen; None if there are none.
    """

    known: str
    cache: str
    prepared: str
    pool: str | None = None


@dataclass(frozen=True)
class Offer:
    """A trained generator.

    Attributes:
        id: its name in requests.
        kind: ``controlnet`` or ``pix2pixhd``.
        folder: where its networks are; ``base``: the base model's folder or id; ``digest`` stands for both.
        reading: how the base's text encoder is read; None for a base in the store.
        sampler: the default sampler; None if the generator has no sampler.
        vocabulary: how many training images have each label.
        training: its training set, if that is in the store.
        unavailable: why it cannot be used; None if it can.
    """

    id: str
    kind: str
    title: str
    folder: str
    digest: str
    image_size: int
    template: str | None
    base: str | None = None
    reading: OpenBase | None = None
    sampler: Sampler | None = None
    vocabulary: Vocabulary | None = None
    training: Training | None = None
    unavailable: str | None = None

    def public(self) -> dict[str, Any]:
        """What the page needs to know, without paths on this machine."""
        whole = dataclasses.asdict(self)
        hidden = ("folder", "base", "reading", "training")
        return {key: value for key, value in whole.items() if key not in hidden}


def read_offer(row: dict[str, Any]) -> Offer:
    """An offer from plain values."""
    return TypeAdapter(Offer).validate_python(row)


def find_offers(config: Config) -> dict[str, Offer]:
    """All available generators, by id."""
    found = [*box_offers(config), *store_offers(config, Path(config.paths.store).expanduser().resolve())]
    return {one.id: one for one in found}


def box_offers(config: Config) -> list[Offer]:
    """The package's generators."""
    labels = read_json(BOX / "labels.json")
    template = labels.pop("template")
    shared: dict[str, Any] = {"image_size": BOX_SIZE, "vocabulary": Vocabulary(**labels)}
    control, rival = in_box("box", "controlnet"), in_box("box", "pix2pixhd")
    base = config.generator.base
    reading = OpenBase(base.pad_token_id, base.text_layers) if base.path == "box" else OpenBase(49407, 2)
    return [
        Offer(
            "box-controlnet",
            "controlnet",
            "ControlNet",
            str(control),
            _digest(control),
            template=template,
            base="box",
            reading=reading,
            sampler=take(Sampler, config.generator),
            **shared,
        ),
        Offer("box-pix2pixhd", "pix2pixhd", "Pix2PixHD", str(rival), _digest(rival), template=None, **shared),
    ]


@cache
def _digest(folder: Path) -> str:
    """The digest that the command line shows; cached, because the package's weights do not change."""
    return digest(folder)[:16]


def store_offers(config: Config, store: Path) -> list[Offer]:
    """The trained generators in a store, from their recipes; a missing input makes a generator unavailable."""
    folders = [path.parent for path in sorted(store.glob(f"train_generator/*/{RECORD}"))]
    if not folders:
        return []
    made = {read_artifact(path.parent).digest: path.parent for path in store.glob(f"*/*/{RECORD}")}
    return [_stored(config, folder, read_recipe(folder), made) for folder in folders]


def _stored(config: Config, folder: Path, recipe: Recipe, made: dict[str, Path]) -> Offer:
    own, inputs = recipe.settings["generator"], [made[one] for one in recipe.inputs if one in made]
    kind = own["name"]
    known = _holding(inputs, "known.json")
    pictures = next((path for path in inputs if path.name.startswith("pictures-")), None)
    split = [made[one] for one in read_recipe(known).inputs if one in made] if known else []
    prepared = _holding(split, "split.json")
    reading = recipe.settings.get("base")
    has_base = KINDS["generator"][kind].has_base  # type: ignore[attr-defined]
    base = _base_of(config, recipe, inputs) if has_base else None
    named = "base (start the studio with the generator/base that it was trained on)" if reading else "base"
    needed = {"training set": known, **({named: base} if has_base else {}), "pictures": pictures}
    missing = [what for what, found in needed.items() if found is None]
    training = _training(known, pictures, prepared, Path(base) if base and reading is None else None, made)
    return Offer(
        id=folder.name,
        kind=kind,
        title=f"{TITLES.get(kind, kind)} {folder.name.rpartition('-')[2][:6]}",
        folder=str(folder),
        digest=read_artifact(folder).digest,
        image_size=read_recipe(pictures).settings["size"] if pictures else BOX_SIZE,
        template=recipe.settings.get("template"),
        base=base,
        # Recipes keep the former names of keys.
        reading=OpenBase(reading["pad"], reading["text_layers"]) if reading else None,
        sampler=take(Sampler, config.generator) if has_base else None,
        vocabulary=Vocabulary.of(load_generator_set(known)) if known else None,
        training=training,
        unavailable=f"not in the store any more: its {', '.join(missing)}" if missing else None,
    )


def _training(
    known: Path | None, pictures: Path | None, prepared: Path | None, base: Path | None, made: dict[str, Path]
) -> Training | None:
    """What a generator with a ``base`` trained here, or without one, has seen; None if that is not all in the store."""
    inputs = read_recipe(base).inputs if base else ()
    if not (known and pictures and prepared) or any(one not in made for one in inputs):
        return None
    pool = _holding([made[one] for one in inputs], "pool.json")
    if pool is None:
        return Training(str(known), str(pictures), str(prepared))
    both = next(made[one] for one in inputs if made[one].name.startswith("pictures-"))
    return Training(str(known), str(both), str(prepared), str(pool))


def _holding(folders: list[Path], file: str) -> Path | None:
    return next((path for path in folders if (path / file).exists()), None)


def _base_of(config: Config, recipe: Recipe, inputs: list[Path]) -> str | None:
    """Where a generator's base is: in the store, or a pretrained one named in the configuration; None if gone."""
    if recipe.settings.get("base") is None:
        found = _holding(inputs, "unet/config.json")
        return str(found) if found else None
    base = config.generator.base
    known = isinstance(base, PretrainedBase) and pretrained_artifact(base.path, recorded(base)).digest in recipe.inputs
    return base.path if known else None


def prompt_of(asked: Named, offer: Offer) -> str:
    """The prompt: free text, the template's text, or empty; always empty for a generator without text.

    Raises:
        ValueError: a label is unknown to the template.
    """
    if offer.template is None:
        return ""
    if asked.text is not None:
        return asked.text.strip()
    if asked.diagnosis is None and asked.attributes is None:
        return ""
    return TEMPLATES[offer.template].compose(asked.diagnosis, asked.attributes)


def find_segmenters(config: Config) -> dict[str, str]:
    """Folders of trained segmenters by id; the package's reference segmenter comes first."""
    store = Path(config.paths.store).expanduser().resolve()
    found = {path.parent.name: str(path.parent) for path in sorted(store.glob(f"train_segmenter/*/{RECORD}"))}
    return {"box": str(in_box("box", "segmenter")), **found}


def overrides(offer: Offer) -> list[str]:
    """The overrides that make the command line use this generator."""
    named = [f"generator={offer.kind}"]
    if Path(offer.folder).is_relative_to(BOX):
        return named
    named += [f"generator.init={offer.folder}", "generator.max_steps=0", f"image_size={offer.image_size}"]
    if offer.base is None:
        return named
    reading = offer.reading or _own_reading(resolve_base(offer.base))
    settings = {"path": offer.base, "pad_token_id": reading.pad_token_id, "text_layers": reading.text_layers}
    return [*named, *(f"generator.base.{key}={value}" for key, value in settings.items())]


def _own_reading(base: Path) -> OpenBase:
    """How the text encoder of a base trained here is read."""
    config = read_json(base / "text_encoder" / "config.json")
    return OpenBase(config["pad_token_id"], config["num_hidden_layers"])
