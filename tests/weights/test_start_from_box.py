"""What the package's weights are worth to someone with a hundred images from another dermatoscope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from PIL import Image
from torch import Tensor

from dermprompt.config.compose import settings_of
from dermprompt.generator.batches import LatentBatches, TrainingImages, encode_latents
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.controlnet.base import LatentDiffusion, build_scratch, load_base
from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet
from dermprompt.generator.export import load_controlnet, load_weights
from dermprompt.lesion import images_to_float, masks_to_float
from dermprompt.mapped import Rows
from dermprompt.segmenter.module import dice_of_logits
from dermprompt.weights.box import BOX, SAMPLE, in_box

SIZE, BATCH, STEPS, OWN, HELD_OUT = 128, 4, 200, 100, 16
CHANNELS = (96, 128, 160)
PROMPT = "dermoscopic image of a melanoma"
SAMPLER = {"sampler": "dpm", "num_steps": 10, "guidance_scale": 2.0, "guidance_start": 0.1, "guidance_end": 0.6}
