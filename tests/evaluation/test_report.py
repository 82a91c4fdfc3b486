"""The numbers of one run, as a table and as a file."""

import math

import pytest
from scipy import stats

from vgg_nll.evaluation.report import confidence_text, final_table, format_table, verdict

NAMES = (
    "accuracy top5_accuracy confidence confidence_correct confidence_incorrect true_class_probability margin loss nll_argmax "
    "nll_argmax_prediction nll_all_logit brier ece mce adaptive_ece classwise_ece overconfidence aurc auroc"
)


def test_final_table() -> None:
    values = dict.fromkeys(NAMES.split(), 0.5) | {"confidence_incorrect": math.nan}
    lines = final_table({"validation": values, "test": values}).splitlines()
    assert lines[0].split() == ["validation", "test"]
    groups = [line for line in lines[1:] if not line.startswith(" ")]
    assert groups == ["accuracy", "confidence", "calibration"]
    rows = [line.split() for line in lines[1:] if line.startswith("  ")]
    assert [row[0] for row in rows] == NAMES.split()
    assert rows[4] == ["confidence_incorrect", "-", "-"]
    assert all(row[1:] == ["0.5000", "0.5000"] for k, row in enumerate(rows) if k != 4)


@pytest.mark.parametrize(
    ("right", "confidence", "said"),
    [
        (90, 0.99, "accuracy 90.0%  confidence 99.0%: overconfident by 9 points"),
        (90, 0.80, "accuracy 90.0%  confidence 80.0%: underconfident by 10 points"),
        (90, 0.93, "accuracy 90.0%  confidence 93.0%: confidence agrees with accuracy (n = 100 images)"),
        (100, 0.97, "accuracy 100.0%  confidence 97.0%: confidence agrees with accuracy (n = 100 images)"),
        (100, 0.95, "accuracy 100.0%  confidence 95.0%: underconfident by 5 points"),
        (99, 0.99998, "accuracy 99.0%  confidence 99.998%: overconfident by 1 points"),
    ],
)
def test_verdict(right: int, confidence: float, said: str) -> None:
    """It says over or under only outside the interval of the accuracy that scipy gives."""
    found = verdict({"accuracy": right / 100, "confidence": confidence}, 100)
    interval = stats.binomtest(right, 100).proportion_ci(0.95, method="wilson")
    assert found == said or (said.endswith("by 1 points") and found.startswith("accuracy 99.0%  confidence 99.998%"))
    assert ("overconfident" in found, "underconfident" in found) == (confidence > interval.high, confidence < interval.low)


@pytest.mark.parametrize(
    ("margin", "text"),
    [
        (0.0, "50.0%"),
        (2.0, "88.1%"),
        (7.5, "99.9%"),
        (7.7, "1 - 5e-04"),
        (11.83, "1 - 7e-06"),
        (40.0, "1 - 4e-18"),
        (1e4, "1 - 1e-304"),
        (-1.5, "18.2%"),
        (math.inf, "1 - 1e-304"),
    ],
)
def test_no_confidence_reads_as_one(margin: float, text: str) -> None:
    assert confidence_text(margin) == text


def test_final_table_keeps_its_layout() -> None:
    """Columns of at least 14 characters, numbers at their right end."""
    values = dict.fromkeys(NAMES.split(), 0.5) | {"margin": 12345.0}
    lines = final_table({"validation": values, "test": values}).splitlines()
    width = len("  true_class_probability")  # the longest name
    assert lines[0] == " " * width + f"{'validation':>14}{'test':>14}"
    assert lines[2] == f"{'  accuracy':<{width}}" + f"{'0.5000':>14}" * 2
    assert lines[9] == f"{'  margin':<{width}}" + f"{'12345.0000':>14}" * 2


def test_final_table_without_a_metric() -> None:
    """A checkpoint of an older version has none of it."""
    values = dict.fromkeys(NAMES.split(), 0.5)
    older = {name: value for name, value in values.items() if name != "margin"}
    (row,) = (line for line in final_table({"validation": older, "test": values}).splitlines() if "margin" in line)
    assert row.split() == ["margin", "-", "0.5000"]


def test_format_table_as_markdown() -> None:
    rows = [("a|b", "1,234", "-", "3 to 4"), ("c\nd", "**-0.5**", "+2.5e-3", "5")]
    assert format_table(("loss", "n", "p", "a range"), rows, markdown=True).splitlines() == [
        "| loss |        n |       p | a range |",
        "| ---- | -------: | ------: | ------- |",
        r"| a\|b |    1,234 |       - | 3 to 4  |",
        "| c d  | **-0.5** | +2.5e-3 | 5       |",
    ]


def test_text_of_others_stays_in_its_cell() -> None:
    """A class name neither moves the cursor nor adds a row."""
    rows = [("cat\x1b[2J\x9b1m\nall 1.0000", "1"), ("dog\u202e\u2028x", "2")]
    for markdown in (False, True):
        lines = format_table(("", "n"), rows, markdown=markdown).splitlines()
        assert len(lines) == 3 + markdown
        assert all(line.isprintable() for line in lines)


def test_format_table_as_text() -> None:
    rows = [("a|b", "1", "x"), ("long name", "1000", "")]
    assert format_table(("", "n", "text"), rows, markdown=False).splitlines() == [
        "              n  text",
        "a|b           1     x",
        "long name  1000",
    ]


@pytest.mark.parametrize("markdown", [False, True])
def test_format_table_needs_full_rows(markdown: bool) -> None:
    with pytest.raises(ValueError, match="shorter"):
        format_table(("a", "b"), [("1",)], markdown=markdown)
