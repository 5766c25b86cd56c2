"""Latent spaces behind one interface (load): principal components (pca), AutoencoderKL (vae), TAESD (tiny)."""
