"""The losses against their definitions, against PyTorch, and by their properties."""

import math
import shutil
from collections.abc import Callable

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vgg_nll.losses import AllLogitNLL, ArgmaxNLL, SigmoidNLL, all_logit_nll, argmax_nll, sigmoid_nll
from vgg_nll.losses.class_weights import ClassWeighted

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

EXAMPLE = torch.tensor([[5.0, 4.0, 2.0], [4.0, 2.0, 8.0], [4.0, 4.0, 1.0]])  # cat, dog, horse
EXAMPLE_LABELS = torch.tensor([0, 2, 1])


def test_worked_example() -> None:
    rounded = (EXAMPLE.softmax(1) * 100).round().tolist()
    assert rounded == [[71, 26, 4], [2, 0, 98], [49, 49, 2]]
    torch.testing.assert_close(
        argmax_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none"), torch.tensor([0.35, 0.02, 0.72]), atol=0.005, rtol=0
    )
    # the third row is a tie: cat and dog have the same probability
    assert argmax_nll(EXAMPLE[2:], torch.tensor([0])) == argmax_nll(EXAMPLE[2:], torch.tensor([1]))


@pytest.mark.parametrize(
    ("classes", "argmax", "all_logit"),
    [(2, 0.6931, 1.3863), (10, 2.3026, 3.2508), (100, 4.6052, 5.6002), (1000, 6.9078, 7.9073)],
)
def test_constant_prediction(classes: int, argmax: float, all_logit: float) -> None:
    logits, target = torch.full((4, classes), 3.0), torch.arange(4) % classes
    assert argmax_nll(logits, target).item() == pytest.approx(argmax, abs=5e-5)
    assert all_logit_nll(logits, target).item() == pytest.approx(all_logit, abs=5e-5)
    assert argmax_nll(logits, target, select="prediction").item() == pytest.approx(argmax, abs=5e-5)
    assert all_logit == pytest.approx(math.log(classes) + (classes - 1) * math.log(classes / (classes - 1)), abs=5e-5)


def test_pytorch_is_method_1() -> None:
    """`CrossEntropyLoss`, and `NLLLoss` after `log_softmax`, equal method 1 with the label, and not method 2."""
    logits, target = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    method_1, method_2 = argmax_nll(logits, target), all_logit_nll(logits, target)
    torch.testing.assert_close(torch.nn.CrossEntropyLoss()(logits, target), method_1)
    torch.testing.assert_close(torch.nn.NLLLoss()(logits.log_softmax(1), target), method_1)
    assert abs(torch.nn.CrossEntropyLoss()(logits, target) - method_2) > 0.5


