"""Decodes picture files: bytes in RGB, with the colours and the way up that a viewer would show."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional

from vgg_nll.data.pictures import colour, deep
from vgg_nll.data.pictures.opening import open_picture, quietly, read_bytes
from vgg_nll.data.pictures.walk import NEEDS_HEIF, is_heif, usable_bytes
from vgg_nll.data.preprocessing import MAX_MEGAPIXELS
from vgg_nll.errors import DataError

MAX_ASPECT = 100
ADVICE = "fix or remove it"
TRANSPARENT = "every pixel is transparent: it would be a white square; remove its alpha, or the file"


@dataclass(frozen=True)
class Decoding:
    """What a person says of the files.

    Args:
        white: the number that is white in pictures of more than 8 bits; None: the largest that they can hold.
        max_megapixels: of a picture as it is decoded: large JPEGs are decoded smaller. More would fill the memory.
    """

    white: int | None = None
    max_megapixels: float = MAX_MEGAPIXELS


class Header(NamedTuple):
    """What the header of a picture says, such as "JPEG", "CMYK"."""

    format: str
    mode: str
    size: tuple[int, int]
    is_deep: bool  # 16 bits a number


def read_picture(path: Path, image_size: int, decoding: Decoding = Decoding()) -> Tensor:
    """Reads a picture file as uint8 [3, H, W]. Raises DataError with the path and the reason if it cannot be read.

    If torchcodec is installed, it decodes small JPEGs: in three quarters of PIL's time, to the same bytes. Large JPEGs are
    decoded at a half, a quarter or an eighth of their size, as long as the shorter side keeps twice `image_size`: that halves
    the time for a photograph of 12 million pixels, and changes the resized picture by 0.2 of 255 on average.

    Args:
        image_size: side of the square that the picture will be resized to.
    """
    try:
        content = read_bytes(path)
        with quietly(), open_picture(content) as picture:  # reads the header alone
            width, height = picture.size
            if max(width, height) <= MAX_ASPECT * min(width, height):
                return _decode(content, picture, image_size, decoding)
    except MemoryError:
        raise
    except Exception as error:  # both decoders have many
        raise _unreadable(path, usable_bytes(path)[1] or _reason(error, path)) from error
    # Resized by its shorter side it would fill the memory.
    raise DataError(f"{path}: {width}x{height} pixels are too narrow; crop or remove it")


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: cannot be read as a picture ({reason}); {ADVICE}")


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return NEEDS_HEIF if is_heif(path.suffix) else "not a picture, or of a format that Pillow does not know"
    text = re.sub(r".*\.cpp:\d+, ", "", " ".join(str(error).split()))  # torchcodec's tell the line of its source
    return (error.strerror if isinstance(error, OSError) else None) or text or type(error).__name__


def read_header(path: Path) -> Header:
    """Returns what the header of a picture says, without decoding it. Raises DataError as `read_picture` does."""
    _, why = usable_bytes(path)
    if why:
        raise _unreadable(path, why)
    try:
        with quietly(), open_picture(read_bytes(path)) as picture:
            return Header(picture.format or "", picture.mode, picture.size, deep.is_sixteen_bits(picture))
    except Exception as error:  # as above
        raise _unreadable(path, _reason(error, path)) from error


def largest_number(path: Path) -> int:
    """Returns the largest number of a picture of 16 bits; 0 if it cannot be read."""
    try:
        content = read_bytes(path)
        with quietly(), open_picture(content) as picture:
            deep.check(picture)
            values = deep.colours(picture, functools.partial(open_picture, content))
            if values is None:
                return int(deep.grey_values(picture)[0].max())
            return int((values if values.shape[2] == 3 else values[..., :-1]).max())
    except Exception:  # as above; said when it is decoded
        return 0


def reason_of(error: DataError, path: str) -> str:
    """Returns the message of an error of this module without the file's name, and without the advice."""
    return str(error.args[0]).removeprefix(f"{path}: ").removesuffix(f"; {ADVICE}")


def to_rgb(picture: Image.Image, white: int | None = None) -> Tensor:
    """Returns a picture as uint8 [3, H, W], the way up and in the colours that a viewer shows.

    Colours are converted to sRGB. Transparent pixels get a white ground. 16 bits a pixel are scaled to 8, numbers in [0, 1] to
    [0, 255]; floats in [0, 255] stay.

    Args:
        white: see `Decoding`.

    Raises ValueError for numbers that have no range: 32-bit integers, floats that are not finite or outside [0, 255]; and for a
    picture that is transparent everywhere.
    """
    if deep.is_grey(picture):
        picture = deep.from_grey(picture, white)
    upright = colour.in_srgb(picture if _is_upright(picture) else ImageOps.exif_transpose(picture))
    if upright.mode == "RGBA":
        if upright.getchannel("A").getextrema()[1] == 0:
            raise ValueError(TRANSPARENT)
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    return functional.pil_to_tensor(upright)


def _decode(content: bytes, picture: Image.Image, image_size: int, decoding: Decoding) -> Tensor:
    full_size = picture.size
    picture.draft("RGB", (2 * image_size, 2 * image_size))
    _check_size(picture, full_size, decoding.max_megapixels)
    decode = jpeg_decoder()
    is_small_jpeg = picture.format in ("JPEG", "MPO") and picture.size == full_size
    if decode and is_small_jpeg and _is_upright(picture) and colour.is_srgb(picture):
        return decode(content)
    deep.check(picture, decoding.white)
    values = deep.colours(picture, functools.partial(open_picture, content))
    if values is not None:
        return to_rgb(deep.from_colours(values, picture, decoding.white))
    picture.load()
    return to_rgb(picture, decoding.white)


def _check_size(picture: Image.Image, full_size: tuple[int, int], max_megapixels: float) -> None:
    """Raises ValueError if decoding a picture would fill the memory."""
    pixels = picture.size[0] * picture.size[1]
    if picture.info.get("progressive"):  # its numbers are all kept, also if it is decoded smaller
        pixels = max(pixels, full_size[0] * full_size[1] // 2)
    if pixels > max_megapixels * 1e6:
        raise ValueError(
            f"{full_size[0]}x{full_size[1]}: more than data.max_megapixels={max_megapixels:g} million pixels, which would fill "
            "the memory; raise it, or make the picture smaller"
        )


def _is_upright(picture: Image.Image) -> bool:
    """Returns whether EXIF or XMP data (damaged data do) leave the picture as it is. Some know it only after loading."""
    if picture.format == "JPEG" and not ("exif" in picture.info or "xmp" in picture.info):
        return True  # at once: most files of data sets
    try:
        return int(picture.getexif().get(deep.ORIENTATION, 1)) == 1
    except Exception:  # the parsers of both have many
        return True


@functools.cache
def jpeg_decoder() -> Callable[[bytes], Tensor] | None:
    """Returns torchcodec's decoder, JPEG bytes -> uint8 [3, H, W]; None if it is missing or does not fit this PyTorch."""
    try:
        from torchcodec.decoders import decode_jpeg
    except Exception:  # it loads libraries of its own, which fail in many ways
        return None
    return lambda content: cast(Tensor, decode_jpeg(content, mode="RGB"))
