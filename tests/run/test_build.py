"""Every file of every config group composes, builds, and has no leaf that nothing reads."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from helpers.command import make_command
from helpers.configs import TINY, make_model
from helpers.pictures import write_stand_in
from helpers.runs import Bomb
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torchvision.models import vgg

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.config import rules, schema
from vgg_nll.config.rules import RULES
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run import build, setup
from vgg_nll.run_folder import paths
from vgg_nll.tracking.summaries import Scalars
from vgg_nll.training.settings import TrainerSettings
from vgg_nll.training.state import TrainState

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
Config = Callable[..., DictConfig]
FILES = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").glob("*/*.yaml"))
NARROW = "model.width=0.0625"
BUILT = [path for path in FILES if path.parts[0] not in ("hydra", *schema.OF_SWEEPS)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_config_opens_with_its_command(path: Path) -> None:
    lines = (ROOT / "configs" / path).read_text().splitlines()
    comments = [line for line in lines[:4] if line.startswith("#")]
    assert any(re.search("(python|torchrun .*) train.py", line) for line in comments)


@pytest.mark.slow
@pytest.mark.parametrize("path", BUILT, ids=str)
def test_every_config_builds(path: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, name = path.parts[0], path.stem
    cfg = config(NARROW, f"{group}={name}")
    if OmegaConf.is_missing(cfg.data, "root") or "root" in cfg.data:
        write_stand_in(cfg.data.source._target_.rpartition(".")[2], tmp_path, monkeypatch)
        table = ["data.labels=labels.csv"] * (cfg.data.source._target_.rpartition(".")[2] == "list_csv")
        cfg = config(NARROW, f"{group}={name}", f"data.root={tmp_path}", "trainer.batch_size=4", *table)
    cfg.model.weights = None  # which a recipe has, of the full width
    rules.check(cfg)
    data = build.make_data(cfg, CPU)
    model = make_model(cfg, data)
    logits = torch.randn(4, len(data.class_names), requires_grad=True)
    build.make_loss(cfg, data, CPU)(logits, torch.arange(4) % len(data.class_names)).backward()
    TrainState(model, build.make_optimizer(cfg, model), CPU)
    settings = build.make_settings(cfg)
    total = settings.total_steps(data.steps_per_epoch)
    rate = build.make_learning_rate(cfg, data, total)
    rates = [rate(step) for step in range(0, total, -(-total // 500))]
    assert 0 < max(rates) <= cfg.optimizer.lr
    build.make_tracker(cfg, tmp_path, 1).close()


class TwoRanks(Ranks):
    """Rank 0 of two, whose other one does and says the same: some settings are of several ranks only."""

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def broadcast_object(self, value: Any) -> Any:
        return value

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def all_reduce_max(self, number: int) -> int:
        return number

    def barrier(self) -> None:
        pass

    def broadcast_module(self, module: nn.Module, *, buffers_only: bool = False) -> None:
        pass


class Alone(nn.Module):
    """A network in the place of PyTorch's distributed one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images)

    def no_sync(self) -> AbstractContextManager[None]:
        return nullcontext()