def by_formula(logits: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Both methods per image from float64 probabilities, exactly as defined."""
    p = logits.double().softmax(1)
    return -(q * p.log()).sum(1), -(q * p.log() + (1 - q) * (1 - p).log()).sum(1)


@pytest.mark.parametrize("class_reduction", ["sum", "mean"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_method_2_by_formula(soft: bool, label_smoothing: float, weighted: bool, reduction: str, class_reduction: str) -> None:
    """Targets, smoothing, weights, ignored labels and reductions of method 2, against its definition in float64."""
    random = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(8, 5, generator=random)
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.0]) if weighted else None
    labels = torch.tensor([0, 1, 2, 3, 4, -100, 2, 1])
    counted = (labels >= 0).double()
    q = torch.randn(8, 5, generator=random).softmax(1) if soft else F.one_hot(labels.clamp(min=0), 5).float()
    smooth = (1 - label_smoothing) * q.double() + label_smoothing / 5
    ones = torch.ones(5) if weight is None else weight
    p = logits.double().softmax(1)
    terms = -(smooth * p.log() + (1 - smooth) * (1 - p).log())
    if soft:
        values, total = (terms * ones).sum(1), torch.tensor(8.0)
    else:
        scale = ones[labels.clamp(min=0)] * counted
        values, total = terms.sum(1) * scale, scale.sum()
    values = values / (5 if class_reduction == "mean" else 1)
    expected = {"none": values, "sum": values.sum(), "mean": values.sum() / total}[reduction]
    options = {"weight": weight, "label_smoothing": label_smoothing, "reduction": reduction, "class_reduction": class_reduction}
    found = all_logit_nll(logits, q if soft else labels, **options)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(AllLogitNLL(**options)(logits, q if soft else labels), found, rtol=0, atol=0)


@pytest.mark.parametrize("label_smoothing", [1e-8, 1e-4, 0.01])
def test_little_smoothing_keeps_its_digits(label_smoothing: float) -> None:
    """`1 - q` of the label is `label_smoothing (C - 1) / C`, times a large term if the network is confident."""
    logits = torch.tensor([[60.0, 1.0, 0.0, -2.0]], requires_grad=True)
    double = logits.detach().double().requires_grad_()
    for loss in (argmax_nll, all_logit_nll):
        found = loss(logits, torch.tensor([0]), label_smoothing=label_smoothing)
        expected = loss(double, torch.tensor([0]), label_smoothing=label_smoothing)
        assert found.item() == pytest.approx(expected.item(), rel=3e-7)
        (ours,), (theirs,) = torch.autograd.grad(found, logits), torch.autograd.grad(expected, double)
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-6, atol=0)


def test_one_hot_probabilities_are_labels() -> None:
    """The fast path for labels and the sum over all terms give the same loss, also for extreme logits."""
    logits = 30 * torch.randn(64, 10, generator=torch.Generator().manual_seed(7))
    target = torch.arange(64) % 10
    for loss in (argmax_nll, all_logit_nll):
        one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        by_label, by_one_hot = (
            loss(one, target, reduction="none"),
            loss(other, F.one_hot(target, 10).float(), reduction="none"),
        )
        torch.testing.assert_close(by_label, by_one_hot, rtol=1e-6, atol=1e-37)
        by_label.sum().backward()
        by_one_hot.sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_masked_classes_cost_nothing_in_a_distribution() -> None:
    logits = torch.tensor([[1.0, 2.0, -torch.inf, 0.5]], requires_grad=True)
    q = torch.tensor([[0.2, 0.7, 0.0, 0.1]])
    keep = [0, 1, 3]
    for loss in (argmax_nll, all_logit_nll):
        value = loss(logits, q)
        torch.testing.assert_close(value, loss(logits[:, keep], q[:, keep]))
        (grad,) = torch.autograd.grad(value, logits)
        assert grad[0, 2] == 0
        assert grad.isfinite().all()


def test_one_possible_class() -> None:
    """All others masked, or no others: loss 0 and gradient 0, for a label and for probabilities."""
    for logits in (torch.tensor([[-torch.inf, 2.0, -torch.inf]]), torch.tensor([[2.0]])):
        label = logits.argmax(1)
        for target in (label, F.one_hot(label, logits.shape[1]).float()):
            for loss in (argmax_nll, all_logit_nll):
                leaf = logits.clone().requires_grad_()
                value = loss(leaf, target)
                assert value.item() == 0.0
                assert torch.autograd.grad(value, leaf)[0].tolist() == [[0.0] * logits.shape[1]]


def test_prediction_is_its_own_label() -> None:
    """`select="prediction"`: the target decides only what is ignored; weights and smoothing follow the prediction."""
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(8))
    predicted, weight = logits.argmax(1), torch.tensor([1.0, 2.0, 3.0, 4.0])
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}, {"eps": 1e-3}):
        expected = argmax_nll(logits, predicted, **options)
        for target in (torch.arange(6) % 4, torch.rand(6, 4)):
            torch.testing.assert_close(argmax_nll(logits, target, select="prediction", **options), expected)
    ignoring = torch.tensor([0, -100, 1, 2, -100, 3])
    keep = ignoring >= 0
    found = argmax_nll(logits, ignoring, select="prediction")
    torch.testing.assert_close(found, argmax_nll(logits[keep], predicted[keep]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    """Short types are computed in float32, double in double; the gradient comes back in the type of the logits."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(9)).to(dtype).requires_grad_()
    target = torch.tensor([0, 1, 2, 0])
    for loss in (argmax_nll, all_logit_nll):
        for q in (target, F.one_hot(target, 3).to(dtype)):
            value = loss(logits, q)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            (grad,) = torch.autograd.grad(value, logits)
            assert grad.dtype == dtype
            exact = loss(logits.detach().double(), q)
            assert value.item() == pytest.approx(exact.item(), rel=3e-7 if dtype != torch.float64 else 1e-15)


def test_autocast_changes_nothing() -> None:
    logits, target = torch.randn(16, 10).bfloat16().requires_grad_(), torch.arange(16) % 10
    for loss in (ArgmaxNLL(), AllLogitNLL(), AllLogitNLL(label_smoothing=0.1)):
        outside = loss(logits, target)
        (outside_grad,) = torch.autograd.grad(outside, logits)
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(logits, target)
        assert torch.equal(inside, outside)
        assert torch.equal(torch.autograd.grad(inside, logits)[0], outside_grad)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled(backend: str) -> None:
    """In one graph and as exact: gaps from 0 to 80, correct and wrong labels, labels and probabilities."""
    if backend == "inductor" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    logits = torch.cat([scale * torch.randn(32, 7) for scale in (1.0, 10.0, 30.0)])
    target = torch.arange(96) % 7
    target[::2] = logits.argmax(1)[::2]
    for loss, q in ((all_logit_nll, target), (argmax_nll, F.one_hot(target, 7).float())):
        compiled = torch.compile(loss, fullgraph=True, backend=backend)
        ours, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
        found, expected = compiled(ours, q, reduction="none"), loss(double, q, reduction="none")
        torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-37)
        found.sum().backward()
        expected.sum().backward()
        size = double.grad.abs().amax(1, keepdim=True)
        assert ((ours.grad - double.grad).abs() / size).max() < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda() -> None:
    """The same values and gradients as on the CPU, and no wait for the device."""
    logits = torch.cat([scale * torch.randn(64, 50) for scale in (1.0, 30.0, 1e4)])
    target = torch.arange(192) % 50
    target[::2] = logits.argmax(1)[::2]
    for loss in (argmax_nll, all_logit_nll):
        for q in (target, F.one_hot(target, 50).float()):
            leaves = [logits.to(device, copy=True).requires_grad_() for device in ("cpu", "cuda")]
            cpu = loss(leaves[0], q, reduction="none")
            there = q.cuda()
            loss(leaves[1], there).backward()  # the first call sets up libraries, and waits
            leaves[1].grad = None
            torch.cuda.set_sync_debug_mode("error")
            try:
                cuda = loss(leaves[1], there, reduction="none")
                cuda.sum().backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            cpu.sum().backward()
            torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-6, atol=1e-37)
            torch.testing.assert_close(torch.as_tensor(leaves[1].grad).cpu(), leaves[0].grad, rtol=1e-5, atol=1e-6)


