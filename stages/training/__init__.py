"""One training loop for every model: data, optimiser, checkpoints, distribution."""
