"""Every key says what it may be, and refuses anything else."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from miniature import compose, miniature

from dermprompt.config import schema
from dermprompt.config.constraints import KEY, Constraint, check_section


def sections() -> list[type]:
    """All classes of the schema, from the whole configuration and the kinds of its groups down."""
    found, todo = [], [schema.Config, *(kind for kinds in schema.KINDS.values() for kind in kinds.values())]
    while todo:
        section = todo.pop()
        if section not in found:
            found.append(section)
            made = (one.default_factory for one in dataclasses.fields(section))
            todo += [one for one in made if isinstance(one, type) and dataclasses.is_dataclass(one)]
    return found


FIELDS = {f"{section.__name__}.{one.name}": one for section in sections() for one in dataclasses.fields(section)}
NUMERIC = {key: one for key, one in FIELDS.items() if re.search(r"\b(int|float)\b", str(one.type))}


def constraint(one: dataclasses.Field) -> Constraint:
    return one.metadata[KEY]


def in_type(one: dataclasses.Field, value: object) -> object:
    """A value as the field holds it: several in a list, as many as it wants."""
    return [value] * (constraint(one).length or 1) if "list" in str(one.type) else value


WORDS = {key: one for key, one in FIELDS.items() if str(one.type) == "str" and KEY in one.metadata}


def test_the_schema_is_walked_whole() -> None:
    assert {"Config", "Data", "Split", "ControlNet", "Validation", "VAECodec", "TransformedMasks", "Primary"} <= {
        section.__name__ for section in sections()
    }
    assert len(NUMERIC) > 80
    assert len(WORDS) > 20


@pytest.mark.parametrize("key", NUMERIC)
def test_every_number_has_bounds(key: str) -> None:
    found = constraint(NUMERIC[key])
    assert found.words or found.at_least is not None or found.above is not None
    assert found.words or found.at_most is not None or found.below is not None


@pytest.mark.parametrize("key", [key for key, one in NUMERIC.items() if "float" in str(one.type)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_float_is_finite(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{key}=")):
        constraint(NUMERIC[key]).check(key, in_type(NUMERIC[key], value))


@pytest.mark.parametrize("key", NUMERIC)
def test_bounds_are_inclusive_where_they_say_so(key: str) -> None:
    one, found = NUMERIC[key], constraint(NUMERIC[key])
    for bound, beyond in ((found.at_least, -1), (found.at_most, 1)):
        if bound is not None:
            found.check(key, in_type(one, bound))
            with pytest.raises(ValueError, match=f"at (least|most) {bound:.15g}"):
                found.check(key, in_type(one, bound + beyond))
    for bound in (found.above, found.below):
        if bound is not None:
            with pytest.raises(ValueError, match=f"(above|below) {bound:.15g}"):
                found.check(key, in_type(one, bound))


@pytest.mark.parametrize("key", WORDS)
def test_every_wrong_word_names_the_nearest(key: str) -> None:
    found = constraint(WORDS[key])
    for word in map(str, found.words):
        found.check(key, word)
        with pytest.raises(
            ValueError, match=re.escape(f"{key}={word}x: allowed are {', '.join(map(str, found.words))}; did you mean")
        ):
            found.check(key, f"{word}x")


def test_keys_of_sections_within_sections_are_named_whole() -> None:
    config = compose(*miniature("controlnet"))
    config.evaluation.primary.purpose = "mroe"
    with pytest.raises(
        ValueError, match=r"^evaluation\.primary\.purpose=mroe: allowed are sharing, more, instead; did you mean more"
    ):
        check_section(config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.guidance_scale=nan", r"generator\.guidance_scale=nan: a number, at least 0 and at most 100"),
        ("generator.learning_rate=inf", r"generator\.learning_rate=inf: a number, above 0"),
        ("generator.snr_gamma=0", r"generator\.snr_gamma=0\.0: a number, above 0 and at most 1000, or null"),
        ("generator.base.ema_decay=1.0", r"generator\.base\.ema_decay=1\.0: a number, at least 0 and below 1"),
        ("generator.base.codec.downscale=3", r"generator\.base\.codec\.downscale=3: allowed are 2, 4, 8, 16"),
        ("generator.base.channels=[32,40]", r"channels=\[32, 40\]: a whole number, a multiple of 32 and at least 32"),
        ("data.split.sizes=[1,2,3]", r"data\.split\.sizes=\[1, 2, 3\]: 4 times a whole number, at least 1"),
        ("data.split.sizes=[10,5,0,2]", r"data\.split\.sizes=\[10, 5, 0, 2\]: 4 times a whole number, at least 1"),
        ("data.num_images=0", r"data\.num_images=0: a whole number, at least 1"),
        ("image_size=16", r"image_size=16: .*at least 32"),
        ("data.split.fold=5", r"data\.split\.fold=5: a whole number, at least 0 and at most 4, or null"),
        ("prompts.sampler=emprical", "did you mean empirical"),
        ("arm.world=opened", "did you mean open"),
    ],
)
def test_what_a_configuration_refuses(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(*miniature("controlnet", override))


@pytest.mark.parametrize(
    ("masks", "override", "words"),
    [
        ("paper_text", "masks.centre=[300,200]", r"masks\.centre=\[300, 200\]: the lowest"),
        ("paper_text", "masks.min_radius=236", r"masks\.min_radius=236: less than 236"),
        ("paper_text", "masks.blur_sigma=8", r"masks\.blur_sigma=8\.0: at most half of masks\.min_radius"),
        ("paper_code", "masks.kernel=1.5", r"masks\.kernel=1\.5: a number, above 0 and at most 0\.8"),
        ("realistic", "masks.jitter=-1", r"masks\.jitter=-1\.0: a number, at least 0 and at most 0\.5"),
        ("transform", "masks.scale_range=[1.2,0.8]", r"masks\.scale_range=\[1\.2, 0\.8\]: the lowest"),
        ("transform", "masks.elastic_points=[]", "both need the same length"),
    ],
)
def test_what_masks_refuse(masks: str, override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(*miniature("none", "synthesis.count=0", f"masks={masks}", override))
