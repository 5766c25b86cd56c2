"""Lightning's training loop, callbacks, checkpoints and Trainer, and W&B runs."""
