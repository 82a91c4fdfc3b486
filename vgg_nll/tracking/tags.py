"""The tags of TensorBoard, grouped by meaning: it makes one section per first word. x is the optimizer step everywhere."""

# Metric name (as in metrics.json) -> tag on validation. On the test split every metric is `test/<name>`.
VALIDATION = {
    "loss": "loss/val",
    "accuracy": "accuracy/val",
    "top5_accuracy": "accuracy/val_top5",
    "nll_argmax": "nll/argmax",
    "nll_argmax_prediction": "nll/argmax_prediction",
    "nll_all_logit": "nll/all_logit",
    "confidence": "confidence/mean",
    "confidence_correct": "confidence/correct",
    "confidence_incorrect": "confidence/incorrect",
    "true_class_probability": "confidence/true_class",
    "margin": "confidence/margin",
    "margin_p05": "confidence/margin_p05",
    "margin_p50": "confidence/margin_p50",
    "margin_p95": "confidence/margin_p95",
    "ece": "calibration/ece",
    "mce": "calibration/mce",
    "adaptive_ece": "calibration/adaptive_ece",
    "classwise_ece": "calibration/classwise_ece",
    "overconfidence": "calibration/overconfidence",
    "brier": "calibration/brier",
    "aurc": "selection/aurc",
    "auroc": "selection/auroc",
}
# The same on a fixed part of the training images, without augmentation and dropout: what was learnt against what holds.
TRAIN_EVAL = {
    "loss": "loss/train_eval",
    "accuracy": "accuracy/train_eval",
    "nll_argmax": "nll/train_eval",
    "confidence": "confidence/train_eval",
    "ece": "calibration/train_eval",
}
TEST, BEST = "test/", "best/"
# Of the best validation so far, besides its step.
BEST_METRICS = (
    *("accuracy", "loss", "nll_argmax", "nll_all_logit", "ece", "overconfidence", "confidence", "confidence_incorrect"),
    *("margin", "auroc"),
)
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
HYPERPARAMETER_METRICS = (
    *(
        f"{TEST}{name}"
        for name in (
            *("accuracy", "nll_argmax", "ece", "confidence_incorrect", "auroc", "margin", "overconfidence", "nll_all_logit"),
            *("confidence", "brier"),
        )
    ),
    *(f"{BEST}{name}" for name in BEST_METRICS),
    BEST_STEP,
)
# What a person reads first: is it learning, is it sure, is it right to be sure? The link to TensorBoard pins these.
PINNED = (
    *(VALIDATION["accuracy"], VALIDATION["confidence"], VALIDATION["confidence_incorrect"]),
    *(VALIDATION["ece"], VALIDATION["nll_argmax"], VALIDATION["margin"]),
)
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
