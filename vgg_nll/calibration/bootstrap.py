"""95% intervals over images: what another test set of this size could have shown."""

import torch
from torch import Tensor

from vgg_nll.calibration.ranking import RankedImages
from vgg_nll.intervals import Z, wilson_interval

RESAMPLES = 1000
BLOCK = 1 << 20  # images drawn at a time
TAIL = 0.025
EPSILON = 1e-12
ROUNDING = 1e-12  # of a mean, relative
BOUNDS = {"nll_argmax": (0.0, torch.inf), "brier": (0.0, 2.0), "confidence": (0.0, 1.0)}  # of each average


def intervals(images: RankedImages, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, list[float]]:
    """Returns `<name>_interval`, [low, high], of averages and ranks over N images; the same for the same seed.

    - `nll_argmax`, `brier`, `confidence`: bootstrap-t (Efron 1982). N images are drawn with replacement, again and again. The
      values `(mean of the resample - mean) / its standard error` give the quantiles that a table of Student's t would give.
      Percentile and BCa intervals miss more often if a few wrong images carry the sum; this one becomes wide instead.
    - `accuracy`: Wilson's interval.
    - `overconfidence`: from the ends of `confidence` and `accuracy`, and their correlation (Zou and Donner 2008). A bootstrap
      sees no chance of an error if no image is wrong.
    - `auroc`: every value whose own variance would explain the one that is seen (Newcombe 2006, method 5). NaN if no image is
      right, or none is wrong. Percentiles are far too narrow if few are wrong.
    - `aurc`: percentiles of the resamples. It is too narrow with less than about ten wrong images, and has no width with none.

    All but `accuracy` are NaN for a single image, and `nll_argmax` if it is infinite.

    Binned calibration errors have no such interval. A resample has fewer different images, so chance adds more to its error
    than to the error itself: the interval would lie too high, and would not cover. `noise_floor` says what they are worth.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(images.label)
    columns = {"nll_argmax": images.nll, "brier": _brier(images), "confidence": images.confidence}
    studentized: dict[str, list[Tensor]] = {name: [] for name in columns}
    aurc = []
    for block in torch.arange(resamples).split(max(1, BLOCK // count)):
        picks = torch.randint(count, (len(block), count), generator=generator)
        times = (picks + count * torch.arange(len(block))[:, None]).flatten().bincount(minlength=picks.numel())
        weights = times.view(picks.shape).double()  # [B, N], how often each image is in each resample
        for name, column in columns.items():
            studentized[name].append(_studentized(weights, column))
        aurc.append(weighted_aurc(images, weights))
    result = {"aurc": list(_central(torch.cat(aurc))) if count > 1 else [torch.nan, torch.nan]}
    for name, column in columns.items():
        t, error = _central(torch.cat(studentized[name])), float(_standard_error(column))
        mean, (least, most) = float(column.mean()), BOUNDS[name]
        ends = (mean - t[1] * error, mean - t[0] * error)
        result[name] = [torch.nan if end != end else min(max(end, least), most) for end in ends]
    result["accuracy"] = list(wilson_interval(float(images.correct.mean()), count))
    result["overconfidence"] = _overconfidence(images, result["confidence"], result["accuracy"])
    result["auroc"] = _auroc(images) if count > 1 else [torch.nan, torch.nan]
    return {f"{name}_interval": ends for name, ends in result.items()}


def weighted_aurc(images: RankedImages, weights: Tensor) -> Tensor:
    """Returns `1/N sum_k E_k/k` [B], with `E_k` errors among the k most confident images of each of B resamples.

    Images of equal margin share their errors; so do copies of one image.

    Args:
        weights: [B, N], how often each image is in each resample; every row adds up to N.
    """
    _, group = images.margin.unique_consecutive(return_inverse=True)
    empty = weights.new_zeros(len(weights), int(group[-1]) + 1)
    total = empty.index_add(1, group, weights).flip(1)  # [B, groups], the most confident group first
    wrong = empty.index_add(1, group, weights * (1 - images.correct)).flip(1)
    accepted, errors = total.cumsum(1), wrong.cumsum(1)
    before, errors_before = accepted - total, errors - wrong
    # In a group E_k grows evenly: sum over its k of (errors_before + (k - before) share) / k, share = wrong / total.
    inverse = 1 / torch.arange(1, weights.shape[1] + 1, dtype=torch.float64)
    harmonic = torch.nn.functional.pad(inverse, (1, 0)).cumsum(0)  # 0, 1, 1 + 1/2, ...
    share = wrong / total.clamp(min=1)
    risks = wrong + (errors_before - before * share) * (harmonic[accepted.long()] - harmonic[before.long()])
    return risks.sum(1) / weights.shape[1]


def _brier(images: RankedImages) -> Tensor:
    """Returns `sum_k (p_k - [k is the label])^2` [N]."""
    return images.probabilities.square().sum(1) + 1 - 2 * images.probabilities.gather(1, images.label[:, None])[:, 0]


def _standard_error(column: Tensor) -> Tensor:
    """Returns the standard error of the mean of [N]; NaN for a single value."""
    return (_centred(column).square().mean() / (len(column) - 1)).sqrt()


def _centred(column: Tensor) -> Tensor:
    """Returns values [N] less their mean; 0 if only rounding is left, which a small standard error would enlarge."""
    mean = column.mean()
    return torch.nn.functional.hardshrink(column - mean, ROUNDING * (1 + float(mean.abs())))


def _studentized(weights: Tensor, column: Tensor) -> Tensor:
    """Returns how far the mean of `column` over each resample [B] is from its mean, in standard errors of that resample.

    It is 0 if both are 0.
    """
    centred = _centred(column)
    means, squares = (weights @ torch.stack([centred, centred**2], dim=1) / len(column)).T
    errors = ((squares - means**2).clamp(min=0) / (len(column) - 1)).sqrt()
    return (means / errors).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _central(values: Tensor) -> tuple[float, float]:
    """Returns the ends of the middle 95%, which are values themselves: a mean of two would fail if one of them is infinite."""
    low, high = values.quantile(TAIL, interpolation="lower"), values.quantile(1 - TAIL, interpolation="higher")
    return float(low), float(high)


def _overconfidence(images: RankedImages, confidence: list[float], accuracy: list[float]) -> list[float]:
    """Returns the ends of mean confidence - accuracy, from those of both."""
    conf, acc = float(images.confidence.mean()), float(images.correct.mean())
    rho = 0.0
    if 0 < acc < 1:
        rho = float(torch.corrcoef(torch.stack([images.confidence, images.correct]))[0, 1].nan_to_num())

    def distance(x: float, y: float) -> float:
        return max(x**2 + y**2 - 2 * rho * x * y, 0.0) ** 0.5

    low = conf - acc - distance(conf - confidence[0], accuracy[1] - acc)
    return [low, conf - acc + distance(confidence[1] - conf, acc - accuracy[0])] if low == low else [torch.nan, torch.nan]


def _auroc(images: RankedImages) -> list[float]:
    """Returns every `a` with `(a - auroc)^2 <= Z^2 variance(a)`, as [low, high]."""
    from scipy.optimize import brentq  # takes as long to load as a small run's validation

    right, wrong = images.margin[images.correct == 1], images.margin[images.correct == 0]  # in order
    pairs = len(right) * len(wrong)
    if not pairs:
        return [torch.nan, torch.nan]
    seen = float(torch.searchsorted(wrong, right).sum() + torch.searchsorted(wrong, right, right=True).sum()) / (2 * pairs)
    half = (len(right) + len(wrong)) / 2 - 1

    def excess(a: float) -> float:
        return (a - seen) ** 2 - Z**2 * a * (1 - a) * (1 + half * (1 - a) / (2 - a) + half * a / (1 + a)) / pairs

    inside = min(max(seen, EPSILON), 1 - EPSILON)  # 0 and 1 are roots if they are seen, but not the ends
    return [0.0 if seen == 0 else brentq(excess, 0, inside), 1.0 if seen == 1 else brentq(excess, inside, 1)]
