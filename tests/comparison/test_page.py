"""The page of a comparison in a browser: on a desktop, on a telephone and on paper."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vgg_nll.comparison import report
from vgg_nll.comparison.runs import find

pytestmark = pytest.mark.browser
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAPER = 718  # CSS pixels between the margins of A4


@pytest.fixture
def page(tmp_path: Path, make_run: Callable[..., Path]) -> Iterator[Any]:
    """The page of a comparison with long names and large numbers."""
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
    report.make(*find([tmp_path])).write(tmp_path / "out")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(f"file://{tmp_path}/out/comparison.html")
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
