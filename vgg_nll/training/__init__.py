"""Batches -> weights: the step, the loop, the state, checkpoints."""

import lazy_loader

# The names that a config may have as a `_target_`: a run folder keeps them, so the modules behind them may move.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"optim": ["cosine_decay", "linear_decay", "no_decay", "step_decay"]}
)
