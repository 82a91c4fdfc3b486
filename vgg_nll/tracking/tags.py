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
TEST = "test/"
LOSS_TRAIN, ACCURACY_TRAIN = "loss/train", "accuracy/train"
LEARNING_RATE, GRADIENT_NORM = "optimizer/learning_rate", "optimizer/gradient_norm"
IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH = ("speed/images_per_second", "speed/mfu", "speed/data_wait", "speed/epoch")
PEAK_MEMORY = "speed/peak_memory_gib"
# The points of training, as against those of a validation at the same step.
TRAINING = (*(LOSS_TRAIN, ACCURACY_TRAIN, LEARNING_RATE, GRADIENT_NORM, IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH, PEAK_MEMORY),)
# What the HParams tab shows of a run, and leads to the curves of.
HYPERPARAMETER_METRICS = (
    *("accuracy/val", "nll/argmax", "nll/all_logit", "calibration/ece", "calibration/brier", "confidence/mean"),
    *(f"{TEST}{name}" for name in ("accuracy", "nll_argmax", "nll_all_logit", "ece", "brier", "confidence")),
)
CONFIDENCE_HISTOGRAM, CORRECT_HISTOGRAM, INCORRECT_HISTOGRAM = (
    "confidence/histogram",
    "confidence/histogram_correct",
    "confidence/histogram_incorrect",
)
RELIABILITY_DIAGRAM, ACCURACY_COVERAGE = "calibration/reliability_diagram", "selection/accuracy_coverage"
CONFUSION_MATRIX, CONFIDENT_MISTAKES = "mistakes/confusion_matrix", "mistakes/most_confident"
PR_CURVES = "precision_recall"
EMBEDDING = "penultimate_features"
CONFIG, PROVENANCE, LAYERS = "config", "provenance", "model"
