"""Arrays -> matplotlib figures."""

from collections.abc import Sequence

from matplotlib.figure import Figure

BLUE, RED = "#1f77b4", "#d62728"


def reliability_diagram(
    images: Sequence[float], correct: Sequence[float], confidence: Sequence[float], title: str = ""
) -> Figure:
    """Accuracy against confidence in equal bins over [0, 1], and below it how many images each bin holds.

    Args:
        images, correct, confidence: per bin, the count, the number that were right, the sum of confidences.

    A bar under the diagonal is confidence that was not earned; the red part is the gap that the expected calibration
    error adds up, weighted by images.
    """
    bins = len(images)
    figure = Figure(figsize=(4.5, 5.5), layout="constrained")  # not pyplot: no global state, nothing to close
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / bins
    for k in range(bins):
        if images[k] == 0:
            continue
        accuracy, mean_confidence = correct[k] / images[k], confidence[k] / images[k]
        middle = (k + 0.5) * width
        above.bar(middle, accuracy, width, color=BLUE, edgecolor="white")
        gap = mean_confidence - accuracy
        above.bar(middle, gap, width, bottom=accuracy, color=RED, alpha=0.4, edgecolor=RED)
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
    below.bar([(k + 0.5) * width for k in range(bins)], list(images), width, color=BLUE, edgecolor="white")
    below.set(xlabel="confidence", ylabel="images")
    return figure
