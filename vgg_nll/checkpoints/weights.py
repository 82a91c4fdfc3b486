"""Weights of a network: read from files of any usual kind, and checked against the network that takes them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vgg_nll.checkpoints.file import load_tensors
from vgg_nll.errors import CheckpointError


def load_weights(path: Path, first_weight: str) -> dict[str, Tensor]:
    """Returns name -> tensor of a checkpoint of ours, or of a state dict that another program saved (also as .safetensors).

    The name `first_weight` is looked for: in the file, and in the dicts that it holds ("model", "state_dict", "net", ...),
    under any prefix ("module.", "_orig_mod.", "model.", ...). Raises CheckpointError as `load` does.
    """
    content = _load_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    parts = [content, *content.values()] if isinstance(content, dict) else []
    dicts = [_tensors(part) for part in parts if isinstance(part, dict)]
    for tensors in dicts:
        for name in tensors:
            if name.endswith(first_weight):
                prefix = name.removesuffix(first_weight)
                return {other.removeprefix(prefix): value for other, value in tensors.items() if other.startswith(prefix)}
    return next(filter(None, dicts), {})


def _tensors(content: dict[Any, Any]) -> dict[str, Tensor]:
    """Returns the tensors that hold numbers of the usual kind; those of few bits as float32."""
    return {
        str(name): value.float() if value.is_floating_point() and value.itemsize == 1 else value
        for name, value in content.items()
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    }


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise CheckpointError(f"{path}: needs the package safetensors (pip install safetensors)") from error
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be read ({reason})") from error


def class_names_of(path: Path) -> list[str] | None:
    """Returns the class names that scripts/export.py writes into a .safetensors file; None for a file without any."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open  # `load_weights` has made sure that it is there

    with safe_open(path, "pt") as file:
        try:
            names = json.loads((file.metadata() or {})["classes"])
        except (LookupError, ValueError):
            return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def evaluated_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint that were evaluated: their average, if it holds one."""
    weights: dict[str, Tensor] = content.get("average") or content["model"]  # best.pt holds these alone
    return weights


def check_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raises ValueError with the first difference if `weights` are not of this very model."""
    own = model.state_dict()
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise ValueError("the checkpoint holds no weights")
    for name in sorted(own.keys() ^ weights.keys()):
        side = "the checkpoint" if name in own else "the model"
        raise ValueError(f"the weights are of another model: {side} has no {name}")
    for name, tensor in own.items():
        saved = weights[name]
        if not has_numbers(saved):
            raise ValueError(f"{name} is not a tensor")
        if tensor.shape != saved.shape:
            shapes = f"{list(saved.shape)} in the checkpoint, {list(tensor.shape)} in the model"
            raise ValueError(f"the weights are of another model: {name} is {shapes}")
        if tensor.dtype != saved.dtype:
            raise ValueError(f"the weights are of another model: {name} is {saved.dtype}, not {tensor.dtype}")
        if not is_finite(saved):
            raise ValueError(f"{name} holds NaN or infinity")


def is_finite(values: Tensor) -> bool:
    """Returns whether a tensor holds neither NaN nor infinity.

    In one pass, without the copies that `isfinite` makes: those took longer than reading 134 M weights from the disk.
    """
    if not values.is_floating_point() or values.numel() == 0:
        return bool(values.isfinite().all())
    return bool(torch.stack(values.aminmax()).isfinite().all())  # both are NaN if one value is


def has_numbers(value: Any) -> bool:
    """Returns whether a value is a tensor of the usual kind: neither sparse nor without memory."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
