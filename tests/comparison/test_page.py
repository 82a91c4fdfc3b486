"""The page of a comparison in a browser: on a desktop, on a telephone and on paper."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import edit_json

from vgg_nll.comparison import report
from vgg_nll.comparison.runs import find
from vgg_nll.run_folder import checksums

pytestmark = pytest.mark.browser
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAPER = 718  # CSS pixels between the margins of A4


def read_images(run: Path, indices: Sequence[int], split: str) -> np.ndarray:
    """Images of noise, wider than high."""
    return np.random.default_rng(0).integers(0, 256, (len(indices), 40, 60, 3), dtype=np.uint8)


def write_predictions(run: Path, right: bool) -> None:
    """Writes predictions.csv of 30 images, of classes with long names, on which the losses disagree."""
    head = "index,label,prediction,correct,margin,label_margin\n"
    name = "a class of a long name"
    rows = [f"{k},{name} {k},{name} {k + (not right)},{int(right)},3.0,{3.0 if right else -3.0}\n" for k in range(30)]
    (run / "predictions.csv").write_text(head + "".join(rows))
    edit_json(run / "metrics.json", checksums=checksums.of_tables(run))


@pytest.fixture
def page(tmp_path: Path, make_run: Callable[..., Path], write_logits: Callable[..., None]) -> Iterator[Any]:
    """The page of a comparison with long names and large numbers, everything unfolded."""
    api = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs a browser: apt-get install chromium")
    for loss in ("argmax", "all_logit"):
        for epochs in (4, 12):
            for seed in range(3):
                values = {"accuracy": 0.9 + 0.01 * seed, "margin": 1234.5 * (seed - 1)}
                options: dict[str, Any] = {"overrides": (f"trainer.epochs={epochs}",), "leaves": {"trainer.epochs": epochs}}
                make_run(
                    tmp_path / f"{loss}{epochs}{seed}", loss, seed, values=values, model="a_model_of_a_long_name", **options
                )
    logits, labels = 2 * np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 4
    for run in tmp_path.iterdir():
        write_logits(run, val=(logits, labels), test=(logits, labels))
        write_predictions(run, "argmax" in run.name)
    report.make(*find([tmp_path]), read_images=read_images).write(tmp_path / "out")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(f"file://{tmp_path}/out/comparison.html")
        assert tab.locator("details[open]").count() == 0
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        yield tab
        browser.close()


@pytest.mark.parametrize(("width", "medium"), [(1280, "screen"), (390, "screen"), (PAPER, "print")])
def test_nothing_is_cut(page: Any, width: int, medium: str) -> None:
    """No table and no picture is wider than the page, so nothing scrolls sideways."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media=medium)
    right = "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for kind in ("td", "img"):
        places = page.locator(kind)
        assert places.count() > 3
        assert places.evaluate_all(right) <= width, kind
    assert page.locator("img").evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 390])
def test_rows_are_sorted_and_filtered(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    table = page.locator("table").nth(1)  # differences
    column = table.locator("tbody tr td:nth-child(2)")
    before = column.all_inner_texts()
    head = table.locator("th").nth(1)
    head.click()
    numbers = [float(text) for text in column.all_inner_texts()]
    assert numbers == sorted(map(float, before))
    assert numbers != [float(text) for text in before]
    head.click()
    assert [float(text) for text in column.all_inner_texts()] == sorted(numbers, reverse=True)
    page.locator("input").first.fill("nll")
    shown = [row.inner_text() for row in table.locator("tbody tr").all() if row.is_visible()]
    assert len(shown) == 2 and all("NLL" in text for text in shown)


def test_links_lead_to_the_sections(page: Any) -> None:
    links = page.locator("nav a")
    assert links.count() == page.locator("h2").count() > 5
    for k in range(links.count()):
        links.nth(k).click()
        target = page.locator("h2").nth(k)
        assert target.inner_text().removesuffix(" ↑") == links.nth(k).inner_text()
        target.locator("a").click()
        assert page.evaluate("scrollY") < 100


def test_each_image_is_in_its_row(page: Any) -> None:
    table = page.locator("details table", has_text="log-odds").first
    rows = table.locator("tbody tr")
    assert rows.count() == 20 == table.locator("tbody tr img").count()
