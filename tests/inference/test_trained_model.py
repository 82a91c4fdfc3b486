"""`vgg_nll.load(run).predict(...)`: the network's own softmax, for paths, PIL images, tensors, and lists of them."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.configs import TINY
from helpers.runs import train
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

import vgg_nll
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.errors import CheckpointError, ConfigError, DataError
from vgg_nll.inference import trained_model
from vgg_nll.inference.trained_model import Predictions, TrainedModel
from vgg_nll.run_folder import paths

MUST_BE = r"a picture must be a path, a PIL image, or a uint8 tensor \[3, H, W\]"


@pytest.fixture
def network(finished: Path) -> TrainedModel:
    return vgg_nll.load(finished, device="cpu")


def draw(seed: int, height: int = 40, width: int = 52) -> Tensor:
    """A random picture, smooth enough that resizing leaves something of it: uint8 [3, height, width]."""
    small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return (255 * large[0]).to(torch.uint8)


def as_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def softmax(network: TrainedModel, *pictures: Tensor, temperature: float = 1.0) -> Tensor:
    """What the network gives for these pictures, step by step: resize, crop, scale, normalise, forward, softmax."""
    content = json.loads((network.folder / "run.json").read_text())["preprocessing"]
    images = []
    for pixels in pictures:
        cropped = functional.center_crop(functional.resize(pixels, content["resize"]), [content["image_size"]] * 2)
        mean, std = (torch.tensor(content[name])[:, None, None] for name in ("mean", "std"))
        images.append((cropped.float() / 255 - mean) / std)
    with torch.no_grad():
        return (network.model(torch.stack(images)).double() / temperature).softmax(1)


def check(network: TrainedModel, found: Predictions, expected: Tensor) -> None:
    """All three fields, against the softmax outputs `expected` [N, C]."""
    assert found.probabilities.shape == expected.shape
    assert found.probabilities.dtype == found.margin.dtype == torch.float64
    torch.testing.assert_close(found.probabilities, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(expected), dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.margin, torch.logit(expected.amax(1)), rtol=1e-3, atol=1e-4)
    assert found.classes == tuple(network.class_names[k] for k in expected.argmax(1))


@pytest.mark.parametrize("kind", ["path", "text", "image", "tensor"])
def test_one_picture(network: TrainedModel, tmp_path: Path, kind: str) -> None:
    pixels = draw(0)
    as_image(pixels).save(tmp_path / "a.png")
    given: dict[str, Any] = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "image": as_image(pixels),
        "tensor": pixels,
    }
    check(network, network.predict(given[kind]), softmax(network, pixels))
    check(network, network.predict([given[kind]]), softmax(network, pixels))


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_list_of_all_kinds(network: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    """Of several sizes, in order, also in several batches, the last one not full."""
    monkeypatch.setattr(trained_model, "BATCH_SIZE", batch_size)
    pictures = [draw(seed, 32 + 3 * seed, 64 - 5 * seed) for seed in range(5)]
    as_image(pictures[1]).save(tmp_path / "b.png")
    given = [pictures[0], tmp_path / "b.png", as_image(pictures[2]), pictures[3], pictures[4]]
    expected = softmax(network, *pictures)
    assert len(set(expected[:, 0].tolist())) == 5  # so that another order would be seen
    check(network, network.predict(given), expected)
    check(network, network.predict(tuple(given)), expected)


def test_grey_pictures_and_those_that_lie_on_their_side(network: TrainedModel) -> None:
    """PIL images are turned as their EXIF data say, and seen in RGB."""
    grey = draw(3)[:1]
    check(network, network.predict(Image.fromarray(grey[0].numpy())), softmax(network, grey.expand(3, -1, -1)))
    pixels = draw(4)
    lying = as_image(pixels.rot90(1, (1, 2)))  # turned to the left; the EXIF data say: turn it to the right
    lying.getexif()[0x0112] = 6
    check(network, network.predict(lying), softmax(network, pixels))


def test_temperature_divides_the_logits(network: TrainedModel) -> None:
    pictures = [draw(5), draw(6)]
    check(network, network.predict(pictures, temperature=2.5), softmax(network, *pictures, temperature=2.5))


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan, math.inf, -math.inf, 1e-320])
def test_a_temperature_that_cannot_be_is_named(network: TrainedModel, temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"^temperature={temperature}: must be a number from 0.01 to 100$"):
        network.predict("no_such_file.png", temperature=temperature)
    with pytest.raises(ValueError, match=r"^temperature="):
        network.predict_batch(draw(0)[None], temperature)


def test_the_margin_grows_beyond_a_probability_of_one(network: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg_nll.model.VGG16.forward", lambda self, images: torch.tensor([[0.0, 60.0]]))
    found = network.predict(draw(0))
    assert found.probabilities[0, 1] == 1
    assert found.margin.item() == pytest.approx(60)


@pytest.mark.parametrize(
    "picture",
    [
        torch.zeros(3, 40, 40),
        torch.zeros(40, 40, dtype=torch.uint8),
        torch.zeros(1, 40, 40, dtype=torch.uint8),
        torch.zeros(40, 40, 3, dtype=torch.uint8),
        torch.zeros(3, 40, dtype=torch.uint8),
        torch.zeros(3, 3, 40, 40, dtype=torch.uint8),
        np.zeros((3, 40, 40), dtype=np.uint8),
        7,
    ],
    ids=["float", "[H, W]", "[1, H, W]", "[H, W, 3]", "[3, W]", "[B, 3, H, W]", "numpy", "number"],
)
def test_other_shapes_and_types_are_refused(network: TrainedModel, picture: Any) -> None:
    with pytest.raises(ValueError, match=MUST_BE):
        network.predict([draw(0), picture])
    if isinstance(picture, Tensor):
        with pytest.raises(ValueError, match=MUST_BE):
            network.predict(picture)


def test_no_pictures(network: TrainedModel) -> None:
    with pytest.raises(ValueError, match="there are no pictures to predict"):
        network.predict([])


def test_a_file_that_cannot_be_read(network: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read as a picture"):
        network.predict(tmp_path / "gone.png")


@pytest.mark.slow
def test_the_network_is_in_eval_mode(tmp_path: Path, no_figures: None) -> None:
    """Dropout is off and batch norm uses its running statistics: a picture's outputs depend on that picture alone."""
    train(tmp_path, *TINY, "model=vgg16_bn", "model.dropout=0.5", "trainer.steps=2")
    network = vgg_nll.load(tmp_path, device="cpu")
    assert not any(module.training for module in network.model.modules())
    alone, beside = network.predict(draw(0)), network.predict([draw(0), draw(1), draw(2)])
    torch.testing.assert_close(alone.probabilities[0], beside.probabilities[0], rtol=1e-5, atol=1e-7)
    assert torch.equal(network.predict(draw(0)).probabilities, alone.probabilities)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = checkpoint_file.load(path)
    change(content)
    checkpoint_file.save(path, content)


