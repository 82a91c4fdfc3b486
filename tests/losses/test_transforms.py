"""The losses where PyTorch looks into a function: `torch.func`, forward-mode derivatives, tracing, export, compilation."""

import io
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functionalize, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from vgg_nll.losses import all_logit_nll, argmax_nll, sigmoid_nll

Loss = Callable[..., Tensor]
BOTH = pytest.mark.parametrize("loss", [argmax_nll, all_logit_nll])
LOGITS = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
# With two classes both losses have a closed form in PyTorch: once and twice the cross-entropy.
TWO, TWO_LABELS = LOGITS[:, :2].contiguous(), LABELS % 2


# In a process of its own: this module of PyTorch's changes global settings.
SAMPLES = """
import sys, torch
from torch.testing._internal.common_methods_invocations import op_db
(info,) = (op for op in op_db if op.name == "nn.functional.cross_entropy")
samples = [s for dtype in (torch.float32, torch.float64) for s in info.sample_inputs("cpu", dtype, requires_grad=False)]
torch.save([(s.input, s.args[0], s.kwargs) for s in samples], sys.argv[1])
"""


@pytest.mark.slow
def test_pytorchs_own_samples(tmp_path: Path) -> None:
    """Values, gradients and forward derivatives of method 1 for every sample that PyTorch tests `cross_entropy` with."""
    subprocess.run([sys.executable, "-c", SAMPLES, str(tmp_path / "samples.pt")], check=True)
    samples = torch.load(tmp_path / "samples.pt")
    assert len(samples) >= 40
    for z, target, options in samples:
        options["label_smoothing"] = max(0.0, options.get("label_smoothing", 0.0))  # below 0, it is refused here
        results = []
        for loss in (argmax_nll, F.cross_entropy):
            logits = z.clone().requires_grad_()
            value = loss(logits, target, **options)
            value.sum().backward()
            tangent = torch.ones_like(logits) / (1 + torch.arange(logits.numel()).view_as(logits))
            forward = jvp(partial(loss, target=target, **options), (z,), (tangent,))[1]
            results.append((value, logits.grad, forward))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True)


TRACING: dict[str, Any] = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}  # the weight is one
TRANSFORMS: dict[str, Callable[[Loss, Tensor, Tensor], Any]] = {
    "grad": lambda loss, z, t: grad(loss)(z, t),
    "vmap": lambda loss, z, t: vmap(loss)(z, t),
    "vmap over labels": lambda loss, z, t: vmap(loss, in_dims=(None, 0))(z, torch.stack([t, t.flip(0)])),
    "vmap over logits": lambda loss, z, t: vmap(loss, in_dims=(0, None))(torch.stack([z, 2 * z]), t),
    "per-image gradients": lambda loss, z, t: vmap(grad(loss))(z, t),
    "jacrev": lambda loss, z, t: jacrev(lambda x: loss(x, t, reduction="none"))(z),
    "jacfwd": lambda loss, z, t: jacfwd(lambda x: loss(x, t, reduction="none"))(z),
    "hessian": lambda loss, z, t: hessian(loss)(z, t),
    "grad of grad": lambda loss, z, t: grad(lambda x: grad(loss)(x, t).square().sum())(z),
    "jvp": lambda loss, z, t: jvp(lambda x: loss(x, t), (z,), (torch.ones_like(z).cumsum(1),)),
    "vjp": lambda loss, z, t: vjp(lambda x: loss(x, t), z)[1](torch.tensor(2.0, dtype=z.dtype)),
    "functionalize": lambda loss, z, t: functionalize(loss)(z, t),
    "functionalized gradient": lambda loss, z, t: functionalize(grad(loss))(z, t),
    "make_fx": lambda loss, z, t: make_fx(lambda x, y: loss(x, y), **TRACING)(z[:3], t[:3])(z, t),
    "make_fx of grad": lambda loss, z, t: make_fx(lambda x, y: grad(loss)(x, y), **TRACING)(z[:3], t[:3])(z, t),
}


@pytest.mark.slow
@pytest.mark.parametrize("kwargs", [{}, {"label_smoothing": 0.1}, {"weight": torch.tensor([0.5, 2.0]).double()}], ids=str)
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("factor", [1, 2])
def test_functional_transforms(factor: int, name: str, kwargs: dict[str, Any]) -> None:
    """With two classes, method 1 is the cross-entropy and method 2 twice that; of derivatives, too."""
    ours = argmax_nll if factor == 1 else all_logit_nll
    if name == "vmap over labels" and "label_smoothing" in kwargs:
        pytest.skip("PyTorch's cross_entropy raises")
    found = TRANSFORMS[name](lambda z, t, **more: ours(z, t, **kwargs, **more), TWO, TWO_LABELS)
    expected = TRANSFORMS[name](lambda z, t, **more: factor * F.cross_entropy(z, t, **kwargs, **more), TWO, TWO_LABELS)
    torch.testing.assert_close(found, expected)