def record_reads(patch: pytest.MonkeyPatch) -> set[str]:
    """Returns a set that gets the full key of every `cfg.a.b`, and "trainer.c" for every field c of the settings."""
    found = set()
    read_node = DictConfig.__getattr__

    def of_config(node: DictConfig, name: str) -> Any:
        if not name.startswith("__"):
            found.add(str(node._get_full_key(name)))
        return read_node(node, name)

    def of_settings(settings: TrainerSettings, name: str) -> Any:
        found.add(f"trainer.{name}")
        return object.__getattribute__(settings, name)

    patch.setattr(DictConfig, "__getattr__", of_config)
    patch.setattr(TrainerSettings, "__getattribute__", of_settings, raising=False)
    return found


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The keys that a run of two epochs reads by name, from the command line to DONE."""
    folder = tmp_path_factory.mktemp("reads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "init_process_group", lambda _: TwoRanks(size=2))
        patch.setattr(setup, "data_parallel", lambda model, function, **_: Alone(model))
        run, found = make_command(patch, folder), record_reads(patch)
        assert run(*TINY, "name=tiny", "trainer.epochs=2") == 0
    assert len(list(folder.glob(f"runs/tiny/*/{paths.DONE}"))) == 1
    return found | {"name"}  # of the folder


def arguments_read(target: str) -> set[str]:
    """The arguments that the code of a constructor or a function uses; those of other packages are taken on trust."""
    function = hydra.utils.get_object(target)
    body = function.__init__ if inspect.isclass(function) else function
    names = set(inspect.signature(body).parameters)
    if not target.startswith("vgg_nll."):
        return names
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(body))).body
    assert isinstance(tree, ast.FunctionDef)
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return names & loaded


def unread(cfg: DictConfig, reads: set[str]) -> list[str]:
    """The leaves of a config that no code reads: neither by name in a run, nor in a constructor."""
    leaves = schema.leaves(cfg)
    targets = {key.removesuffix("._target_"): value for key, value in leaves.items() if key.endswith("._target_")}
    read = reads | {f"{node}.{name}" for node, target in targets.items() for name in arguments_read(target)}
    read |= {f"{node}.{name}" for node in targets for name in ("_target_", "_partial_")}
    if "data.source" in targets:  # which takes data.x
        read |= {f"data.{name}" for name in arguments_read(targets["data.source"])}
    return [key for key in leaves if key not in read]


@pytest.mark.slow
@pytest.mark.parametrize("path", BUILT, ids=str)
def test_every_leaf_is_read(path: Path, config: Config, reads: set[str]) -> None:
    assert unread(config(f"{path.parts[0]}={path.stem}"), reads) == []


def test_targets_are_public_names() -> None:
    """Of a room, never of a file in it: a run folder keeps them, and files may move."""
    lines = [line for path in FILES for line in (ROOT / "configs" / path).read_text().splitlines() if "_target_:" in line]
    targets = {line.split()[-1] for line in lines}
    assert len(targets) > 20
    for target in targets:
        assert re.fullmatch(r"vgg_nll\.\w+\.\w+|torch\.(nn|optim)\.\w+", target), target
        assert not inspect.ismodule(hydra.utils.get_object(target))


@pytest.mark.slow
def test_what_is_read_by_name_is_required(config: Config, reads: set[str]) -> None:
    """In a section with a `_target_`, whose other keys are the constructor's business: a line, before PyTorch is loaded."""
    of_constructors = {
        str(name) for name, section in config().items() if isinstance(section, DictConfig) and "_target_" in section
    }
    read = {key for key in reads if key.count(".") == 1 and key.partition(".")[0] in of_constructors}
    only_if_there = {"loss.weight", "data._target_"}
    assert read - only_if_there == set(schema.REQUIRED)
    for key in schema.REQUIRED:
        cfg, (section, name) = config(), key.split(".")
        with open_dict(cfg):
            del cfg[section][name]
        with pytest.raises(ConfigError, match=f"^{key}: is missing$"):
            rules.check(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["trainer.pause", "model.depth", "schedule.decay.speed", "extra", "data.source.colour"])
def test_a_leaf_that_nothing_reads_is_found(config: Config, reads: set[str], key: str) -> None:
    cfg = config()
    OmegaConf.update(cfg, key, 1, force_add=True)
    assert unread(cfg, reads) == [key]


@pytest.mark.slow
def test_numbers_have_rules(config: Config) -> None:
    """A key with a number, a flag or a choice is checked before anything is built."""
    without = set()
    for path in BUILT:
        for key in schema.leaves(config(f"{path.parts[0]}={path.stem}")):
            checked = key in RULES or key.startswith("data.source.") or key.split(".")[-1].startswith("_")
            if not checked:
                without.add(key)
    assert without == set()


