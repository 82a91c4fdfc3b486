"""Colours of pictures in sRGB, as viewers show them: ICC profiles, and what PNG says instead of one."""

import functools
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from vgg_nll.data.pictures.profiles import CURVES, PRIMARIES, SRGB_CURVE, SRGB_PRIMARIES, rgb_profile

KEYS = ("icc_profile", "cicp", "srgb", "gamma", "chromaticity")  # of `Image.info`; PNG's order of precedence is cICP first
SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # mode -> ICC's word
MAX_PROFILES = 64  # kept, in each process
SAME = 1  # of 255: a profile that moves no colour by more is sRGB
SRGB_GAMMA, GAMMA_RANGE = 0.45455, (0.1, 10)  # PNG's gAMA: programs that mean sRGB write the first
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
GREY = ("1", "L", "LA")


def is_srgb(picture: Image.Image) -> bool:
    """Returns whether the stored colours are those to show: there is no profile, or a broken one, or that of sRGB."""
    return not any(picture.info.get(key) for key in KEYS) or _find(picture.info, _mode(picture)) is None


def in_srgb(picture: Image.Image) -> Image.Image:
    """Returns a picture of 8 bits in RGB, or in RGBA if it has transparency; its colours are converted by littleCMS.

    A profile that is broken, or not of the picture's kind, is ignored, as viewers do. Grey with a profile of RGB is RGB.
    """
    picture = picture.convert(PREMULTIPLIED.get(picture.mode, picture.mode))
    if picture.mode == "LAB":
        return _apply(_from_lab(), picture)
    found = _find(picture.info, _mode(picture))
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        if found is None:
            return whole
        mode, transform = found
        coloured = _apply(transform, whole.getchannel("R") if mode == "L" else whole.convert("RGB"))
        coloured.putalpha(whole.getchannel("A"))
        return coloured
    if found is None:
        return picture.convert("RGB")
    mode, transform = found
    return _apply(transform, picture.convert(mode))


def encoded(values: np.ndarray, info: dict[Any, Any]) -> np.ndarray:
    """Returns numbers in [0, 1] with sRGB's curve in the place of PNG's gAMA, which leaves `info`.

    Eight bits of linear numbers have too few dark ones: so this is done to 16 bits, before they become 8.
    """
    gamma = info.get("gamma")
    if info.get("icc_profile") or info.get("srgb") is not None or info.get("cicp") or not gamma or _is_default(gamma):
        return values
    del info["gamma"]
    linear = np.power(values, 1 / gamma)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055)


def cicp_of(content: bytes) -> bytes:
    """Returns the four numbers of a PNG's cICP (primaries, curve, matrix, range), which Pillow does not read; b"" without."""
    place = 8
    while content[place + 4 : place + 8] not in (b"IDAT", b"IEND", b""):
        length = int.from_bytes(content[place : place + 4])
        if content[place + 4 : place + 8] == b"cICP":
            return content[place + 8 : place + 12] if length == 4 else b""
        place += 12 + length
    return b""


def _mode(picture: Image.Image) -> str:
    return "L" if picture.mode in GREY else "CMYK" if picture.mode == "CMYK" else "RGB"


def _find(info: Mapping[Any, Any], mode: str) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """Returns the transform of the first profile of `info` that can be used, and the mode that it takes; None for sRGB."""
    for profile in _profiles(info):
        for taken in (mode, "RGB") if mode == "L" else (mode,):
            is_usable, transform = _transform(profile, taken)
            if is_usable:
                return None if transform is None else (taken, transform)
    return None


def _profiles(info: Mapping[Any, Any]) -> list[bytes]:
    """Returns the profiles of a picture; the first one that can be used counts."""
    found: list[bytes] = []
    cicp = info.get("cicp")
    if cicp and cicp[0] in PRIMARIES and cicp[1] in CURVES and tuple(cicp[2:4]) == (0, 1):
        found.append(_made(PRIMARIES[cicp[0]], tuple(CURVES[cicp[1]])))
    if isinstance(info.get("icc_profile"), bytes):
        found.append(info["icc_profile"])
    if info.get("srgb") is None and (info.get("gamma") or info.get("chromaticity")):
        gamma, primaries = info.get("gamma"), info.get("chromaticity")
        curve = SRGB_CURVE if not gamma or _is_default(gamma) else (1 / gamma,)
        found.append(_made(tuple(primaries) if primaries and len(primaries) == 8 else SRGB_PRIMARIES, curve))
    return [profile for profile in found if profile]


def _is_default(gamma: float) -> bool:
    return abs(gamma - SRGB_GAMMA) < 1e-4 or not GAMMA_RANGE[0] <= gamma <= GAMMA_RANGE[1]


@functools.lru_cache(MAX_PROFILES)
def _made(primaries: tuple[float, ...], curve: tuple[float, ...]) -> bytes:
    try:
        return rgb_profile(primaries, curve)
    except ValueError:  # damaged chunks
        return b""


@functools.lru_cache(MAX_PROFILES)
def _transform(profile: bytes, mode: str) -> tuple[bool, ImageCms.ImageCmsTransform | None]:
    """Returns whether a profile can be used for a mode, and its transform to sRGB; None if it moves no colour."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != SPACES[mode]:
            return False, None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        return True, None if mode != "CMYK" and _moves_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):  # damaged in whatever way
        return False, None


@functools.cache
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3) if mode == "RGB" else levels[None]
    moved = np.asarray(_apply(transform, Image.fromarray(grid))).astype(int)
    return bool(np.abs(moved - (grid if mode == "RGB" else grid[..., None])).max() <= SAME)


def _apply(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None  # only in place
    return converted
