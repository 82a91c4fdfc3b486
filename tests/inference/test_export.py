"""Exports: another program gives what the checkpoint gives, from a file that says how to feed it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vgg_nll.calibration.temperature import Fitted
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.inference import export
from vgg_nll.inference.saved_temperature import write_temperature
from vgg_nll.inference.trained_model import TrainedModel, load
from vgg_nll.model import VGG16
from vgg_nll.run_folder import paths

Script = Callable[..., int]


@pytest.fixture
def trained(finished: Path) -> TrainedModel:
    return load(finished, device="cpu")


def open_onnx(path: Path) -> tuple[Callable[[Tensor], list[np.ndarray]], dict[str, str]]:
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return lambda pixels: session.run(None, {"pixels": pixels.numpy()}), session.get_modelmeta().custom_metadata_map


def open_program(path: Path) -> tuple[Callable[[Tensor], list[np.ndarray]], dict[str, str]]:
    files = {"metadata.json": ""}
    module = torch.export.load(path, extra_files=files).module()
    return lambda pixels: [output.detach().numpy() for output in module(pixels)], json.loads(files["metadata.json"])


def open_weights(path: Path) -> tuple[Callable[[Tensor], list[np.ndarray]], dict[str, str]]:
    """As a person would: the network by hand, from the weights and the metadata."""
    opened = pytest.importorskip("safetensors").safe_open(path, "pt")
    metadata = opened.metadata()
    width = opened.get_tensor("features.0.weight").shape[0] / 64
    model = VGG16(len(json.loads(metadata["classes"])), head="compact", width=width).eval()
    model.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 - no dict
    mean, std = (torch.tensor(json.loads(metadata[name])) for name in ("mean", "std"))

    def run(pixels: Tensor) -> list[np.ndarray]:
        logits = model(((pixels / 255 - mean) / std).permute(0, 3, 1, 2)) / json.loads(metadata["temperature"])
        return [logits.detach().numpy(), logits.softmax(1).detach().numpy()]

    return run, metadata


OPEN = {"onnx": open_onnx, "torch_export": open_program, "safetensors": open_weights}


@pytest.mark.slow
@pytest.mark.parametrize("file_format", OPEN)
def test_an_export_gives_what_the_checkpoint_gives(file_format: str, trained: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"{paths.EXPORTS[file_format]}"
    assert export.export(trained, file_format, path, temperature=2.0, threshold=0.25) < 1e-4
    assert list(path.parent.iterdir()) == [path]
    run, metadata = OPEN[file_format](path)
    size = trained.preprocessing.image_size
    for batch in (1, 2, 9):
        pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        expected = trained.predict_batch(pixels.permute(0, 3, 1, 2), 2.0)
        logits, probabilities = run(pixels)
        np.testing.assert_allclose(probabilities, expected.probabilities.numpy(), atol=1e-5)
        np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)
    values = {name: json.loads(text) for name, text in metadata.items()}
    assert values["classes"] == list(trained.class_names)
    assert (values["temperature"], values["threshold"], values["step"]) == (2.0, 0.25, trained.step)
    assert {name: values[name] for name in ("image_size", "resize", "mean", "std")} == trained.preprocessing.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_a_file_that_differs_is_not_written(
    error: float, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export.WRITERS["torch_export"]

    def spoiled(*arguments: Any) -> Any:
        run = write(*arguments)
        return lambda pixels: tuple(output + error for output in run(pixels))

    monkeypatch.setitem(export.WRITERS, "torch_export", spoiled)
    (tmp_path / "x.pt2").write_text("before")
    with pytest.raises(CheckpointError, match=r"x.pt2: was not written: its outputs differ from the checkpoint's by"):
        export.export(trained, "torch_export", tmp_path / "x.pt2", temperature=1.0, threshold=0.0)
    assert (tmp_path / "x.pt2").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_package_is_named(trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"--format onnx: needs onnx \(pip install onnx onnxscript onnxruntime safetensors\)"):
        export.export(trained, "onnx", tmp_path / "x.onnx", temperature=1.0, threshold=0.0)


def test_the_command(finished: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """The fitted temperature is inside only if it is asked for."""
    write_temperature(load(finished, device="cpu"), Fitted(1.5, 1.2, 1.9, 99))
    try:
        path = tmp_path / "x.safetensors"
        for options, expected in (((), 1.0), (("--temperature",), 1.5), (("--temperature", "2"), 2.0)):
            assert script("export", finished, "--format", "safetensors", "--output", path, *options) == 0
            printed = capsys.readouterr()
            assert f"temperature {expected:g}; outputs within" in printed.out
            assert ("fitted to 99 images, fewer than 100" in printed.err) is (expected == 1.5)
            assert float(open_weights(path)[1]["temperature"]) == expected
    finally:
        (finished / "temperature.json").unlink()
    assert script("export", tmp_path) == 1
    assert "holds no run" in capsys.readouterr().err
    assert script("export", finished, "--temperature", "0") == 1
    assert "must be a number from 0.01 to 100" in capsys.readouterr().err
    assert script("export", finished, "--threshold", "2") == 2
    assert "2: must be from 0 to 1" in capsys.readouterr().err
