"""Value and gradient of labelled float32 rows on a CPU, from PyTorch's fused softmax: fast, and still exact.

`p` is the softmax as computed, with `t` taken out, `q` the sum of the rest and `s = q + p_t`, which is 1 but for the error of
the normaliser, some 1e-6: divided by `s`, it cancels. With `r_k = p_k / (s - p_k)` and `R = sum of r_k`, over `k != t`:

    -log p_t = log1p(q / p_t)                           - sum over k != t of log(1 - p_k) = log(prod of (1 + r_k))
    gradient (k != t) = r_k + p_k (1 - R) / s           gradient (t) = -(q + p_t R) / s

Without complements, `R` and `r_k` are left out. Rows for which float32 is too short take `vgg_nll/losses/exact_rows.py`.
"""

import torch
from torch import Tensor

from vgg_nll.losses import exact_rows

# Up to a gap of 32, float32 rounds it to 1e-6, and so each of the C - 1 terms of q: exp(-31) for each leaves larger gaps at
# most a third of q. Beyond p_t = 1e-30, p_t loses digits.
MIN_NLL_OF_CLASS, MAX_NLL = 3.5e-14, 69.0
# A wrong class with p = 32/33: beyond, s - p_k has too few digits.
MAX_ODDS = 32.0
# Of the sum of all p, if they are the gradient: dividing by it would cost a twentieth of the loss.
MAX_SUM_ERROR = 4e-6
# Below, with complements, the calls cost more than the arithmetic, and a second look at some rows more than one at all.
SMALL = 1 << 14


def value_and_gradient(
    logits: Tensor, label: Tensor, gradient: Tensor | None, scratch: Tensor | None, *, complements: bool
) -> Tensor:
    """Returns the values of some rows [B, 1], float64, as `exact_rows.value_and_gradient`; writes their gradient.

    Args:
        logits: [B, C], float32; label: [B, 1], int64 in [0, C).
        gradient: [B, C], to be written, or None; scratch: [B, C], or None without complements.
    """
    p = torch.softmax(logits, 1, out=scratch if complements else gradient)
    of_label = p.gather(1, label)
    p.scatter_(1, label, 0.0)
    q = p.sum(1, keepdim=True)
    values = torch.log1p(q.double() / of_label)
    total = q + of_label
    hard = _outside(values, MIN_NLL_OF_CLASS * max(1, logits.shape[1] - 1), MAX_NLL)
    at_label = q
    if complements:
        r = torch.sub(total, p, out=gradient)
        r = torch.div(p, r, out=r)
        r_sum = r.sum(1, keepdim=True)
        hard += _outside(r_sum, 0.0, MAX_ODDS)
        values += exact_rows.sum_of_log1p(r, r_sum)
        if gradient is not None:
            gradient.addcmul_(p, (1 - r_sum) / total)
            at_label = torch.addcmul(q, of_label, r_sum)
    elif gradient is not None:
        hard += _outside(total, 1 - MAX_SUM_ERROR, 1 + MAX_SUM_ERROR)
    if gradient is not None:
        gradient.scatter_(1, label, at_label.div_(total).neg_())
    for rows in hard:
        exact, again = exact_rows.value_and_gradient(
            logits[rows], label[rows], complements=complements, differentiate=gradient is not None
        )
        values[rows] = exact
        if gradient is not None and again is not None:
            gradient[rows] = again
    return values


def _outside(numbers: Tensor, low: float, high: float) -> list[Tensor]:
    """Returns the rows of `numbers` [B, 1] that are outside [low, high] or NaN, if there are any."""
    least, most = torch.aminmax(numbers)
    if least.item() >= low and most.item() <= high:
        return []
    return [(~((numbers >= low) & (numbers <= high))).squeeze(1).nonzero().squeeze(1)]
