"""Names of classes that the usual font lacks: drawn in a font that has them, or told apart without one, and said once."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vgg_nll import plots
from vgg_nll.plots import fonts

CHINESE = ("猫", "犬", "黑猫咪", "黑猫狗")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """matplotlib's own fonts alone, as on a system without others; everything as before at the end."""
    listed = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith(("DejaVu", "STIX", "Last Resort"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    monkeypatch.setattr(fonts, "_warned", set())
    caches = (fonts._family_with, fonts._own_families, fonts._other_families, font_manager.fontManager._findfont_cached)  # type: ignore[attr-defined]
    for cache in caches:
        cache.cache_clear()
    with mpl.rc_context():
        yield
    for cache in caches:
        cache.cache_clear()


def write_font(path: Path, characters: str) -> None:
    """Writes a font, "Unifont of a test", with a triangle for each character, wider for each next one."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"glyph{k}" for k in range(len(characters)))]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"glyph{k}" for k, c in enumerate(characters)})
    glyphs = {}
    for k, name in enumerate(names):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        pen.lineTo((200 + 300 * k, 0))
        pen.lineTo((0, 800))
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Unifont of a test", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=500)
    builder.setupPost()
    builder.save(path)


def test_usual_names_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = list(mpl.rcParams["font.family"])
    assert [fonts.caption(name) for name in ("cat", "Cafe\u0301", "кот", "$x$")] == ["cat", "Cafe\u0301", "кот", r"\$x\$"]
    assert mpl.rcParams["font.family"] == before and not caplog.records


def test_without_a_font_names_are_told_apart_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    assert [fonts.caption(name, 9, k) for k, name in enumerate(CHINESE)] == [r"\u732b", r"\u72ac", "#2", "#3"]
    assert fonts.caption("loss 猫") == r"loss \u732b"
    (line,) = caplog.messages
    assert line.startswith("warning: no font on this system can draw 猫: ") and "fonts-noto-cjk" in line and "\n" not in line


@pytest.mark.parametrize("draw", ["confusion_matrix", "most_confident_errors", "precision_recall"])
def test_no_figure_holds_a_box(draw: str, recwarn: pytest.WarningsRecorder) -> None:
    figure = {
        "confusion_matrix": lambda: plots.confusion_matrix(np.eye(4).tolist(), CHINESE),
        "most_confident_errors": lambda: plots.most_confident_errors(
            np.zeros((2, 8, 8, 3), dtype=np.uint8), np.tile([[0.1, 0.6, 0.2, 0.1]], (2, 1)), [2, 3], ["0.6"] * 2, CHINESE
        ),
        "precision_recall": lambda: plots.precision_recall(np.ones((4, 3)), np.ones((4, 3)), CHINESE),
    }[draw]()
    FigureCanvasAgg(figure).draw()
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]
    texts = {text.get_text() for text in figure.findobj(mpl.text.Text)}
    assert any("#2" in text for text in texts) and any("#3" in text for text in texts)


def test_an_installed_font_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Also one that was installed after matplotlib made its list of fonts."""
    write_font(tmp_path / "font.ttf", "猫犬")
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "font.ttf")])
    assert [fonts.caption(name) for name in "猫犬"] == ["猫", "犬"]
    pixels = []
    for name in "猫犬":
        figure = Figure(figsize=(1, 1))
        figure.text(0.2, 0.2, f"a {fonts.caption(name)}", fontsize=20)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels.append(np.asarray(canvas.buffer_rgba()))
    assert (pixels[0] != pixels[1]).any()
    assert mpl.rcParams["font.family"][-1] == "Unifont of a test"
    assert not caplog.records and not [warning for warning in recwarn if "missing from font" in str(warning.message)]
