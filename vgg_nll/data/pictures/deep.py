"""Pictures of more than 8 bits a number: 16 bits, floats, integers with a range that is given."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from vgg_nll.data.pictures import colour

ORIENTATION = 0x0112  # the EXIF tag
# TIFF's tags, and values of them.
PHOTOMETRIC, WHITE_IS_ZERO, BITS, COMPRESSION, SAMPLES, PLANAR, SEPARATE = 262, 0, 258, 259, 277, 284, 2
SAMPLE_FORMAT, SIGNED = 339, 2
MAX_16 = 65535
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose numbers have at most 16, also if Pillow opens them as 32
OPPOSITE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
PREMULTIPLIED = "RGBa"  # colours times alpha: of 8 bits, Pillow's division leaves few


def is_grey(picture: Image.Image) -> bool:
    """Returns whether a picture is grey, with numbers of more than 8 bits."""
    return picture.mode == "F" or picture.mode.startswith("I")


def is_sixteen_bits(picture: Image.Image) -> bool:
    """Returns whether an opened picture holds 16 bits a number, of which Pillow would take the upper 8 in colour."""
    return picture.mode.startswith("I") or ";16" in _raw_mode(picture)


def check(picture: Image.Image, white: int | None = None) -> None:
    """Raises ValueError for a TIFF that Pillow would read wrongly; tells it the byte order where it is mistaken."""
    if picture.format != "TIFF":
        return
    opened: Any = picture
    tags = opened.tag_v2
    is_separate = tags.get(PLANAR, 1) == SEPARATE
    if is_separate and picture.mode in ("LA", "PA", "La"):
        raise ValueError("grey and alpha in separate planes: save them in one")
    if is_separate and max(tags.get(BITS, (1,))) > 8 and tags.get(COMPRESSION, 1) != 1 and (white or picture.mode == "RGBA"):
        raise ValueError("16 bits in compressed separate planes, of which 8 can be read: save them in one plane")
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and picture.mode not in ("I", "F"):
        raise ValueError("signed numbers of 8 bits, whose range is not known: save unsigned ones")
    for tile in opened.tile if picture.mode in ("I", "F") else ():
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple):  # it has swapped the bytes already
            native = str(tile.args[0]).replace("32BF", "32F").replace("32BS", "32S").replace("16BS", "16S")
            if sys.byteorder == "little" and native != tile.args[0]:
                opened.tile = [tile._replace(args=(native, *tile.args[1:]))]


def colours(picture: Image.Image, again: Callable[[], Image.Image]) -> np.ndarray | None:
    """Returns the numbers [H, W, C] of a picture in colour with 16 bits, or of grey with alpha; None if it is no such.

    Pillow reads one byte of two: so the picture is read twice, in both byte orders.

    Args:
        again: opens the picture once more.
    """
    raw = _raw_mode(picture)
    if not raw:
        return None
    other = again()
    if raw.startswith("LA"):  # two numbers are four bytes
        _set_raw_mode(other, "RGBA")
        other._mode = "RGBA"
        pairs = np.asarray(other).astype(np.uint16)
        return pairs[..., ::2] * 256 + pairs[..., 1::2]
    is_deep, raw, upper = ";16" in raw, raw.replace(PREMULTIPLIED, "RGBA"), again()
    _set_raw_mode(upper, raw)
    if not is_deep:
        return np.asarray(upper).astype(np.uint16) * 257
    _set_raw_mode(other, raw[:-1] + OPPOSITE[raw[-1]])
    values: np.ndarray = np.asarray(upper).astype(np.uint16) * 256 + np.asarray(other)
    return values


def from_colours(values: np.ndarray, picture: Image.Image, white: int | None) -> Image.Image:
    """Returns a picture of 8 bits of the numbers that `colours` gives of a picture. Raises ValueError as `from_grey` does."""
    has_alpha = values.shape[2] in (2, 4) and picture.mode != "CMYK"
    shades, info = values[..., :-1] if has_alpha else values, dict(picture.info)
    scaled = _in_unit(shades, white)
    layers = [scaled if picture.mode == "CMYK" else colour.encoded(scaled, info)]
    if has_alpha:
        alpha = values[..., -1:]
        top = white if white and alpha.max() <= white else MAX_16
        if str(_raw_mode(picture)).startswith(PREMULTIPLIED):
            layers = [np.clip(shades / np.maximum(alpha, 1), 0, 1)]
        layers.append(alpha / top)
    elif isinstance(info.get("transparency"), tuple):
        layers.append((values != np.array(info["transparency"])).any(axis=2, keepdims=True).astype(float))
    whole = np.concatenate(layers, axis=2)
    if whole.shape[2] == 2:
        whole = whole[..., [0, 0, 0, 1]]
    eight = (whole * 255).round().astype(np.uint8)
    return _with_metadata(Image.fromarray(eight, "CMYK") if picture.mode == "CMYK" else Image.fromarray(eight), picture, info)


def grey_values(picture: Image.Image) -> tuple[np.ndarray, int | None]:
    """Returns the numbers of a grey picture, and the one that is white; None if it is not known.

    Raises ValueError for floats that are not finite or outside [0, 255].
    """
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixels that are NaN or infinite")
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if low < 0 or high > 255:
            raise ValueError(f"floats from {low:g} to {high:g}: scale them to [0, 1]")
        return values, 1 if high <= 1 else 255
    if picture.mode == "I" and (picture.format not in SIXTEEN_BITS or low < 0 or high > MAX_16):
        return values, None
    tags: Any = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    bits = tags.get(BITS, (16,))
    return values, 2 ** bits[0] - 1 if isinstance(bits, tuple) and 8 < bits[0] < 16 else MAX_16


def from_grey(picture: Image.Image, white: int | None) -> Image.Image:
    """Returns a grey picture of 16 bits, or of floats, in 8 bits; a transparent number becomes white.

    Args:
        white: the number that is white, of integers; None: the largest one of 16 bits.

    Raises ValueError for numbers above `white`, and for those that have no range: 32-bit integers without `white`, floats that
    are not finite or outside [0, 255].
    """
    values, top = grey_values(picture)
    if picture.mode != "F":
        if white is None and top is None:
            raise ValueError("32-bit integers, whose range is not known: give data.white, or save 16 bits, or 8")
        top = top if white is None or top not in (None, MAX_16) else white
    assert top is not None
    tags: Any = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    info = dict(picture.info)
    unit = _in_unit(values, top)
    grey = 255 * colour.encoded(1 - unit if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else unit, info)
    if isinstance(info.get("transparency"), int):
        grey[values == info["transparency"]] = 255
    return _with_metadata(Image.fromarray(grey.round().astype(np.uint8)), picture, info)


def _in_unit(values: np.ndarray, white: int | None) -> np.ndarray:
    """Returns numbers in [0, 1]. Raises ValueError for negative ones, and for those above white."""
    low, high, top = values.min(), values.max(), white or MAX_16
    if low < 0 or high > top:
        raise ValueError(f"numbers from {low:g} to {high:g}, and data.white={top}: set it to the number that is white")
    scaled: np.ndarray = values / top
    return scaled


def _with_metadata(eight: Image.Image, picture: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Gives a picture the orientation and the colours of another one."""
    eight.info |= {key: info[key] for key in colour.KEYS if key in info}
    try:
        eight.getexif()[ORIENTATION] = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged data, of which the parsers have many errors
        eight.getexif()[ORIENTATION] = 1
    return eight


