"""Weights to start from: torchvision's, a file of any usual format, or a run of ours."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.weights import class_names_of, is_finite, load_weights
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.escapes import printable
from vgg_nll.files import expanded, is_name_of_weights
from vgg_nll.model import VGG16, imagenet_classes
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord

log = logging.getLogger(__name__)
Weights = Mapping[str, Tensor]
MAX_NAMES = 5  # in a message


def load_initial_weights(model: VGG16, source: str, class_names: Sequence[str], *, keep_last_layer: bool = False) -> None:
    """Loads weights into a network, and says in one line which.

    Everything must fit but the last layer: its rows are those of the classes of the same names, wherever they stand; that of a
    new class stays as it was drawn. So does the whole head if the source has another kind of head, or none.

    Args:
        source: the name of the model's pretrained weights, fetched on first use and checked by their hash; a file (.pth, .pt,
            .safetensors); or a run folder, for the weights of its best step.
        class_names: [C], of the rows of the last layer.
        keep_last_layer: takes the rows as they stand, whatever their names are.

    Raises ConfigError for weights of another network, with the first difference; CheckpointError for what cannot be read.
    """
    with checkpoint_file.errors_as_one("model.weights"):
        weights, their_names = _read(source, model)
    own = model.state_dict()
    _check_backbone(source, model, weights, own)
    last = [f"{name}.{part}" for part in ("weight", "bias") for name in [_last_layer(model)]]
    drawn = _other_head(source, model, weights, own, last)
    rows = _rows(their_names, class_names, is_whole=source == model.pretrained_weights.name)
    fits = all(name in weights and weights[name].shape[1:] == own[name].shape[1:] for name in last) and not drawn
    if keep_last_layer:
        if not fits or any(weights[name].shape != own[name].shape for name in last):
            raise ConfigError(f"model.keep_last_layer=true: the last layer of {source} is of another size than this network's")
        rows = {k: k for k in range(len(class_names))}
    fitting = {name: weights[name] for name in own if name in weights and name not in (*drawn, *last)}
    for name in last if fits and rows else ():
        fitting[name] = own[name].clone()
        fitting[name][list(rows)] = weights[name][list(rows.values())].to(own[name].dtype)
    if not all(map(is_finite, fitting.values())):
        raise ConfigError(f"model.weights={source}: holds NaN or infinity")
    model.load_state_dict(fitting, strict=False)
    log.info(f"model: {len(fitting)} tensors from {source}; " + _of_head(source, drawn, class_names, rows if fits else {}))


def _last_layer(model: VGG16) -> str:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def _rows(theirs: Sequence[str] | None, mine: Sequence[str], *, is_whole: bool) -> dict[int, int]:
    """Returns the rows of the last layer that are taken over, by class name: own row -> their row.

    Args:
        theirs: names of their rows; None if they are not known.
        is_whole: they are taken only if every class has one: ImageNet's rows are no start for "dog" beside "my dog".
    """
    known, wanted = ([unicodedata.normalize("NFC", name) for name in names] for names in (theirs or (), mine))
    if known == wanted:
        return {k: k for k in range(len(mine))}
    rows = {k: known.index(name) for k, name in enumerate(wanted) if known.count(name) == 1}
    return {} if is_whole and len(rows) < len(wanted) else rows


def _of_head(source: str, drawn: Sequence[str], class_names: Sequence[str], rows: Mapping[int, int]) -> str:
    """Says which rows of the last layer come from where."""
    if drawn:
        return f"drawn at random: {', '.join(drawn)}"
    if len(rows) == len(class_names):
        return f"last layer: all {len(rows)} classes from {source}, by name"
    if not rows:
        return "last layer drawn at random: no class is known by its name (model.keep_last_layer=true keeps rows as they stand)"
    taken, new = ([name for k, name in enumerate(class_names) if (k in rows) is known] for known in (True, False))
    return f"last layer: {_listed(taken)} from {source}; {_listed(new)} drawn at random"


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(printable(name) for name in names[:MAX_NAMES]) + rest


def _read(source: str, model: VGG16) -> tuple[Weights, Sequence[str] | None]:
    """Returns weights, and the names of the classes of their last layer, if they are known."""
    path = expanded(source)
    if not path.exists() and is_name_of_weights(source):
        return _downloaded(source, model.pretrained_weights), imagenet_classes()
    if path.is_dir():
        paths.check_holds_run(path)
        path /= paths.BEST
    folder = path.parents[1] if len(path.parents) > 1 else path.parent
    names = RunRecord.open(folder).data if path.parent.name == paths.CHECKPOINTS and (folder / paths.RUN).is_file() else None
    return load_weights(path, model.first_weight), class_names_of(path) if names is None else names.classes


def _downloaded(name: str, weights: WeightsEnum) -> Weights:
    if name != weights.name:
        raise CheckpointError(f"{name}: there are no such weights; there are {weights.name}, files, and run folders")
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; another hash
        reason = " ".join(str(error).split())
        place = Path(torch.hub.get_dir()) / "checkpoints"
        raise CheckpointError(
            f"{name}: could not be downloaded ({reason}); fetch {weights.url} elsewhere and put it into {place}"
        ) from error


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


def _other_head(source: str, model: VGG16, weights: Weights, own: Weights, last: Sequence[str]) -> list[str]:
    """Returns the names of the whole head, if the source has another kind, or none; else nothing.

    Raises ConfigError with the first difference before the last layer.
    """
    head, theirs = ([name for name in names if name.startswith(model.head_prefix)] for names in (own, weights))
    if {name.rpartition(".")[0] for name in head} != {name.rpartition(".")[0] for name in theirs}:
        return sorted(head)
    for name in head:
        if name not in last and (name not in weights or weights[name].shape != own[name].shape):
            what = f"{name} is {list(weights[name].shape)} there" if name in weights else f"has no {name}"
            raise ConfigError(f"model.weights={source}: {what}, {list(own[name].shape)} in this network")
    return []
