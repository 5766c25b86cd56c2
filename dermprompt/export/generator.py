"""Exports a trained generator to a self-contained folder: networks in their libraries' formats, and a card."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from diffusers import ControlNetModel

from dermprompt.config.generators import PretrainedBase, Sampler
from dermprompt.config.schema import take
from dermprompt.export.cards import ModelFacts, model_card
from dermprompt.export.provenance import carry_licences, generator_facts, source_facts
from dermprompt.files import write_bytes
from dermprompt.generator.cldm import save_original
from dermprompt.generator.source import PARTS
from dermprompt.pipeline import Pipeline
from dermprompt.results import load_results
from dermprompt.tensors import open_pretrained

SINGLE_FILE = "controlnet.safetensors"

_STABLE_DIFFUSION = """```python
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel

controlnet = ControlNetModel.from_pretrained("controlnet")
pipeline = StableDiffusionControlNetPipeline.from_pretrained("{base}", controlnet=controlnet, safety_checker=None)
{unet}# mask: an RGB picture of the size that is drawn, 255 inside and 0 outside
image = pipeline(prompt, image=mask, num_inference_steps={num_steps}, guidance_scale={guidance_scale}).images[0]
```

`{single_file}` is the same network in one file under its original names (`control_model.…`), for programs that
expect those; diffusers reads it with `ControlNetModel.from_single_file("{single_file}", config="controlnet")`."""

_UNET = """# parts of the U-Net were trained with the ControlNet
pipeline.unet = UNet2DConditionModel.from_pretrained("unet")
"""

_SCRATCH = """Its base, trained here, is in `base`. It has its own latent space, so use dermprompt to generate images:

```python
from pathlib import Path
from dermprompt.generator.controlnet.base import load_base
from dermprompt.generator.export import load_controlnet

generator = load_controlnet(Path("."), load_base("base"), {sampler})
images = generator.generate(masks, prompts, seeds)  # masks N1HW in 0 and 1; images N3HW in [-1, 1]
```

`controlnet` alone opens with `diffusers.ControlNetModel.from_pretrained`. `{single_file}` is the same network in one
file under its original names (`control_model.…`); `dermprompt.generator.cldm.load_original` reads it."""

_ON_MASKS = """```python
from pathlib import Path
from {module} import {function}

generator = {function}(Path("."))
images = generator.generate(masks, prompts=[""] * n, seeds=list(range(n)))  # n masks N1HW in 0 and 1; N3HW in [-1, 1]
```

It takes no text."""


def export_generator(pipeline: Pipeline, root: Path) -> None:
    """Write a generator and its ``README.md`` to ``root``.

    For a ControlNet: ``controlnet`` in diffusers' format, the same network in one file, and the base if it was trained
    here. For other kinds: settings and weights.
    """
    config, trained = pipeline.config, pipeline.generator.path
    if config.generator.has_base:
        opened = _copy_controlnet(pipeline, trained, root)
    else:
        for path in (trained / "config.json", trained / "generator.safetensors"):
            shutil.copyfile(path, root / path.name)
        module, _, function = config.generator.opens.rpartition(".")
        opened = _ON_MASKS.format(module=module, function=function)
    pretrained = pipeline.base is not None and isinstance(config.generator.base, PretrainedBase)
    facts = ModelFacts(
        title=f"{config.name}: {config.generator.name}",
        kind=config.generator.name,
        made_from=generator_facts(pipeline) | source_facts(pipeline),
        opened=opened,
        licences=carry_licences(pipeline, root),
        base=base_name(config.generator.base.path) if pretrained else None,
    )
    found = root.parent / "results.json"  # of the run
    results = load_results(found) if found.exists() else None
    write_bytes(root / "README.md", model_card(facts, results).encode())


def base_name(path: str) -> str:
    """A hub id unchanged, or the name of a folder without its path."""
    return Path(path).name if Path(path).expanduser().is_dir() else path


def _copy_controlnet(pipeline: Pipeline, trained: Path, root: Path) -> str:
    """Copy the networks; return the code that opens them."""
    config, base = pipeline.config.generator, pipeline.base
    assert base is not None
    shutil.copytree(trained / "controlnet", root / "controlnet")
    unlocked = (trained / "unet").is_dir()
    if unlocked:  # parts of the U-Net were trained with the ControlNet
        shutil.copytree(trained / "unet", root / "unet")
    controlnet = open_pretrained(ControlNetModel, root / "controlnet")
    save_original(controlnet, root / SINGLE_FILE)
    settings = asdict(take(Sampler, config))
    if isinstance(config.base, PretrainedBase):
        named = {"base": base_name(config.base.path), "single_file": SINGLE_FILE}
        return _STABLE_DIFFUSION.format(unet=_UNET if unlocked else "", **named, **settings)
    for part in PARTS:
        shutil.copytree(base.path / part, root / "base" / part)
    sampler = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return _SCRATCH.format(sampler=sampler, single_file=SINGLE_FILE)