def test_confident_mistake_has_twice_the_gradient() -> None:
    for loss, bound in ((argmax_nll, 1.0), (all_logit_nll, 2.0)):
        logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
        loss(logits, torch.tensor([1])).backward()
        assert logits.grad is not None
        assert logits.grad[0, 0].item() == pytest.approx(bound)


def test_gradient_at_uniform() -> None:
    """The sum over classes has C/(C-1) times the gradient of method 1; the mean, 1/C of that."""
    grads = []
    for options in ({}, {"class_reduction": "sum"}, {"class_reduction": "mean"}):
        logits = torch.zeros(1, 10, requires_grad=True)
        (all_logit_nll(logits, torch.tensor([3]), **options) if options else argmax_nll(logits, torch.tensor([3]))).backward()
        grads.append(logits.grad)
    torch.testing.assert_close(grads[1], grads[0] * 10 / 9)
    torch.testing.assert_close(grads[2], grads[1] / 10)


def gradients(p: Tensor) -> list[Tensor]:
    """The gradients of both methods on the logits of one image with outputs `p` [C] and label 0, in float64."""
    found = []
    for loss in BOTH:
        logits = p.log()[None].requires_grad_()
        found.append(torch.autograd.grad(loss(logits, torch.tensor([0])), logits)[0][0])
    return found


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 1e-9])
def test_gradient_against_method_1(classes: int, p: float) -> None:
    """If the other outputs are equal, the whole gradient is that of method 1 times one factor, with the limit 2."""
    factor = 1 + p * (classes - 1) / (classes - 2 + p)
    first, second = gradients(torch.tensor([p, *[(1 - p) / (classes - 1)] * (classes - 1)], dtype=torch.float64))
    torch.testing.assert_close(second / first, torch.full_like(first, factor), rtol=1e-6, atol=0)
    assert 1 + p <= factor <= 2 + 1e-12
    if classes == 10:
        stated = {0.1: 1.11, 0.5: 1.53, 0.99: 1.99, 0.999: 2.00}  # on docs/losses.md
        assert round(factor, 2) == stated.get(p, round(factor, 2))


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 20.0])
def test_gradient_against_method_1_is_at_most_twice(scale: float) -> None:
    """On the true logit, of any other outputs: at least the factor of equal ones, at most 2, which is that of one class."""
    random = torch.Generator().manual_seed(10)
    for p in (scale * torch.randn(50, 7, generator=random, dtype=torch.float64)).softmax(1):
        first, second = gradients(p)
        least = 1 + p[0] * 6 / (5 + p[0])
        assert least * (1 - 1e-9) <= second[0] / first[0] <= 2 * (1 + 1e-9)
    for p_true in (0.01, 0.5, 0.9):
        first, second = gradients(torch.tensor([p_true, 1 - p_true, 0.0, 0.0], dtype=torch.float64))
        assert (second[0] / first[0]).item() == pytest.approx(2, rel=1e-12)


