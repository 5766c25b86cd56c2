"""What was found in the files of a data set, each case by a name that the coverage report repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Raised when the pixels of a decoded picture or a verdict on it change: part of what cached pictures are found by.
DECODER = 1

# Bad: whatever it befalls cannot be used, and is left out or stops the job (``data.on_bad``).
BAD = {
    "unreadable": "a picture that cannot be decoded: empty, truncated, damaged, or no picture",
    "cmyk": "an image in CMYK, whose colours depend on a profile; save it as RGB",
    "sixteen_bit": "a picture of more than 8 bits a channel, whose range is not known; save it with 8",
    "transparent": "an image with transparent pixels, which have no colour; flatten it",
    "grey_mask": "a mask with values between background and foreground; set data.mask_threshold to allow it",
    "colour_mask": "a mask whose channels differ",
    "empty_mask": "a mask without foreground",
    "size_mismatch": "a mask of another size than its image",
    "duplicate_id": "several files of one id",
    "no_mask": "an image without a mask",
    "no_image": "a mask without an image",
    "missing_columns": "a table without the columns that name it",
    "unreadable_table": "a table that is no text in UTF-8, or no table",
    "bad_row": "a row with a value that is not allowed",
    "duplicate_row": "an id that stands twice in a table, with different values",
    "incomplete_attributes": "an id without a mask of every attribute",
}
# Taken as it is, and said.
ACCEPTED = {
    "rotated": "an image with an orientation tag",
    "alpha": "an image with an alpha channel that is opaque everywhere",
    "grey_image": "an image without colour",
    "zero_one_mask": "a mask of 0 and 1 instead of 0 and 255",
    "thresholded_mask": "a grey mask, cut at data.mask_threshold",
    "duplicate_content": "images of one content under several ids, kept in one part",
    "id_case": "an id in another case",
    "repeated_row": "an id that stands twice in a table, with the same values",
    "byte_order_mark": "a table that starts with a byte order mark",
    "crlf": "a table with Windows line ends",
    "extra_columns": "a table with columns that nothing reads",
}


@dataclass(frozen=True)
class Finding:
    """A verdict (a key of ``BAD`` or ``ACCEPTED``) on a file; ``id`` is the image that falls with it, if any."""

    verdict: str
    what: str
    detail: str = ""
    id: str | None = None

    def __post_init__(self) -> None:
        assert self.verdict in BAD or self.verdict in ACCEPTED, self.verdict

    @property
    def bad(self) -> bool:
        """Whether what it befalls cannot be used."""
        return self.verdict in BAD

    def __str__(self) -> str:
        return f"{self.what}: {self.verdict}" + (f", {self.detail}" if self.detail else "")


def check_findings(findings: Sequence[Finding], on_bad: str, max_bad_fraction: float, num_images: int) -> set[str]:
    """Return the ids to leave out.

    Raises:
        ValueError: something is bad and ``on_bad`` is ``error``, or a larger share of the images is bad than
            ``max_bad_fraction``; names the files with their verdicts.
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
    """Verdicts with their numbers, and the first of each."""
    groups = Counter(one.verdict for one in findings)
    named = {verdict: [str(one) for one in findings if one.verdict == verdict] for verdict in groups}
    return "; ".join(f"{number} × {verdict} ({listed(named[verdict], '; ')})" for verdict, number in groups.items())


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """Name the first five of ``items`` and say how many there are, for a message."""
    every = list(items)
    return separator.join(every[:5]) + (f"{separator}… ({len(every)} in all)" if len(every) > 5 else "")
