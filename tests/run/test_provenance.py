"""Provenance: what is reported is what is there, and the commit says whether files differ from it."""

import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch

from vgg_nll.run import provenance as module

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    module.git_hash.cache_clear()
    yield
    module.git_hash.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout of one committed file, in which the package stands as far as `provenance` knows."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "sources/provenance.py"))
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "provenance.py").write_text("1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "provenance.py")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_the_commit_of_a_clean_checkout(sources: Path) -> None:
    assert module.git_hash() == git(sources, "log", "-1", "--format=%H")
    assert len(module.git_hash()) == 40


def test_a_changed_file_is_dirty(sources: Path) -> None:
    (sources / "provenance.py").write_text("2\n")
    assert module.git_hash() == git(sources, "log", "-1", "--format=%H") + "-dirty"


def test_a_new_file_is_dirty(sources: Path) -> None:
    (sources / "new.py").touch()
    assert module.git_hash() == git(sources, "log", "-1", "--format=%H") + "-dirty"


def test_no_commit_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))
    assert module.git_hash() == ""


def test_no_commit_without_git(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(sources))
    assert module.git_hash() == ""


@pytest.mark.parametrize("decoder", [None, lambda content: torch.zeros(0)], ids=["PIL", "torchcodec"])
def test_values(sources: Path, monkeypatch: pytest.MonkeyPatch, decoder: object) -> None:
    monkeypatch.setattr(module, "jpeg_decoder", lambda: decoder)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "hydra-core", "tensorboard", "numpy")}
    if decoder is not None:
        monkeypatch.setattr("importlib.metadata.version", lambda name: {**versions, "torchcodec": "0.17"}[name])
    found = module.provenance(CPU, torch.bfloat16, peak_flops=1.23456789e12, deterministic=True)
    assert found == {
        "device": f"CPU ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)",
        "precision": "bfloat16",
        "peak_tflops": 1.235,
        "threads": torch.get_num_threads(),
        "deterministic": True,
        "versions": {"python": platform.python_version()} | versions | ({} if decoder is None else {"torchcodec": "0.17"}),
        "git": git(sources, "log", "-1", "--format=%H"),
    }


def test_cuda_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of CUDA and cuDNN, if PyTorch sees a GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 91200)
    found = module.provenance(CPU, torch.float32, peak_flops=1.0, deterministic=False)["versions"]
    assert (found["cuda"], found["cudnn"]) == ("13.0", 91200)


def test_hyperparameters_have_one_column_each() -> None:
    """What has a column of its own is not repeated in `other`; a group that was not chosen is an empty column."""
    found = module.hyperparameters(
        {"loss": "argmax", "model": "vgg16", "experiment": "overfit"},
        ["loss=argmax", "trainer.epochs=2", "seed=3", "optimizer.lr=0.1", "loss.eps=1e-3", "trainer.batch_size=4", "resume=x"],
        {"lr": 0.1, "seed": 3},
    )
    assert found == {
        "loss": "argmax",
        "model": "vgg16",
        "data": "",
        "optimizer": "",
        "schedule": "",
        "lr": 0.1,
        "seed": 3,
        "other": "loss.eps=1e-3 trainer.epochs=2",
    }
