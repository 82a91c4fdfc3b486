"""Names in figures: in a font of this system that has their characters; without one, in a form that tells them apart."""

import functools
import logging
import unicodedata

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

from vgg_nll import escapes

log = logging.getLogger(__name__)
PREFERRED = (  # families that have Chinese, Japanese and Korean characters, by their beginnings; the best first
    *("Noto Sans CJK", "Source Han Sans", "Noto Sans", "WenQuanYi", "PingFang", "Hiragino Sans", "Heiti", "Apple SD Gothic"),
    *("Microsoft YaHei", "SimHei", "SimSun", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic", "Arial Unicode"),
    *("IPAGothic", "TakaoGothic", "VL Gothic", "NanumGothic", "AR PL", "Droid Sans Fallback", "Unifont"),
)
NO_GLYPHS = ("Last Resort", "Adobe Blank")  # families that have a box, or nothing, for every character
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC")  # how Unicode calls those
SHORT = 6  # characters: the longest escape that every place in a figure has room for
_warned: set[str] = set()


def caption(name: str, length: int = 14, number: int | None = None) -> str:
    """Returns the name of a class, a loss or a file for a figure, cut to `length`.

    The figures that are drawn next take the fonts that it needs. What no font has becomes an escape, and is said once; the name
    of a class that is too long then becomes its number.
    """
    found = {c: _family_with(c) for c in set(name) if not c.isspace()}
    for family in sorted({family for family in found.values() if family}):
        if family not in mpl.rcParams["font.family"]:
            mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], family]
    missing = {c for c, family in found.items() if family is None}
    if not missing:
        return escapes.caption(name, length)
    text = "".join(c.encode("unicode_escape").decode() if c in missing else c for c in name)
    _warn(name, text, min(missing))
    return f"#{number}" if number is not None and len(text) > SHORT else escapes.caption(text, length)


def _warn(name: str, text: str, character: str) -> None:
    """Says once in a process that names cannot be drawn, and what helps."""
    if not _warned:
        _warned.add(name)
        is_east_asian = unicodedata.name(character, "").startswith(EAST_ASIAN)
        package = "fonts-noto-cjk" if is_east_asian else "fonts-unifont"
        log.warning(
            f"warning: no font on this system can draw {escapes.printable(name)}: figures show such names as {text}, or as #k, "
            f"the number of the class from 0 on; install one (Debian, Ubuntu: apt-get install {package})"
        )


@functools.cache
def _family_with(character: str) -> str | None:
    """Returns the family that has a character: "" for those of matplotlib's settings, None if there is none."""
    if not character.isprintable():
        return None
    if any(_has(family, character) for family in _own_families()):
        return ""
    return next((family for family in _other_families() if _has(family, character)), None)


def _has(family: str, character: str) -> bool:
    return get_font(findfont(FontProperties(family=[family]))).get_char_index(ord(character)) != 0


@functools.cache
def _own_families() -> tuple[str, ...]:
    return tuple(mpl.rcParams["font.family"])


@functools.cache
def _other_families() -> tuple[str, ...]:
    """Returns the families of this system, the preferred first; also those that came after matplotlib made its list."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError, NotImplementedError, ValueError, KeyError):
                continue  # damaged, or made of pixels, as those of coloured emoji
    logging.getLogger(font_manager.__name__).addFilter(_says_more_than_a_weight)
    families = sorted({entry.name for entry in fontManager.ttflist if not entry.name.startswith(NO_GLYPHS)})
    ranks = {family: next((k for k, start in enumerate(PREFERRED) if family.startswith(start)), 99) for family in families}
    return tuple(sorted(families, key=ranks.__getitem__))


def _says_more_than_a_weight(record: logging.LogRecord) -> bool:
    """Returns False for a line that a family has no regular letters: WenQuanYi Zen Hei has medium ones only."""
    return "Failed to find font weight" not in record.getMessage()
