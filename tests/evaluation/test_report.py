"""The numbers of one run, as a table and as a file."""

import math

import pytest
from scipy import stats

from vgg_nll.evaluation.registry import View, shown_in
from vgg_nll.evaluation.report import confidence_text, few_images, final_table, format_table, verdict

NAMES = [metric.name for metric in shown_in(View.TABLE)]


def table(values: dict[str, float], *, num_classes: int = 10) -> list[str]:
    splits = {"validation": values, "test": values}
    return final_table(splits, {"validation": 1234, "test": 5}, num_classes=num_classes).splitlines()


def test_final_table() -> None:
    """What matters first; percent; each metric once; top-5 only if there are more classes than that."""
    values = dict.fromkeys(NAMES, 0.5) | {"confidence_incorrect": math.nan}
    lines = table(values)
    assert lines[0].split("  ")[-2:] == ["validation (n = 1,234)", "test (n = 5)"]
    assert [line.split()[0] for line in lines[1:5]] == ["accuracy", "nll_argmax", "brier", "confidence"]
    assert [line.split()[0] for line in lines[5:7]] == ["ece", "ece_noise_floor"]  # never without it
    assert [line for line in lines[7:] if not line.startswith(" ")] == ["accuracy", "confidence", "calibration"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:] if len(line.split()) > 1}
    assert rows.keys() == set(NAMES) and len(lines) == 1 + len(rows) + 3
    assert rows["accuracy"] == ["%", "50.00", "50.00"]
    assert rows["confidence_incorrect"] == ["%", "-", "-"]
    assert rows["margin"] == ["(log-odds)", "0.50", "0.50"] and rows["brier"] == ["0.5000", "0.5000"]
    few = table(values, num_classes=5)
    assert not any("top5" in line for line in few) and "accuracy" not in few[5:]  # a group without rows has no title


def test_final_table_with_intervals() -> None:
    """Those of the last column, in the unit of the metric; none for a metric whose interval is not defined."""
    intervals = {"accuracy_interval": [0.25, 0.75], "nll_argmax_interval": [0.1, 0.2], "auroc_interval": [math.nan, math.nan]}
    values = dict.fromkeys(NAMES, 0.5)
    text = final_table({"test": values}, {"test": 5}, num_classes=10, intervals=intervals)
    lines = text.splitlines()
    assert lines[0].endswith("  test (n = 5)      95% interval")
    ends = {line.split()[0]: line for line in lines}
    assert ends["nll_argmax"].endswith("  0.5000  0.1000 to 0.2000")
    assert ends["auroc"].endswith("  0.5000")
    assert next(line for line in lines if line.startswith("accuracy %")).split() == [
        "accuracy",
        "%",
        "50.00",
        "25.00",
        "to",
        "75.00",
    ]
    more = final_table({"test": values}, {"test": 5}, num_classes=10, view=View.TABLE | View.EVALUATION)
    assert "smooth_ece" in more and "smooth_ece" not in text


def test_few_images_are_said() -> None:
    assert few_images(50) == "" and few_images(49).startswith("warning: 49 images are few")


@pytest.mark.parametrize(
    ("right", "n", "confidence", "judged"),
    [
        (90, 100, 0.99, "accuracy 90.0% (82.6 to 94.5%, n = 100)  confidence 99.0%: overconfident by 9 points (4.5 to 16)"),
        (90, 100, 0.80, "accuracy 90.0% (82.6 to 94.5%, n = 100)  confidence 80.0%: underconfident by 10 points (2.6 to 14)"),
        (90, 100, 0.93, "accuracy 90.0% (82.6 to 94.5%, n = 100)  confidence 93.0%: no difference can be seen"),
        (4, 9, 0.56, "accuracy 44.4% (18.9 to 73.3%, n = 9)  confidence 56.0%: too few images to judge confidence"),
        (0, 9, 0.99, "accuracy 0.0% (0.0 to 29.9%, n = 9)  confidence 99.0%: overconfident by 99 points (69 to 99)"),
        (100, 100, 0.97, "accuracy 100.0% (96.3 to 100.0%, n = 100)  confidence 97.0%: no difference can be seen"),
        (
            990,
            1000,
            0.99998,
            "accuracy 99.0% (98.2 to 99.5%, n = 1,000)  confidence 99.998%: overconfident by 1 points (0.54 to 1.8)",
        ),
    ],
)
def test_verdict(right: int, n: int, confidence: float, judged: str) -> None:
    """It says over or under only outside the interval of the accuracy that scipy gives, and names what is wrong."""
    found = verdict({"accuracy": right / n, "confidence": confidence, "confidence_incorrect": 0.9}, n)
    interval = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    over, under = confidence > interval.high, confidence < interval.low
    assert ("overconfident" in found[1], "underconfident" in found[1]) == (over, under)
    ending = f"{n - right} wrong, at 90.0% confidence on average" if right < n else "none wrong"
    assert found == [*judged.split(": "), ending]


@pytest.mark.parametrize(
    ("interval", "judged"),
    [
        ((-0.07, -0.002), "underconfident by 3 points (0.2 to 7)"),
        ((0.01, 0.05), "overconfident by 3 points (1 to 5)"),
        ((-0.05, 0.01), "no difference can be seen"),
    ],
)
def test_verdict_by_the_interval_of_overconfidence(interval: tuple[float, float], judged: str) -> None:
    """It knows how confidence and accuracy go together, so it is the one that counts: the table shows it, too."""
    values = {"accuracy": 0.8, "confidence": 0.77 if interval[0] < 0 else 0.83, "confidence_incorrect": 0.5}
    assert verdict(values, 359)[1] == "no difference can be seen"
    assert verdict(values, 359, {"overconfidence_interval": interval})[1] == judged


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
    """Numbers at the right end of their column."""
    lines = table(dict.fromkeys(NAMES, 0.5) | {"margin": 12345.0})
    ends = {len(line) for line in lines if len(line.split()) > 2}
    assert len(ends) == 1
    (margin,) = [line for line in lines if "margin" in line]
    assert margin.split()[-2:] == ["12345.00", "12345.00"]


def test_final_table_without_a_metric() -> None:
    """A checkpoint of an older version has none of it."""
    values = dict.fromkeys(NAMES, 0.5)
    older = {name: value for name, value in values.items() if name != "margin"}
    (row,) = (
        line
        for line in final_table({"validation": older, "test": values}, {"validation": 1, "test": 1}, num_classes=9).splitlines()
        if "margin" in line
    )
    assert row.split() == ["margin", "(log-odds)", "-", "0.50"]


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
