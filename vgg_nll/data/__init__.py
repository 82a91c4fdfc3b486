"""Image files and data sets -> normalised batches."""

import lazy_loader

# The names that a config may have as a `_target_`: a run folder keeps them, so the modules behind them may move.
FACES = {
    "memory.data_set": ["InMemoryData"],
    "pictures.data_set": ["FolderData"],
    "pictures.listing": ["list_imagenet", "list_pictures"],
    "pictures.table": ["list_csv"],
    "memory.sources": ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "synthetic"],
    "augmentation": ["Augmentation"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=FACES)
