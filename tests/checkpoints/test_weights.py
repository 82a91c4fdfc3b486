"""Weights to start from: every usual format gives the same network, and one line says what differs."""

import json
import re
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY
from helpers.pictures import write_folder
from helpers.runs import edit_record, train
from helpers.weights import publish
from torch import Tensor
from torchvision.models import VGG16_BN_Weights, VGG16_Weights

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.pretrained import load_initial_weights
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.model import VGG16, imagenet_classes

NAMES = ("cat", "dog", "emu", "fox", "gnu")


def network(classes: int = 3, **options: Any) -> VGG16:
    return VGG16(classes, **{"head": "compact", "width": 1 / 16} | options)


def load(path: Path, model: VGG16, names: Sequence[str] = (), *, keep: bool = False) -> VGG16:
    load_initial_weights(model, str(path), names or NAMES[: model.num_classes], keep_last_layer=keep)
    return model


WRAPPED = {
    "plain": lambda weights: weights,
    "torchvision's scripts": lambda weights: {"model": weights, "epoch": 3},
    "state_dict": lambda weights: {"state_dict": weights, "arch": "vgg16"},
    "model_state_dict": lambda weights: {"epoch": 3, "model_state_dict": weights},
    "net": lambda weights: {"net": weights},
    "data parallel": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "lightning": lambda weights: {"state_dict": {f"model.{name}": value for name, value in weights.items()}},
    "compiled": lambda weights: {f"_orig_mod.{name}": value for name, value in weights.items()},
    "all of them": lambda weights: {"net": {f"module._orig_mod.model.{name}": value for name, value in weights.items()}},
    "with others": lambda weights: {
        "state_dict": {"criterion.weight": torch.ones(3)} | {f"m.{k}": v for k, v in weights.items()}
    },
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_usual_form_is_read(form: str, tmp_path: Path) -> None:
    theirs = network()
    torch.save(WRAPPED[form](theirs.state_dict()), tmp_path / "w.pth")
    mine = load(tmp_path / "w.pth", network(), keep=True)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in mine.state_dict().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save_file
    theirs = network()
    save(theirs.state_dict(), tmp_path / "w.safetensors")
    assert torch.equal(load(tmp_path / "w.safetensors", network(), keep=True).classifier[0].weight, theirs.classifier[0].weight)
    (tmp_path / "w.safetensors").write_bytes(b"\x05")
    with pytest.raises(CheckpointError, match=r"^model.weights: .*w.safetensors: cannot be read \("):
        load(tmp_path / "w.safetensors", network())
    with pytest.raises(CheckpointError, match="No such file"):
        load(tmp_path / "gone.safetensors", network())


def test_a_run_folder_gives_its_best_weights(tmp_path: Path) -> None:
    train(tmp_path / "run", *TINY, "trainer.steps=2", "tracking=none")
    best: dict[str, Tensor] = checkpoint_file.load(tmp_path / "run/checkpoints/best.pt")["model"]
    mine = load(tmp_path / "run", network(2), ("pattern 0", "pattern 1"))
    assert all(torch.equal(value, best[name]) for name, value in mine.state_dict().items())
    with pytest.raises(CheckpointError, match=r"holds no run \(there is no run.json\); .* the first is .*/run"):
        load(tmp_path, network(2))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["compact", "paper"])
def test_only_a_last_layer_of_another_size_is_drawn(head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    theirs, mine = network(5, head=head), network(3, head=head)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    drawn = mine.classifier[-1].weight.detach().clone()
    load(tmp_path / "w.pth", mine)
    assert torch.equal(mine.classifier[-1].weight, drawn)
    last = f"classifier.{len(mine.classifier) - 1}"
    number = len(mine.state_dict()) - 2
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        f"model: {number} tensors from {tmp_path}/w.pth; last layer drawn at random: no class is"
    )
    with pytest.raises(ConfigError, match=r"model.keep_last_layer=true: the last layer of .*w.pth is of another size"):
        load(tmp_path / "w.pth", mine, keep=True)
    for name, value in mine.state_dict().items():
        assert name.startswith(last) or torch.equal(value, theirs.state_dict()[name])


def test_a_head_of_another_kind_is_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    torch.save(network(3, head="paper").state_dict(), tmp_path / "w.pth")
    load(tmp_path / "w.pth", network(3))
    torch.save(network(3).state_dict(), tmp_path / "w.pth")
    load(tmp_path / "w.pth", network(3, head="paper"))
    assert [message.partition("random: ")[2].count(",") for message in caplog.messages] == [1, 5]