def _raw_mode(picture: Image.Image) -> str:
    """Returns Pillow's name for the bytes of an opened picture in colour with 16 bits; "" if it has others."""
    if picture.mode not in ("RGB", "RGBA", "LA", "CMYK") or not getattr(picture, "tile", None):
        return ""
    tags: Any = getattr(picture, "tag_v2", {})
    if tags.get(PLANAR, 1) == SEPARATE:  # Pillow takes 8 bits for granted there
        is_deep = set(tags.get(BITS, (1,))) == {16} and tags.get(COMPRESSION, 1) == 1
        return f"{picture.mode};16{'B' if tags.prefix == b'MM' else 'L'}" if is_deep else ""
    args = picture.tile[0].args  # type: ignore[attr-defined]
    raw = str(args[0]) if isinstance(args, tuple) and args else str(args)
    return raw if raw[:-1].endswith(";16") or raw == PREMULTIPLIED else ""


def _set_raw_mode(picture: Image.Image, raw: str) -> None:
    """Lets Pillow take bytes for a raw mode; in separate planes, for that of each band."""
    tags: Any = getattr(picture, "tag_v2", {})
    tiles = picture.tile  # type: ignore[attr-defined]
    bands, is_separate = raw.partition(";")[0], tags.get(PLANAR, 1) == SEPARATE
    changed = []
    for k, tile in enumerate(tiles):
        band = k * tags.get(SAMPLES, 1) // len(tiles) if is_separate else 0
        if band < len(bands):  # more planes are no colours
            own = raw.replace(bands, bands[band]) if is_separate else raw
            changed.append(tile._replace(args=(own, *tile.args[1:]) if isinstance(tile.args, tuple) else own))
    picture.tile = changed  # type: ignore[attr-defined]
