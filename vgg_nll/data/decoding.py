"""Picture files -> bytes in RGB, the way up that a viewer would show them."""

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from vgg_nll.errors import DataError

MAX_ASPECT = 100
END_OF_JPEG, START_OF_SCAN = b"\xff\xd9", b"\xff\xda"
Content = TypeVar("Content")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: Path, image_size: int) -> Tensor:
    """A picture file -> uint8 [3, H, W]. Raises DataError that names the file where it cannot be read.

    Small JPEGs are decoded by torchcodec where that is installed, in three quarters of PIL's time and to the same bytes. Large
    ones come at a half, a quarter or an eighth of their size, as far as twice `image_size` remains of the shorter side: the
    format allows that, in half the time for a photograph of 12 million pixels, and 0.2 of 255 is the mean difference it makes
    once the whole picture is resized.

    Args:
        image_size: of the square that is to be made of it.
    """
    return _read(path, functools.partial(_decode, image_size=image_size))


def read_encoded(path: Path, image_size: int) -> bytes | Tensor:
    """A picture file -> its bytes as they are, where `decode_on` can do the rest; else as `read_picture`."""

    def keep(content: bytes, picture: Image.Image) -> bytes | Tensor:
        plain = picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L") and _orientation(picture) == 1
        # A GPU's decoder would make up in grey what was cut off. (The preview that a camera adds has an end of its own.)
        whole = content.rfind(END_OF_JPEG) > content.rfind(START_OF_SCAN)
        return content if plain and whole else _decode(content, picture, image_size)

    return _read(path, keep)


def decode_on(device: torch.device, contents: Sequence[bytes | Tensor]) -> list[Tensor]:
    """What `read_encoded` gives -> pictures uint8 [3, H, W] on the device; JPEGs are decoded there, all in one call.

    A GPU's decoder rounds in its own way. Raises RuntimeError for a JPEG that it cannot decode, without saying which.
    """
    from torchcodec.decoders import decode_jpeg

    encoded = [content for content in contents if isinstance(content, bytes)]
    decoded = iter(decode_jpeg(encoded, mode="RGB", device=device) if encoded else [])
    return [next(decoded) if isinstance(content, bytes) else content.to(device) for content in contents]


def why_not_on(device: torch.device) -> str | None:
    """Why JPEGs cannot be decoded on this device; None where a small one has been."""
    if device.type != "cuda":
        return f"it is for a GPU, and the device is {device}"
    content = io.BytesIO()
    Image.new("RGB", (32, 32)).save(content, "JPEG")
    try:
        decode_on(device, [content.getvalue()])
    except Exception as error:  # torchcodec may be missing, or the libraries that it loads
        return str(error).strip().partition("\n")[0]
    return None


def _read(path: Path, decode: Callable[[bytes, Image.Image], Content]) -> Content:
    """`decode` is given a file's content, and its header as PIL understands it."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:  # reads the header alone, and refuses sizes that would fill the memory
            width, height = picture.size
            if max(width, height) <= MAX_ASPECT * min(width, height):
                return decode(content, picture)
    except MemoryError:
        raise
    except Exception as error:  # both have many
        raise DataError(f"{path}: cannot be read as a picture; mend or remove it") from error
    # Resized by its shorter side it would fill the memory.
    raise DataError(f"{path}: {width}x{height} pixels are too narrow; crop or remove it")


def _decode(content: bytes, picture: Image.Image, image_size: int) -> Tensor:
    whole = picture.size
    picture.draft("RGB", (2 * image_size, 2 * image_size))
    decode = jpeg_decoder()
    if decode and picture.format in ("JPEG", "MPO") and picture.size == whole and _orientation(picture) == 1:
        return decode(content)
    picture.load()
    orientation = _orientation(picture)  # of some formats known only now
    upright = picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture
    return functional.pil_to_tensor(upright.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """As EXIF or XMP data give it; 1, upright, where there are none, or damaged ones."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # the parsers of both have many
        return 1


@functools.cache
def jpeg_decoder() -> Callable[[bytes], Tensor] | None:
    """JPEG as bytes -> uint8 [3, H, W], by torchcodec; None where it is missing or does not go with this PyTorch."""
    try:
        from torchcodec.decoders import decode_jpeg
    except Exception:  # it loads libraries of its own, which fail in many ways
        return None
    return lambda content: cast(Tensor, decode_jpeg(content, mode="RGB"))
