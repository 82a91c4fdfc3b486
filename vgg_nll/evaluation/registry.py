"""One row per metric: the final table, the tags, comparisons, joined folds and the table in the docs come from it."""

from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import NamedTuple

GROUPS = ("accuracy", "confidence", "calibration")  # of the final table, in order


class OverFolds(Enum):
    """How the value of a whole cross-validation follows from its folds."""

    MEAN = auto()  # weighted by the images of each fold
    MEAN_CORRECT = auto()  # weighted by the images that were right
    MEAN_INCORRECT = auto()  # weighted by the images that were wrong
    BINS = auto()  # from the summed bins of confidence, by `bins.of_bins`
    NONE = auto()  # needs the outputs of all images at once: the report says that it is left out


class View(Flag):
    """Where a metric is shown, besides `metrics.json`, its curve, and `test/<name>` for the test split."""

    CURVE = 0  # nowhere else
    TABLE = auto()  # at the end of a run
    EVALUATION = auto()  # in the table of scripts/evaluate.py, which has those of TABLE, too
    FILES = auto()  # not of a run: of scripts/evaluate.py alone, so not in TensorBoard
    COMPARISON = auto()  # mean per loss, over seeds
    PAIRED = auto()  # difference of two losses, paired by seed
    TRAIN_EVAL = auto()  # also on a fixed part of the training images
    BEST = auto()  # `best/<name>`: of the best validation so far
    HPARAMS = auto()  # a column of TensorBoard's HParams tab
    COMMON = TABLE | COMPARISON
    DETAIL = EVALUATION | COMPARISON
    MAIN = COMMON | PAIRED | BEST | HPARAMS


class Unit(NamedTuple):
    """How comparisons show a value: times `factor`, with this many digits after the point."""

    factor: int
    digits: int


@dataclass(frozen=True)
class Metric:
    """One metric: `name` in `metrics.json`, `tag` on the validation images, `meaning` for readers of the docs.

    Without a tag it has no curve: it is computed from all outputs, once, for the network that is judged.
    """

    name: str
    tag: str
    group: str  # of `GROUPS`
    title: str  # in comparisons
    unit: Unit  # in comparisons
    over_folds: OverFolds
    views: View
    meaning: str

    @property
    def head(self) -> str:
        """Returns the title with its unit."""
        return f"{self.title} %" if self.unit == PERCENT else self.title

    @property
    def train_eval_tag(self) -> str:
        """Returns the tag on the fixed part of the training images."""
        return f"{self.tag.partition('/')[0]}/train_eval"


PERCENT, NUMBER, LOG_ODDS = Unit(100, 2), Unit(1, 4), Unit(1, 2)
MEAN, BINS, NONE = OverFolds.MEAN, OverFolds.BINS, OverFolds.NONE
COMMON, MAIN, TRAIN_EVAL, DETAIL = View.COMMON, View.MAIN, View.TRAIN_EVAL, View.DETAIL
EVALUATED = View.EVALUATION | View.FILES


# fmt: off
def _parts(score: str, title: str) -> tuple[Metric, ...]:
    """The rows of a proper score's two parts, for both calibrators."""
    refinement, calibration = f"refinement_{score}", f"calibration_{score}"
    svs = "by structured vector scaling (arXiv:2511.03685); in evaluations only"
    return (
        Metric(refinement, "", "calibration", f"{title} refinement", NUMBER, NONE, COMMON,
               "what is left after a temperature, fitted to the other images in five folds (arXiv:2501.19195)"),
        Metric(calibration, "", "calibration", f"{title} calibration", NUMBER, NONE, COMMON, "what that takes away"),
        Metric(f"{refinement}_svs", "", "calibration", f"{title} refinement (SVS)", NUMBER, NONE, EVALUATED,
               f"the same {svs}"),
        Metric(f"{calibration}_svs", "", "calibration", f"{title} calibration (SVS)", NUMBER, NONE, EVALUATED,
               f"the same {svs}"),
    )


