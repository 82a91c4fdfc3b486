"""Where numbers and pictures of a run go. The only part that knows TensorBoard."""

import lazy_loader

# The names that a config may have as a `_target_`: a run folder keeps them, so the modules behind them may move.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"tracker": ["NullTracker", "TensorBoardTracker"]})
