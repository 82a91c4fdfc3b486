"""VGG-16 with a softmax head, trained with one of two negative log-likelihoods.

`vgg_nll.load(run)` gives the network of a finished run; `vgg_nll.losses` and `vgg_nll.model` can be used alone.
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vgg_nll.inference.trained_model import TrainedModel

__all__ = ["load"]


def load(run: str | PathLike[str], checkpoint: str = "best", device: str = "auto") -> "TrainedModel":
    """Loads the network of a finished run, in eval mode: `vgg_nll.load("runs/train/...").predict("picture.jpg")`.

    Args:
        run: the run folder; checkpoint: "best", "last" or "previous"; device: "auto", "cpu", "cuda", "cuda:<number>".

    Raises CheckpointError, ConfigError (both are ValueError) if the run cannot be loaded.
    """
    from vgg_nll.inference import trained_model  # here, so that `import vgg_nll.losses` loads nothing else

    return trained_model.load(run, checkpoint, device)
