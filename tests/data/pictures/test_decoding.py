"""Picture files: torchcodec and PIL must give the same bytes, and refuse the same files."""

import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features
from sklearn.datasets import load_digits
from torchvision.transforms.v2 import functional

from vgg_nll.data.pictures import decoding, opening
from vgg_nll.data.pictures.decoding import read_picture
from vgg_nll.data.pictures.walk import PICTURES
from vgg_nll.errors import DataError


def orientation_tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""
Kinds = dict[str, tuple[str, dict[str, Any]]]  # mode, options of `save`
JPEGS: Kinds = {
    "4:2:0": ("RGB", {"quality": 80}),
    "4:4:4": ("RGB", {"subsampling": 0, "quality": 95}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "cmyk": ("CMYK", {}),
    "rotated by XMP": ("RGB", {"xmp": XMP}),
    **{f"rotated {k}": ("RGB", {"exif": orientation_tag(k)}) for k in range(1, 9)},
}
# Damaged metadata: the picture is shown as stored.
DAMAGED: Kinds = {
    "jpeg, damaged exif": ("RGB", {"exif": b"Exif\0\0nonsense", "dpi": (72, 72)}),
    "jpeg, orientation 9": ("RGB", {"exif": orientation_tag(9)}),
    "png, damaged exif": ("RGB", {"exif": b"Exif\0\0nonsense"}),
    "webp, damaged exif": ("RGB", {"exif": b"non"}),
}
OTHERS: Kinds = {
    "png": ("RGB", {}),
    "png with alpha": ("RGBA", {}),
    "png with palette": ("P", {}),
    "webp": ("RGB", {}),
    "gif": ("P", {}),
}


# EXIF 2.3, table of the tag Orientation: where the stored rows and columns belong; pictures as [H, W, 3].
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


@pytest.fixture(params=["torchcodec", "PIL"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "torchcodec":
        pytest.importorskip("torchcodec")
    else:
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # importing it fails
    clear = decoding.jpeg_decoder.cache_clear
    clear()
    yield request.param
    clear()


def scene(mode: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((75, 50), Image.Resampling.BICUBIC).convert(mode)


def save(path: Path, kind: str) -> Image.Image:
    mode, options = (JPEGS | OTHERS | DAMAGED)[kind]
    content = io.BytesIO()
    scene(mode).save(content, "JPEG" if kind in JPEGS else re.split(r"\W", kind)[0].upper(), **options)
    path.write_bytes(content.getvalue())
    return Image.open(path)


@pytest.mark.parametrize("kind", JPEGS | OTHERS)
def test_the_bytes_are_those_of_pil(decoder: str, kind: str, tmp_path: Path) -> None:
    stored = np.asarray(save(tmp_path / "x", kind).convert("RGB"))
    orientation = 6 if "XMP" in kind else int(kind[-1]) if kind.startswith("rotated") else 1
    got = read_picture(tmp_path / "x", 32)
    assert got.dtype == torch.uint8
    assert np.array_equal(got.permute(1, 2, 0).numpy(), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_metadata_is_harmless(decoder: str, kind: str, tmp_path: Path) -> None:
    expected = np.asarray(save(tmp_path / "x", kind).convert("RGB"))
    assert np.array_equal(read_picture(tmp_path / "x", 32).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(("size", "scale"), [(64, 1), (41, 1), (40, 2), (20, 4), (10, 8), (5, 8)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_smaller(decoder: str, mode: str, size: int, scale: int, tmp_path: Path) -> None:
    """It keeps twice the size needed, and resizes to nearly the same picture."""
    scene("RGB").resize((256, 160), Image.Resampling.BICUBIC).convert(mode).save(tmp_path / "x.jpg", quality=95)
    got, whole = (read_picture(tmp_path / "x.jpg", wanted) for wanted in (size, 160))
    assert whole.shape == (3, 160, 256) and got.shape == (3, 160 // scale, 256 // scale)
    small = [functional.resize(picture, [10, 16]).float() for picture in (got, whole)]
    assert (small[0] - small[1]).abs().mean() < 3  # of 255


@pytest.mark.parametrize("length", [0, 20, 0.5, 0.97])
def test_a_truncated_file_is_named(decoder: str, length: float, tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", "4:2:0")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: int(length if length >= 1 else length * len(content))])
    with pytest.raises(DataError, match=rf"^{tmp_path}/x.jpg: cannot be read as a picture \(.+\); fix or remove it$"):
        read_picture(tmp_path / "x.jpg", 32)


def test_a_narrow_picture_is_refused(decoder: str, tmp_path: Path) -> None:
    Image.new("RGB", (404, 4)).save(tmp_path / "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg: 404x4 pixels are too narrow; crop or remove it"):
        read_picture(tmp_path / "x.jpg", 32)


def test_far_too_many_pixels_are_refused(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x.jpg", "4:2:0")
    monkeypatch.setattr(decoding, "jpeg_decoder", lambda: pytest.fail("decoded"))
    with pytest.raises(
        DataError, match=r"x.jpg: cannot be .* \(75x50: more than data.max_megapixels=0.003 million .*; raise it"
    ):
        read_picture(tmp_path / "x.jpg", 32, decoding.Decoding(max_megapixels=0.003))


def test_which_decoder(decoder: str) -> None:
    assert (decoding.jpeg_decoder() is None) == (decoder == "PIL")


RAMP = np.linspace(0, 65535, 1600).reshape(40, 40)
DEEP: dict[str, tuple[np.ndarray, str]] = {  # numbers in a file -> the same grey picture in 8 bits
    "16-bit png": (RAMP.round().astype(np.uint16), "PNG"),
    "16-bit tiff": (RAMP.round().astype(np.uint16), "TIFF"),
    "16-bit pgm": (RAMP.round().astype(np.uint16), "PPM"),
    "floats in [0, 1]": ((RAMP / 65535).astype(np.float32), "TIFF"),
    "floats in [0, 255]": ((RAMP / 257).astype(np.float32), "TIFF"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_eight_bits_are_scaled(kind: str, tmp_path: Path) -> None:
    values, file_format = DEEP[kind]
    Image.fromarray(values).save(tmp_path / "x", file_format)
    got = read_picture(tmp_path / "x", 32).float()
    assert (got - torch.from_numpy(RAMP / 257)).abs().max() <= 0.51


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_white(mode: str, tmp_path: Path) -> None:
    """Dark ink on a transparent ground: half of it at half strength, where the format has that."""
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 40, 10))
    options: dict[str, Any] = {}
    if mode == "P":
        picture, options = picture.convert("P"), {"transparency": picture.convert("P").getpixel((0, 39))}
    elif mode == "RGB":
        picture = picture.convert("RGB")
        picture.paste((9, 9, 9), (0, 10, 40, 40))
        options = {"transparency": (9, 9, 9)}
    else:
        picture.paste((0, 0, 0, 128), (0, 10, 40, 20))
        picture = picture.convert("LA") if mode != "RGBA" else picture
    picture.save(tmp_path / "x.png", **options)
    got = read_picture(tmp_path / "x.png", 32)
    assert got[:, :10].max() == 0 and got[:, 20:].min() == 255
    assert got[:, 10:20].unique().tolist() == [255 if mode in ("P", "RGB") else 127]


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x.png: cannot be read as a picture \(a pipe, not a file\); fix or remove it"):
        read_picture(tmp_path / "x.png", 32)


def test_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="a link to a file that is gone"):
        read_picture(tmp_path / "link.png", 32)
    with pytest.raises(DataError, match="there is no such file"):
        read_picture(tmp_path / "gone", 32)
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(DataError, match="Too many levels of symbolic links"):
        decoding.read_header(tmp_path / "ring")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DataError, match="empty, 0 bytes"):
        decoding.read_header(tmp_path / "empty")


FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {  # suffix -> format, mode, options
    ".png": ("PNG", "L", {}),
    ".jpg": ("JPEG", "L", {"quality": 95}),
    ".jfif": ("JPEG", "RGB", {"quality": 95}),
    ".webp": ("WEBP", "RGB", {"lossless": True}),
    ".tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", "CMYK", {}),
    ".bmp": ("BMP", "L", {}),
    ".gif": ("GIF", "L", {}),
    ".ppm": ("PPM", "RGB", {}),
    ".pgm": ("PPM", "L", {}),
    ".avif": ("AVIF", "RGB", {"quality": 95}),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_digit_is_the_same_in_every_format(suffix: str, tmp_path: Path) -> None:
    file_format, mode, options = FORMATS[suffix]
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    grey = Image.fromarray((load_digits().images[0] * 15.9).astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
    grey.convert("RGB").convert(mode).save(tmp_path / f"x{suffix}", file_format, **options)
    assert suffix in PICTURES
    got = read_picture(tmp_path / f"x{suffix}", 32).float()
    assert got.shape == (3, 48, 48)
    limit = 3 if file_format in ("JPEG", "AVIF") else 0  # they lose a little
    assert (got - torch.from_numpy(np.asarray(grey).astype(np.float32))).abs().mean() <= limit


def test_sixteen_bits_with_a_transparent_number(tmp_path: Path) -> None:
    values = np.full((40, 40), 30000, np.uint16)
    values[:10] = 7
    Image.fromarray(values).save(tmp_path / "x.png", transparency=7)
    got = read_picture(tmp_path / "x.png", 32)
    assert got[:, :10].unique().tolist() == [255] and got[:, 10:].unique().tolist() == [117]


def test_white_is_zero_in_some_tiffs(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 60000, np.uint16)).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert read_picture(tmp_path / "x.tif", 32).unique().tolist() == [22]


def test_sixteen_bits_the_right_way_up(tmp_path: Path) -> None:
    values = np.zeros((20, 40), np.uint16)
    values[:, :5] = 65535
    Image.fromarray(values).save(tmp_path / "x.png", exif=orientation_tag(6))
    got = read_picture(tmp_path / "x.png", 32)
    assert got.shape == (3, 40, 20) and got[:, :5].min() == 255 and got[:, 5:].max() == 0


@pytest.mark.parametrize(("mode", "like"), [("La", "LA"), ("RGBa", "RGBA")])
def test_premultiplied_pictures(mode: str, like: str) -> None:
    """They come from other programs, not from files."""
    picture = Image.new(like, (40, 40), (0, 128) if like == "LA" else (0, 0, 0, 128))
    assert decoding.to_rgb(picture.convert(mode)).unique().tolist() == [127]


def test_a_large_text_does_no_harm(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "a" * 3_000_000, zip=True)
    scene("RGB").save(tmp_path / "text.png", pnginfo=text)
    scene("RGB").save(tmp_path / "profile.png", icc_profile=bytes(3_000_000))
    for name in ("text.png", "profile.png"):
        assert decoding.read_header(tmp_path / name).mode == "RGB"
        assert np.array_equal(read_picture(tmp_path / name, 32).permute(1, 2, 0).numpy(), np.asarray(scene("RGB")))


@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_counted_as_they_are_decoded(progressive: bool, tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1600)).save(tmp_path / "x.jpg", progressive=progressive)
    Image.new("RGB", (1600, 1600)).save(tmp_path / "x.png")
    limit = decoding.Decoding(max_megapixels=0.1)
    with pytest.raises(DataError, match=r"x.png: .*1600x1600: more than data.max_megapixels=0.1 million pixels"):
        read_picture(tmp_path / "x.png", 32, limit)
    if progressive:  # it is kept whole
        with pytest.raises(DataError, match=r"x.jpg: .*data.max_megapixels"):
            read_picture(tmp_path / "x.jpg", 32, limit)
    else:
        assert read_picture(tmp_path / "x.jpg", 32, limit).shape == (3, 200, 200)


def test_pillow_says_nothing_and_gets_its_limits_back(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    before = [getattr(module, name) for module, name, _ in opening.LIMITS]
    save(tmp_path / "x.jpg", "jpeg, damaged exif")
    transparent = Image.new("P", (40, 40))
    transparent.save(tmp_path / "y.png", transparency=bytes([255] * 200 + [0] * 56))
    with ThreadPoolExecutor(4) as threads:
        recwarn.clear()  # of the lines above
        list(threads.map(lambda name: read_picture(tmp_path / name, 32), ["x.jpg", "y.png"] * 10))
    with opening.quietly():
        warnings.warn_explicit("large", Image.DecompressionBombWarning, "x", 1, module="PIL.Image")
        assert Image.MAX_IMAGE_PIXELS is None
    assert not recwarn.list
    assert [getattr(module, name) for module, name, _ in opening.LIMITS] == before


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first(file_format: str, tmp_path: Path) -> None:
    grey = scene("L").quantize(8).convert("RGB")
    others = [Image.new("RGB", grey.size, colour) for colour in ("red", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    grey.save(tmp_path / "x", file_format, save_all=True, append_images=others, **options)
    assert np.array_equal(read_picture(tmp_path / "x", 32).permute(1, 2, 0).numpy(), np.asarray(grey))


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(scene("RGB")).save(tmp_path / "x.heic", quality=-1, chroma=444)
    got = read_picture(tmp_path / "x.heic", 32).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(got - np.asarray(scene("RGB")).astype(int)).mean() < 3
