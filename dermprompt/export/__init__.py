"""Exports for other programs: nnU-Net, Hugging Face, ISIC's layout, diffusers; each with a card."""
