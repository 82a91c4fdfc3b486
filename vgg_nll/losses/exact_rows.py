"""Value and gradient of labelled rows in closed form: exact for every gap, without a branch on a value.

Notation as in `vgg_nll/losses/softmax.py`; `t` is the label and `r_k = p_k / (1 - p_k)`. The gradient of the sum of all terms,
with `R` the sum of `r_k` over the classes that are neither `t` nor `m`, is

    p_m (2 - R) at m != t                       -p_m (S + R) at m = t
    p_k (1 - R) + r_k - [m != t] p_m x_k / T    elsewhere, with x_k = exp(z_k - z_n), r_t = -1

in which nothing cancels if the row is confident, right or wrong. Without complements, `R`, `r_k` and the term after
[m != t] are left out.
"""

import torch
from torch import Tensor

from vgg_nll.losses.softmax import EMPTY

# If the odds are below this, every r_k is its p_k to float64's precision, and their sum is the odds: float32 may not hold them.
TINY_ODDS = 1e-20


def value_and_gradient(
    logits: Tensor, label: Tensor, *, complements: bool, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns `-log p_t`, plus with `complements` `-log(1 - p_k)` of every other class, and the gradient.

    Args:
        logits: [B, C], float32 or float64; label: [B, 1], int64 in [0, C).
        differentiate: whether the gradient is wanted.

    Returns:
        values: [B, 1], float64; gradient: [B, C], or None.
    """
    dtype = logits.dtype
    value, top = logits.max(dim=1, keepdim=True)
    x = logits.scatter(1, top, -torch.inf)
    # If no other class is possible, any finite number does.
    runner = x.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(dtype).min)
    x = x.sub_(runner).exp_()  # 0 at the top
    gap = value.double() - runner + (value - value)  # the last term: 0, or NaN if the value is not finite
    total = x.sum(1, keepdim=True).double()
    empty = total == 0
    total.clamp_(min=EMPTY)
    against = gap.exp()  # inf beyond a gap of 709, but then all that it divides is 0
    odds = total / against
    nll_top = torch.log1p(odds)
    values = (value - logits.gather(1, label)) + nll_top
    right = label == top
    inverse = 1 / (against + total)  # x * inverse = p; beyond a gap of 88, float32 does not hold its inverse
    if not complements:
        if not differentiate:
            return values, None
        gradient = x.mul_(inverse.to(dtype))
        gradient.scatter_add_(1, label, gradient.new_full((), -1.0).expand_as(label))
        return values, gradient.scatter_(1, top, (-odds).masked_fill_(~right, 1.0).div_(1 + odds).to(dtype))
    p = x * inverse.to(dtype)
    r = p.div_(1 - p).scatter_(1, label, 0.0)
    tiny = odds < TINY_ODDS
    r_sum = torch.where(tiny, odds, r.sum(1, keepdim=True))
    values += (nll_top + gap - total.log()).masked_fill_(right, 0.0)
    values += torch.where(tiny, odds, sum_of_log1p(r, r_sum))
    if not differentiate:
        return values, None
    p_top = 1 / (1 + odds)
    factor = (1 - r_sum) * inverse - (p_top / total).masked_fill_(right, 0.0)
    # If no class but the top is possible, the label has all that x_k / T would share out.
    gradient = r.scatter_(1, label, -1.0 - empty.to(dtype)).addcmul_(x, factor.to(dtype))
    return values, gradient.scatter_(1, top, (p_top * ((-odds).masked_fill_(~right, 2.0) - r_sum)).to(dtype))


def sum_of_log1p(r: Tensor, r_sum: Tensor) -> Tensor:
    """Returns the sum of `log1p(r)` over each row [B, 1], float64, for `r >= 0` whose sum [B, 1] is at most some hundreds.

    If the sum is not tiny, the product of `1 + r` in float64 has all digits of a float32, at a tenth of the time of `log1p`;
    if it is, it is the result.
    """
    if r.dtype == torch.float64:
        return torch.log1p(r).sum(1, keepdim=True)
    return torch.where(r_sum < 1e-7, r_sum.double(), r.double().add_(1).prod(1, keepdim=True).log_())
