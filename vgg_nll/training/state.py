"""Everything that changes during training, in one object.

N steps give what k steps, save, load and N - k steps give, to the bit on one device: the data, the draws and the learning
rate are functions of the step, so the state is the weights, the optimizer's moments, and a few numbers.
"""

import copy
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vgg_nll.checkpoints.weights import check_weights, evaluated_weights, has_numbers, is_finite
from vgg_nll.training.history import Row, empty_trajectory

NUMBERS = ("step", "validated_step", "best_step", "validations_since_best", "seconds", "window_images")


class Window(NamedTuple):
    """Means over the images since the last point of the training curves."""

    loss: float
    accuracy: float
    images: int


@dataclass
class TrainState:
    """Mutable state of a run.

    `step` counts optimizer steps done. `window_*` hold the sums since the last point of the training curves, `bad_*`
    describe the first step whose loss or gradient was not finite (step -1: none); both live on the device, so that no step
    waits for it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    average: nn.Module | None = None  # of the weights; takes their place in evaluation
    forward: Callable[[Tensor], Tensor] = field(init=False)  # the model's, or that of its compiled twin, in training
    keep_gradients: Callable[[], AbstractContextManager[Any]] = nullcontext  # in its block, `backward` sends nothing
    step: int = 0
    validated_step: int = -1  # the last step whose validation was finished; the first one is before the first step
    best_step: int = -1
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)  # a row per validation
    trajectory: Tensor = field(default_factory=empty_trajectory)  # [V, 2, M], of single validation images
    validations_since_best: int = 0
    seconds: float = 0.0  # of training, over all processes
    window_loss: Tensor = field(init=False)  # sum over images
    window_correct: Tensor = field(init=False)
    window_images: int = 0
    bad_step: Tensor = field(init=False)
    bad_loss: Tensor = field(init=False)
    bad_gradient_norm: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.forward = self.model
        self._reset_window()
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self.bad_loss = torch.zeros((), device=self.device)
        self.bad_gradient_norm = torch.zeros((), device=self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the average, if there is one."""
        return self.model if self.average is None else self.average

    def pop_window(self) -> Window:
        """Returns the means of the window, and starts the next one. The host waits for the device."""
        loss, accuracy = (float(total) / self.window_images for total in (self.window_loss, self.window_correct))
        window = Window(loss, accuracy, self.window_images)
        self._reset_window()
        return window

    def bytes_on_disk(self) -> tuple[int, int]:
        """Returns the size of the weights that are evaluated, and that of a whole state, of which they are a part."""
        weights = sum(tensor.nbytes for tensor in self.evaluated.state_dict().values())
        moments = [m for m in _moments_after_a_step(self.optimizer).values() if isinstance(m, Tensor) and m.dim() > 0]
        trained = sum(p.nbytes for group in self.optimizer.param_groups for p in group["params"])
        return weights, weights * (1 if self.average is None else 2) + len(moments) * trained

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint holds; tensors are those of the live state, not copies."""
        return {
            "model": self.model.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "window_loss": self.window_loss,
            "window_correct": self.window_correct,
            "best_metrics": self.best_metrics,
            "history": self.history,
            "trajectory": self.trajectory,
            **{name: getattr(self, name) for name in NUMBERS},
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Loads what `state_dict` gave. Raises ValueError if it does not fit: for the model, before anything is changed."""
        expected = set(self.state_dict())
        if not expected <= set(content):
            raise ValueError(f"the checkpoint lacks {', '.join(sorted(expected - set(content)))}")
        _check_numbers(content)
        check_weights(self.model, content["model"])
        if content["average"]:
            check_weights(self.model, content["average"])
        self._load_optimizer(content["optimizer"])
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(evaluated_weights(content))
        for name in (*NUMBERS, "best_metrics", "history", "trajectory"):
            setattr(self, name, content[name])
        self.window_loss = content["window_loss"].to(self.device)
        self.window_correct = content["window_correct"].to(self.device)

    def _reset_window(self) -> None:
        self.window_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.window_correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.window_images = 0

    def _load_optimizer(self, content: dict[str, Any]) -> None:
        """Takes moments and the last learning rate from the file, settings (weight decay, betas) from the config."""
        own, saved = self.optimizer.state_dict()["param_groups"], content["param_groups"]
        if [set(group) for group in saved] != [set(group) for group in own]:
            raise ValueError("the optimizer is of another kind than the checkpoint's")
        groups = [{**group, "lr": float(before["lr"])} for group, before in zip(own, saved, strict=True)]
        self.optimizer.load_state_dict({"state": self._checked_moments(content["state"]), "param_groups": groups})

    def _checked_moments(self, saved: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Returns moments laid out in memory as the parameters are, which fused kernels take for granted.

        Raises ValueError unless there are those, of that shape and type, that a step of this optimizer leaves.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if set(saved) not in (set(), set(range(len(parameters)))):
            raise ValueError(f"the optimizer's state is of {len(saved)} parameters, not of {len(parameters)}")
        expected = _moments_after_a_step(self.optimizer) if saved else {}
        checked: dict[int, dict[str, Any]] = {}
        for index, moments in saved.items():
            if set(moments) != set(expected):
                raise ValueError(
                    f"the optimizer keeps {sorted(map(str, moments))} of parameter {index}, not {sorted(expected)}"
                )
            checked[index] = {
                name: _laid_out(moments[name], moment, parameters[index], f"the optimizer's {name} of parameter {index}")
                for name, moment in expected.items()
            }
        return checked


def _moments_after_a_step(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns what this optimizer keeps of a parameter, from a step of a copy with one number to optimize."""
    number = nn.Parameter(torch.zeros(1))
    number.grad = torch.zeros(1)
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = [{**optimizer.param_groups[0], "params": [number]}]
    twin.step()
    return dict(twin.state[number])


def _laid_out(saved: Any, expected: Any, parameter: Tensor, what: str) -> Any:
    """Returns a saved moment with the strides of its parameter. Raises ValueError if it is not like the expected one."""
    if not isinstance(expected, Tensor):
        if saved is not None or expected is not None:
            raise ValueError(f"{what} is a {type(saved).__name__}")
        return saved
    shape = parameter.shape if expected.dim() else expected.shape
    if not has_numbers(saved) or saved.shape != shape:
        raise ValueError(f"{what} has the shape {list(getattr(saved, 'shape', []))}, not {list(shape)}")
    if saved.dtype != expected.dtype or not is_finite(saved):
        raise ValueError(f"{what} is {saved.dtype}, not {expected.dtype}, or not finite")
    return torch.empty_like(parameter, dtype=saved.dtype, device="cpu").copy_(saved) if expected.dim() else saved.clone()


def _is_row(row: Any) -> bool:
    """Returns whether a value is a row of the history: a step, and names with numbers."""
    return (
        isinstance(row, dict)
        and {"step", "epoch", "loss"} <= row.keys()
        and all(isinstance(name, str) and type(value) is (int if name == "step" else float) for name, value in row.items())
    )


def _check_numbers(content: dict[str, Any]) -> None:
    minimum = {"best_step": -1, "validated_step": -1}
    for name in NUMBERS:
        value, kind = content[name], float if name == "seconds" else int
        if type(value) is not kind or not value >= minimum.get(name, 0):
            raise ValueError(f"the checkpoint holds {name}={value!r}")
    best = content["best_metrics"]
    if not isinstance(best, dict) or not all(isinstance(value, float) for value in best.values()):
        raise ValueError("the checkpoint's best_metrics are not numbers")
    if content["best_step"] >= 0 and not {"accuracy", "nll_argmax"} <= best.keys():
        raise ValueError("the checkpoint's best_metrics lack the accuracy or the NLL")
    history = content["history"]
    rows_are_numbers = isinstance(history, list) and all(_is_row(row) for row in history)
    if not rows_are_numbers or len({tuple(row) for row in history}) > 1:
        raise ValueError("the checkpoint's history is not rows of the same numbers")
    rows = content["trajectory"]
    if not has_numbers(rows) or rows.dtype != torch.float32 or rows.dim() != 3 or rows.shape[1] != 2:
        raise ValueError("the checkpoint's trajectory is not [V, 2, M] numbers of torch.float32")
    for name, dtype in (("window_loss", torch.float64), ("window_correct", torch.int64)):
        window = content[name]
        if not has_numbers(window) or window.shape != torch.Size([]) or window.dtype != dtype:
            raise ValueError(f"the checkpoint's {name} is not one number of {dtype}")
