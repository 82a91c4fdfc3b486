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
from tensorboard.compat.proto.summary_pb2 import Summary as SummaryProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.histogram.metadata import create_summary_metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.util.tensor_util import make_tensor_proto
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams, pr_curve_raw
from torchvision.utils import make_grid

from vgg_nll.evaluation.report import format_table
from vgg_nll.model.summary import Layer
from vgg_nll.tracking import tags

THRESHOLDS = (
    "Thresholds are equal in log-odds: log(p / (1 - p)) from -31.5 to 31.5, in steps of 0.5. The page names them from 0 to 1: "
    "its threshold t stands for log-odds of 63 t - 31.5. The tag average_precision has the area under each curve."
)
MIN_SIDE = 96  # pixels of an image in a grid
MAX_BINS = 1000  # of a histogram: 24 kB
FIRST_COLUMNS = ("loss", "lr", "model", "seed", "data")  # of the HParams tab, which shows five at once


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
    """The distribution of N values, such that every quantile that TensorBoard draws is that of `np.quantile`.

    TensorBoard interpolates inside a bin. So the bins hold equal shares of the values, and their edges are quantiles: with up
    to `MAX_BINS` + 1 values, the values themselves. Values that are not finite are left out; without any, nothing is written.
    """

    tag: str
    values: np.ndarray  # [N]
    description: str

    def write(self, writer: SummaryWriter, step: int) -> None:
        values = self.values[np.isfinite(self.values)].astype(np.float64)
        if len(values) == 0:
            return
        bins = max(1, min(len(values) - 1, MAX_BINS))
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)).astype(np.float32)  # as TensorBoard keeps them
        for k in range(bins):  # equal values: the page divides by the width of a bin
            edges[k + 1] = max(edges[k + 1], np.nextafter(edges[k], np.float32(np.inf)))
        table = np.stack([edges[:-1], edges[1:], np.full(bins, len(values) / bins)], axis=1, dtype=np.float64)
        # Not SummaryWriter.add_histogram_raw: TensorBoard's fast loader drops the description of that older form.
        metadata = create_summary_metadata(display_name=self.tag, description=self.description)
        value = SummaryProto.Value(tag=self.tag, metadata=metadata, tensor=make_tensor_proto(table))
        writer._get_file_writer().add_summary(SummaryProto(value=[value]), step)


@dataclass(frozen=True)
class FigureSummary:
    """A matplotlib figure, drawn only if a tracker keeps it."""

    tag: str
    draw: Callable[[], Figure]

    def write(self, writer: SummaryWriter, step: int) -> None:
        writer.add_figure(self.tag, self.draw(), step)


@dataclass(frozen=True)
class ImageGrid:
    """Images in rows, made only if a tracker keeps them; small ones are enlarged, pixel by pixel."""

    tag: str
    pixels: Callable[[], Tensor]  # uint8 [N, 3, H, W]
    columns: int

    def write(self, writer: SummaryWriter, step: int) -> None:
        images = self.pixels()
        factor = max(1, MIN_SIDE // images.shape[-1])
        enlarged = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        writer.add_image(self.tag, make_grid(enlarged, nrow=self.columns), step)


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
            tp, fp, tn, fn, precision, recall = self.curve
            summary = pr_curve_raw(self.tag, tp, fp, tn, fn, precision, recall, num_thresholds=len(tp))
            summary.value[0].metadata.summary_description = THRESHOLDS
            writer._get_file_writer().add_summary(summary, step)


class EmbeddingData(NamedTuple):
    """N points of D numbers, each with a picture and words that say what it is."""

    points: Tensor  # [N, D]
    columns: Sequence[str]  # the page colours points by one of them
    rows: Sequence[Sequence[str]]  # N, a word per column
    pictures: Tensor  # uint8 [N, 3, H, W]


@dataclass(frozen=True)
class Embedding:
    """Points for the projector, made only if a tracker keeps them; they replace earlier ones."""

    make: Callable[[], EmbeddingData]

    def write(self, writer: SummaryWriter, step: int) -> None:
        points, columns, rows, pictures = self.make()
        for old in Path(writer.log_dir).glob(f"*/{tags.EMBEDDING}"):
            if old.parent.name.isdecimal():  # add_embedding names it by the step
                shutil.rmtree(old)
                with contextlib.suppress(OSError):  # not empty: it holds something else
                    old.parent.rmdir()
        words = [[" ".join(word.split()) for word in row] for row in rows]  # a tab or a newline would start another one
        header = list(columns)
        writer.add_embedding(points, words, pictures.float() / 255, step, tags.EMBEDDING, metadata_header=header)


@dataclass(frozen=True)
class Layers:
    """A network as a chain of layers: for the graph page, and as a table of text."""

    layers: Sequence[Layer]

    def write(self, writer: SummaryWriter, step: int) -> None:
        # Not SummaryWriter.add_graph: it takes two seconds, and shows operations instead of layers.
        graph = GraphDef()
        before: list[str] = []
        for layer in self.layers:
            name = f"{layer.block}/{layer.title}"
            shape = AttrValue.ListValue(
                shape=[TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in (-1, *layer.shape)])]
            )
            graph.node.append(NodeDef(name=name, op=layer.kind, input=before, attr={"_output_shapes": AttrValue(list=shape)}))
            before = [name]
        writer._get_file_writer().add_event(Event(graph_def=graph.SerializeToString()), step)
        head = ("layer", "module", "kind", "output", "parameters")
        rows = [
            (layer.title, layer.name, layer.kind, " x ".join(map(str, layer.shape)), f"{layer.parameters:,}")
            for layer in self.layers
        ]
        rows.append(("all", "", "", "", f"**{sum(layer.parameters for layer in self.layers):,}**"))
        writer.add_text(tags.LAYERS, format_table(head, rows, markdown=True), step)


@dataclass(frozen=True)
class Hyperparameters:
    """The run's row in the HParams tab: its settings, none of them None, and the tags whose last values the row shows."""

    values: Mapping[str, str | float]

    def write(self, writer: SummaryWriter, step: int) -> None:
        # Not SummaryWriter.add_hparams: it opens a second run folder, and ends the session before it begins.
        experiment, start, _ = hparams(dict(self.values), dict.fromkeys(tags.HYPERPARAMETER_METRICS, 0.0))
        _mark_first_columns(experiment)
        for summary in (experiment, start):
            writer._get_file_writer().add_summary(summary, step)


@dataclass(frozen=True)
class SessionEnd:
    """Ends the session of the HParams tab, which shows how."""

    is_success: bool

    def write(self, writer: SummaryWriter, step: int) -> None:
        status = Status.Value("STATUS_SUCCESS" if self.is_success else "STATUS_FAILURE")
        content = HParamsPluginData(session_end_info=SessionEndInfo(status=status), version=PLUGIN_DATA_VERSION)
        _, _, summary = hparams({}, {})
        summary.value[0].metadata.plugin_data.content = content.SerializeToString()
        writer._get_file_writer().add_summary(summary, step)


def _mark_first_columns(experiment: SummaryProto) -> None:
    """Marks the columns that the HParams tab shows first: those that differ between runs, which it cannot know."""
    plugin = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in FIRST_COLUMNS
    plugin.content = content.SerializeToString()