def _chance(error: str, title: str, views: View, tag: str = "") -> tuple[Metric, ...]:
    """The rows of what chance gives to a binned calibration error."""
    of_chance = "its mean for labels that are drawn from the outputs: what chance gives to calibrated ones"
    floor, compared = f"{error}_noise_floor", views | View.COMPARISON
    return (
        Metric(floor, tag, "calibration", f"{title} noise floor", PERCENT, NONE, compared, of_chance),
        Metric(f"{floor}_p95", "", "calibration", f"{title} noise floor, 95%", PERCENT, NONE, View.CURVE,
               "the 95% quantile of the same"),
        Metric(f"{error}_excess", "", "calibration", f"{title} excess", PERCENT, NONE, View.CURVE, "the error less its floor"),
        Metric(f"{error}_p_value", "", "calibration", f"{title} p-value", NUMBER, NONE, views,
               "how often chance gives an error as large to calibrated outputs"),
    )


# Name, tag, group, title, unit, over folds, views, meaning; in the order of every table. Logarithms are natural.
_ROWS = (
    Metric("loss", "loss/val", "calibration", "loss", NUMBER, MEAN, View.TABLE | View.BEST | TRAIN_EVAL,
           "the loss that trains, mean per image; no comparison has it, since its unit differs between losses"),
    Metric("accuracy", "accuracy/val", "accuracy", "accuracy", PERCENT, MEAN, MAIN | TRAIN_EVAL,
           "fraction of images whose label is the prediction"),
    Metric("balanced_accuracy", "accuracy/val_balanced", "accuracy", "balanced accuracy", PERCENT, NONE, View.COMPARISON,
           "mean of the accuracies of the classes that have images"),
    Metric("top5_accuracy", "accuracy/val_top5", "accuracy", "top-5 accuracy", PERCENT, MEAN, COMMON,
           "fraction of images whose label is among the five most probable classes"),
    Metric("nll_argmax", "nll/argmax", "calibration", "NLL (argmax)", NUMBER, MEAN, MAIN | TRAIN_EVAL,
           "method 1, whichever loss trains"),
    Metric("nll_argmax_prediction", "nll/argmax_prediction", "calibration", "NLL (prediction)", NUMBER, MEAN, COMMON,
           "`-log` of the largest output"),
    Metric("nll_all_logit", "nll/all_logit", "calibration", "NLL (all logits)", NUMBER, MEAN, MAIN,
           "method 2, whichever loss trains"),
    *_parts("nll", "NLL"),
    Metric("refinement", "nll/refinement", "calibration", "refinement", NUMBER, NONE, View.COMPARISON,
           "`nll_argmax` at the best of 41 temperatures from 0.1 to 20: what is left if confidence is set right "
           "(arXiv:2501.19195)"),
    Metric("brier", "calibration/brier", "calibration", "Brier score", NUMBER, MEAN, COMMON | View.PAIRED | View.HPARAMS,
           "squared error of the outputs, sum over classes, 0 to 2"),
    *_parts("brier", "Brier score"),
    Metric("confidence", "confidence/mean", "confidence", "confidence", PERCENT, MEAN, MAIN | TRAIN_EVAL,
           "mean of the largest output"),
    Metric("confidence_correct", "confidence/correct", "confidence", "confidence on right images", PERCENT,
           OverFolds.MEAN_CORRECT, COMMON, "the same on the images that are right; no value if none is"),
    Metric("confidence_incorrect", "confidence/incorrect", "confidence", "confidence on wrong images", PERCENT,
           OverFolds.MEAN_INCORRECT, MAIN,
           "the same on the images that are wrong; no value if none is"),
    Metric("true_class_probability", "confidence/true_class", "confidence", "true class probability", PERCENT, MEAN, COMMON,
           "mean output of the true class"),
    Metric("margin", "confidence/margin", "confidence", "margin", LOG_ODDS, MEAN, MAIN,
           "mean of the log-odds `log(p / (1 - p))` of the prediction"),
    Metric("margin_p05", "confidence/margin_p05", "confidence", "margin, 5%", LOG_ODDS, NONE, View.CURVE, "its 5% quantile"),
    Metric("margin_p50", "confidence/margin_p50", "confidence", "margin, 50%", LOG_ODDS, NONE, View.CURVE, "its median"),
    Metric("margin_p95", "confidence/margin_p95", "confidence", "margin, 95%", LOG_ODDS, NONE, View.CURVE, "its 95% quantile"),
    Metric("ece", "calibration/ece", "calibration", "ECE", PERCENT, BINS, MAIN | TRAIN_EVAL, "expected calibration error: "
           "mean of abs(accuracy - confidence) over 15 equal bins of confidence, weighted by their images (arXiv:1706.04599)"),
    *_chance("ece", "ECE", View.TABLE, "calibration/ece_floor"),
    Metric("smooth_ece", "", "calibration", "smooth ECE", PERCENT, NONE, DETAIL,
           "the ECE with a kernel in place of bins, as wide as the result (arXiv:2309.12236)"),
    Metric("debiased_rms_ce", "", "calibration", "debiased RMS calibration error", PERCENT, NONE, DETAIL,
           "root mean square over bins of equally many images, less what chance adds (arXiv:1909.10155)"),
    Metric("mce", "calibration/mce", "calibration", "largest calibration error", PERCENT, BINS, COMMON,
           "the maximum over the same bins (arXiv:1706.04599)"),
    *_chance("mce", "largest calibration error", View.EVALUATION),
    Metric("adaptive_ece", "calibration/adaptive_ece", "calibration", "adaptive ECE", PERCENT, NONE, COMMON,
           "the ECE over 15 bins of equally many images (arXiv:1904.01685)"),
    *_chance("adaptive_ece", "adaptive ECE", View.EVALUATION),
    Metric("classwise_ece", "calibration/classwise_ece", "calibration", "classwise ECE", PERCENT, NONE, COMMON,
           "the ECE of the probability of each class, mean over classes (arXiv:1910.12656)"),
    *_chance("classwise_ece", "classwise ECE", View.EVALUATION),
    Metric("overconfidence", "calibration/overconfidence", "calibration", "overconfidence", PERCENT, MEAN, MAIN,
           "mean confidence minus accuracy"),
    Metric("aurc", "selection/aurc", "calibration", "AURC", Unit(1, 5), NONE, COMMON | View.PAIRED,
           "area under risk against coverage: mean error rate of the k most confident images, over all k (arXiv:1705.08500)"),
    Metric("auroc", "selection/auroc", "calibration", "AUROC", NUMBER, NONE, MAIN,
           "probability that a right prediction is more confident than a wrong one, ties count half; no value without both"),
    Metric("e_aurc", "", "calibration", "excess AURC", Unit(1, 5), NONE, DETAIL,
           "`aurc` less that of the best order, every wrong image last (arXiv:1805.08206)"),
    Metric("augrc", "", "calibration", "AUGRC", Unit(1, 5), NONE, DETAIL,
           "area under the share of images that are accepted and wrong, over that of accepted ones (arXiv:2407.01032)"),
    Metric("fpr_at_95_tpr", "", "calibration", "FPR at 95% TPR", PERCENT, NONE, View.EVALUATION,
           "wrong images that are accepted at the margin that 95% of the right ones have; no value without both"),
    Metric("coverage_at_risk_1", "", "calibration", "coverage at 1% risk", PERCENT, NONE, DETAIL,
           "the largest share of images, the most confident first, of which at most 1% are wrong"),
    Metric("coverage_at_risk_5", "", "calibration", "coverage at 5% risk", PERCENT, NONE, DETAIL,
           "the same for 5%"),
)
# fmt: on
METRICS = {metric.name: metric for metric in _ROWS}


def shown_in(view: View) -> list[Metric]:
    """Returns the metrics of a view, or of one of several views, in order."""
    return [metric for metric in METRICS.values() if view & metric.views]
