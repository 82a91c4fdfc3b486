"""TensorBoard on a sweep of 2 losses x 2 seeds, in a real browser: every page shows what it should. `make tour` runs it.

TOUR_RUNS=<sweep folder> visits that one instead; TOUR_PICTURES=docs writes the pictures of docs/tensorboard.md again. Without a
browser the tests are skipped; with CI set, they fail.
"""

import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from helpers.board import ask, tensorboard
from helpers.configs import ROOT
from helpers.runs import read_events
from PIL import Image

from vgg_nll.config.compose import names_of
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking import dashboard, event_files, tags

pytestmark = pytest.mark.browser
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SWEEP = ("-m", "loss=argmax,all_logit", "seed=0,1", "model=vgg16_bn", "data=synthetic", "data.num_classes=3", "data.noise=2")
SHORT = ("data.num_images=150", "trainer.batch_size=10", "trainer.epochs=3", "trainer.figures_every_epochs=1", "device=cpu")
MAX_SECONDS = 60  # that a page may take
Visit = Callable[..., Any]
Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished runs."""
    if "TOUR_RUNS" in os.environ:
        return Path(os.environ["TOUR_RUNS"]).resolve()
    folder = tmp_path_factory.mktemp("tour")
    command = [sys.executable, str(ROOT / "train.py"), *SWEEP, *SHORT, f"hydra.sweep.dir={folder}/sweep"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "sweep"


@pytest.fixture(scope="module")
def runs(sweep: Path) -> Runs:
    """Name of each run, as TensorBoard calls it -> its metrics.json, with its config, and what was chosen in each group."""
    paths = sorted(sweep.rglob("metrics.json"))
    assert len(paths) >= 4
    records = {path: RunRecord.open(path.parent) for path in paths}
    return {
        str(path.parent.relative_to(sweep)): json.loads(path.read_text()) | {"config": record.config, **record.choices}
        for path, record in records.items()
    }


@pytest.fixture(scope="module")
def means(sweep: Path) -> dict[str, list[str]]:
    """Name of each mean -> the names of its runs."""
    found = {str(path.parent.relative_to(sweep)): path.read_text().split() for path in sorted(sweep.glob("*/*/runs.txt"))}
    assert {f"{which}/loss={loss}" for which in ("mean", "min", "max") for loss in ("argmax", "all_logit")} <= found.keys()
    return found


@pytest.fixture(scope="module")
def address(sweep: Path) -> Iterator[str]:
    """The address at which a TensorBoard of the sweep answers."""
    with tensorboard(sweep, "--load_fast=false", *dashboard.OPTIONS) as place:
        yield place


def no_browser(reason: str) -> NoReturn:
    """Skips the test; in CI, where no one would see that none ran, fails it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """A tab of the browser."""
    try:
        from playwright import sync_api as api
    except ImportError:
        no_browser("needs playwright: pip install playwright")
    if BROWSER is None:
        no_browser("needs a browser: apt-get install chromium")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 760})
        tab.set_default_timeout(1000 * MAX_SECONDS)
        yield tab
        browser.close()


