"""Segmentation networks and their training; ``conf/segmenter`` lists the choices."""