def without(name: str) -> Any:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        (
            {},
            without("features.5.bias"),
            r"has no features.5.bias of this network \(another model=\?\), but features.0",
        ),
        (
            {},
            lambda weights: weights | {"features.99.weight": torch.ones(2)},
            r"has features.99.weight, which this network has not",
        ),
        (
            {"width": 1 / 8},
            lambda weights: weights,
            r"features.0.bias is \[8\] there, \[4\] in this network: another model.width\?",
        ),
        ({"batch_norm": True}, lambda weights: weights, r"features\.\d+\.bias.*another model=\?"),
        ({}, lambda weights: {k: v * torch.nan for k, v in weights.items()}, "holds NaN or infinity"),
        ({"head": "paper"}, without("classifier.3.bias"), r"has no classifier.3.bias, \[256\] in this network"),
        ({}, lambda weights: {"x": torch.ones(2)}, "has no features.0.bias of this network .*, but x"),
        ({}, lambda weights: {"x": 1}, "but no tensors"),
    ],
)
def test_other_networks_are_refused(options: Any, change: Any, words: str, tmp_path: Path) -> None:
    torch.save(change(network(**options).state_dict()), tmp_path / "w.pth")
    mine = network(**({"head": "paper"} if "head" in options else {}))
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    with pytest.raises(ConfigError, match=rf"^model.weights={tmp_path}/w.pth: .*{words}"):
        load(tmp_path / "w.pth", mine)
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


def test_old_batch_norm_files_lack_a_counter(tmp_path: Path) -> None:
    theirs = network(batch_norm=True).state_dict()
    torch.save({k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}, tmp_path / "w.pth")
    mine = load(tmp_path / "w.pth", network(batch_norm=True), keep=True).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize(("batch_norm", "enum"), [(False, VGG16_Weights), (True, VGG16_BN_Weights)])
