"""A run folder that went through Git, a zip tool, or a copy with hard links opens as before."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import outcome, train

import vgg_nll
from vgg_nll.comparison import predictions, runs
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking.event_files import read_checked

Copy = Callable[[Path, Path], object]
TEXTS = (".json", ".csv", ".yaml", ".log", ".pbtxt", ".tsv")


def through_git(source: Path, target: Path) -> None:
    """Commits it, and checks it out as Git for Windows does: with other line ends, of this moment."""
    store = target.with_name("store")
    shutil.copytree(source, store)

    def git(*words: str, folder: Path = store) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    git("add", "--force", ".")
    git("commit", "-q", "-m", "a run")
    git("-c", "core.autocrlf=true", "clone", "-q", "--config", "core.autocrlf=true", str(store), str(target))
    assert b"\r\n" in (target / paths.METRICS).read_bytes() and b"\r\n" in (target / paths.PREDICTIONS).read_bytes()


def with_other_line_ends(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.suffix in TEXTS:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def through_zip(source: Path, target: Path) -> None:
    """Backwards, without folders, rights and seconds: names come in another order, and all files are of 1980."""
    with zipfile.ZipFile(target.with_suffix(".zip"), "w") as archive:
        for path in sorted(source.rglob("*"), reverse=True):
            if path.is_file():
                archive.writestr(zipfile.ZipInfo(str(path.relative_to(source))), path.read_bytes())
    with zipfile.ZipFile(target.with_suffix(".zip")) as archive:
        archive.extractall(target)
    for path in target.rglob("*"):
        os.utime(path, (0, 0))


def with_hard_links(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != paths.LOG}


@pytest.mark.parametrize("copy", [through_git, with_other_line_ends, through_zip, with_hard_links])
def test_a_copy_opens_as_before(finished: Path, tmp_path: Path, copy: Copy) -> None:
    run = tmp_path / "copy"
    copy(finished, run)
    record = RunRecord.open(run)
    paths.refuse_links(run)
    assert record == RunRecord.open(finished)
    assert checked_json.read(run / paths.METRICS, record.run_id) == checked_json.read(finished / paths.METRICS)
    (original,), (found,) = (runs.find([folder])[0] for folder in (finished, run))
    assert (found.values, found.files) == (original.values, original.files)
    assert predictions.read(found).labels == predictions.read(original).labels
    assert read_checked(run, *found.files[:2]) == (read_checked(finished)[0], [])
    assert vgg_nll.load(run, device="cpu").step == vgg_nll.load(finished, device="cpu").step


@pytest.mark.slow
@pytest.mark.parametrize("copy", [through_git, through_zip, with_hard_links])
def test_a_copy_continues_as_before(
    light: tuple[str, ...], stopped: Path, undisturbed: object, tmp_path: Path, copy: Copy
) -> None:
    """To the bit; and the folder that it was copied from stays as it is, which hard links share."""
    if copy is through_git:
        (stopped / paths.PREDICTIONS).write_text("index\n")  # a line for Git to change; the end writes it again
        (stopped / paths.METRICS).write_text("{}\n")
    before = contents(stopped)
    run = tmp_path / "copy"
    copy(stopped, run)
    train(run, *light, f"resume={run}")
    assert outcome(run) == undisturbed
    assert contents(stopped) == before


@pytest.mark.slow
def test_what_is_written_into_a_copy_with_hard_links_is_not_in_the_original(
    finished: Path, tmp_path: Path, script: Callable[..., int]
) -> None:
    """Figures, too: an evaluation puts new files into the place of old ones."""
    run, copy = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "copy"
    assert script("evaluate", run, "--device", "cpu") == 0
    with_hard_links(run, copy)
    before = contents(run)
    assert script("evaluate", copy, "--device", "cpu", "--batch-size", "3") == 0
    assert contents(run) == before
    written = [path for path in (copy / paths.EVALUATION).rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".png", ".csv", ".npz"}
    assert not [path for path in written if path.samefile(run / path.relative_to(copy))]
