"""Latent spaces with one interface (load): principal components (pca), AutoencoderKL (vae), TAESD (tiny)."""
