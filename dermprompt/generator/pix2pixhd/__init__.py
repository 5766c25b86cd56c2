"""Pix2PixHD: networks, losses, perceptual losses, image pool, training (module)."""
