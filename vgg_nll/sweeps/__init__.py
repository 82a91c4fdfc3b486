"""Many runs under one name: which jobs there are, who does which, what became of them."""

import lazy_loader

# The names that a config may have as a `_target_`: a run folder keeps them, so the modules behind them may move.
FACES = {
    "local_launcher": ["LocalLauncher"],
    "slurm_launcher": ["SlurmLauncher"],
    "grid": ["GridSearch"],
    "optuna_search": ["OptunaSearch"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=FACES)
