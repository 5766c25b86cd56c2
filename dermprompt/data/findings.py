"""Findings about the files of a data set: each kind has a name, which the coverage report uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Part of the key of cached images: raise it when decoded pixels or verdicts change.
DECODER = 2

# Bad: the file or row cannot be used, and is left out or stops the job (``data.on_bad``).
BAD = {
    "unreadable": "a picture that cannot be decoded: empty, truncated, damaged, or no picture",
    "not_a_file": "a folder, pipe, device or broken link with the name of a file",
    "unknown_format": "a picture in a format that is not read; save it as PNG, JPEG, BMP, TIFF or WebP",
    "too_large": "a picture of more pixels than data.max_megapixels allows",
    "several_frames": "a picture of several frames or pages",
    "cmyk": "an image in CMYK, whose colours depend on a profile; save it as RGB",
    "sixteen_bit": "an image of more than 8 bits a channel, whose range is not known; save it with 8",
    "transparent": "an image with transparent pixels, which have no colour; flatten it",
    "grey_mask": "a mask of other values than background and foreground; data.mask_threshold or data.mask_classes says "
    "what they mean",
    "colour_mask": "a mask whose channels differ",
    "alpha_and_colour": "a mask whose alpha channel and colour have different shapes",
    "unnamed_class": "a mask with a value that data.mask_classes does not name",
    "empty_mask": "a mask without foreground; data.empty_masks=keep takes it as an image without a lesion",
    "cropped_away": "a mask whose foreground data.fit=crop removes entirely",
    "size_mismatch": "a mask of another size than its image",
    "duplicate_id": "several files of one id",
    "no_mask": "an image without a mask; data.without_mask=pool gives it to the base",
    "no_image": "a mask without an image",
    "missing_columns": "a table without the required columns",
    "duplicate_columns": "a table with several columns of one name",
    "unreadable_table": "a table that is no text in UTF-8 or UTF-16, or no table",
    "bad_row": "a row with a value that is not allowed",
    "swallowed_rows": "a quote that is not closed at the end of its cell, so that it swallows rows",
    "duplicate_row": "an id that is twice in a table, with different values",
    "incomplete_attributes": "an id without a mask of every attribute",
}
# Accepted, but reported.
ACCEPTED = {
    "few_matches": "a table that knows less than half of the images",
    "rotated": "an image with an orientation tag",
    "alpha": "an image with an alpha channel that is opaque everywhere",
    "grey_image": "an image without colour",
    "zero_one_mask": "a mask of 0 and 1 instead of 0 and 255",
    "deep_mask": "a mask of more than 8 bits",
    "alpha_mask": "a mask whose shape is in its alpha channel alone",
    "palette_mask": "a mask with a palette, read by the palette's numbers",
    "thresholded_mask": "a grey mask, cut at data.mask_threshold",
    "negative": "an empty mask: an image without a lesion, which generators and mask sources leave out",
    "duplicate_content": "equal images under several ids, kept in one part",
    "repeated_file": "several files of one id with equal content",
    "mask_suffix": "masks whose names add a suffix to their images'",
    "unlabelled": "images without a mask, which only data.without_mask=pool uses",
    "unused_folder": "a folder that is not read, because another was found",
    "id_case": "an id in another case",
    "id_form": "an id with a path or the ending of a file",
    "repeated_row": "an id that is twice in a table, with the same values",
    "unread_table": "a table that is not read under this name",
    "byte_order_mark": "a table that starts with a byte order mark",
    "utf_16": "a table in UTF-16",
    "crlf": "a table with Windows line ends",
    "delimiter": "a table whose cells are not separated by commas",
    "header_case": "a table whose columns are named in another case",
    "multiline_cell": "a cell of several lines",
    "extra_columns": "a table with columns that nothing reads",
    "unknown_diagnosis": "a diagnosis without a code here; the image has none",
}


@dataclass(frozen=True)
class Finding:
    """A verdict (a key of ``BAD`` or ``ACCEPTED``) on a file; ``id``: the image that it makes unusable, if any."""

    verdict: str
    what: str
    detail: str = ""
    id: str | None = None

    def __post_init__(self) -> None:
        assert self.verdict in BAD or self.verdict in ACCEPTED, self.verdict

    @property
    def bad(self) -> bool:
        """Whether the file or row cannot be used."""
        return self.verdict in BAD

    def __str__(self) -> str:
        return f"{self.what}: {self.verdict}" + (f", {self.detail}" if self.detail else "")


def check_findings(findings: Sequence[Finding], on_bad: str, max_bad_fraction: float, num_images: int) -> set[str]:
    """Return the ids to leave out.

    Raises:
        ValueError: something is bad and ``on_bad`` is ``error``, or more than ``max_bad_fraction`` of the images are
            bad; names the files with their verdicts.
    """
    bad = [one for one in findings if one.bad]
    skipped = {one.id for one in bad if one.id is not None}
    if bad and on_bad == "error":
        raise ValueError(f"{summary(bad)}; mend them, or leave them out with data.on_bad=skip")
    if len(skipped) > max_bad_fraction * num_images:
        raise ValueError(
            f"{len(skipped)} of {num_images} images are bad, more than data.max_bad_fraction={max_bad_fraction:g} "
            f"allows: {summary(bad)}"
        )
    return skipped


def summary(findings: Sequence[Finding]) -> str:
    """Each verdict with its count and first cases."""
    groups = Counter(one.verdict for one in findings)
    named = {verdict: [str(one) for one in findings if one.verdict == verdict] for verdict in groups}
    return "; ".join(f"{number} × {verdict} ({listed(named[verdict], '; ')})" for verdict, number in groups.items())


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """The first five of ``items`` and, if there are more, their number; for a message."""
    every = list(items)
    return separator.join(every[:5]) + (f"{separator}… ({len(every)} in all)" if len(every) > 5 else "")