def test_model_fits_the_data(config: Config) -> None:
    cfg = config("data=synthetic", "data.num_classes=7", "data.num_images=70", NARROW)
    model = make_model(cfg)
    assert model.classifier[-1].out_features == 7
    assert len(model.classifier) == 1
    assert model.features[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("old_format", [False, True])
def test_weights_to_start_from(config: Config, tmp_path: Path, old_format: bool, caplog: pytest.LogCaptureFixture) -> None:
    """torchvision's, with another number of classes: the convolutions are taken over, the head is drawn again."""
    caplog.set_level("INFO")
    features = {f"features.{name}": value for name, value in vgg.make_layers(vgg.cfgs["D"]).state_dict().items()}
    theirs = features | {"classifier.6.weight": torch.zeros(1000, 4096), "classifier.6.bias": torch.zeros(1000)}
    path = tmp_path / "vgg16.pth"
    torch.save(theirs, path, _use_new_zipfile_serialization=not old_format)
    cfg = config("data=synthetic", "data.num_classes=3", "data.num_images=60", f"model.weights={path}")
    model = make_model(cfg)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in features.items())
    assert "26 tensors from" in caplog.text
    assert "drawn at random: classifier.0.bias, classifier.0.weight" in caplog.text  # the head is of another kind
    ours = tmp_path / "best.pt"
    checkpoint_file.save(ours, {"model": model.state_dict(), "step": 3})
    cfg.model.weights, cfg.model.keep_last_layer, cfg.seed = str(ours), True, 1
    again = make_model(cfg)
    assert torch.equal(again.classifier[0].weight, model.classifier[0].weight)


