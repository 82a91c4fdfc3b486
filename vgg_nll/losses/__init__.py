"""Negative log-likelihoods of a softmax, in place of `torch.nn.CrossEntropyLoss`; they need PyTorch only."""

from vgg_nll.losses.nll import AllLogitNLL, ArgmaxNLL, Loss, SigmoidNLL, all_logit_nll, argmax_nll, sigmoid_nll
from vgg_nll.losses.softmax import log_probabilities, margin

__all__ = [
    "AllLogitNLL",
    "ArgmaxNLL",
    "Loss",
    "SigmoidNLL",
    "all_logit_nll",
    "argmax_nll",
    "log_probabilities",
    "margin",
    "sigmoid_nll",
]
