"""Pictures of more than 8 bits, and the forms of TIFF: what tifffile reads, or a line."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vgg_nll.data.pictures.decoding import Decoding, largest_number, read_picture
from vgg_nll.errors import DataError

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
UNIT = np.stack([X / (WIDTH - 1), Y / (HEIGHT - 1), 1 - 0.7 * X / (WIDTH - 1), 0.3 + 0.7 * Y / (HEIGHT - 1)], axis=2)


def numbers(bits: int, samples: int) -> np.ndarray:
    return np.round(UNIT[..., :samples] * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def shown(samples: int) -> np.ndarray:
    """Returns the picture in RGB, on white."""
    colours = UNIT[..., :3] if samples > 2 else UNIT[..., [0, 0, 0]]
    alpha = UNIT[..., samples - 1 : samples] if samples in (2, 4) else 1
    pixels: np.ndarray = 255 * (colours * alpha + 1 - alpha)
    return pixels


def read(path: Path, **options: Any) -> np.ndarray:
    return read_picture(path, 32, Decoding(**options)).permute(1, 2, 0).numpy().astype(float)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff(bits: int, samples: int, planar: str, compression: str | None, tile: Any, order: Any, tmp_path: Path) -> None:
    """Within 1 of 255, or refused in a line."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    values = numbers(bits, samples)
    options: dict[str, Any] = {"planarconfig": planar} if samples > 1 else {}
    options |= {"extrasamples": ["unassalpha"]} if samples in (2, 4) else {}
    values = values[..., 0] if samples == 1 else np.moveaxis(values, 2, 0) if planar == "separate" else values
    options |= {"photometric": "rgb" if samples > 2 else "minisblack", "rowsperstrip": None if tile else 10}
    tifffile.imwrite(tmp_path / "x.tif", values, compression=compression, tile=tile, byteorder=order, **options)
    assert np.array_equal(tifffile.imread(tmp_path / "x.tif"), values)
    refused = samples == 2 and (planar == "separate" or bits == 16)
    refused |= bits == 16 and samples == 4 and planar == "separate" and compression is not None
    if refused:
        with pytest.raises(DataError, match=r"x.tif: cannot be read as a picture \(.*\); fix or remove it$"):
            read(tmp_path / "x.tif")
    else:
        assert np.abs(read(tmp_path / "x.tif") - shown(samples)).max() < 1.5


GREY = UNIT[..., 0]
TIFFS: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {  # numbers, options -> grey in [0, 1], or colours
    "12 bits in a row": (numbers(12, 1)[..., 0], {"bitspersample": 12}, GREY),
    "white is zero, floats": (GREY.astype(np.float32), {"photometric": "miniswhite"}, 1 - GREY),
    "white is zero, 16 bits": (numbers(16, 1)[..., 0], {"photometric": "miniswhite"}, 1 - GREY),
    "compressed floats": (GREY.astype(np.float32), {"compression": "lzw", "byteorder": ">"}, GREY),
    "premultiplied": (
        np.round(255 * np.concatenate([UNIT[..., :3] * UNIT[..., 3:], UNIT[..., 3:]], 2)).astype(np.uint8),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        shown(4) / 255,
    ),
    "a fourth plane that is no alpha": (
        np.moveaxis(numbers(16, 4), 2, 0),
        {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unspecified"]},
        UNIT[..., :3],
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_other_tiffs(kind: str, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    values, options, expected = TIFFS[kind]
    tifffile.imwrite(tmp_path / "x.tif", values, **({"photometric": "minisblack"} | options))
    expected = np.stack([expected] * 3, axis=2) if expected.ndim == 2 else expected
    assert np.abs(read(tmp_path / "x.tif") - 255 * expected).max() < 1.5


def test_signed_bytes_are_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", (GREY * 127).astype(np.int8))
    with pytest.raises(DataError, match=r"x.tif: .*signed numbers of 8 bits"):
        read(tmp_path / "x.tif")


def png_16(values: np.ndarray) -> bytes:
    """Returns a PNG of 16 bits."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("white", [None, 4095])
def test_png(samples: int, white: int | None, tmp_path: Path) -> None:
    """Of 16 bits, and of 12 in 16."""
    (tmp_path / "x.png").write_bytes(png_16(numbers(12 if white else 16, samples)))
    assert np.abs(read(tmp_path / "x.png", white=white) - shown(samples)).max() < 1.5
    assert largest_number(tmp_path / "x.png") == (white or 65535)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_white_of_a_tiff(planar: str, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.moveaxis(numbers(12, 3), 2, 0) if planar == "separate" else numbers(12, 3)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", planarconfig=planar)
    assert np.abs(read(tmp_path / "x.tif", white=4095) - shown(3)).max() < 1.1
    Image.fromarray((UNIT[..., 0] * 99999).astype(np.int32)).save(tmp_path / "x.tif")
    assert np.abs(read(tmp_path / "x.tif", white=99999)[..., 0] - 255 * GREY).max() < 1.1


def test_numbers_above_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(numbers(16, 1)[..., 0]).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x.png: .*numbers from 0 to 65535, and data.white=4095: set it"):
        read(tmp_path / "x.png", white=4095)


def test_eight_bits_have_their_own_white(tmp_path: Path) -> None:
    Image.fromarray(numbers(8, 3)).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png", white=4095), numbers(8, 3))


def test_the_transparent_number_of_sixteen_bits_in_colour(tmp_path: Path) -> None:
    values = numbers(16, 3)
    values[:8] = (300, 301, 302)
    whole = png_16(values)
    key = struct.pack(">3H", 300, 301, 302)
    chunk = struct.pack(">I", 6) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    (tmp_path / "x.png").write_bytes(whole[:33] + chunk + whole[33:])
    got = read(tmp_path / "x.png")
    assert got[:8].min() == 255 and np.abs(got[8:] - shown(3)[8:]).max() < 1.1


def test_a_picture_that_shows_nothing(tmp_path: Path) -> None:
    for mode in ("RGBA", "LA"):
        Image.new(mode, (40, 40)).save(tmp_path / "x.png")
        with pytest.raises(DataError, match=r"x.png: .*every pixel is transparent: .* white square; remove"):
            read(tmp_path / "x.png")
    content = io.BytesIO()
    Image.new("RGBA", (40, 40), (9, 9, 9, 1)).save(content, "PNG")
    (tmp_path / "x.png").write_bytes(content.getvalue())
    assert read(tmp_path / "x.png").shape == (40, 40, 3)
