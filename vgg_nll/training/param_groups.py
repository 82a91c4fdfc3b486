"""A network's parameters, as an optimizer takes them."""

from typing import Any, cast

from torch import Tensor, nn

VIEW = "view_as_stored"


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two parameter groups of an optimizer: weights, and what has no weight decay: biases and batch norm.

    The network must be where it will stay, and in its memory format. After a backward, the gradients are on what is given here,
    and `optimizer.zero_grad` forgets them.

    Each parameter is given as it lies in memory: PyTorch's fused optimizers on a CPU copy the gradient of a channels-last
    weight at every step, which is 2% of one on 32x32 images, and more where the arithmetic is faster.
    """
    weights = [_as_stored(p) for p in model.parameters() if p.dim() > 1]
    others = [_as_stored(p) for p in model.parameters() if p.dim() <= 1]
    return [{"params": weights}, {"params": others, "weight_decay": 0.0}]


def _as_stored(parameter: Tensor) -> Tensor:
    """The parameter, or a contiguous view of it, always the same one, to which every backward hands its gradient over."""
    if parameter.is_contiguous():
        return parameter
    known, hook = getattr(parameter, VIEW, (None, None))
    if known is not None and hook is not None:
        if known.data_ptr() == parameter.data_ptr():
            return cast(Tensor, known)
        hook.remove()  # it has been moved since
    order = sorted(range(parameter.dim()), key=parameter.stride, reverse=True)
    view = parameter.detach().permute(order)

    def hand_over(source: Tensor) -> None:
        assert source.grad is not None
        if view.data_ptr() != source.data_ptr():
            raise RuntimeError("the network was moved after its optimizer was made: move it first")
        gradient = source.grad.permute(order).contiguous()
        view.grad = gradient if view.grad is None else view.grad.add_(gradient)
        source.grad = None

    setattr(parameter, VIEW, (view, parameter.register_post_accumulate_grad_hook(hand_over)))
    return view