def test_method_2_raises_other_wrong_classes() -> None:
    """On docs/losses.md: if one wrong class has more than 2/3. The formula is `p_k (2 - sum over j != k, t of r_j)`."""
    for leader in (0.6, 0.66, 0.67, 0.9):
        p = torch.tensor([(1 - leader) / 2, leader, (1 - leader) / 2], dtype=torch.float64)
        first, second = gradients(p)
        assert first[2] > 0
        assert (second[2] < 0) == (leader > 2 / 3)
        assert second[2].item() == pytest.approx(p[2].item() * (2 - leader / (1 - leader)), rel=1e-12)


def test_twice_a_loss_under_sgd() -> None:
    """Twice the rate, half the weight decay and half the clipping norm give the same weights to rounding."""
    random = torch.Generator().manual_seed(11)
    images, target = torch.randn(40, 5, generator=random, dtype=torch.float64), torch.arange(40) % 3
    ends = []
    for factor, rate, decay, clip in ((2, 0.1, 0.01, 0.5), (1, 0.2, 0.005, 0.25), (1, 0.1, 0.01, 0.5)):
        weights = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([weights], lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
        for _ in range(5):
            optimizer.zero_grad()
            (factor * argmax_nll(images @ weights, target)).backward()
            torch.nn.utils.clip_grad_norm_([weights], clip)
            optimizer.step()
        ends.append(weights.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=0)
    assert (ends[2] - ends[0]).abs().max() > 0.01


OUTPUTS = [(0.5, 0.25, 0.25), (0.05, 0.9, 0.05), (0.9, 0.1), (0.1,) * 10, (0.02, 0.4, 0.38, 0.2), (1e-9, 0.6, 0.4 - 1e-9)]


@pytest.mark.parametrize("p", OUTPUTS)
def test_what_method_2_adds(p: tuple[float, ...]) -> None:
    """`-log(1 - p)` as a power series: `1 - p_t`, and a price of wrong outputs in one place. In 60 digits, and in float64."""
    with mpmath.workdps(60):
        exact = [mpmath.mpf(x) for x in p]
        exact = [x / mpmath.fsum(exact) for x in exact]
        by_definition = -mpmath.log(exact[0]) - mpmath.fsum(mpmath.log(1 - x) for x in exact[1:])
        powers = mpmath.fsum(x**n / n for x in exact[1:] for n in range(2, 2000))
        by_series = -mpmath.log(exact[0]) + (1 - exact[0]) + powers
        assert abs(by_series - by_definition) < mpmath.mpf(10) ** -55 * by_definition
    logits = torch.tensor([p], dtype=torch.float64).log()
    method_1, method_2 = (loss(logits, torch.tensor([0])).item() for loss in BOTH)
    assert method_2 == pytest.approx(float(by_series), rel=1e-13)
    assert method_2 - method_1 - (1 - p[0]) == pytest.approx(float(powers), rel=1e-12)
    assert method_1 + 1 - p[0] < method_2 <= 2 * method_1 * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1.0, 3.0, 60.0])
def test_keras_binary_crossentropy_on_a_softmax(scale: float) -> None:
    """It is method 2, divided by C, of outputs that are clipped at 1e-7: equal inside, bounded and flat beyond."""
    logits = (scale * torch.randn(64, 10, generator=torch.Generator().manual_seed(12), dtype=torch.float64)).requires_grad_()
    target = torch.arange(64) % 10
    p, y = logits.softmax(1), F.one_hot(target, 10)
    clipped = p.clamp(1e-7, 1 - 1e-7)
    keras = -(y * clipped.log() + (1 - y) * (1 - clipped).log()).mean(1)
    ours = all_logit_nll(logits, target, reduction="none", class_reduction="mean")
    inside = ((p > 1e-7) & (p < 1 - 1e-7)).all(1)
    torch.testing.assert_close(keras[inside], ours[inside], rtol=1e-12, atol=0)
    assert keras.max() <= -2 * math.log(1e-7) / 10 + 1e-6  # 3.22
    flat = (clipped != p).all(1)
    (gradient,) = torch.autograd.grad(keras.sum(), logits)
    assert gradient[flat].abs().sum() == 0
    if scale == 60:
        assert flat.sum() > 20
        assert ours.max() > 10 * keras.max()
    else:
        assert inside.sum() > 50


