"""Weights to start from: torchvision's, a file of any usual format, or a run of ours."""

import logging
import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import WeightsEnum

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.weights import is_finite, load_weights
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.files import expanded
from vgg_nll.model import VGG16
from vgg_nll.run_folder import paths

log = logging.getLogger(__name__)
Weights = Mapping[str, Tensor]


def load_initial_weights(model: VGG16, source: str) -> None:
    """Loads weights into a network, and says in one line which.

    Everything must fit, but for a last layer of another size, which stays as it was drawn. So does the whole head if the source
    has another kind of head, or none.

    Args:
        source: the name of the model's pretrained weights, fetched on first use and checked by their hash; a file (.pth, .pt,
            .safetensors); or a run folder, for the weights of its best step.

    Raises ConfigError for weights of another network, with the first difference; CheckpointError for what cannot be read.
    """
    with checkpoint_file.errors_as_one("model.weights"):
        weights = _read(source, model)
    own = model.state_dict()
    _check_backbone(source, model, weights, own)
    drawn = _not_loaded(source, model, weights, own)
    fitting = {name: weights[name] for name in own if name in weights and name not in drawn}
    if not all(map(is_finite, fitting.values())):
        raise ConfigError(f"model.weights={source}: holds NaN or infinity")
    model.load_state_dict(fitting, strict=False)
    log.info(f"model: {len(fitting)} tensors from {source}" + (f"; drawn at random: {', '.join(drawn)}" if drawn else ""))


def _read(source: str, model: VGG16) -> Weights:
    path = expanded(source)
    if not path.exists() and re.fullmatch(r"[A-Z0-9_]+", source):
        return _downloaded(source, model.pretrained_weights)
    if path.is_dir():
        paths.check_holds_run(path)
        path /= paths.BEST
    return load_weights(path, model.first_weight)


def _downloaded(name: str, weights: WeightsEnum) -> Weights:
    if name != weights.name:
        raise CheckpointError(f"{name}: there are no such weights; there are {weights.name}, files, and run folders")
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; another hash
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{name}: could not be downloaded ({reason}); fetch {weights.url}, and name the file") from error


def _check_backbone(source: str, model: VGG16, weights: Weights, own: Weights) -> None:
    """Raises ConfigError with the first convolution, or batch norm, that differs."""
    mine, theirs = ({name for name in names if name.startswith(model.backbone_prefix)} for names in (own, weights))
    counts = {name for name in mine if name.endswith("num_batches_tracked")}  # older files lack them; no result needs them
    for name in sorted(mine - theirs - counts):
        found = ", ".join(list(weights)[:3]) or "no tensors"
        raise ConfigError(f"model.weights={source}: has no {name} of this network (another model=?), but {found}")
    for name in sorted(theirs - mine):
        raise ConfigError(f"model.weights={source}: has {name}, which this network has not (another model=?)")
    for name in sorted(mine & theirs):
        if weights[name].shape != own[name].shape:
            shapes = f"{list(weights[name].shape)} there, {list(own[name].shape)} in this network"
            raise ConfigError(f"model.weights={source}: {name} is {shapes}: another model.width?")


def _not_loaded(source: str, model: VGG16, weights: Weights, own: Weights) -> list[str]:
    """Returns the names of the last layer, if it has another size; of the whole head, if the source has another kind, or none.

    Raises ConfigError with the first other difference.
    """
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    head, theirs = ([name for name in names if name.startswith(model.head_prefix)] for names in (own, weights))
    if {name.rpartition(".")[0] for name in head} != {name.rpartition(".")[0] for name in theirs}:
        return sorted(head)
    drawn = []
    for name in head:
        fits = name in weights and weights[name].shape == own[name].shape
        if not fits and not name.startswith(f"{last}."):
            what = f"{name} is {list(weights[name].shape)} there" if name in weights else f"has no {name}"
            raise ConfigError(f"model.weights={source}: {what}, {list(own[name].shape)} in this network")
        drawn += [] if fits else [name]
    return sorted(f"{last}.{part}" for part in ("bias", "weight")) if drawn else []