@BOTH
@pytest.mark.parametrize("soft", [False, True])
def test_transforms_of_many_classes(loss: Loss, soft: bool) -> None:
    """Derivatives by `torch.func` are those of the backward pass; method 2 has no other reference for more classes."""
    target = F.one_hot(LABELS, 5).double() if soft else LABELS
    leaf = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, target), leaf, create_graph=True)
    torch.testing.assert_close(grad(loss)(LOGITS, target), gradient)
    for jacobian in (jacrev, jacfwd):
        torch.testing.assert_close(jacobian(loss)(LOGITS, target), gradient)
    torch.testing.assert_close(6 * gradient, vmap(grad(loss))(LOGITS, target))
    (twice,) = torch.autograd.grad(gradient.square().sum(), leaf)
    torch.testing.assert_close(2 * torch.einsum("bcij,ij->bc", hessian(loss)(LOGITS, target), gradient.detach()), twice)


@BOTH
def test_dual_numbers(loss: Loss) -> None:
    tangent = torch.ones_like(LOGITS).cumsum(1)
    with forward_ad.dual_level():
        value, derivative = forward_ad.unpack_dual(loss(forward_ad.make_dual(LOGITS, tangent), LABELS))
    torch.testing.assert_close(value, loss(LOGITS, LABELS))
    torch.testing.assert_close(derivative, (grad(loss)(LOGITS, LABELS) * tangent).sum())


