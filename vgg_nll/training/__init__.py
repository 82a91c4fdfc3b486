"""Batches -> weights: the step, the loop, the state, checkpoints."""
