"""dermprompt: labelled lesion images from masks and prompts, and whether they help a segmenter."""

__version__ = "0.1.0"
