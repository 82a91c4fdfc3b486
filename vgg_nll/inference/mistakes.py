"""mistakes.html: the wrong images of an evaluation, each with its softmax outputs and the training images nearest to it."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image
from torch import Tensor

from vgg_nll.data.interface import ImageData
from vgg_nll.escapes import printable
from vgg_nll.evaluation import loop, predictions
from vgg_nll.evaluation.features import FeatureCollector, Features, nearest
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.most_confident_errors import MostConfidentErrors
from vgg_nll.evaluation.report import confidence_text
from vgg_nll.files import atomic_write
from vgg_nll.hardware import full_float32
from vgg_nll.inference.trained_model import BATCH_SIZE, TrainedModel
from vgg_nll.progress import track

MAX_MISTAKES = 100  # on the page: with their pictures and those of their neighbours, it stays below 5 MB
MAX_TRAINING, NEIGHBOURS = 5000, 4  # training images whose features are compared; of them, shown per mistake
BARS = 5  # softmax outputs shown per mistake
SIDE, QUALITY = 128, 80  # of a picture in the page: pixels, of JPEG
SMALLEST = 5e-4  # a smaller share would read as 0.0%


@dataclass(frozen=True)
class Bar:
    """The softmax output of one class."""

    name: str
    percent: float
    text: str
    is_label: bool


@dataclass(frozen=True)
class Neighbour:
    """A training image; `kind` is "label", "prediction" or "other", by its class."""

    name: str
    class_name: str
    kind: str
    picture: str  # a URL that holds it


@dataclass(frozen=True)
class Mistake:
    """A wrong image."""

    name: str
    label: str
    prediction: str
    confidence: str
    label_margin: float
    picture: str  # a URL that holds it
    bars: Sequence[Bar]
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class Neighbourhood:
    """The training images that mistakes are compared with: every `stride`-th of `images`."""

    features: Features
    stride: int
    images: int
    paths: Sequence[str]  # of all of them


def write_mistakes(
    path: Path,
    trained: TrainedModel,
    data: ImageData,
    split: str,
    evaluation: Evaluation,
    title: str,
    *,
    batch_size: int,
    has_training: bool,
) -> None:
    """Writes the page, which needs no other file: the `MAX_MISTAKES` wrong images whose label is least probable.

    Args:
        evaluation: of the split, with `least_probable_labels`.
        batch_size: of the data; has_training: whether its training images are those of the run: then the nearest are shown, by
            the inputs of the last layer, of at most `MAX_TRAINING`, evenly spread.

    Raises OSError if the disk refuses.
    """
    errors, images = evaluation.least_probable_labels, evaluation.sums.by_image()
    assert errors is not None
    around = _neighbourhood(trained, data, batch_size) if has_training and len(errors.target) > 0 else None
    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    template = resources.files(__package__).joinpath("mistakes.html.j2").read_text(encoding="utf-8")
    content = environment.from_string(template).render(
        title=title,
        images=len(images.target),
        wrong=int((images.correct == 0).sum()),
        mistakes=list(_mistakes(trained, data, split, evaluation, errors, around)),
        is_trained_on=split == "train",
        around=around,
    )
    atomic_write(path, content)


def _mistakes(
    trained: TrainedModel,
    data: ImageData,
    split: str,
    evaluation: Evaluation,
    errors: MostConfidentErrors,
    around: Neighbourhood | None,
) -> Iterator[Mistake]:
    """Yields what the page shows of each error, in their order."""
    images, names, paths = evaluation.sums.by_image(), data.class_names, data.image_paths(split)
    order = [k for k in predictions.suspicious_labels(images) if images.correct[k] == 0]
    pictures = trained.preprocessing.pixels(errors.images).cpu()
    near = [list[int]()] * len(pictures) if around is None else _nearest(trained, errors.images, around)
    for row, index in enumerate(order[: len(pictures)]):
        label, prediction = int(images.target[index]), int(images.prediction[index])
        confidence = confidence_text(float(images.margin[index]))
        # A training image is no neighbour of its own.
        others = [k for k in near[row] if split != "train" or around is None or k * around.stride != index][:NEIGHBOURS]
        yield Mistake(
            _name(paths[index], index),
            printable(names[label]),
            printable(names[prediction]),
            confidence,
            float(images.true_margin[index]),
            data_url(pictures[row]),
            _bars(errors.probabilities[row].tolist(), label, prediction, confidence, names),
            [] if around is None else [_neighbour(around, k, label, prediction, names) for k in others],
        )


def _bars(outputs: list[float], label: int, prediction: int, confidence: str, names: Sequence[str]) -> list[Bar]:
    """Returns the largest outputs, and the label's in the place of the last one if it is not among them."""
    shown = sorted(range(len(outputs)), key=lambda k: (k != prediction, -outputs[k]))[:BARS]
    if label not in shown:
        shown[-1] = label
    texts = [confidence if k == prediction else _share(outputs[k]) for k in shown]
    return [Bar(printable(names[k]), 100 * outputs[k], text, k == label) for k, text in zip(shown, texts, strict=True)]


def _share(p: float) -> str:
    return f"{p:.1%}" if p >= SMALLEST or p == 0 else f"{p:.0e}"


def _neighbour(around: Neighbourhood, k: int, label: int, prediction: int, names: Sequence[str]) -> Neighbour:
    of_class, index = int(around.features.target[k]), k * around.stride
    kind = "label" if of_class == label else "prediction" if of_class == prediction else "other"
    return Neighbour(_name(around.paths[index], index), printable(names[of_class]), kind, data_url(around.features.pictures[k]))


def _name(path: str, index: int) -> str:
    return printable(path) if path else f"image {index}"


def _neighbourhood(trained: TrainedModel, data: ImageData, batch_size: int) -> Neighbourhood:
    """Returns the features of the training images, or of an evenly spread part of them."""
    images = data.sizes["train"]
    stride = -(-images // MAX_TRAINING)
    batches = math.ceil(math.ceil(images / stride) / batch_size)
    with FeatureCollector(trained.model, trained.preprocessing.pixels) as points, torch.inference_mode(), full_float32():
        done = loop.predict_batches(trained.model, data.eval_batches("train", stride=stride), trained.dtype, points.add)
        for _ in track(done, batches, "training images"):
            pass
    return Neighbourhood(points.all_features(), stride, images, data.image_paths("train"))


def _nearest(trained: TrainedModel, images: Tensor, around: Neighbourhood) -> list[list[int]]:
    """Returns for each normalised image [K, 3, H, W] the nearest training images, one more than is shown."""
    with FeatureCollector(trained.model, trained.preprocessing.pixels) as points, torch.inference_mode(), full_float32():
        labels = torch.zeros(len(images), dtype=torch.long)
        batches = zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True)
        for _ in loop.predict_batches(trained.model, batches, trained.dtype, points.add):
            pass
    index, _ = nearest(points.all_features().points, around.features.points, NEIGHBOURS + 1)
    found: list[list[int]] = index.tolist()
    return found


def data_url(picture: Tensor) -> str:
    """Returns a picture, uint8 [3, H, W], as a URL that holds it: a JPEG of at most `SIDE` pixels a side."""
    image, content = Image.fromarray(picture.permute(1, 2, 0).numpy()), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
