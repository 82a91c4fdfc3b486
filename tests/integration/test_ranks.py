"""Processes that train together give what one gives: curves, metrics, files; and what happens if one of them ends."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.configs import TINY
from helpers.pictures import FOLDER, write_folder
from helpers.processes import Run, run_script, start_ranks
from helpers.runs import outcome, read_curves

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.run_folder import paths
from vgg_nll.sweeps import status
from vgg_nll.tracking import tags

pytestmark = pytest.mark.slow

RUN = (
    *TINY,
    "trainer.batch_size=8",
    "trainer.steps=50",
    "trainer.validate_every_epochs=5",
    "hydra.run.dir=run",
)
# Batch norm amplifies rounding: at larger steps, one process on 2 threads leaves one on 1 thread by more than 1e-5, too.
BATCH_NORM = ("model=vgg16_bn", "trainer.sync_batchnorm=true", "optimizer=sgd", "optimizer.lr=0.0001")
SAME = 1e-5  # of float32, over 50 steps


def train(folder: Path, size: int, *overrides: str) -> list[str]:
    """Trains with so many ranks in a new folder; returns what each has printed."""
    folder.mkdir(exist_ok=True)
    runs = start_ranks(folder, size, *overrides) if size > 1 else [Run(folder, *overrides)]
    for run in runs:
        assert run.end() == 0, "\n".join(other.text() for other in runs)
    return [run.text() for run in runs]


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        (3, ["loss=argmax", "data.shift_pixels=2"]),
        (2, ["loss=all_logit", "trainer.accumulation_steps=2"]),
        (3, ["loss=argmax", "augment=mixup", "trainer.ema_decay=0.9"]),
        (2, ["loss=argmax", *BATCH_NORM]),
        (2, ["loss=argmax", "model.freeze=features", "data.shift_pixels=0"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_curves_of_one_process(tmp_path: Path, size: int, overrides: list[str]) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    train(one, 1, *RUN, *overrides)
    printed = train(many, size, *RUN, *overrides)
    assert all(not text for text in printed[1:]), "only rank 0 says something"
    ours, theirs = read_curves(many / "run"), read_curves(one / "run")
    assert ours.keys() == theirs.keys()
    for tag in (tags.LOSS_TRAIN, tags.ACCURACY_TRAIN, tags.GRADIENT_NORM, *tags.VALIDATION.values()):
        (steps, values), (expected_steps, expected) = (np.array(curves[tag]).T for curves in (ours, theirs))
        assert steps.tolist() == expected_steps.tolist()
        # A gradient jumps where rounding moves an input of ReLU over zero.
        tolerance = 1e-2 if tag == tags.GRADIENT_NORM else SAME
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=SAME, err_msg=tag)
    files = [{path.name for path in (folder / "run").rglob("*") if "tfevents" not in path.name} for folder in (one, many)]
    assert files[0] == files[1]
    assert f"on {size} ranks with {'4' if size == 2 else '2 or 3'} images each" in printed[0]
    assert len(list((many / "run").glob(paths.EVENT_FILES))) == 1


def test_two_ranks_are_two_parts_of_a_batch_to_the_bit(tmp_path: Path) -> None:
    """The sums are the same, in the same order, so what else differs from one process is their rounding."""
    train(tmp_path / "parts", 1, *RUN, "trainer.steps=20", "trainer.accumulation_steps=2")
    train(tmp_path / "ranks", 2, *RUN, "trainer.steps=20")
    ours, theirs = (read_curves(tmp_path / name / "run") for name in ("ranks", "parts"))
    for tag in (tags.LOSS_TRAIN, tags.ACCURACY_TRAIN, tags.GRADIENT_NORM, *tags.VALIDATION.values()):
        assert ours[tag] == theirs[tag], tag
    ours, theirs = (checkpoint_file.load(tmp_path / name / "run" / paths.LAST)["model"] for name in ("ranks", "parts"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("size", [2, 3])
def test_metrics_are_those_of_one_process_to_the_bit(tmp_path: Path, size: int) -> None:
    """Evaluates the untrained network, on 5 uneven batches of 40 images, and on one batch for several ranks."""
    overrides = (*RUN, "trainer.steps=1", "data.num_images=200", "trainer.eval_batch_size=9", "optimizer.lr=1e-30")
    train(tmp_path / "one", 1, *overrides)
    train(tmp_path / "many", size, *overrides)
    one, many = (json.loads((tmp_path / name / "run" / paths.METRICS).read_text()) for name in ("one", "many"))
    for key in ("test", "val", "reliability", "classes"):
        assert many[key] == one[key]
    for name in (paths.PREDICTIONS, paths.METRICS_TABLE):
        assert (tmp_path / "many/run" / name).read_text() == (tmp_path / "one/run" / name).read_text()


def test_a_folder_of_pictures_with_bad_ones(tmp_path: Path) -> None:
    """Each rank reads its own: all bad files are in the table, whoever has met them."""
    write_folder(tmp_path / "pictures", splits=("train", "val"))
    for path in sorted((tmp_path / "pictures/train").rglob("*.*"))[::7]:
        path.write_bytes(path.read_bytes()[:60])
    own = [override for override in RUN if not override.startswith("data")]
    overrides = (
        *own,
        *FOLDER,
        f"data.root={tmp_path}/pictures",
        "data.max_bad_fraction=0.5",
        "data.num_workers=0",
        "trainer.steps=4",
    )
    for name, size in (("one", 1), ("many", 3)):
        train(tmp_path / name, size, *overrides)
    tables = [sorted((tmp_path / name / "run" / paths.BAD_IMAGES).read_text().splitlines()) for name in ("one", "many")]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 2


@pytest.mark.parametrize("numbers", [(2, 1), pytest.param((1, 2, 3), marks=pytest.mark.soak)])
def test_a_signal_saves_once_and_another_number_of_ranks_goes_on(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    overrides = (*RUN, "trainer.validate_every_epochs=2", "checkpoint.every_steps=1000")
    train(whole, 2, *overrides)
    stopped.mkdir()
    runs = start_ranks(stopped, 2, *overrides)
    runs[0].until(lambda: "epoch 2  val loss" in runs[0].text())
    runs[1].send(signal.SIGTERM)  # one rank is told, all stop
    assert runs[0].end() == 128 + signal.SIGTERM, runs[0].text()
    assert runs[1].end() == 0, runs[1].text()
    step = checkpoint_file.load(stopped / "run" / paths.LAST)["step"]
    assert step < 50
    assert f"stopped by SIGTERM: after step {step} of 50, which is saved" in runs[0].text()
    for again in numbers:
        parts = Path(shutil.copytree(stopped, tmp_path / str(again)))
        train(parts, again, f"resume={parts}/run")
        if again == 2:
            assert outcome(parts / "run") == outcome(whole / "run")
        else:
            ours, theirs = (np.array(read_curves(folder / "run")[tags.LOSS_TRAIN]) for folder in (parts, whole))
            np.testing.assert_allclose(ours, theirs, rtol=SAME, atol=SAME)


def test_a_rank_that_dies_ends_the_others(tmp_path: Path) -> None:
    runs = start_ranks(tmp_path, 2, *RUN, "trainer.steps=100000")
    runs[0].until(lambda: "epoch 5  val loss" in runs[0].text())
    runs[1].send(signal.SIGKILL)
    assert runs[1].end() == -signal.SIGKILL
    assert runs[0].end(60) == 1
    last = runs[0].text().splitlines()[-1]
    assert last.startswith("error: stopped: another rank has ended, and says why, or cannot be reached (")
    assert (tmp_path / "run" / paths.FAILED).exists()


def test_a_killed_rank_0_leaves_an_interrupted_run(tmp_path: Path) -> None:
    """Nobody writes FAILED; the other rank says why it ends, and the run goes on from its last checkpoint."""
    runs = start_ranks(tmp_path, 2, *RUN, "checkpoint.every_steps=2", "trainer.steps=100000")
    runs[0].until(lambda: paths.has_checkpoint(tmp_path / "run"))
    runs[0].send(signal.SIGKILL)
    assert runs[0].end() == -signal.SIGKILL
    assert runs[1].end(60) == 1
    assert runs[1].text().startswith("rank 1: error: stopped: another rank has ended, and says why, or cannot be reached (")
    assert status.of(tmp_path / "run") == status.Status(status.INTERRUPTED)
    step = checkpoint_file.load(tmp_path / "run" / paths.LAST)["step"]
    train(tmp_path, 1, "resume=run", f"trainer.steps={step + 2}", "trainer.validate_every_epochs=1000")
    assert status.of(tmp_path / "run").state == status.FINISHED


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0.1"], "rank 1 has optimizer.lr=0.1, rank 0 has 0.0005: start all ranks with the same command"),
        (["data.num_images=44"], "rank 1 has data.num_images=44, rank 0 has 40"),
    ],
)
def test_ranks_that_were_started_differently(tmp_path: Path, overrides: list[str], message: str) -> None:
    runs = start_ranks(tmp_path, 2, *RUN, of_last=overrides)
    assert [run.end() for run in runs] == [1, 1]
    assert f"error: {message}" in runs[0].text()
    assert "Traceback" not in runs[0].text() + runs[1].text()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["fewer_pictures", "no_data_set", "other_pictures"])
def test_ranks_that_see_different_data(tmp_path: Path, other: str) -> None:
    """On two machines, for example: other files, or some that rank 1 cannot train on. Nothing is left."""
    here, there = tmp_path / "here", tmp_path / "there"
    write_folder(here / "pictures", splits=("train", "val"))
    write_folder(there / "pictures", splits=("train", "val"), classes=1 if other == "no_data_set" else 3)
    file = next((there / "pictures/train").rglob("*.*"))
    if other == "other_pictures":  # under the same names
        file.write_bytes(file.read_bytes() + b" ")
    else:
        file.unlink()
    own = [override for override in RUN if not override.startswith("data")]
    overrides = (*own, *FOLDER, "data.root=pictures", "data.num_workers=0", "trainer.steps=4")
    runs = start_ranks(here, 2, *overrides, last_in=there)
    assert [run.end() for run in runs] == [1, 1]
    first, second = (run.text() for run in runs)
    assert "Traceback" not in first + second
    if other == "other_pictures":
        assert "rank 1 has data, hash of names and sizes=" in first
    elif other == "fewer_pictures":
        assert "rank 1 has data, " in first
    else:
        assert "rank 1: error: data" in second
    assert sum("error: " in line for line in first.splitlines()) == 1
    assert not (here / "run").exists()


def test_validation_uses_the_batch_norm_of_rank_0(tmp_path: Path) -> None:
    """Each rank has running statistics of its own images; those that are saved give the metrics that are logged."""
    overrides = (*RUN, "model=vgg16_bn", "trainer.steps=5", "trainer.validate_every_epochs=1", "data.num_images=100")
    train(tmp_path, 2, *overrides)
    logged = read_curves(tmp_path / "run")[tags.VALIDATION["loss"]][-1][1]
    evaluated = run_script(
        tmp_path, "scripts/evaluate.py", "run", "--split", "val", "--checkpoint", "last", OMP_NUM_THREADS="1"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads((tmp_path / "run" / paths.EVALUATION / "synthetic_val" / paths.EVALUATION_METRICS).read_text())["val"]
    assert found["loss"] == pytest.approx(logged, rel=1e-6)


def test_ranks_have_as_many_parts_of_a_batch(tmp_path: Path) -> None:
    """Shares of 7 and 6 images in 4 parts each: otherwise batch norm would wait for a part that the other rank has not."""
    printed = train(tmp_path, 2, *RUN, *BATCH_NORM, "trainer.batch_size=13", "trainer.accumulation_steps=4", "trainer.steps=2")
    assert "on 2 ranks with 6 or 7 images each" in printed[0]


@pytest.mark.parametrize(
    ("size", "parts", "why"),
    [
        (2, 1, "is for all 3 ranks together; raise it"),
        (8, 3, "is for all 3 ranks together, in 3 parts each; raise it, or lower trainer.accumulation_steps"),
    ],
)
def test_a_batch_for_too_many_ranks(tmp_path: Path, size: int, parts: int, why: str) -> None:
    runs = start_ranks(tmp_path, 3, *RUN, f"trainer.batch_size={size}", f"trainer.accumulation_steps={parts}")
    assert [run.end() for run in runs] == [1, 1, 1]
    assert f"error: trainer.batch_size={size}: {why}\n" in runs[0].text()
    assert not (tmp_path / "run").exists()


def test_compressed_gradients(tmp_path: Path) -> None:
    """They train, too: near the uncompressed run, and not equal to it."""
    curves = []
    for name in ("none", "bfloat16", "powersgd"):
        train(tmp_path / name, 2, *RUN, f"trainer.gradient_compression={name}")
        curves.append(np.array(read_curves(tmp_path / name / "run")[tags.LOSS_TRAIN])[:, 1])
    plain, *others = curves
    for compressed in others:
        assert compressed[-5:].mean() < 0.7 * compressed[0]
        assert np.abs(compressed - plain).max() > 1e-6


def test_a_sweep_is_refused(tmp_path: Path) -> None:
    """By every rank, in a line; nothing is left."""
    runs = start_ranks(tmp_path, 2, "-m", "seed=0,1", *TINY)
    assert [run.end() for run in runs] == [1, 1]
    line = (
        "error: -m: torchrun trains one network on several processes; start a sweep with python train.py -m, which gives every "
        "job a GPU of its own\n"
    )
    assert [run.text() for run in runs] == [line, f"rank 1: {line}"]
    assert set(tmp_path.iterdir()) == {run.printed for run in runs}
