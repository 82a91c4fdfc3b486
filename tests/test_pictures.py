"""Picture files: torchcodec and PIL must give the same bytes, and refuse the same files."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from vgg_nll.data import pictures
from vgg_nll.data.pictures import DataError, read_picture

TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: a quarter to the right
JPEGS = {
    "4:2:0": ("RGB", {"quality": 80}),
    "4:4:4": ("RGB", {"subsampling": 0, "quality": 95}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "cmyk": ("CMYK", {}),
    "turned": ("RGB", {"exif": TURNED}),
}
OTHERS = {
    "png": ("RGB", {}),
    "png with alpha": ("RGBA", {}),
    "png with palette": ("P", {}),
    "webp": ("RGB", {}),
    "gif": ("P", {}),
}


@pytest.fixture(params=["torchcodec", "PIL"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "torchcodec":
        pytest.importorskip("torchcodec")
    else:
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # importing it fails
    forget = pictures.jpeg_decoder.cache_clear
    forget()
    yield request.param
    forget()


def scene(mode: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((75, 50), Image.Resampling.BICUBIC).convert(mode)


def save(path: Path, kind: str) -> Image.Image:
    mode, options = (JPEGS | OTHERS)[kind]
    content = io.BytesIO()
    scene(mode).save(content, kind.split()[0].upper() if kind in OTHERS else "JPEG", **options)
    path.write_bytes(content.getvalue())
    return Image.open(path)


@pytest.mark.parametrize("kind", JPEGS | OTHERS)
def test_the_bytes_are_those_of_pil(decoder: str, kind: str, tmp_path: Path) -> None:
    expected = ImageOps.exif_transpose(save(tmp_path / "x", kind)).convert("RGB")
    assert expected.size == ((50, 75) if kind == "turned" else (75, 50))
    got = read_picture(tmp_path / "x", 32)
    assert got.dtype == torch.uint8
    assert np.array_equal(got.permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize(("size", "scale"), [(64, 1), (41, 1), (40, 2), (20, 4), (10, 8), (5, 8)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_comes_smaller(decoder: str, mode: str, size: int, scale: int, tmp_path: Path) -> None:
    """No smaller than twice what is needed, and what is made of it is nearly the same."""
    scene("RGB").resize((256, 160), Image.Resampling.BICUBIC).convert(mode).save(tmp_path / "x.jpg", quality=95)
    got, whole = (read_picture(tmp_path / "x.jpg", wanted) for wanted in (size, 160))
    assert whole.shape == (3, 160, 256) and got.shape == (3, 160 // scale, 256 // scale)
    small = [functional.resize(picture, [10, 16]).float() for picture in (got, whole)]
    assert (small[0] - small[1]).abs().mean() < 3  # of 255


@pytest.mark.parametrize("length", [0, 20, 0.5, 0.97])
def test_a_file_cut_short_is_named(decoder: str, length: float, tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", "4:2:0")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: int(length if length >= 1 else length * len(content))])
    with pytest.raises(DataError, match=rf"^{tmp_path}/x.jpg: cannot be read as a picture; mend or remove it$"):
        read_picture(tmp_path / "x.jpg", 32)


def test_a_sliver_is_refused(decoder: str, tmp_path: Path) -> None:
    Image.new("RGB", (404, 4)).save(tmp_path / "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg: 404x4 pixels are too narrow; crop or remove it"):
        read_picture(tmp_path / "x.jpg", 32)


def test_far_too_many_pixels_are_refused(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x.jpg", "4:2:0")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(pictures, "jpeg_decoder", lambda: pytest.fail("decoded"))
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_picture(tmp_path / "x.jpg", 32)


def test_which_decoder(decoder: str) -> None:
    assert (pictures.jpeg_decoder() is None) == (decoder == "PIL")