@pytest.fixture
def visit(page: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Plugin, filter of tags -> its page; writes a picture of what it shows at the end, if TOUR_PICTURES is set."""

    def go(plugin: str, tag_filter: str = "") -> Any:
        page.goto("about:blank")  # else a change behind the # is not a new visit
        # new pages read the first filter, old pages the second
        page.goto(f"{address}/?darkMode=false&tagFilter={tag_filter}#{plugin}&tagFilter={tag_filter}")
        return page

    yield go
    write_picture(page, request.node.name.removeprefix("test_"))


def write_picture(page: Any, of: str) -> None:
    """Writes a picture of the page, if TOUR_PICTURES is set and docs/tensorboard.md shows it."""
    folder = os.environ.get("TOUR_PICTURES")
    name = "tour_" + re.sub(r"\W+", "_", of).strip("_") + ".png"
    if folder is not None and f"({name})" in (ROOT / "docs" / "tensorboard.md").read_text():
        page.wait_for_timeout(2000)  # until animations have ended
        page.screenshot(path=Path(folder) / name)


def found(page: Any) -> Any:
    """Returns what the filter of tags lets through; the other groups come after it."""
    return page.locator("tf-category-paginated-view").first


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + MAX_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.3)


def test_time_series(visit: Visit, runs: Runs, means: dict[str, list[str]], sweep: Path) -> None:
    """Runs of both losses lie over each other under one tag, with the last value of each; and so do their means over seeds."""
    page = visit("timeseries", "accuracy/val$")
    rows = page.locator("scalar-card").first.locator("tb-data-table-content-row")
    wait(lambda: rows.count() == len(runs) + len(means), "a row for every run")
    found = {cells[0]: float(cells[2]) for cells in (re.split(r"\s*\n\s*", row.inner_text().strip()) for row in rows.all())}
    assert found.keys() == runs.keys() | means.keys()
    last = {name: event_files.read_curves(sweep / name)["accuracy/val"][-1][1] for name in runs}
    functions: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "min": min, "max": max}
    expected = last | {name: functions[name.split("/")[0]]([last[run] for run in of]) for name, of in means.items()}
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_link(page: Any, address: str, runs: Runs, means: dict[str, list[str]]) -> None:
    """The link that a run prints: six cards on top, a line per run in each, one colour per loss."""
    link = dashboard.link(names_of("loss"), int(address.rpartition(":")[2])).replace("localhost", "127.0.0.1")
    page.goto("about:blank")
    page.goto(link)
    cards = page.locator("metrics-pinned-view card-view")
    wait(lambda: cards.count() == 6, "the pinned cards")
    for card, tag in zip(cards.all(), tags.PINNED, strict=True):
        card.scroll_into_view_if_needed()  # it is drawn then
        card.locator("scalar-card").wait_for()
        assert card.text_content().split()[0].startswith(tag)
    first = cards.first
    rows = first.locator("tb-data-table-content-row")
    wait(lambda: rows.count() == len(runs) + len(means), "a line for every run")
    colours: dict[str, set[str]] = {"argmax": set(), "all_logit": set()}
    for row in rows.all():
        loss = re.search("all_logit|argmax", row.inner_text())
        dot = row.locator(".row-circle span").first
        assert loss is not None
        colours[loss[0]].add(dot.evaluate("dot => getComputedStyle(dot).backgroundColor"))
    assert [len(each) for each in colours.values()] == [1, 1], colours
    assert colours["argmax"] != colours["all_logit"]
    first.scroll_into_view_if_needed()
    write_picture(page, "the_link")


def test_distributions(visit: Visit, address: str, runs: Runs, sweep: Path) -> None:
    """The quantiles that the page draws of the last validation are those of its curves. (metrics.json has those of float32.)"""
    page = visit("distributions", f"{tags.MARGIN_HISTOGRAM}$")
    charts = found(page).locator("tf-distribution-loader")
    wait(lambda: charts.count() == len(runs), "a chart for every run")
    for name in runs:
        drawn = ask(address, "plugin/distributions/distributions", run=name, tag=tags.MARGIN_HISTOGRAM)
        step = drawn[-1][1]
        quantiles = dict(drawn[-1][2])
        points = {tag: dict(points) for tag, points in event_files.read_curves(sweep / name).items()}
        assert quantiles[5000] == pytest.approx(points["confidence/margin_p50"][step], rel=0.01, abs=0.01)
        # 5% and 95% lie between those that it draws, of which each is right to 1%
        low, high = points["confidence/margin_p05"][step], points["confidence/margin_p95"][step]
        assert quantiles[0] - 0.01 <= low <= quantiles[668] + 0.01
        assert quantiles[9332] - 0.01 <= high <= quantiles[10000] + 0.01


@pytest.mark.parametrize("tag", ["loss/train", "nll/all_logit", "calibration/ece", "confidence/mean"])
def test_scalars(visit: Visit, runs: Runs, tag: str) -> None:
    card = found(visit("scalars", f"{tag}$")).locator("tf-scalar-card").first
    card.wait_for()
    colour = "lines => lines.map(line => line.getAttribute('stroke') ?? line.style.stroke)"

    def strokes() -> list[str]:
        return card.locator("path.line").evaluate_all(colour)

    wait(lambda: len(set(strokes())) >= min(len(runs), 7), "a line of its own colour for every run")  # it has 7 colours


@pytest.mark.parametrize(
    "tag", [tags.RELIABILITY_DIAGRAM, tags.ACCURACY_COVERAGE, tags.CONFUSION_MATRIX, tags.MOST_CONFIDENT_ERRORS]
)
def test_images(visit: Visit, runs: Runs, sweep: Path, tag: str) -> None:
    """Every run's picture is on the page: byte for byte the last one of its event files, and not one colour."""
    pictures = found(visit("images", f"{tag}$")).locator("tf-image-loader img")
    wait(lambda: pictures.count() == len(runs), "a picture for every run")

    def loaded() -> bool:
        return pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")

    wait(loaded, "pictures that have arrived")
    shown = [download(address) for address in pictures.evaluate_all("all => all.map(one => one.src)")]
    assert sorted(shown) == sorted(read_events(sweep / name).Images(tag)[-1].encoded_image_string for name in runs)
    for content in shown:
        counts = sorted(count for count, _ in decoded(content).getcolors(1 << 24) or [])
        assert sum(counts[:-1]) > 0.02 * sum(counts), "less than 2% of the pixels differ from the background"


def download(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return bytes(answer.read())


def decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_histograms(visit: Visit, runs: Runs) -> None:
    """Of correct and of incorrect predictions, one ridge per validation."""
    page = visit("histograms", "histogram_correct$")
    loaders = found(page).locator("tf-histogram-loader")
    wait(lambda: loaders.count() == len(runs), "one for every run")
    epochs = {content["config"]["trainer"]["epochs"] for content in runs.values()}
    ridges = {number + 1 for number in epochs}  # of the untrained network, too
    wait(lambda: {loader.locator("g.histogram").count() for loader in loaders.all()} == ridges, "a ridge per validation")
    visit("histograms", "histogram_incorrect$")
    wait(lambda: 1 <= loaders.count() <= len(runs), "one for every run with an error")


def test_pr_curves(visit: Visit, runs: Runs) -> None:
    page = visit("pr_curves")
    cards = page.locator("tf-pr-curve-card")
    classes = next(iter(runs.values()))["config"]["data"].get("num_classes", 10)
    wait(lambda: cards.count() == min(classes, 12), "a chart for every class")  # on the first of its pages
    wait(lambda: cards.first.locator("div.legend-row").count() == len(runs), "a curve for every run")
    wait(lambda: cards.first.locator("path.line").count() >= len(runs), "lines")


def is_number(text: str) -> bool:
    return re.fullmatch(r"[-\d.e]+", text) is not None


def test_hyperparameters(visit: Visit, runs: Runs, sweep: Path) -> None:
    """One row per run, under the run's own name, with its settings and the values of its metrics; and their curves."""
    page = visit("hparams")
    grid = page.locator("tf-hparams-table-view vaadin-grid-cell-content")

    def texts() -> list[str]:
        return [" ".join(text.split()) for text in grid.all_text_contents()]

    wait(lambda: set(runs) <= set(texts()), "a row for every run")
    cells = texts()
    assert [cells.count(name) for name in runs] == [1] * len(runs)
    head = cells[cells.index("Trial ID") :]
    assert set(head[2:7]) == {"loss", "model", "data", "lr", "seed"}, "the settings that a person asks for"
    first = ("test/accuracy", "test/nll_argmax", "test/ece", "test/confidence_incorrect", "test/auroc")
    assert head[7:12] == list(first), "and the metrics, all of one network"
    names = [cell for cell in cells if cell in runs]
    for column, key in (("loss", "loss"), ("data", "data")):
        values = [cell for cell in cells if cell in {content[key] for content in runs.values()}]
        assert values == [runs[name][key] for name in names], column
    for name in runs:
        row = cells[cells.index(name) : cells.index(name) + 14]
        for tag in first:
            value = runs[name]["test"][tag.removeprefix("test/")]
            is_shown = any(is_number(cell) and float(cell) == pytest.approx(value, rel=1e-4) for cell in row)
            assert value is None or is_shown, (name, tag)
    page.locator("tf-hparams-table-view paper-checkbox:visible").first.click()  # show metrics
    charts = page.locator("tf-hparams-session-group-details vz-line-chart2")
    wait(lambda: charts.count() >= 5, "the run's curves")  # of the five metrics that it shows by default
    lines = page.locator("tf-hparams-session-group-details path.line")
    wait(lambda: lines.count() >= 5, "lines")


def test_graph(visit: Visit) -> None:
    page = visit("graphs")
    texts = page.locator("tf-graph-scene text")
    wait(
        lambda: {"conv1", "conv5", "classifier"} <= set(re.findall(r"conv\d|classifier", " ".join(texts.all_text_contents()))),
        "nodes",
    )


def test_text(visit: Visit, runs: Runs) -> None:
    shown = found(visit("text", "model"))
    rows = shown.locator("tf-text-loader tr")
    wait(lambda: rows.filter(has_text="features.0").count() >= 1, "a row per layer")
    last = shown.locator("tf-text-loader strong")
    wait(lambda: last.count() >= 1, "the number of parameters")
    assert int(last.first.inner_text().replace(",", "")) > 14_000_000


def test_projector(visit: Visit, runs: Runs) -> None:
    """The validation images, as the last linear layer sees them."""
    page = visit("projector")

    def counts() -> list[str]:
        return [text for frame in page.frames for text in frame.locator(".numDataPoints").all_text_contents()]

    wait(lambda: any(text.strip() in {"30", "180"} for text in counts()), "the images of the short sweep, or of the digits")
    shapes = [text for frame in page.frames for text in frame.locator("text=/Dimension: 512/").all_text_contents()]
    assert len(shapes) == 1


def test_every_scalar_of_the_event_files_is_on_the_page(address: str, runs: Runs, means: dict[str, list[str]]) -> None:
    """The server's own list of tags, run by run; one name for one thing in every run."""
    with urllib.request.urlopen(f"{address}/data/plugin/scalars/tags") as answer:
        found = json.load(answer)
    assert found.keys() == runs.keys() | means.keys()
    wanted = {*tags.VALIDATION.values(), tags.LOSS_TRAIN, tags.IMAGES_PER_SECOND, f"{tags.TEST}accuracy"}
    sometimes = {"confidence/incorrect", "confidence/correct", "selection/auroc"}  # missing if no prediction is wrong, or right
    for name, names in found.items():
        assert wanted - sometimes - ({tags.IMAGES_PER_SECOND} if name in means else set()) <= set(names)
