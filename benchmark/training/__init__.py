"""Train one job: the loop, the EMA of the weights, checkpoints, and loading a trained model."""
