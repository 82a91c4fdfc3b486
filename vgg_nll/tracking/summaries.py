"""Summaries for TensorBoard: each kind writes itself with TensorBoard's writer."""

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib.figure import Figure
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from vgg_nll.evaluation.report import format_table
from vgg_nll.model.summary import Layer
from vgg_nll.tracking import tags


class Summary(Protocol):
    """One thing to show."""

    def write(self, writer: SummaryWriter, step: int) -> None:
        """Writes it into the event file, at `step` of the x axis."""
        ...


@dataclass(frozen=True)
class Scalars:
    """One point per tag; values that are not finite are left out."""

    values: Mapping[str, float]

    def write(self, writer: SummaryWriter, step: int) -> None:
        for tag, value in self.values.items():
            if math.isfinite(value):
                writer.add_scalar(tag, value, step)


@dataclass(frozen=True)
class Histogram:
    """Counts in equal bins over [0, 1]; nothing if all counts are 0."""

    tag: str
    counts: Sequence[float]

    def write(self, writer: SummaryWriter, step: int) -> None:
        number, bins = sum(self.counts), len(self.counts)
        filled = [k for k, count in enumerate(self.counts) if count]
        if not filled:
            return
        # TensorBoard cuts off empty bins at both ends, and takes these two as the edges of the rest.
        minimum, maximum = filled[0] / bins, (filled[-1] + 1) / bins
        limits = [(k + 1) / bins for k in range(bins)]
        # TensorBoard draws limits and counts; the format also needs two sums, in which a bin counts as its middle.
        total = sum(count * (k + 0.5) / bins for k, count in enumerate(self.counts))
        squares = sum(count * ((k + 0.5) / bins) ** 2 for k, count in enumerate(self.counts))
        writer.add_histogram_raw(self.tag, minimum, maximum, int(number), total, squares, limits, list(self.counts), step)


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure, drawn only if a tracker keeps it."""

    tag: str
    draw: Callable[[], Figure]

    def write(self, writer: SummaryWriter, step: int) -> None:
        writer.add_figure(self.tag, self.draw(), step)


@dataclass(frozen=True)
class Text:
    """Markdown."""

    tag: str
    markdown: str

    def write(self, writer: SummaryWriter, step: int) -> None:
        writer.add_text(self.tag, self.markdown, step)


@dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve over T thresholds; nothing for a class without images.

    Args:
        curve: [6, T], true and false positives, true and false negatives, precision, recall.
    """

    tag: str
    curve: np.ndarray

    def write(self, writer: SummaryWriter, step: int) -> None:
        if not np.isnan(self.curve).any():
            hits, false_alarms, rest, misses, precision, recall = self.curve
            writer.add_pr_curve_raw(
                self.tag, hits, false_alarms, rest, misses, precision, recall, step, num_thresholds=len(hits)
            )


class EmbeddingData(NamedTuple):
    """N points of D numbers, each with a label and a picture."""

    points: Tensor  # [N, D]
    labels: Sequence[str]
    pictures: Tensor  # uint8 [N, 3, H, W]


@dataclass(frozen=True)
class Embedding:
    """Points for the projector, made only if a tracker keeps them; they replace earlier ones."""

    make: Callable[[], EmbeddingData]

    def write(self, writer: SummaryWriter, step: int) -> None:
        points, labels, pictures = self.make()
        for old in Path(writer.log_dir).glob(f"*/{tags.EMBEDDING}"):
            if old.parent.name.isdecimal():  # add_embedding names it by the step
                shutil.rmtree(old)
                with contextlib.suppress(OSError):  # not empty: it holds something else
                    old.parent.rmdir()
        names = [" ".join(label.split()) for label in labels]  # a tab or a newline would start another column or row
        writer.add_embedding(points, names, pictures.float() / 255, global_step=step, tag=tags.EMBEDDING)


@dataclass(frozen=True)
class Layers:
    """A network as a chain of layers: for the graph page, and as a table of text."""

    layers: Sequence[Layer]

    def write(self, writer: SummaryWriter, step: int) -> None:
        # Not SummaryWriter.add_graph: it takes two seconds, and shows operations instead of layers.
        graph = GraphDef()
        before: list[str] = []
        for layer in self.layers:
            name = layer.name.replace(".", "/")
            shape = AttrValue.ListValue(
                shape=[TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in (-1, *layer.shape)])]
            )
            graph.node.append(NodeDef(name=name, op=layer.kind, input=before, attr={"_output_shapes": AttrValue(list=shape)}))
            before = [name]
        writer._get_file_writer().add_event(Event(graph_def=graph.SerializeToString()), step)
        head = ("layer", "kind", "output", "parameters")
        rows = [(layer.name, layer.kind, " x ".join(map(str, layer.shape)), f"{layer.parameters:,}") for layer in self.layers]
        rows.append(("all", "", "", f"**{sum(layer.parameters for layer in self.layers):,}**"))
        writer.add_text(tags.LAYERS, format_table(head, rows, markdown=True), step)


@dataclass(frozen=True)
class Hyperparameters:
    """The run's row in the HParams tab: its settings, none of them None, and the tags whose last values the row shows."""

    values: Mapping[str, str | float]

    def write(self, writer: SummaryWriter, step: int) -> None:
        # Not SummaryWriter.add_hparams: it opens a second run folder, and ends the session before it begins.
        experiment, start, _ = hparams(dict(self.values), dict.fromkeys(tags.HYPERPARAMETER_METRICS, 0.0))
        for summary in (experiment, start):
            writer._get_file_writer().add_summary(summary, step)


@dataclass(frozen=True)
class SessionEnd:
    """Ends the session of the HParams tab."""

    def write(self, writer: SummaryWriter, step: int) -> None:
        writer._get_file_writer().add_summary(hparams({}, {})[2], step)
