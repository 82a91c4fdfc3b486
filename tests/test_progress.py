"""Bars on a terminal, plain lines on a pipe."""

import logging
import re
import time

import pytest

from vgg_nll.progress import JobBars, Progress, duration, track


class Screen:
    """A stand-in for stderr that keeps what is written."""

    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_jobs_send_no_commands_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    bars = JobBars(2, 1)
    bars.write("lr=\x1b[2J\x9b1m\nx")
    bars.show(["lr=\x1b[2J\x9b1m\nx"])
    bars.close()
    assert capsys.readouterr().out.count("lr=\\x1b[2J\\x9b1m\\nx\n") == 1
    assert "\x1b[2J" not in screen.text and "\x9b" not in screen.text
    assert (r"lr=\x1b[2J" in screen.text) is terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_bar_or_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, terminal: bool) -> None:
    caplog.set_level(logging.INFO)
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    bar = Progress(total_steps=3, first_step=1)
    for step in (2, 3):
        bar.advance()
        bar.update(step, [f"loss {step}.0"])
    bar.write("a line that stays")
    bar.close()
    assert "a line that stays" in caplog.text
    if terminal:
        assert "3/3" in screen.text
        assert "loss 3.0" in screen.text
        assert "step 3/3" not in caplog.text
    else:
        assert screen.text == ""
        assert "step 2/3" not in caplog.text  # less than ten seconds after the start
        assert "step 3/3  loss 3.0" in caplog.text  # the last one always


def test_lines_come_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("sys.stderr", Screen(False))
    now = [0.0]
    monkeypatch.setattr("vgg_nll.progress.time.monotonic", lambda: now[0])
    bar = Progress(total_steps=100, first_step=0)
    for step in range(1, 8):
        now[0] = 4.0 * step
        bar.update(step, ["loss 1.0"])
    assert [record.message.split("  ")[0] for record in caplog.records] == ["step 3/100", "step 6/100"]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (200, "loss 0.1234  accuracy 97.2%  62 images/s"),
        (80, "loss 0.1234  accuracy 97.2%  62 images/s"),
        (60, "loss 0.1234  accuracy 97.2%"),
        (45, "loss 0.1234"),
    ],
)
def test_a_narrow_terminal_shows_what_matters(monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    """Nothing is cut, no line is as wide as the terminal, and there is room for a bar."""
    screen = Screen(True)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = Progress(total_steps=234, first_step=100)
    bar.update(101, ["loss 0.1234", "accuracy 97.2%", "62 images/s"])
    bar.close()
    lines = re.split("[\r\n]+", screen.text)
    assert all(len(line) < min(columns, 80) + 1 for line in lines)
    assert lines[-2].endswith(f"  {shown}")
    bar_itself = lines[-2].split("|")[1]
    assert len(bar_itself) >= 8


@pytest.mark.parametrize("terminal", [True, False])
def test_track_yields_every_item(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    assert list(track(iter(range(5)), 5, "val")) == list(range(5))
    assert ("val" in screen.text) == terminal


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("steps", "rest", "end"),
    [(1010, "17 min", 1001.0), (2**62, "53375995583650.3 days", None), (10**6 + 10, "11.6 days", None)],
)
def test_the_rest_is_estimated_once(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    terminal: bool,
    steps: int,
    rest: str,
    end: float | None,
) -> None:
    """From the steps after the first one, which takes long; as soon as they have taken some seconds."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("sys.stderr", Screen(terminal))
    now = [1000.0]
    monkeypatch.setattr("vgg_nll.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("vgg_nll.progress.time.time", lambda: 0.0)
    bar = Progress(total_steps=steps, first_step=5)
    for seconds in (60.0, 1.0, 1.0, 1.0, 1.0, 500.0, 1.0):
        now[0] += seconds
        bar.advance()
    bar.close()
    day = "" if end is None or time.localtime(end)[:3] == time.localtime(0)[:3] else "%a "
    until = time.strftime(f", until {day}%H:%M", time.localtime(end)) if end is not None else ""
    assert [record.message for record in caplog.records if "to go" in record.message] == [
        f"about {rest} to go{until}: 1 s a step; validations come on top"
    ]


def test_a_short_rest_is_not_estimated(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr("vgg_nll.progress.time.monotonic", lambda: now[0])
    bar = Progress(total_steps=11, first_step=0)
    for _ in range(11):
        now[0] += 1.5
        bar.advance()
    assert "to go" in caplog.text
    caplog.clear()
    bar = Progress(total_steps=9, first_step=0)
    for _ in range(9):
        now[0] += 1.5
        bar.advance()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (9.6, "10 s"),
        (99.0, "99 s"),
        (100, "2 min"),
        (5999, "100 min"),
        (6000, "1.7 h"),
        (170_000, "47.2 h"),
        (172_800, "2.0 days"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