def test_torchvisions_weights(batch_norm: bool, enum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is torchvision's; here the network takes what it gives, and says what to do if it gives none."""
    theirs = network(7, batch_norm=batch_norm).state_dict()
    seen: list[Any] = []
    monkeypatch.setattr(enum, "get_state_dict", lambda self, *a, **options: seen.append((self, options)) or theirs)
    mine = load(Path("IMAGENET1K_V1"), network(batch_norm=batch_norm))
    assert torch.equal(mine.features[0].weight, theirs["features.0.weight"])
    assert seen == [(enum.IMAGENET1K_V1, {"progress": True, "check_hash": True})]

    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(enum, "get_state_dict", fail)
    with pytest.raises(
        CheckpointError,
        match=r"V1: could not be downloaded .*no network.*; fetch https://.*vgg16.*\.pth elsewhere and put it",
    ):
        load(Path("IMAGENET1K_V1"), network(batch_norm=batch_norm))
    with pytest.raises(
        CheckpointError, match=r"model.weights: IMAGENET1K_V9: there are no such weights; there are IMAGENET1K_V1"
    ):
        load(Path("IMAGENET1K_V9"), network())


def test_a_file_without_a_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    theirs = {name: value for name, value in network().state_dict().items() if name.startswith("features.")}
    torch.save({"state_dict": theirs | {"criterion.weight": torch.ones(3)}}, tmp_path / "w.pth")
    load(tmp_path / "w.pth", network())
    assert caplog.messages == [
        f"model: 26 tensors from {tmp_path}/w.pth; drawn at random: classifier.0.bias, classifier.0.weight"
    ]


def test_other_tensors_do_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    torch.save(network().state_dict() | {"criterion.weight": torch.ones(3)}, tmp_path / "w.pth")
    load(tmp_path / "w.pth", network(), keep=True)
    assert "drawn at random" not in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_other_number_formats(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = {name: value.to(dtype) for name, value in network().state_dict().items()}
    torch.save(theirs, tmp_path / "w.pth")
    mine = load(tmp_path / "w.pth", network())
    assert torch.equal(mine.features[0].weight, theirs["features.0.weight"].float())


def test_rows_of_the_last_layer_go_by_the_names_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """cat, dog, pattern; then dog, pattern, zcat: what stood at 1 stands at 0. Names are compared letter by letter, in NFC."""
    caplog.set_level("INFO")
    train(tmp_path / "run", *TINY, "data.num_classes=3", "trainer.steps=2", "tracking=none")
    edit_record(tmp_path / "run", data={"classes": ["cat", "dog", "Cafe\u0301"]})
    best: dict[str, Tensor] = checkpoint_file.load(tmp_path / "run/checkpoints/best.pt")["model"]
    for source in ("run", "run/checkpoints/best.pt"):
        mine = network()
        drawn = mine.classifier[0].weight.detach().clone()
        load(tmp_path / source, mine, ["dog", "Caf\u00e9", "Cat"])
        for part in ("weight", "bias"):
            assert torch.equal(getattr(mine.classifier[0], part)[:2], best[f"classifier.0.{part}"][1:])
        assert torch.equal(mine.classifier[0].weight[2], drawn[2])
        words = rf"model: 28 tensors from .*{source}; last layer: dog, Caf\S+ from .*{source}; Cat drawn at random"
        assert re.fullmatch(words, caplog.messages[-1])
    load(tmp_path / "run", network(5), ["cat", "dog", "Caf\u00e9", "new", "newer"])
    assert caplog.messages[-1].endswith("; new, newer drawn at random")
    load(tmp_path / "run", network(3), ["cat", "dog", "Caf\u00e9"])
    assert caplog.messages[-1].endswith(f"last layer: all 3 classes from {tmp_path}/run, by name")
    load(tmp_path / "run", network(2), ["x", "y"])
    assert "last layer drawn at random: no class is known by its name" in caplog.messages[-1]


def test_rows_of_imagenet_are_taken_if_every_class_is_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = network(1000)
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, *a, **options: theirs.state_dict())
    names = imagenet_classes()
    mine = load(Path("IMAGENET1K_V1"), network(2), ["goldfish", "tench"])
    rows = [names.index("goldfish"), names.index("tench")]
    assert torch.equal(mine.classifier[0].weight, theirs.classifier[0].weight[rows])
    drawn = network(2)
    before = drawn.classifier[0].weight.detach().clone()
    assert torch.equal(load(Path("IMAGENET1K_V1"), drawn, ["goldfish", "my dog"]).classifier[0].weight, before)
    whole = load(Path("IMAGENET1K_V1"), network(1000), names)
    assert torch.equal(whole.classifier[0].weight, theirs.classifier[0].weight)


def test_an_export_knows_its_classes(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save_file
    theirs = network()
    save(theirs.state_dict(), tmp_path / "w.safetensors", {"classes": json.dumps(["emu", "cat", "dog"])})
    mine = load(tmp_path / "w.safetensors", network())  # cat, dog, emu
    assert torch.equal(mine.classifier[0].weight, theirs.classifier[0].weight[[1, 2, 0]])
    for words in ("{", '"cat"', "[1, 2, 3]"):
        save(theirs.state_dict(), tmp_path / "w.safetensors", {"classes": words})
        load(tmp_path / "w.safetensors", network())


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["", "another file", "no network"])
def test_the_transfer_of_the_pages_starts(
    problem: str,
    tmp_path: Path,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`experiment=finetune`, through the command, with the address of the weights replaced by that of a file."""
    write_folder(tmp_path / "pictures")
    theirs = network(1000, width=1 / 16, head="paper")
    named = publish(tmp_path, theirs, monkeypatch, digest="01234567" if problem == "another file" else None)
    if problem == "no network":
        named.unlink()
    line = ("experiment=finetune", f"data.root={tmp_path}/pictures", "model.width=0.0625", "model.head=paper", "device=cpu")
    small = ("data.image_size=32", "trainer.batch_size=4", "trainer.epochs=1", "data.num_workers=0", "tracking=none")
    code = command(*line, *small, "hydra.run.dir=run")
    printed = capfd.readouterr()
    if not problem:
        assert code == 0, printed.err
        assert "30 tensors from IMAGENET1K_V1; last layer drawn at random" in printed.out
        assert (tmp_path / "cache/hub/checkpoints" / named.name).is_file()
        return
    assert code == 1 and not (tmp_path / "run").exists()
    words = r"error: model\.weights: IMAGENET1K_V1: could not be downloaded \([^\n]*\); fetch file://[^\n]* put it into .*\n"
    assert re.fullmatch(words, printed.err.splitlines(keepends=True)[-1])
