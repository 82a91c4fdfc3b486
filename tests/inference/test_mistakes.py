"""mistakes.html: every wrong image with its name, its outputs and the training images nearest to it; nothing from outside."""

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import FOLDER, write_folder
from helpers.runs import train
from PIL import Image
from torch import Tensor, nn

from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.inference import evaluate, mistakes
from vgg_nll.inference.evaluate import FinishedRun


def opened(folder: Path) -> FinishedRun:
    return evaluate.open_run(folder, device="cpu", batch_size=7)


def page_of(run: FinishedRun, split: str, path: Path, *, has_training: bool = True) -> tuple[str, Evaluation]:
    found = evaluate.evaluate(run, split)
    options = {"batch_size": run.batch_size, "has_training": has_training}
    mistakes.write_mistakes(path, run.trained, run.data, split, found, "Mistakes", **options)
    return path.read_text(encoding="utf-8"), found


def wrong_in_order(run: FinishedRun, split: str) -> list[int]:
    """Returns the wrong images by the probability of their label, as the bare network gives it."""
    images, target = (torch.cat(part) for part in zip(*run.data.eval_batches(split), strict=True))
    with torch.no_grad():
        p = run.trained.model(images).double().softmax(1)
    wrong = (p.argmax(1) != target).nonzero()[:, 0].tolist()
    return sorted(wrong, key=lambda k: float(p[k, target[k]]))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def pictures_in(page: str) -> list[np.ndarray]:
    parts = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in parts]


def neighbours(page: str) -> list[list[int]]:
    """Returns the numbers of the training images beside each mistake."""
    return [[int(k) for k in re.findall(r"</strong> image (\d+)</figcaption>", part)] for part in page.split("<article>")[1:]]


def test_every_mistake_is_shown(finished: Path, tmp_path: Path) -> None:
    """The least probable label first, by number if images are no files; with the picture that the network saw."""
    run = opened(finished)
    page, found = page_of(run, "test", tmp_path / "x.html")
    wrong = wrong_in_order(run, "test")
    assert len(wrong) > 1
    assert headings(page) == [f"image {k}" for k in wrong]
    assert f"{len(wrong)} of 8 images are wrong. Those" in page
    assert "The network was not trained on these images." in page
    margins = [float(text) for text in re.findall(r"margin (-?[\d.]+);", page)]
    assert margins == pytest.approx([float(found.sums.by_image().true_margin[k]) for k in wrong], abs=0.0051)
    assert margins == sorted(margins)
    shown = pictures_in(page)
    assert len(shown) == len(wrong) * (1 + mistakes.NEIGHBOURS)
    seen = run.trained.preprocessing.pixels(torch.cat([images for images, _ in run.data.eval_batches("test")]))
    distances = [float(np.abs(shown[0] - image.permute(1, 2, 0).numpy().astype(float)).mean()) for image in seen]
    assert int(np.argmin(distances)) == wrong[0]  # a JPEG of noise is near to it, not equal


def test_nothing_comes_from_outside(finished: Path, tmp_path: Path) -> None:
    page, _ = page_of(opened(finished), "test", tmp_path / "x.html")
    assert not re.search(r"""https?:|(?:src|href)=["'](?!data:)|url\(|<script|<link|@import""", page)


@pytest.mark.parametrize(("most", "stride"), [(5000, 1), (10, 3)])
def test_neighbours_are_nearest_in_feature_space(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, stride: int
) -> None:
    """By the cosine of the inputs of the last layer, one image at a time; of many training images, an evenly spread part."""
    monkeypatch.setattr(mistakes, "MAX_TRAINING", most)
    run = opened(finished)
    page, _ = page_of(run, "test", tmp_path / "x.html")
    seen: list[Tensor] = []
    last = [part for part in run.trained.model.modules() if isinstance(part, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))

    def features(split: str) -> Tensor:
        seen.clear()
        with torch.no_grad():
            for images, _ in run.data.eval_batches(split):
                for image in images:
                    run.trained.model(image[None])
        return nn.functional.normalize(torch.cat(seen), dim=1)

    wrong = wrong_in_order(run, "test")
    number = run.data.sizes["train"]
    cosine = features("test")[wrong] @ features("train")[::stride].T
    expected = [(row.argsort(descending=True)[:4] * stride).tolist() for row in cosine]
    assert neighbours(page) == expected
    assert ("evenly spread" in page) is (stride > 1)
    assert stride == 1 or f"of {-(-number // stride)} of the {number} training images" in page


def test_labels_that_were_learnt_are_not_judged(finished: Path, tmp_path: Path) -> None:
    """The page says so; and no image is a neighbour of its own."""
    run = opened(finished)
    page, _ = page_of(run, "train", tmp_path / "x.html")
    assert "The network was trained on these images." in page and "suspicious_labels.csv" not in page
    own = [int(name.split()[1]) for name in headings(page)]
    assert own and all(k not in near and len(near) == 4 for k, near in zip(own, neighbours(page), strict=True))


def test_other_data_have_no_neighbours(finished: Path, tmp_path: Path) -> None:
    page, _ = page_of(opened(finished), "test", tmp_path / "x.html", has_training=False)
    assert neighbours(page) == [[]] * len(headings(page)) and len(headings(page)) > 0
    assert "Training images are shown beside those of the run’s own data only." in page