def test_load_takes_the_checkpoint_by_its_name(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    rewrite(folder / paths.LAST, lambda content: content.update(step=5, model=halved(content["model"])))
    for name, other in (("best", "last"), ("last", "best")):
        network = vgg_nll.load(str(folder), name, device="cpu")
        saved, different = (checkpoint_file.load(folder / f"checkpoints/{file}.pt") for file in (name, other))
        assert network.step == saved["step"] != different["step"]
        weights = network.model.state_dict()
        assert all(torch.equal(value, saved["model"][key]) for key, value in weights.items())
        assert not torch.equal(weights["features.0.weight"], different["model"]["features.0.weight"])
    assert network.class_names == tuple(json.loads((folder / "run.json").read_text())["data"]["classes"])


def halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value / 2 for name, value in weights.items()}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"best\.pt: there is no such checkpoint$"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), r"best\.pt: damaged"),
        (lambda path: rewrite(path, lambda content: content.pop("model")), r"best\.pt does not fit its config: 'model'$"),
        (
            lambda path: rewrite(path, lambda content: content["model"].pop("classifier.0.bias")),
            r"does not fit its config: the weights are of another model: the checkpoint has no classifier\.0\.bias$",
        ),
        (lambda path: rewrite(path, lambda content: content.update(model=[1])), r"best\.pt does not fit its config: "),
    ],
    ids=["missing", "damaged", "no weights", "other weights", "a list"],
)
def test_what_cannot_be_loaded_is_one_line(finished: Path, tmp_path: Path, spoil: Callable[[Path], Any], words: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    spoil(folder / paths.BEST)
    with pytest.raises(CheckpointError, match=words) as refused:
        vgg_nll.load(folder, device="cpu")
    assert "\n" not in str(refused.value)


def test_another_device(finished: Path) -> None:
    with pytest.raises(ConfigError, match="device=tpu: must be auto, cpu, cuda"):
        vgg_nll.load(finished, device="tpu")


@pytest.mark.parametrize(("test_precision", "dtype"), [("float32", torch.float32), ("same", torch.bfloat16)])
def test_the_precision_is_that_of_the_test(finished: Path, test_precision: str, dtype: torch.dtype) -> None:
    record = trained_model.open_record(finished)
    trainer = record.config["trainer"] | {"precision": "bfloat16", "test_precision": test_precision}
    record = replace(record, config={**record.config, "trainer": trainer})
    assert trained_model.load_weights(finished, record, "best", "cpu").dtype == dtype


def test_a_link_in_the_place_of_a_file_is_refused(finished: Path, tmp_path: Path) -> None:
    """What reads a run writes to it, too."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / paths.PREDICTIONS).unlink(missing_ok=True)
    (tmp_path / "run" / paths.PREDICTIONS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is a link, where a run has a file of its own"):
        vgg_nll.load(tmp_path / "run", device="cpu")