def test_weights_that_cannot_be_used(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    cfg = config("data=synthetic", f"model.weights={path}", NARROW)
    data = build.make_data(cfg, CPU)
    for content, error, words in (
        (None, CheckpointError, "model.weights: .*: there is no such"),
        (b"hello", CheckpointError, "model.weights: .*: damaged"),
        ({"fc.weight": torch.zeros(3)}, ConfigError, "has no features.*of this network"),
        ([1, 2], ConfigError, "has no features.* but no tensors"),
        ({"model": "vgg16", "epoch": 3}, ConfigError, "has no features"),
        ({"model": [1]}, ConfigError, "has no features"),
        ({"w": torch.eye(3).to_sparse()}, ConfigError, "has no features"),
        (Bomb(tmp_path / "exploded"), CheckpointError, "holds more than tensors"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            for old_format in (False, True):
                torch.save(content, path, _use_new_zipfile_serialization=not old_format)
        with pytest.raises(error, match=words):
            make_model(cfg, data)
    assert not (tmp_path / "exploded").exists()
    spoiled = {f"module.{name}": value * torch.nan for name, value in make_model(config(NARROW), data).state_dict().items()}
    torch.save({"state_dict": spoiled, "arch": "vgg16"}, path)
    with pytest.raises(ConfigError, match="holds NaN or infinity"):
        make_model(cfg, data)
    path.unlink()
    build.make_model(
        cfg, data.class_names, 32, CPU, draw_weights=False
    )  # a resumed run has its own weights, and the file may be gone


@pytest.mark.slow
def test_seeds_decide_the_weights(config: Config) -> None:
    def first(seed: int) -> torch.Tensor:
        cfg = config("data=synthetic", f"seed={seed}", NARROW)
        torch.manual_seed(99)  # whatever was drawn before
        weight = make_model(cfg).features[0].weight
        assert isinstance(weight, torch.Tensor)
        return weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_weight_decay_is_for_weights(config: Config) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    decayed, others = build.make_optimizer(config(), model).param_groups
    assert [p.dim() for p in decayed["params"]] == [2]
    assert [p.dim() for p in others["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert decayed["fused"]
    assert list(decayed["betas"]) == [0.9, 0.98]


def test_learning_rate(config: Config) -> None:
    cfg = config("optimizer.lr=0.1", "schedule=linear", "schedule.warmup_epochs=0.5", "data=synthetic", "trainer.batch_size=30")
    rate = build.make_learning_rate(cfg, build.make_data(cfg, CPU), 100)  # 20 steps an epoch, 10 of warm-up
    assert [rate(step) for step in (0, 9, 10, 55)] == pytest.approx([0.01, 0.1, 0.1, 0.05])


def test_trackers(config: Config, tmp_path: Path) -> None:
    build.make_tracker(config("tracking=none"), tmp_path, 1).add(Scalars({"a": 1.0}), 1)
    tracker = build.make_tracker(config(), tmp_path, 1)
    assert not list(tmp_path.iterdir())  # a run that does not begin leaves no file
    tracker.add(Scalars({"a": 1.0}), 1)
    tracker.close()
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data=image_folder",), r"data.root=\?\?\?: is required"),
        (("+trainer.foo=1",), "trainer.foo: there is no such setting"),
        (("trainer.batch_size=0", "optimizer.lr=-1"), r"(?s)optimizer.lr=-1.*\ntrainer.batch_size=0"),
    ],
)
def test_check_names_errors(config: Config, overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rules.check(config(*overrides))


def nothing(**_: Any) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


NAMED = ("~loss.select", "~loss.eps", "~loss.label_smoothing")
UNREAD = "there is no such setting: nothing would read it"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+loss.gamma=2"], f"loss.gamma: {UNREAD}"),
        (["+model.gamma=2"], f"model.gamma: {UNREAD}"),
        (["+data.wobble=2"], f"data.wobble: {UNREAD}"),
        (["+data.source.wobble=2"], f"data.source.wobble: {UNREAD}"),
        (["+schedule.decay.power=2"], f"schedule.decay.power: {UNREAD}"),
        (["+tracking.server=2"], f"tracking.server: {UNREAD}"),
        (["+optimizer.gamma=2"], f"optimizer.gamma: {UNREAD}"),
        (["+optimizer.foreach=true"], "optimizer: .*foreach"),
        (["+optimizer.fused=false"], "optimizer.fused: is set by the program; leave it out"),
        (["optimizer._target_=torch.optim.NAdam"], "optimizer._target_: takes no argument fused, which the program passes"),
        (["optimizer._target_=nope"], "optimizer._target_=nope: cannot be imported .No module named 'nope'."),
        (["model._target_=torch.nn.nope"], "model._target_=torch.nn.nope: cannot be imported .*nope.*"),
        (["data.source._target_=math.nope"], "data.source._target_=math.nope: cannot be imported .*nope.*"),
        (["loss._target_=torch.nn.MSELoss", *NAMED], "loss: The size of tensor"),
        (
            ["loss._target_=torch.nn.CrossEntropyLoss", "+loss.reduction=none", *NAMED],
            "loss._target_=torch.nn.CrossEntropyLoss: must give one number for a batch, the mean over its images",
        ),
        (["model._target_=test_build.nothing"], "model: is too large for the memory; lower model.width"),
        (["data.source._target_=test_build.nothing"], "data.source: is too large .*; lower data.num_images or data.image_size"),
        (["device=tpu"], "device=tpu: must be auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_built_is_a_config_error(
    overrides: list[str], message: str, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In one line that names the key."""
    monkeypatch.setitem(sys.modules, "test_build", sys.modules[__name__])
    cfg = config("model.width=0.0625", *overrides)
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        device = build.make_device(cfg.device)
        model = build.make_model(cfg, ["a", "b", "c", "d"], 32, device)
        build.make_loss(cfg, build.make_data(cfg, device), device)
        build.make_optimizer(cfg, model)
        data = build.make_data(cfg, device)
        build.make_learning_rate(cfg, data, 10)
        build.make_tracker(cfg, tmp_path, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_cuda(config: Config) -> None:
    with pytest.raises(ConfigError, match="device=cuda: PyTorch sees 0 CUDA devices here; use device=cpu or device=auto"):
        build.make_device("cuda")


def test_config_is_resolvable(config: Config) -> None:
    assert "lr: 0" in OmegaConf.to_yaml(config(), resolve=True)
