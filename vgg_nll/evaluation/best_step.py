"""Which of two networks is the better one, as `trainer.best` says."""

import math
from collections.abc import Mapping

# Choice -> the metric, and whether more of it is better.
CRITERIA = {
    "accuracy": ("accuracy", True),
    "balanced_accuracy": ("balanced_accuracy", True),
    "nll": ("nll_argmax", False),
    "refinement": ("refinement", False),
}
Score = tuple[float, float]  # the larger, the better
NO_SCORE: Score = (-math.inf, -math.inf)


def score(values: Mapping[str, float], best: str) -> Score:
    """Returns what orders networks: the metric of the criterion, then, of equal ones, the lower mean of `-log p_t`.

    Without the second number, the later of two equal accuracies would win, which is the more confident one: every figure about
    confidence would be biased.

    Args:
        values: metrics by name; best: a key of `CRITERIA`.
    """
    name, more_is_better = CRITERIA[best]
    found = values.get(name, -math.inf if more_is_better else math.inf)  # an older run's best step may lack it
    return (found if more_is_better else -found), -values["nll_argmax"]


def objective(values: Mapping[str, float], best: str) -> float:
    """Returns the metric that `best` chooses by, for those who judge a whole run; NaN if the run has none."""
    return values.get(CRITERIA[best][0], math.nan)
