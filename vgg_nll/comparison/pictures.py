"""A group -> the pictures of its report, and the images on which its losses disagree."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from vgg_nll.calibration.bins import of_bins
from vgg_nll.comparison import figures, predictions
from vgg_nll.comparison.grouping import Group
from vgg_nll.comparison.page import EmbeddedImage, Section, count
from vgg_nll.comparison.paired import Row
from vgg_nll.comparison.statistics import Point, mean_over_runs
from vgg_nll.errors import CheckpointError, ConfigError, DataError
from vgg_nll.plots.fonts import caption
from vgg_nll.tracking.event_files import Curve

ReadImages = Callable[[Path, Sequence[int], str], np.ndarray]  # run folder, indices, split -> uint8 [K, H, W, 3]
CURVES_CAPTION = (
    "Lines: mean over seeds; bands: minimum to maximum; at the steps that all seeds of a loss have. Each loss's own value "
    "has its own unit: these panels cannot be compared with each other, the others can."
)
RELIABILITY_CAPTION = (
    "Reliability on the test images. Bars: sums over seeds; orange: confidence above accuracy, light blue: below it. "
    "Lines: the lowest and the highest accuracy of a seed; with one seed, the 95% interval over images."
)
MARGINS_CAPTION = (
    "Log-odds of the predictions on the tested images, of all seeds: where the network is right, and where it is wrong."
)
INTERVALS_CAPTION = (
    "The differences over seeds, each in units of half its 95% interval, so that all intervals have one length; the numbers "
    "are at the right. One that crosses the line contains zero; a vermilion square differs after Holm's correction. One beyond "
    f"{figures.FARTHEST - 1:.0f} is drawn there."
)
DISAGREEMENTS = (
    "The images on which the fraction of seeds that are right differs most; of equal ones, those with the largest difference "
    "in the mean log-odds of the label."
)


def intervals(rows: Sequence[Row], name: str) -> list[EmbeddedImage]:
    """Returns the picture of the intervals over seeds; none if there is no interval."""
    drawn = []
    for row in rows:
        estimate = row.over_seeds
        if estimate.interval is not None:
            half = (estimate.interval[1] - estimate.interval[0]) / 2
            drawn.append((row.metric.head, row.difference, estimate.mean / half, row.differs))
    return [EmbeddedImage(name, figures.png(figures.intervals(drawn)), INTERVALS_CAPTION)] if drawn else []


def curves(group: Group, read: Mapping[Path, Mapping[str, Curve]], name: str) -> list[EmbeddedImage]:
    """Returns the picture of the group's curves; none if no run has any."""
    bands = {
        loss: {
            tag: mean_over_runs([read[folder] for run in by_seed.values() for folder in run.folders], tag)
            for tag in figures.TAGS
        }
        for loss, by_seed in group.losses.items()
    }
    if not any(points for by_tag in bands.values() for points in by_tag.values()):
        return []
    text = CURVES_CAPTION + _without_common_step(group, bands, read)
    return [EmbeddedImage(name, figures.png(figures.curves(bands)), text)]


def reliability(group: Group, name: str) -> list[EmbeddedImage]:
    """Returns the picture of the group's reliability diagrams; none if the group has no test split."""
    diagrams = []
    for loss, by_seed in group.losses.items():
        bins = [run.bins for run in by_seed.values() if run.bins is not None]
        if bins:
            ece = fmean(float(of_bins(*of_seed)["ece"]) for of_seed in bins)
            title = f"{caption(loss, figures.NAME)}\nECE {ece:.2%}, mean of {count(len(bins), 'seed')}"
            diagrams.append((title, torch.stack(bins).double().numpy()))
    return [EmbeddedImage(name, figures.png(figures.reliability(diagrams)), RELIABILITY_CAPTION)] if diagrams else []


def margins(found: predictions.Found, name: str) -> list[EmbeddedImage]:
    """Returns the picture of the log-odds of all predictions; none if no run has any."""
    right, wrong = (predictions.margins(found, right=is_right) for is_right in (True, False))
    if not any(len(values) for values in right.values()):
        return []
    return [EmbeddedImage(name, figures.png(figures.margin_histograms(right, wrong)), MARGINS_CAPTION)]


def disagreements(
    group: Group, found: predictions.Found, read_images: ReadImages | None, of_group: str, name: str
) -> list[Section]:
    """Returns a section for each pair of losses that disagree on images; the pictures of all are read at once.

    Args:
        of_group: the end of the titles; name: the beginning of the names of the pictures.
    """
    pairs = {pair: predictions.disagreement(found, *pair) for pair in combinations(group.losses, 2)}
    tables_of = {pair: part for pair, part in pairs.items() if part is not None}
    text, drawn = DISAGREEMENTS, dict[int, np.ndarray]()
    indices = sorted({index for part in tables_of.values() for index in part.indices})
    if indices and read_images is not None:
        try:
            drawn = dict(zip(indices, read_images(group.runs[0].folder, indices, group.split), strict=True))
        except (DataError, ConfigError, CheckpointError, IndexError) as error:
            text += f" Without pictures: {error}."
    sections = []
    for k, ((first, second), part) in enumerate(tables_of.items()):
        shown, row_pngs = list[EmbeddedImage](), list[bytes]()
        if drawn:
            row_pngs = [figures.image_png(drawn[index]) for index in part.indices]
            captions = [caption(f"{row[0]}: {row[1]}", 24) for row in part.table.rows]
            figure = figures.images(np.stack([drawn[index] for index in part.indices]), captions)
            shown = [EmbeddedImage(f"{name}-{k + 1}", figures.png(figure), "In the order of the table.")]
        title = f"Images on which {first} and {second} disagree{of_group}"
        folded = f"{count(len(part.table.rows), 'image')} of {first} and {second}"
        sections.append(Section(title, text, table=part.table, folded=folded, row_pngs=row_pngs, pictures=shown))
    return sections


def _without_common_step(
    group: Group, bands: Mapping[str, Mapping[str, Sequence[Point]]], curves: Mapping[Path, Mapping[str, Curve]]
) -> str:
    """Returns a sentence on the curves whose runs have no step in common; empty if there are none."""
    lost = [
        f"{tag} of {loss}"
        for loss, by_tag in bands.items()
        for tag, points in by_tag.items()
        if not points and any(tag in curves[folder] for run in group.losses[loss].values() for folder in run.folders)
    ]
    return f" Not drawn, since the seeds share no step: {', '.join(lost)}." if lost else ""
