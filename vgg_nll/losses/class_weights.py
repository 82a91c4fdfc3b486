"""Weights of classes, for data in which some are rare."""

from collections.abc import Callable

from torch import Tensor, nn


class ClassWeighted(nn.Module):
    """The mean over the images of `w_t L`: a loss whose classes count differently.

    PyTorch's weighted mean divides by the weights of a batch, so its parts do not add up. Here accumulated parts of a batch,
    and batches of an evaluation, give the same mean whatever their size.

    Args:
        loss: logits [B, C], target -> [B], the losses of the images.
        weight: [C]. A target of probabilities q has the weight `sum q_k w_k`.
    """

    weight: Tensor

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weight: Tensor) -> None:
        super().__init__()
        self.loss = loss
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps logits [B, C] and classes [B], or probabilities [B, C], to the mean over the batch."""
        weight = self.weight[target] if target.dim() == 1 else target @ self.weight
        return (self.loss(input, target) * weight).mean()


def balanced_weights(counts: Tensor) -> Tensor:
    """Returns `N / (C n_k)` for the n_k images of each class: every class counts the same, and the mean weight is 1.

    A class without images gets 0.
    """
    weights = counts.sum() / (len(counts) * counts.clamp(min=1))
    return weights.masked_fill(counts == 0, 0.0)
