"""What single images go through, from one validation to the next."""

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import Images
from vgg_nll.tracking import tags

MAX_IMAGES = 512  # evenly spread over the validation images: 4 kB a validation in the checkpoint


def empty() -> Tensor:
    """Returns the trajectory before the first validation, [0, 2, 0]."""
    return torch.zeros(0, 2, 0)


def extended(trajectory: Tensor, images: Images) -> Tensor:
    """Returns a trajectory [V, 2, M] with a row for this validation: log(p / (1 - p)) of the label, and 1 if right.

    It begins anew if the number of images has changed.
    """
    every = -(-len(images.correct) // MAX_IMAGES)
    row = torch.stack([images.true_margin[::every], images.correct[::every]]).float()[None]
    return torch.cat([trajectory, row]) if trajectory.shape[2] == row.shape[2] else row


def count_flips(trajectory: Tensor) -> dict[str, float]:
    """Returns by tag the fraction of images that were right at the validation before and are wrong now, and the reverse."""
    if len(trajectory) < 2:
        return {}
    before, now = trajectory[-2:, 1] == 1
    return {
        tags.FORGOTTEN: float((before & ~now).double().mean()),
        tags.LEARNT: float((~before & now).double().mean()),
    }
