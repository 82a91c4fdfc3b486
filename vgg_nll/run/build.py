"""Builds objects from a config, one `make_x` per part. Below this module nothing knows a config."""

import functools
import inspect
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from vgg_nll import rng
from vgg_nll.checkpoints.pretrained import load_initial_weights
from vgg_nll.config.compose import MAY_INSTANTIATE, why_not_called
from vgg_nll.data.interface import ImageData
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.errors import ConfigError, DataError
from vgg_nll.hardware import choose_device, choose_dtype, is_out_of_memory
from vgg_nll.losses import Loss
from vgg_nll.losses.class_weights import ClassWeighted, balanced_weights
from vgg_nll.model import VGG16, has_deterministic_pool, head_for
from vgg_nll.tracking.tracker import GuardedTracker, Tracker
from vgg_nll.training.optim import Schedule, param_groups
from vgg_nll.training.settings import TrainerSettings

# What makes a part smaller, for messages.
SIZES = {
    "data": "data.num_images or data.image_size",
    "data.source": "data.num_images or data.image_size",
    "model": "model.width",
}


def make_device(name: str) -> torch.device:
    """Returns the device of `device=`."""
    try:
        return choose_device(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def make_dtype(cfg: DictConfig, device: torch.device) -> torch.dtype:
    """Returns the number format of `trainer.precision=`."""
    return choose_dtype(make_settings(cfg).precision, device)


def make_data(cfg: DictConfig, device: torch.device, ranks: Ranks = ALONE, source: Any = None) -> ImageData:
    """Returns the data set of `data=`, in batches of `trainer.batch_size`, with draws from `seed`.

    The function `data.source._target_` takes those settings of `data` that it has parameters for, the data set the others.

    Args:
        source: takes the place of what that function gives.
    """
    options, settings = {str(key): value for key, value in cfg.data.items()}, make_settings(cfg)
    given: dict[str, Any] = {
        "augmentation": _instantiate("augment", cfg.augment),
        "batch_size": settings.batch_size,
        "eval_batch_size": settings.eval_batch_size,
        "seed": cfg.seed,
        "device": device,
    } | ({"ranks": ranks} if ranks.size > 1 else {})
    if "source" in options:
        make_source = _instantiate("data.source", options.pop("source"), _partial_=True)
        known = inspect.signature(make_source).parameters
        of_source = {key: options.pop(key) for key in list(options) if key in known}
        given["source"] = _call("data.source", make_source, **of_source) if source is None else source
    return _call("data", _instantiate("data", options), **given)


def make_network(cfg: DictConfig, num_classes: int, image_size: int) -> VGG16:
    """Returns the network of `model=`, for the classes and the image size of its data, on the CPU. Reads nothing else."""
    options = {str(key): value for key, value in cfg.model.items() if key not in ("weights", "keep_last_layer", "freeze")}
    return _instantiate("model", options, num_classes=num_classes, head=_head(cfg, image_size))


def make_model(
    cfg: DictConfig, class_names: Sequence[str], image_size: int, device: torch.device, *, draw_weights: bool = True
) -> VGG16:
    """Returns the network of `model=`, ready to train.

    Its weights are drawn from `seed`, and those of `model.weights` that fit are loaded; or, without `draw_weights`, none are
    set: the caller loads all of them before anything else.
    """
    is_deterministic = has_deterministic_pool(_head(cfg, image_size), image_size)
    if not is_deterministic and device.type == "cuda" and make_settings(cfg).deterministic:
        raise ConfigError(
            f"trainer.deterministic=true: PyTorch has no deterministic gradient for pooling maps of {image_size}x"
            f"{image_size} images to 7x7 on a GPU; set data.image_size=224, or model.head=compact"
        )
    with rng.seeded(cfg.seed, "init") if draw_weights else rng.NoDraws():
        model = make_network(cfg, len(class_names), image_size)
    weights, keep_last_layer = cfg.model.weights, cfg.model.keep_last_layer
    if weights is not None and draw_weights:
        load_initial_weights(model, weights, class_names, keep_last_layer=keep_last_layer)
    _freeze(model, cfg.model.freeze)
    return model.to(device).to(memory_format=torch.channels_last)


def _head(cfg: DictConfig, image_size: int) -> str:
    return head_for(image_size) if cfg.model.head == "auto" else cfg.model.head


def _freeze(model: VGG16, prefix: str) -> None:
    """Freezes what `model.freeze` names: a prefix of parameter names, or "none"."""
    try:
        model.freeze("" if prefix == "none" else prefix)
    except ValueError as error:
        raise ConfigError(f"model.freeze={prefix}: {error}") from error


def make_class_weights(cfg: DictConfig, data: ImageData) -> torch.Tensor | None:
    """Returns the weights [C] of `loss.weight`: a number for each class, or ["name=number", ...], where the others count 1, or
    "auto" for those that make classes count the same. None without any."""
    given = cfg.loss.weight if "weight" in cfg.loss else None
    if given is None:
        return None
    if given == "auto":
        return balanced_weights(data.class_counts)
    named = dict(item.rpartition("=")[::2] for item in given if isinstance(item, str))
    if not named and len(given) == len(data.class_names):
        return torch.tensor([float(weight) for weight in given])
    known = {unicodedata.normalize("NFC", name): k for k, name in enumerate(data.class_names)}
    unknown = [name for name in named if unicodedata.normalize("NFC", name) not in known]
    if unknown or len(named) != len(given):
        what = f"there is no class {unknown[0]}" if unknown else f"needs a number for each of {len(known)} classes"
        raise ConfigError(f'loss.weight={given}: {what}; ["{next(iter(known))}=20"] weighs one by its name, auto all')
    weights = torch.ones(len(known))
    for name, number in named.items():
        weights[known[unicodedata.normalize("NFC", name)]] = float(number)
    return weights


def make_loss(cfg: DictConfig, data: ImageData, device: torch.device) -> Loss:
    """Returns the loss of `loss=`: a module from logits [B, C] and a target to the mean over the batch, with `loss.weight`."""
    options = {str(key): value for key, value in cfg.loss.items() if key != "weight"}
    weight, num_classes = make_class_weights(cfg, data), len(data.class_names)
    if weight is None:
        loss = _instantiate("loss", options).to(device)
    else:
        loss = ClassWeighted(_instantiate("loss", options, reduction="none"), weight).to(device)
    labels = torch.arange(3, device=device) % num_classes
    probe = _call("loss", loss, torch.zeros(3, num_classes, device=device), labels)
    if not isinstance(probe, torch.Tensor) or probe.dim() > 0:
        raise ConfigError(f"loss._target_={cfg.loss._target_}: must give one number for a batch, the mean over its images")
    return loss


def make_optimizer(cfg: DictConfig, model: VGG16) -> torch.optim.Optimizer:
    """Returns the optimizer of `optimizer=`, fused; weight decay is for weights, not for biases and batch norm."""
    options = {str(key): value for key, value in cfg.optimizer.items() if key != "backbone_lr_scale"}
    groups = param_groups(model, cfg.optimizer.backbone_lr_scale)
    return _call("optimizer", _instantiate("optimizer", options), groups, fused=True)


def make_learning_rate(cfg: DictConfig, data: ImageData, total_steps: int) -> Callable[[int], float]:
    """Returns step -> learning rate, of `optimizer.lr` and `schedule=`."""
    warmup_steps = min(total_steps, round(cfg.schedule.warmup_epochs * data.steps_per_epoch))
    schedule = Schedule(_instantiate("schedule.decay", cfg.schedule.decay), total_steps, warmup_steps)
    peak = float(cfg.optimizer.lr)
    return lambda step: peak * schedule(step)


def make_settings(cfg: DictConfig) -> TrainerSettings:
    """Returns `trainer.*` as typed settings, which everything else reads."""
    return TrainerSettings(**{str(key): value for key, value in cfg.trainer.items()})


def make_tracker(
    cfg: DictConfig, folder: Path, first_step: int, first_validation: int | None = None, run_id: str = ""
) -> Tracker:
    """Returns the tracker of `tracking=`, which writes into the folder of this run, from these steps on."""
    constructor = _instantiate("tracking", cfg.tracking)
    try:
        inspect.signature(constructor).bind(folder, first_step, first_validation, run_id)
    except TypeError as error:
        raise ConfigError(f"tracking: {error}") from error
    return GuardedTracker(lambda: constructor(folder, first_step, first_validation, run_id))


def _instantiate(group: str, node: Any, **extra: Any) -> Any:
    """Hydra's `instantiate`, with plain lists and dicts; an error of the constructor is an error of the config."""
    try:
        made = instantiate(node, _convert_="all", **MAY_INSTANTIATE, **extra)
        if isinstance(made, functools.partial):
            inspect.signature(made)  # refuses an unknown argument now, not at the call
    except (InstantiationException, ValueError) as error:
        cause = error.__cause__
        if isinstance(cause, DataError):
            raise cause from None
        if isinstance(cause, ImportError):
            reason = str(cause.__cause__ or cause).partition("\n")[0]
            raise ConfigError(f"{group}._target_={node['_target_']}: cannot be imported ({reason})") from error
        if cause is None and isinstance(error, InstantiationException):
            raise ConfigError(f"{group}._target_={node['_target_']}: {why_not_called(str(error))}") from error
        if cause is None or isinstance(cause, (TypeError, ValueError, AttributeError)) or is_out_of_memory(cause):
            raise _config_error(group, cause or error) from error
        raise
    return made


def _call(group: str, constructor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The rest of a `_partial_`: an argument that the constructor does not take, or refuses, is an error of the config."""
    try:
        inspect.signature(constructor).bind(*args, **kwargs)
        taken = set(kwargs) & set(getattr(constructor, "keywords", {}))
        if taken:
            raise ConfigError(f"{group}.{min(taken)}: is set by the program; leave it out")
        return constructor(*args, **kwargs)
    except DataError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise _config_error(group, error, kwargs) from error


def _config_error(group: str, error: BaseException, of_program: Collection[str] = ()) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    unknown = re.search(r"got an unexpected keyword argument '(\w+)'", str(error))
    if unknown and unknown[1] in of_program:
        return ConfigError(f"{group}._target_: takes no argument {unknown[1]}, which the program passes")
    if unknown:
        return ConfigError(f"{group}.{unknown[1]}: there is no such setting: nothing would read it")
    if is_out_of_memory(error):
        return ConfigError(f"{group}: is too large for the memory; lower {SIZES.get(group, group)}")
    return ConfigError(f"{group}: {error}")