@BOTH
def test_fake_tensors_and_meta_tensors(loss: Loss) -> None:
    mode = FakeTensorMode()
    logits, labels = mode.from_tensor(LOGITS.float()).requires_grad_(), mode.from_tensor(LABELS)
    with mode:
        values = loss(logits, labels, reduction="none")
        values.sum().backward()
        assert (values.shape, values.dtype, logits.grad.shape) == ((6,), torch.float32, (6, 5))
    outside = loss(logits, labels)  # no mode is active, but the tensors are fake
    assert outside.shape == ()
    assert loss(LOGITS.to("meta"), LABELS.to("meta"), reduction="none").shape == (6,)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_any_batch_size_and_gradients(loss: Loss, strict: bool) -> None:
    class Module(torch.nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return loss(logits, labels)

    batch = torch.export.Dim("batch", min=2)
    shapes = {"logits": {0: batch}, "labels": {0: batch}}
    exported = torch.export.export(Module(), (LOGITS, LABELS), dynamic_shapes=shapes, strict=strict).module()
    for rows in (2, 5, 6):
        ours, theirs = LOGITS[:rows].clone().requires_grad_(), LOGITS[:rows].clone().requires_grad_()
        found, expected = exported(ours, LABELS[:rows]), loss(theirs, LABELS[:rows])
        found.backward()
        expected.backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(ours.grad, theirs.grad)
    # Whoever opens it needs PyTorch only.
    assert "vgg_nll" not in "".join(str(node.target) for node in exported.graph.nodes)


def jit_trace(call: Callable[..., Tensor], args: tuple[Tensor, Tensor]) -> Any:
    """Saved and loaded, which a call of Python inside would not survive."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(call, args), file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.parametrize("trace", [jit_trace, lambda call, args: make_fx(call, tracing_mode="real")(*args)])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@BOTH
def test_traced_with_other_values(loss: Loss, trace: Callable[..., Any]) -> None:
    """The branches on values that eager code takes must not be in the trace: rows that need none, then rows that do."""
    easy, labels = LOGITS.float().repeat(1, 1000), LABELS * 1000
    traced = trace(lambda z, t: loss(z, t, reduction="none"), (easy, labels))
    hard = 1000 * easy
    torch.testing.assert_close(traced(hard, labels), loss(hard, labels, reduction="none"))
    torch.testing.assert_close(traced(hard.neg(), labels + 1), loss(hard.neg(), labels + 1, reduction="none"))


COMPILERS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.soak)]  # inductor: also in test_label_nll.py


@pytest.mark.slow
@pytest.mark.parametrize("backend", COMPILERS)
@pytest.mark.parametrize("dynamic", [None, pytest.param(True, marks=pytest.mark.soak)])  # True: also in test_label_nll.py
@pytest.mark.parametrize("loss", [argmax_nll, all_logit_nll, sigmoid_nll])
def test_compiled_with_changing_batch_sizes(loss: Loss, dynamic: bool | None, backend: str) -> None:
    """In one graph, forward and backward, as the smaller last batch needs it."""
    if backend == "inductor" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend=backend)
    for rows in (6, 4, 5, 1, 6):
        for target in (LABELS[:rows], F.one_hot(LABELS[:rows], 5).double()):
            ours, theirs = LOGITS[:rows].clone().requires_grad_(), LOGITS[:rows].clone().requires_grad_()
            found, expected = compiled(ours, target), loss(theirs, target)
            found.backward()
            expected.backward()
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.slow
@BOTH
def test_compiled_transforms(loss: Loss) -> None:
    torch._dynamo.reset()
    per_image = vmap(grad(loss))
    compiled = torch.compile(per_image, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(LOGITS, LABELS), per_image(LOGITS, LABELS))


@BOTH
def test_compiled_under_autocast(loss: Loss) -> None:
    torch._dynamo.reset()
    logits = LOGITS.bfloat16()

    def step(z: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(z, LABELS)

    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found, expected = torch.compile(step, fullgraph=True, backend="aot_eager")(ours), step(theirs)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@BOTH
def test_logits_changed_in_place_before_the_backward_pass(loss: Loss) -> None:
    """As PyTorch's: the gradient is that of the logits as they were. Their second derivative is refused."""
    for rows in (LOGITS, LOGITS.float().repeat(1, 1000)):
        leaf, other = rows.clone().requires_grad_(), rows.clone().requires_grad_()
        logits = leaf * 1
        value = loss(logits, LABELS)
        logits.zero_()
        value.backward(retain_graph=True)
        loss(other, LABELS).backward()
        torch.testing.assert_close(leaf.grad, other.grad, rtol=0, atol=0)
        with pytest.raises(RuntimeError, match="changed in place"):
            torch.autograd.grad(value, leaf, create_graph=True)


@BOTH
def test_a_graph_that_is_kept_gives_the_same_gradient_again(loss: Loss) -> None:
    leaf = LOGITS.clone().requires_grad_()
    value = loss(leaf, LABELS)
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    (last,) = torch.autograd.grad(value, leaf, torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(last, 3 * first)


@BOTH
def test_many_upstream_gradients_at_once(loss: Loss) -> None:
    found = torch.autograd.functional.jacobian(lambda z: loss(z, LABELS, reduction="none"), LOGITS, vectorize=True)
    torch.testing.assert_close(found, jacrev(lambda z: loss(z, LABELS, reduction="none"))(LOGITS))


@BOTH
def test_second_derivative_of_a_compiled_loss(loss: Loss) -> None:
    """With a backend that leaves derivatives to PyTorch's autograd; others refuse them."""
    torch._dynamo.reset()
    results = []
    for call in (torch.compile(loss, fullgraph=True, backend="eager"), loss):
        leaf = LOGITS.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(call(leaf, LABELS), leaf, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    torch.testing.assert_close(*results)


def shared(tensors: dict[object, Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns a hook that keeps equal tensors once, as an offloading one may."""
    return lambda tensor: tensors.setdefault((tensor.shape, tensor.double().sum().item()), tensor)


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("mean", [True, False])
@BOTH
def test_saved_tensors_may_be_shared(loss: Loss, mean: bool, rows: int) -> None:
    """Whoever hands them out gets them back unchanged."""
    z, y = torch.randn(rows, 70, generator=torch.Generator().manual_seed(0)), torch.arange(rows) % 70
    (once,) = torch.autograd.grad(loss(z.requires_grad_(), y, reduction="mean" if mean else "sum"), z)
    kept: dict[object, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(shared(kept), lambda tensor: tensor):
        first, second = (loss(z, y, reduction="mean" if mean else "sum") for _ in range(2))
    before = [tensor.clone() for tensor in kept.values()]
    first.backward()
    second.backward()
    torch.testing.assert_close(z.grad, 2 * once)
    assert all(map(torch.equal, before, kept.values()))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@BOTH
def test_a_loss_that_is_kept_does_not_keep_its_logits(loss: Loss, reduction: str) -> None:
    """`total = total + loss` over the steps of an epoch: after its backward pass, a loss holds neither logits nor gradient."""
    weight = torch.randn(64, 70, requires_grad=True)
    logits = weight * 2.0
    kept = loss(logits, torch.arange(64), reduction=reduction)
    node = next(node for node in walk(kept.grad_fn) if "LabelNLL" in type(node).__name__)
    reference = weakref.ref(logits)
    del logits
    kept.sum().backward()
    assert reference() is None and node.gradient is None


def walk(node: Any) -> Iterator[Any]:
    """Yields a node of autograd's graph, and those that it passes gradients to."""
    if node is not None:
        yield node
        for other, _ in node.next_functions:
            yield from walk(other)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@BOTH
def test_vmap_over_a_backward_pass_that_frees_the_graph(loss: Loss, reduction: str) -> None:
    z, y = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True), torch.arange(4)
    found = loss(z, y, reduction=reduction)
    upstream = torch.randn(3, *found.shape)
    expected = torch.stack([torch.autograd.grad(found, z, one, retain_graph=True)[0] for one in upstream])
    gradients = torch.func.vmap(lambda one: torch.autograd.grad(found, z, one)[0])(upstream)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("label", [-1, 5])
@BOTH
def test_compiled_with_a_label_out_of_range(loss: Loss, label: int) -> None:
    compiled = torch.compile(loss, backend="eager")
    assert compiled(torch.zeros(2, 5), torch.tensor([0, 4])).isfinite()
    with pytest.raises(IndexError, match=r"labels must lie in \[0, 5\)"):
        compiled(torch.zeros(2, 5), torch.tensor([0, label]))
