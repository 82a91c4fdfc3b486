"""Shared by all tests: where the configs are, and the command run in this process."""

import hashlib
import json
import logging
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # where two tests run at a time, one each
torch.set_num_threads(THREADS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # for child processes
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vgg_nll import build, checkpoint, run
from vgg_nll.config import composed
from vgg_nll.data.splits import ImageData
from vgg_nll.model import CONFIGURATION_D, VGG16

# A run of seconds: 40 synthetic images, 2 classes.
TINY = (
    "data=synthetic",
    "data.num_images=40",
    "data.num_classes=2",
    "trainer.batch_size=4",
    "trainer.eval_batch_size=8",
    "trainer.log_every_steps=1",
    "device=cpu",
    "trainer.precision=float32",
)


NARROW = tuple(width if width == "pool" else int(width) // 16 for width in CONFIGURATION_D)


@pytest.fixture(scope="module")
def narrow() -> Iterator[None]:
    """VGG-16 with a sixteenth of the channels: for modules that test what goes on around the network, ten times as fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vgg_nll.model.CONFIGURATION_D", NARROW)
        yield


@pytest.fixture
def config() -> Callable[..., DictConfig]:
    return compose_config


def compose_config(*overrides: str) -> DictConfig:
    """Overrides -> the composed config."""
    return composed(overrides)


def make_model(cfg: DictConfig, data: ImageData | None = None) -> VGG16:
    """The network of a config, on the CPU."""
    data = build.make_data(cfg, torch.device("cpu")) if data is None else data
    return build.make_model(cfg, len(data.class_names), data.preprocessing.image_size, torch.device("cpu"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Arguments -> exit code of `python train.py <arguments>`, run in this process in an empty folder."""
    import train
    from vgg_nll import command

    monkeypatch.chdir(tmp_path)
    # set here, so that the value `call` puts there is taken back after the test
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    handlers, level = list(logging.root.handlers), logging.root.level

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        try:
            command.call(train.main)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        return 0

    yield run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 12 steps on synthetic images of 2 classes, of the `narrow` network: not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vgg_nll.model.CONFIGURATION_D", NARROW)
        run.train(compose_config(*TINY, "trainer.epochs=2", "loss=all_logit", "data.noise=1.0"), folder, {})
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Name, arguments -> exit code of `python scripts/<name>.py <arguments>`, run in this process."""

    def call(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def points(folder: Path) -> list[tuple[str, int, bytes]]:
    """(tag, step, value) of everything in all event files of a run, as it lies there; times and circumstances are left out."""
    found = []
    for path in folder.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith(("speed/", "config/", "circumstances/", "_hparams_/")):
                    found.append((value.tag, event.step, value.tensor.SerializeToString()))
    return sorted(found)


def outcome(folder: Path) -> tuple:
    """What a run comes to: its metrics and curves, and the bits of its last state and of its best weights."""
    metrics = json.loads((folder / "metrics.json").read_text())
    states = [checkpoint.load(folder / "checkpoints" / name) for name in (checkpoint.LAST, checkpoint.BEST)]
    numbers = [{key: value for key, value in _flat(state) if key != "seconds"} for state in states]
    return metrics["val"], metrics["test"], metrics["best_step"], points(folder), numbers


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor):
        yield name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)  # NaN is equal to itself here


@pytest.fixture(autouse=True)
def no_global_leaks() -> Iterator[None]:
    """No test leaves PyTorch's global settings changed."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    assert (threads, deterministic) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