def answer(run: FinishedRun, monkeypatch: pytest.MonkeyPatch, *, label_shift: int) -> None:
    """Makes the network give each image of the test split its label, or the next class; the features stay its own."""
    forward = type(run.trained.model).forward
    labels = iter(torch.cat([target for _, target in run.data.eval_batches("test")]).tolist())

    def shifted(self: nn.Module, images: Tensor) -> Tensor:
        logits = forward(self, images)
        classes = [(next(labels, 0) + label_shift) % logits.shape[1] for _ in images]
        return logits * 0 + 5 * nn.functional.one_hot(torch.tensor(classes), logits.shape[1])

    monkeypatch.setattr(type(run.trained.model), "forward", shifted)


def test_all_right(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that says so takes the place of an older one; no training image is read for it."""
    run = opened(finished)
    answer(run, monkeypatch, label_shift=0)
    monkeypatch.setattr(mistakes, "_neighbourhood", lambda *_: pytest.fail("was read"))
    page, _ = page_of(run, "test", tmp_path / "x.html")
    assert "All 8 images are right." in page
    assert "<article>" not in page and "wrong" not in page


def test_of_many_mistakes_the_first_are_shown(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(finished)
    answer(run, monkeypatch, label_shift=1)
    monkeypatch.setattr(mistakes, "MAX_MISTAKES", 3)
    page, _ = page_of(run, "test", tmp_path / "x.html")
    assert "8 of 8 images are wrong, of which 3 are shown." in page
    assert headings(page) == ["image 0", "image 1", "image 2"]  # equal margins: in their order


def test_names_are_text(finished: Path, tmp_path: Path) -> None:
    """Of classes and files: markup and control characters are shown, not followed."""
    run = opened(finished)
    run.data.class_names = ("<script>alert(1)</script>", "a\x1b[31m&b")
    run.data.image_paths = lambda split: [f'<img src="x">{k}' for k in range(run.data.sizes[split])]  # type: ignore[method-assign]
    page, _ = page_of(run, "test", tmp_path / "x.html")
    assert "<script" not in page and '<img src="x">' not in page and "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "a\\x1b[31m&amp;b" in page
    assert all(name.startswith("&lt;img src=&#34;x&#34;&gt;") for name in headings(page))


def test_bars_are_the_largest_outputs_and_the_label() -> None:
    outputs = [0.0004, 0.0, 0.6, 0.2, 0.1, 0.05, 0.0496]
    names = [f"c{k}" for k in range(7)]
    bars = mistakes._bars(outputs, 0, 2, "60.0%", names)
    assert [bar.name for bar in bars] == ["c2", "c3", "c4", "c5", "c0"]
    assert [bar.text for bar in bars] == ["60.0%", "20.0%", "10.0%", "5.0%", "4e-04"]
    assert [bar.is_label for bar in bars] == [False] * 4 + [True]
    assert [bar.name for bar in mistakes._bars([0.5, 0.5], 0, 1, "50.0%", names[:2])] == ["c1", "c0"]  # a tie


def test_a_full_page_of_noise_is_below_5_mb() -> None:
    """Noise is what JPEG compresses least."""
    draw = torch.Generator().manual_seed(0)
    large, small = (
        len(mistakes.data_url(torch.randint(0, 256, (3, s, s), dtype=torch.uint8, generator=draw))) for s in (512, 64)
    )
    assert mistakes.MAX_MISTAKES * (large + mistakes.NEIGHBOURS * small + 3000) < 5_000_000


@pytest.mark.slow
def test_pictures_go_by_their_files(tmp_path: Path, script: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """From scripts/evaluate.py: 3 of the 24 pictures lie in the folder of another class, and stand first."""
    monkeypatch.setattr(evaluate, "_write_figures", lambda *_: None)
    write_folder(tmp_path / "data")
    small = (*FOLDER, f"data.root={tmp_path}/data", "data.num_workers=0", "model.width=0.125", "tracking=none", "device=cpu")
    train(tmp_path / "run", *small, "trainer.epochs=12", "data.horizontal_flip=false", "data.min_crop=1", "optimizer.lr=0.002")
    moved = [("zero", "one"), ("one", "two"), ("two", "zero")]
    for k, (old, new) in enumerate(moved):
        (tmp_path / f"data/test/{old}/{k}.png").rename(tmp_path / f"data/test/{new}/wrong{k}.png")
    assert script("evaluate", tmp_path / "run", "--device", "cpu") == 0
    folder = tmp_path / "run/evaluation/synthetic_test"  # as the record of this run calls its data
    with (folder / "suspicious_labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {f"test/{new}/wrong{k}.png": old for k, (old, new) in enumerate(moved)}
    assert {row["path"]: row["prediction"] for row in rows[:3]} == expected
    page = (folder / "mistakes.html").read_text()
    assert set(headings(page)[:3]) == expected.keys()
    assert re.findall(r"</strong> (train/[a-z]+/\d\.png)</figcaption>", page)
    assert script("evaluate", tmp_path / "run", "--device", "cpu", "--split", "train") == 0
    assert not (tmp_path / "run/evaluation/synthetic_train/suspicious_labels.csv").exists()
    assert "All 24 images are right." in (tmp_path / "run/evaluation/synthetic_train/mistakes.html").read_text()
