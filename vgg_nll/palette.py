"""Colours of figures: those of Okabe and Ito, which colour-blind readers can tell apart, and one for each loss."""

import hashlib

BLUE, VERMILION, SKY, GREEN, PINK, ORANGE, BLACK = (
    *("#0072B2", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#000000"),
)
GREY = "#999999"  # of what stands behind
COLOURS = (BLUE, VERMILION, SKY, GREEN, PINK, ORANGE, BLACK)
LOSS_COLOURS = {
    "argmax": BLUE,
    "all_logit": VERMILION,
    "cross_entropy": SKY,
    "argmax_prediction": PINK,
    "sigmoid": GREEN,
}
OTHER_COLOURS = (ORANGE, BLACK)


def loss_colour(loss: str) -> str:
    """Returns the one colour that a loss has in every figure; of one that is not ours, by its name."""
    number = int.from_bytes(hashlib.blake2b(loss.encode(errors="surrogateescape"), digest_size=4).digest())
    return LOSS_COLOURS.get(loss, OTHER_COLOURS[number % len(OTHER_COLOURS)])
