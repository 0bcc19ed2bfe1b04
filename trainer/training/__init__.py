"""The training loop: steps, checkpoints, stages and logs."""