def minimiser(loss: Callable[..., Tensor], target: Tensor, **options: object) -> Tensor:
    """The outputs [3] that minimise `loss` if all rows of `target` have the same logits."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        logits.grad = None
        value = loss(logits.expand(len(target), 3), target, **options)
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().softmax(0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_weights_and_smoothing_move_the_minimum(label_smoothing: float) -> None:
    """Ten images that look the same: 6, 3 and 1 of the classes, with the weights 1, 2 and 7."""
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    share = labels.bincount().double() / 10
    weight = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)

    def smooth(q: Tensor) -> Tensor:
        return (1 - label_smoothing) * q + label_smoothing / 3

    def weighted(q: Tensor) -> Tensor:
        return weight * q / (weight @ q)

    for loss, of_labels, of_probabilities in (
        (F.cross_entropy, weighted(smooth(share)), weighted(smooth(share))),
        (argmax_nll, weighted(smooth(share)), weighted(smooth(share))),
        (all_logit_nll, smooth(weighted(share)), smooth(share)),
    ):
        for target, expected in ((labels, of_labels), (share[None], of_probabilities)):
            found = minimiser(loss, target, weight=weight, label_smoothing=label_smoothing)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for kind in (torch.nn.CrossEntropyLoss, ArgmaxNLL, AllLogitNLL):  # as a run weighs, see `build.make_loss`
        whole = ClassWeighted(kind(reduction="none", label_smoothing=label_smoothing), weight)
        torch.testing.assert_close(minimiser(whole, labels), smooth(weighted(share)), rtol=0, atol=1e-6)


# Multiples of 1/64 up to 64, so a shift by an integer rounds nothing.
LOGITS = st.lists(st.integers(-4096, 4096).map(lambda i: i / 64), min_size=2, max_size=12)
BOTH = (argmax_nll, all_logit_nll)


def one_row(values: list[float], data: st.DataObject) -> tuple[Tensor, Tensor]:
    return torch.tensor([values]), torch.tensor([data.draw(st.integers(0, len(values) - 1))])


@pytest.mark.slow
@given(LOGITS, st.data(), st.integers(-1000, 1000))
def test_shift_invariance(values: list[float], data: st.DataObject, shift: int) -> None:
    logits, target = one_row(values, data)
    for loss in BOTH:
        assert loss(logits + shift, target) == loss(logits, target)


@given(LOGITS, st.data())
def test_class_permutation(values: list[float], data: st.DataObject) -> None:
    logits, target = one_row(values, data)
    order = torch.tensor(data.draw(st.permutations(range(len(values)))))
    for loss in BOTH:
        torch.testing.assert_close(loss(logits[:, order], order.argsort()[target]), loss(logits, target), rtol=1e-6, atol=1e-37)


@given(st.integers(2, 9), st.integers(1, 8), st.integers(0, 2**31))
def test_batch_split(rows: int, split: int, seed: int) -> None:
    """The sum over two parts is the sum over the whole; the loss of an image does not depend on its batch."""
    split = min(split, rows - 1)
    random = torch.Generator().manual_seed(seed)
    logits, target = 5 * torch.randn(rows, 4, generator=random), torch.randint(0, 4, (rows,), generator=random)
    for loss in BOTH:
        values = loss(logits, target, reduction="none")
        parts = [loss(logits[part], target[part], reduction="none") for part in (slice(split), slice(split, None))]
        assert torch.equal(torch.cat(parts), values)
        torch.testing.assert_close(loss(logits, target, reduction="sum"), values.sum())
        torch.testing.assert_close(loss(logits, target), values.mean())


@given(st.floats(-90, 90, width=32), st.floats(-90, 90, width=32), st.integers(0, 1))
def test_with_two_classes_method_2_is_twice_method_1(first: float, second: float, label: int) -> None:
    logits, target = torch.tensor([[first, second]]), torch.tensor([label])
    torch.testing.assert_close(all_logit_nll(logits, target), 2 * argmax_nll(logits, target), rtol=1e-6, atol=1e-37)


@given(LOGITS, st.data(), st.integers(1, 64))
def test_monotone_in_the_margin(values: list[float], data: st.DataObject, more: int) -> None:
    """A larger logit of the true class costs less."""
    logits, target = one_row(values, data)
    raised = logits.scatter_add(1, target[:, None], torch.tensor([[more / 8.0]]))
    for loss in BOTH:
        before = loss(logits, target)
        assert loss(raised, target) < before or before < 1e-37  # below that, a float32 has no digits left


@given(LOGITS, st.data())
def test_gradient_sums_to_zero(values: list[float], data: st.DataObject) -> None:
    """And raises the true class, within its bounds."""
    logits, target = one_row(values, data)
    for loss, bound in zip(BOTH, (1.0, 2.0), strict=True):
        leaf = logits.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss(leaf, target), leaf)
        assert abs(grad.sum().item()) <= 1e-6
        assert grad[0, target] <= 0
        assert grad.abs().max() <= bound * (1 + 1e-6)


@given(LOGITS, st.data())
def test_order_of_the_losses(values: list[float], data: st.DataObject) -> None:
    """0 <= method 1 by prediction <= method 1 by label <= method 2."""
    logits, target = one_row(values, data)
    by_prediction, by_label = argmax_nll(logits, target, select="prediction"), argmax_nll(logits, target)
    assert 0 <= by_prediction <= by_label <= all_logit_nll(logits, target) * (1 + 1e-6)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(2, 6), st.integers(0, 2**31))
def test_strictly_proper(classes: int, seed: int) -> None:
    """The expected loss under q is minimal at p = q: minimising it from random logits ends there."""
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(classes, generator=random, dtype=torch.float64).softmax(0)
    for loss in BOTH:
        logits = torch.randn(classes, generator=random, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def expected_loss(loss: object = loss, logits: Tensor = logits) -> Tensor:
            logits.grad = None
            values = loss(logits.expand(classes, classes), torch.arange(classes), reduction="none")
            expected = (q * values).sum()
            expected.backward()
            return expected

        optimizer.step(expected_loss)
        torch.testing.assert_close(logits.detach().softmax(0), q, rtol=0, atol=1e-6)


@pytest.mark.parametrize("eps", [1e-7, 1e-3])
def test_textbook_eps(eps: float) -> None:
    p = EXAMPLE.softmax(1)
    expected_1 = -torch.log(p[range(3), EXAMPLE_LABELS] + eps)
    one_hot = F.one_hot(EXAMPLE_LABELS, 3).bool()
    expected_2 = -torch.log(torch.where(one_hot, p, 1 - p) + eps).sum(1)
    torch.testing.assert_close(argmax_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none", eps=eps), expected_1)
    torch.testing.assert_close(all_logit_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none", eps=eps), expected_2)
    worst = argmax_nll(torch.tensor([[1e4, 0.0]]), torch.tensor([1]), eps=eps)
    assert worst.item() == pytest.approx(-math.log(eps), rel=1e-5)


def test_sigmoid_is_binary_cross_entropy() -> None:
    one_hot = F.one_hot(EXAMPLE_LABELS, 3).float()
    expected = F.binary_cross_entropy(EXAMPLE.sigmoid(), one_hot, reduction="none").sum(1)
    torch.testing.assert_close(sigmoid_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none"), expected)
    assert SigmoidNLL(class_reduction="mean")(EXAMPLE, EXAMPLE_LABELS).item() == pytest.approx(expected.mean().item() / 3)


@pytest.mark.parametrize("size", [17.0, 40.0, 100.0, math.inf])
def test_sigmoid_of_confident_outputs(size: float) -> None:
    """`-log(1 - sigmoid(z))` keeps its digits for a confident negative; an impossible class costs nothing."""
    logits = torch.tensor([[3.0, -size, -1.0]], requires_grad=True)
    value = sigmoid_nll(logits, torch.tensor([0]))
    assert value.item() == pytest.approx(sum(math.log1p(math.exp(z)) for z in (-3.0, -size, -1.0)), rel=3e-7, abs=0)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[0].tolist() == pytest.approx(
        [-1 / (1 + math.exp(3)), math.exp(-size), 1 / (1 + math.e)], rel=1e-6, abs=1e-37
    )
    alone = sigmoid_nll(torch.tensor([[size, -size]]), torch.tensor([0]))
    assert alone.item() == pytest.approx(2 * math.exp(-size), rel=1e-6, abs=1e-37)
