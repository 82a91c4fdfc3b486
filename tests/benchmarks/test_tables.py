"""Tables in a page are those of the measured files, and the pages of this repository are up to date."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import ROOT

from vgg_nll.benchmarks.tables import TABLE, filled

Script = Callable[..., int]
PAGE = "# Speed\n<!-- table: cpu/step -->\nold\n<!-- end -->\n<!-- table: gpu -->\n<!-- end -->\nrest\n"
FOUND = {
    "words": "step --repeats 2",
    "date": "2026-01-31",
    "device": "CPU",
    "versions": {"torch": "2.14.1", "python": "3.11.7"},
    "results": [{"what": "a", "n": 2}, {"what": "b", "n": 2, "x": 1.5}],
}
TEXT = """# Speed
<!-- table: cpu/step -->

| what |   n | x   |
| ---- | --: | --- |
| a    |   2 |     |
| b    |   2 | 1.5 |

`step --repeats 2`: CPU, torch 2.14.1, python 3.11.7, 2026-01-31.

<!-- end -->
"""


def test_a_page(script: Script, tmp_path: Path) -> None:
    """Both tables, the words around them, and the same again: nothing changes."""
    (tmp_path / "measured/cpu").mkdir(parents=True)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for name in ("cpu/step", "gpu"):
        (tmp_path / "measured" / f"{name}.json").write_text(json.dumps(FOUND))
    for _ in range(2):
        assert script("tables", "--page", page, "--measured", tmp_path / "measured") == 0
        text = page.read_text()
        assert text.startswith(TEXT)
        assert text.endswith("<!-- end -->\nrest\n")
        assert text.count("| b    |   2 | 1.5 |") == 2


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps(FOUND | {"results": []}), json.dumps({"results": [{"n": 1}]})])
def test_a_file_that_holds_no_rows(
    script: Script, tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names it, and the page stays."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    (tmp_path / "cpu").mkdir()
    if content is not None:
        (tmp_path / "cpu/step.json").write_text(content)
    assert script("tables", "--page", page, "--measured", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/cpu/step.json: ") and said.count("\n") == 1
    assert page.read_text() == PAGE


def test_the_page_of_this_repository_shows_what_was_measured() -> None:
    text = (ROOT / "docs/performance.md").read_text()
    assert filled(text, ROOT / "docs/measured") == text
    names = {f"{match['name']}.json" for match in TABLE.finditer(text)}
    measured = ROOT / "docs/measured"
    assert names == {str(path.relative_to(measured)) for path in measured.rglob("*.json")}
