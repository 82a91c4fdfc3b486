"""Colours: what littleCMS gives of a profile, and what PNG says instead of one; broken profiles change nothing."""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from vgg_nll.data.pictures import colour, decoding
from vgg_nll.data.pictures.decoding import read_picture
from vgg_nll.data.pictures.profiles import PRIMARIES, SRGB_CURVE, SRGB_PRIMARIES, rgb_profile

ADOBE = rgb_profile((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (563 / 256,))
DISPLAY_P3 = rgb_profile(PRIMARIES[12], SRGB_CURVE)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def grey_profile(gamma: float) -> bytes:
    """Returns an ICC profile of grey."""
    tags = [(b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)), (b"kTRC", curve(gamma))]
    return profile(b"GRAY", b"XYZ ", b"mntr", tags)


def cmyk_profile() -> bytes:
    """Returns an ICC profile of CMYK: a table of 2^4 colours in CIELAB."""
    corners = np.array([[(1 - k) * (1 - c), (1 - k) * (1 - m), (1 - k) * (1 - y)] for c, m, y, k in np.ndindex(2, 2, 2, 2)])
    lab = np.stack(
        [corners.mean(1), 0.5 + 0.2 * (corners[:, 0] - corners[:, 1]), 0.5 + 0.2 * (corners[:, 1] - corners[:, 2])], 1
    )
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).flatten())
    table = head + bytes(range(256)) * 4 + (lab * 255).round().astype(np.uint8).tobytes() + bytes(range(256)) * 3
    return profile(b"CMYK", b"Lab ", b"prtr", [(b"A2B0", table)])


def curve(gamma: float) -> bytes:
    return b"para" + struct.pack(">IHHi", 0, 0, 0, round(gamma * 65536))


def profile(space: bytes, pcs: bytes, device: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    table, content = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(content), len(value))
        content += value.ljust(-(-len(value) // 4) * 4, b"\0")
    size = 132 + 12 * len(tags) + len(content)
    head = struct.pack(">II", size, 0) + bytes([2, 0x20, 0, 0]) + device + space + pcs + bytes(12) + b"acsp" + bytes(28)
    return (head + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + content


def scene(mode: str = "RGB") -> Image.Image:
    draw = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(draw).resize((60, 48), Image.Resampling.BICUBIC).convert(mode)


def by_littlecms(picture: Image.Image, icc: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(converted)


def read(path: Path) -> np.ndarray:
    return read_picture(path, 48).permute(1, 2, 0).numpy()


def difference(got: np.ndarray, expected: Any) -> int:
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    return int(np.abs(got.astype(int) - expected.astype(int)).max())


def png(picture: Image.Image, *chunks: tuple[bytes, bytes], **options: Any) -> bytes:
    """Returns a PNG with chunks before its pixels."""
    content = io.BytesIO()
    picture.save(content, "PNG", **options)
    whole = content.getvalue()
    added = b"".join(
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value)) for name, value in chunks
    )
    return whole[:33] + added + whole[33:]


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100000))


def chrm(primaries: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in primaries))


def through(curve: Callable[[np.ndarray], np.ndarray], picture: Image.Image) -> np.ndarray:
    """Returns a picture whose numbers become light by a curve, in sRGB."""
    light = curve(np.asarray(picture.convert("RGB")) / 255)
    return (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).round()


def test_the_numbers_of_adobe_rgb(tmp_path: Path) -> None:
    """(80, 180, 60) in Adobe RGB is (0, 181, 42) in sRGB."""
    Image.new("RGB", (64, 64), (80, 180, 60)).save(tmp_path / "x.png", icc_profile=ADOBE)
    assert difference(read(tmp_path / "x.png")[0, 0], (0, 181, 42)) <= 1


PROFILES = {"adobe": ADOBE, "p3": DISPLAY_P3, "grey": grey_profile(1.8), "cmyk": cmyk_profile()}
FITTING = [("RGB", "adobe"), ("RGB", "p3"), ("L", "grey"), ("L", "adobe"), ("P", "adobe"), ("RGBA", "p3"), ("LA", "grey")]


@pytest.mark.parametrize("file_format", LOSSLESS)
@pytest.mark.parametrize(("mode", "name"), [*FITTING, ("CMYK", "cmyk")])
def test_a_profile_is_applied(mode: str, name: str, file_format: str, tmp_path: Path) -> None:
    if (file_format == "WEBP" and mode in ("L", "LA", "P", "CMYK")) or (file_format == "PNG" and mode == "CMYK"):
        pytest.skip("this format has no such pictures")
    picture = scene().convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else scene(mode)
    picture.save(tmp_path / "x", file_format, icc_profile=PROFILES[name], **LOSSLESS[file_format])
    kept = {"LA": "L", "RGBA": "RGB", "P": "RGB"}.get(mode, "RGB" if name == "adobe" else mode)
    expected = by_littlecms(picture.convert(kept), PROFILES[name])
    got = read(tmp_path / "x")
    assert difference(got, expected) <= 1
    assert difference(got, picture.convert("RGB")) > 3


