"""Export of a trained network to other programs: ONNX, torch.export, safetensors; each checked against the checkpoint."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.files import naming_the_file
from vgg_nll.inference.trained_model import TrainedModel

PACKAGES = "pip install onnx onnxscript onnxruntime safetensors"
OUTPUTS = ("logits", "probabilities")
TOLERANCE = 1e-4
CHECKED = (1, 5)  # batch sizes
Run = Callable[[Tensor], tuple[Tensor, Tensor]]


class Exported(nn.Module):
    """A network with its preprocessing and its temperature: `pixels`, uint8 [B, S, S, 3] (RGB) -> logits, probabilities [B, C].

    The logits are divided by the temperature.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedModel, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = trained.model.float(), temperature
        self.register_buffer("mean", trained.preprocessing.mean)
        self.register_buffer("std", trained.preprocessing.std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = (pixels.float() / 255 - self.mean) / self.std
        logits = self.model(images.permute(0, 3, 1, 2)) / self.temperature
        return logits, logits.softmax(dim=1)


def export(trained: TrainedModel, file_format: str, path: Path, *, temperature: float, threshold: float) -> float:
    """Writes a network, on the CPU, as one file; returns the largest difference of a probability to the checkpoint's.

    The file gets its name when it has been checked: on random pixels, logits and probabilities must be those of the checkpoint,
    to 1e-4 (of the largest logit).

    Args:
        file_format: "onnx" (needs onnx, onnxscript, onnxruntime), "torch_export", "safetensors" (the weights alone).
        threshold: confidence below which a program should not trust a prediction; goes into the metadata.

    Raises ConfigError if a package is missing, CheckpointError if the file does not give what the checkpoint gives.
    """
    network = Exported(trained, temperature).eval()
    metadata = describe(trained, temperature, threshold)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}{path.suffix}")
    try:
        with naming_the_file(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters' own, of their own code
            run = WRITERS[file_format](network, metadata, unfinished, trained)
        difference = _largest_difference(network, run, trained.preprocessing.image_size)
        if not difference <= TOLERANCE:
            raise CheckpointError(f"{path}: was not written: its outputs differ from the checkpoint's by {difference:.2g}")
        unfinished.replace(path)
    except ImportError as error:
        raise ConfigError(f"--format {file_format}: needs {error.name} ({PACKAGES})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return difference


def describe(trained: TrainedModel, temperature: float, threshold: float) -> dict[str, str]:
    """Returns the metadata of a file: each value is JSON."""
    values: dict[str, Any] = trained.preprocessing.to_dict() | {
        "classes": list(trained.class_names),
        "temperature": temperature,
        "threshold": threshold,
        "step": trained.step,
        "run": trained.run_id,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _write_onnx(network: Exported, metadata: dict[str, str], path: Path, trained: TrainedModel) -> Run:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401 - PyTorch's exporter needs it, and says so in many lines

    program = torch.onnx.export(
        _program(network, trained), dynamo=True, verbose=False, input_names=["pixels"], output_names=list(OUTPUTS)
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(list(OUTPUTS), {"pixels": pixels.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return run


def _write_program(network: Exported, metadata: dict[str, str], path: Path, trained: TrainedModel) -> Run:
    torch.export.save(_program(network, trained), path, extra_files={"metadata.json": json.dumps(metadata)})
    run: Run = torch.export.load(path).module()
    return run


def _write_safetensors(network: Exported, metadata: dict[str, str], path: Path, trained: TrainedModel) -> Run:
    from safetensors.torch import load_file, save_file

    weights = {name: value.contiguous() for name, value in trained.model.state_dict().items()}
    save_file(weights, path, metadata)
    loaded = load_file(path)

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = torch.func.functional_call(
            network, {f"model.{name}": value for name, value in loaded.items()}, pixels
        )
        return outputs

    return run


WRITERS: dict[str, Callable[[Exported, dict[str, str], Path, TrainedModel], Run]] = {
    "onnx": _write_onnx,
    "torch_export": _write_program,
    "safetensors": _write_safetensors,
}


def _program(network: Exported, trained: TrainedModel) -> torch.export.ExportedProgram:
    """Traces the network, for any number of images."""
    size = trained.preprocessing.image_size
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    return torch.export.export(network, (pixels,), dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}})


@torch.no_grad()
def _largest_difference(network: Exported, run: Run, image_size: int) -> float:
    draw = torch.Generator().manual_seed(0)
    differences = []
    for batch in CHECKED:
        pixels = torch.randint(0, 256, (batch, image_size, image_size, 3), dtype=torch.uint8, generator=draw)
        (logits, probabilities), (expected, expected_probabilities) = run(pixels), network(pixels)
        scale = max(1.0, float(expected.abs().max()))
        differences += [(logits - expected).abs().max() / scale, (probabilities - expected_probabilities).abs().max()]
    return float(torch.stack(differences).max())  # NaN if one is
