"""The tags of TensorBoard, grouped by meaning: it makes one section per first word. x is the optimizer step everywhere."""

from vgg_nll.evaluation.registry import METRICS, View, shown_in

# Metric name (as in metrics.json) -> tag on validation. On the test split every metric is `test/<name>`.
VALIDATION = {metric.name: metric.tag for metric in METRICS.values() if metric.tag}
# The same on a fixed part of the training images, without augmentation and dropout: what was learnt against what holds.
TRAIN_EVAL = {metric.name: metric.train_eval_tag for metric in shown_in(View.TRAIN_EVAL)}
TEST, BEST = "test/", "best/"
# Of the best validation so far, besides its step.
BEST_METRICS = tuple(metric.name for metric in shown_in(View.BEST))
BEST_STEP = f"{BEST}step"
LOSS_TRAIN, ACCURACY_TRAIN = "loss/train", "accuracy/train"
LEARNING_RATE, GRADIENT_NORM = "optimizer/learning_rate", "optimizer/gradient_norm"
IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH = ("speed/images_per_second", "speed/mfu", "speed/data_wait", "speed/epoch")
PEAK_MEMORY = "speed/peak_memory_gib"
# What both losses would do to the logits of one batch, and how large weights and gradients are.
PUSHES = ("true_class", "leading_wrong", "other_classes")
PUSH = "gradient/"  # gradient/<loss>/<push>
LAYER_NORMS = tuple(f"layers/{what}_norm_{which}" for what in ("weight", "gradient") for which in ("first", "middle", "last"))
# The points of training, as against those of a validation at the same step.
TRAINING = (
    *(LOSS_TRAIN, ACCURACY_TRAIN, LEARNING_RATE, GRADIENT_NORM, IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH, PEAK_MEMORY),
    *LAYER_NORMS,
)
FORGOTTEN, LEARNT = "flips/forgotten", "flips/learnt"
# What the HParams tab shows of a run: the first five at once, the others by a click. Those of the test split, and those of the
# best validation, are of one and the same network; `accuracy/val` is of the last step's.
_FIRST_FIVE = ("accuracy", "nll_argmax", "ece", "confidence_incorrect", "auroc")
_TESTED = dict.fromkeys((*_FIRST_FIVE, *(metric.name for metric in shown_in(View.HPARAMS))))
HYPERPARAMETER_METRICS = (*(f"{TEST}{name}" for name in _TESTED), *(f"{BEST}{name}" for name in BEST_METRICS), BEST_STEP)
# The link to TensorBoard pins these: is it learning, how confident is it, does its confidence agree with its accuracy?
PINNED = tuple(VALIDATION[name] for name in ("accuracy", "confidence", "confidence_incorrect", "ece", "nll_argmax", "margin"))
MARGIN_HISTOGRAM, CORRECT_HISTOGRAM, INCORRECT_HISTOGRAM = (
    "confidence/margin_histogram",
    "confidence/margin_histogram_correct",
    "confidence/margin_histogram_incorrect",
)
TRAJECTORIES = "flips/true_class_probability"
RELIABILITY_DIAGRAM, ACCURACY_COVERAGE = "calibration/reliability_diagram", "selection/accuracy_coverage"
CONFUSION_MATRIX, MOST_CONFIDENT_ERRORS = "mistakes/confusion_matrix", "mistakes/most_confident"
PR_CURVES, AVERAGE_PRECISION = "precision_recall", "average_precision"
AUGMENTED, FIRST_OF_CLASSES = "images/augmented", "images/classes"
AT_START = (AUGMENTED, FIRST_OF_CLASSES)  # once, of step 1: a validation that is done again leaves them
EMBEDDING = "penultimate_features"
CONFIG, PROVENANCE, LAYERS = "config", "provenance", "model"