@pytest.mark.parametrize("size", [48, 6])
@pytest.mark.parametrize(("mode", "name"), [("RGB", "p3"), ("L", "grey"), ("CMYK", "cmyk")])
def test_a_jpeg_with_a_profile(mode: str, name: str, size: int, tmp_path: Path) -> None:
    """At reduced size, too, and the right way up."""
    exif = Image.Exif()
    exif[0x0112] = 3
    scene(mode).save(tmp_path / "x.jpg", icc_profile=PROFILES[name], quality=95, exif=exif)
    with Image.open(tmp_path / "x.jpg") as stored:
        stored.draft("RGB", (2 * size, 2 * size))
        expected = by_littlecms(stored, PROFILES[name])
    assert difference(read_picture(tmp_path / "x.jpg", size).permute(1, 2, 0).numpy(), expected[::-1, ::-1]) <= 1


@pytest.mark.parametrize(
    "icc", [SRGB, b"nonsense" * 40, SRGB[:200], ADOBE[:300], PROFILES["cmyk"], PROFILES["grey"], b""], ids=range(7)
)
def test_a_profile_that_changes_nothing(icc: bytes, tmp_path: Path) -> None:
    """That of sRGB, broken ones, and those of another kind of picture."""
    scene().save(tmp_path / "x.png", icc_profile=icc)
    assert np.array_equal(read(tmp_path / "x.png"), np.asarray(scene()))


def test_the_fast_decoder_is_for_srgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def decoder() -> Callable[[bytes], Any]:
        return lambda content: used.append(len(content))

    monkeypatch.setattr(decoding, "jpeg_decoder", decoder)
    for number, icc in enumerate((None, SRGB, ADOBE)):
        scene().save(tmp_path / "x.jpg", icc_profile=icc)
        read_picture(tmp_path / "x.jpg", 48)
        assert len(used) == min(number + 1, 2)


def test_a_transform_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *given: made.append(given) or original(*given))
    colour._transform.cache_clear()
    for i in range(4):
        scene().save(tmp_path / f"{i}.jpg", icc_profile=ADOBE)
        read(tmp_path / f"{i}.jpg")
    assert len(made) == 1


GAMMAS: dict[str, tuple[tuple[tuple[bytes, bytes], ...], bytes | None, Any]] = {
    # chunks, profile -> the picture
    "linear": ((gama(1),), None, functools.partial(through, lambda v: v)),
    "old Macintosh": ((gama(0.55556),), None, functools.partial(through, lambda v: v**1.8)),
    "45455 is sRGB": ((gama(0.45455),), None, np.asarray),
    "zero": ((gama(0),), None, np.asarray),
    "sRGB precedes gAMA": (((b"sRGB", b"\0"), gama(1)), None, np.asarray),
    "iCCP precedes gAMA": ((gama(1),), ADOBE, lambda picture: by_littlecms(picture, ADOBE)),
    "iCCP of sRGB precedes gAMA": ((gama(1),), SRGB, np.asarray),
    "a broken iCCP does not": ((gama(1),), b"nonsense" * 40, functools.partial(through, lambda v: v)),
    "cHRM": ((gama(0.45455), chrm(PRIMARIES[12])), None, lambda picture: by_littlecms(picture, DISPLAY_P3)),
    "cHRM of sRGB": ((gama(0.45455), chrm(SRGB_PRIMARIES)), None, np.asarray),
    "cHRM of no colours": ((chrm((0,) * 8),), None, np.asarray),
    "cICP precedes all": (
        ((b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\0"), gama(1)),
        SRGB,
        lambda picture: by_littlecms(picture, DISPLAY_P3),
    ),
    "cICP of sRGB": (((b"cICP", bytes([1, 13, 0, 1])),), ADOBE, np.asarray),
    "cICP that nobody knows": (((b"cICP", bytes([77, 13, 0, 1])),), ADOBE, lambda picture: by_littlecms(picture, ADOBE)),
}


@pytest.mark.parametrize("kind", GAMMAS)
def test_what_png_says_of_colours(kind: str, tmp_path: Path) -> None:
    chunks, icc, expected = GAMMAS[kind]
    (tmp_path / "x.png").write_bytes(png(scene(), *chunks, icc_profile=icc))
    assert difference(read(tmp_path / "x.png"), expected(scene())) <= 1


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_gamma_of_grey_and_palettes(mode: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(scene(mode), gama(1)))
    assert difference(read(tmp_path / "x.png"), through(lambda v: v, scene(mode))) <= 1


def test_sixteen_linear_bits_keep_their_dark_numbers(tmp_path: Path) -> None:
    values = np.linspace(0, 3000, 2304).reshape(48, 48).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(png(Image.fromarray(values), gama(1)))
    light = values / 65535
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert difference(read(tmp_path / "x.png"), np.stack([expected.round()] * 3, axis=2)) <= 1


def test_cielab(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(scene(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    lab.save(tmp_path / "x.tif")
    assert np.abs(read(tmp_path / "x.tif").astype(int) - np.asarray(scene()).astype(int)).mean() < 3


def test_the_ground_of_a_transparent_picture_stays_white(tmp_path: Path) -> None:
    picture = scene("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(tmp_path / "x.png", icc_profile=ADOBE)
    alpha = np.asarray(picture.getchannel("A"))[..., None] / 255
    expected = by_littlecms(picture.convert("RGB"), ADOBE) * alpha + 255 * (1 - alpha)
    assert difference(read(tmp_path / "x.png"), expected.round()) <= 1
