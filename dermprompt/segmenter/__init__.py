"""Segmentation networks and their training; which ones can be chosen is in ``conf/segmenter``."""
