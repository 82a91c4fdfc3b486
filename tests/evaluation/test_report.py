"""The numbers of one run, as a table and as a file."""

import math

import pytest

from vgg_nll.evaluation.report import final_table, format_table

NAMES = (
    "accuracy top5_accuracy loss nll_argmax nll_argmax_prediction nll_all_logit brier ece mce adaptive_ece classwise_ece "
    "overconfidence aurc auroc confidence confidence_correct confidence_incorrect true_class_probability margin"
)


def test_final_table() -> None:
    values = dict.fromkeys(NAMES.split(), 0.5) | {"confidence_incorrect": math.nan}
    lines = final_table({"validation": values, "test": values}).splitlines()
    assert len(lines) == 1 + len(NAMES.split())
    assert lines[0].split() == ["validation", "test"]
    assert lines[1].split() == ["accuracy", "0.5000", "0.5000"]
    assert lines[17].split() == ["confidence_incorrect", "-", "-"]


def test_final_table_keeps_its_layout() -> None:
    """Columns of at least 14 characters, numbers at their right end."""
    values = dict.fromkeys(NAMES.split(), 0.5) | {"margin": 12345.0}
    lines = final_table({"validation": values, "test": values}).splitlines()
    width = len("true_class_probability")  # the longest name
    assert lines[0] == " " * width + f"{'validation':>14}{'test':>14}"
    assert lines[4] == f"{'nll_argmax':<{width}}" + f"{'0.5000':>14}" * 2
    assert lines[-1] == f"{'margin':<{width}}" + f"{'12345.0000':>14}" * 2


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
