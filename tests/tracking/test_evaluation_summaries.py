"""An evaluation as figures and summaries: they hold its numbers."""

import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure

from vgg_nll import plots
from vgg_nll.evaluation import loop, metrics
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.tracking import evaluation_summaries, tags
from vgg_nll.tracking.summaries import FigureSummary, Histogram, PrecisionRecall, Scalars


def evaluated(images: int, classes: int) -> Evaluation:
    draw = torch.Generator().manual_seed(0)
    target = torch.arange(images) % classes
    logits = torch.randn(images, classes, generator=draw)
    logits[range(images), target] += 2
    batches = [(torch.zeros(images, 3, 8, 8), target)]
    return loop.evaluate(Fixed(logits), lambda *_: torch.tensor(0.0), batches, torch.float32)


class Fixed(torch.nn.Module):
    """A network that gives these logits, whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.uint8)


def title_of(figure: Figure) -> str:
    title = figure.get_suptitle()
    return title or figure.axes[0].texts[0].get_text()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes"), [(60, 3), (300, 25), (4, 2)])
def test_figures_say_what_was_measured(images: int, classes: int) -> None:
    evaluation = evaluated(images, classes)
    sums = evaluation.sums
    names = [f"class number {k}" for k in range(classes)]
    drawn = {
        tag: draw() for tag, draw in evaluation_summaries.figures(evaluation, names, as_bytes, "validation, step 7").items()
    }
    drawn[tags.PR_CURVES] = evaluation_summaries.precision_recall_figure(evaluation.sums, names, "validation, step 7", 7.0)
    for figure in drawn.values():
        FigureCanvasAgg(figure).draw()  # no error, no warning
        assert title_of(figure).startswith("validation, step 7")
    values = metrics.compute(sums)
    assert title_of(drawn[tags.RELIABILITY_DIAGRAM]) == f"validation, step 7: ECE {values['ece']:.2%}, {images} images"
    below = drawn[tags.RELIABILITY_DIAGRAM].axes[1]
    assert [text.get_text() for text in below.texts] == [f"{n:.0f}" for n in sums.bin_images if n]
    numbers = texts(drawn[tags.CONFUSION_MATRIX])
    assert numbers == ([f"{n:.0f}" for n in sums.confusion.flatten() if n] if classes <= 20 else [])
    best, found, random = (np.asarray(line.get_ydata()) for line in drawn[tags.ACCURACY_COVERAGE].axes[0].lines)
    assert (best[-1], found[-1], random[0]) == pytest.approx([values["accuracy"]] * 3)
    assert (best >= found - 1e-12).all()
    right = int(sums.correct)
    assert best == pytest.approx(np.minimum(1, right / np.arange(1, images + 1)))
    assert len(drawn[tags.PR_CURVES].axes[0].lines) == min(classes, 20)


def test_mistakes_have_captions_and_bars() -> None:
    """Two of three classes' images; the bars are as long as the outputs, and that of the label is blue."""
    pictures = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    probabilities = np.array([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]])
    names, confidences = ["cat", "dog", "a very long name of a class"], ["70.0%", "1 - 7e-06"]
    figure = plots.most_confident_errors(pictures, probabilities, [1, 0], confidences, names)
    assert {"label dog", "predicted cat, 70.0%", "label cat", "predicted a very …, 1 - 7e-06"} <= set(texts(figure))
    (axes,) = figure.axes
    assert len(axes.images) == 2
    (bars,) = [item for item in axes.collections if isinstance(item, PatchCollection)]
    lengths = [path.get_extents().width / 0.5 for path in bars.get_paths()]
    assert lengths == pytest.approx([0.7, 0.2, 0.1, 0.8, 0.15, 0.05])
    blue = [tuple(colour) == tuple(bars.get_facecolor()[1]) for colour in bars.get_facecolor()]
    assert blue == [False, True, False, False, False, True]


def test_the_label_has_a_bar_however_unlikely() -> None:
    probabilities = np.array([[0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.0]])
    figure = plots.most_confident_errors(np.zeros((1, 4, 4, 3), dtype=np.uint8), probabilities, [6], ["30%"], list("abcdefg"))
    assert texts(figure)[3:] == ["a", "b", "c", "g"]


def test_no_errors() -> None:
    figure = plots.most_confident_errors(np.zeros((0, 4, 4, 3), dtype=np.uint8), np.zeros((0, 2)), [], [], ["a", "b"])
    assert texts(figure) == ["", "no errors"]


def test_summaries() -> None:
    """Histograms of right and wrong add up to that of all; a curve a class, of the first 20."""
    evaluation = evaluated(300, 25)
    sums = evaluation.sums
    scalars, every, right, missed = evaluation_summaries.scalars_and_histograms(evaluation)
    assert isinstance(scalars, Scalars)
    assert scalars.values == {tag: evaluation.values[name] for name, tag in tags.VALIDATION.items()}
    assert isinstance(every, Histogram) and isinstance(right, Histogram) and isinstance(missed, Histogram)
    assert sorted([*right.values, *missed.values]) == sorted(every.values)
    assert (len(every.values), len(right.values)) == (300, int(sums.correct))
    assert np.quantile(every.values, 0.95) == pytest.approx(evaluation.values["margin_p95"])
    summaries = evaluation_summaries.pictures_and_curves(evaluation, [str(k) for k in range(25)], as_bytes, "validation")
    assert {summary.tag for summary in summaries if isinstance(summary, FigureSummary)} == {
        *("calibration/reliability_diagram", "selection/accuracy_coverage"),
        *("mistakes/confusion_matrix", "mistakes/most_confident"),
    }
    curves = [summary for summary in summaries if isinstance(summary, PrecisionRecall)]
    assert [curve.tag for curve in curves] == [f"precision_recall/{k}" for k in range(20)]
    assert curves[3].curve.shape == (6, metrics.NUM_THRESHOLDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["C#$", "x$%a", "a$\\b$", "_background_noise_", "tab\tand\nline", "猫", "{", "a/b", "^_^"])
def test_class_names_of_any_kind(name: str) -> None:
    """No character means anything to what draws them; each class is in the legend."""
    evaluation = evaluated(60, 3)
    names = [name + "1", name + "2", name]
    drawn = evaluation_summaries.figures(evaluation, names, as_bytes, "validation").values()
    for draw in (*drawn, lambda: evaluation_summaries.precision_recall_figure(evaluation.sums, names, "validation", 7.0)):
        figure = draw()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a font that lacks it draws a box
            FigureCanvasAgg(figure).draw()
        legend = figure.axes[0].get_legend()
        if legend is not None and figure.axes[0].get_xlabel() == "recall":
            assert len(legend.get_texts()) == 3
