"""ICC profiles from the few numbers that PNG's chunks hold: primaries, a white point, and a curve."""

import struct
from collections.abc import Sequence

import numpy as np

D50 = (0.9642, 1.0, 0.8249)  # XYZ, the white of all profiles
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# Parameters g, a, b, c, d of ICC's curve number 3: (a x + b)^g from d on, c x below. One number alone is an exponent.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
D65, C, DCI = (0.3127, 0.329), (0.31, 0.316), (0.314, 0.351)
# x, y of white, red, green and blue.
SRGB_PRIMARIES = (*D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# ITU-T H.273, as PNG's cICP numbers them: those of bytes without a matrix. PQ and HLG are not here: they say nothing of sRGB.
PRIMARIES = {
    1: SRGB_PRIMARIES,
    4: (*C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (*DCI, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
CURVES: dict[int, Sequence[float]] = {
    1: BT709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: BT709_CURVE,
    8: (1.0,),
    13: SRGB_CURVE,
    14: BT709_CURVE,
    15: BT709_CURVE,
}


def rgb_profile(primaries: Sequence[float], curve: Sequence[float]) -> bytes:
    """Returns an ICC profile of RGB, version 4.

    Args:
        primaries: x and y of white, red, green and blue.
        curve: an exponent, or the five parameters of ICC's curve number 3.

    Raises ValueError if no colours have such primaries.
    """
    try:
        columns = _adapted(np.array(primaries, dtype=float).reshape(4, 2)).T
        curve_tag = b"para" + struct.pack(">IHH", 0, 0 if len(curve) == 1 else 3, 0) + _numbers(curve)
        tags = [
            (b"wtpt", _xyz(D50)),
            *((b"%cXYZ" % letter, _xyz(column)) for letter, column in zip(b"rgb", columns, strict=True)),
        ]
    except (np.linalg.LinAlgError, struct.error, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"no colours: {error}") from error
    tags += [(b"%cTRC" % letter, curve_tag) for letter in b"rgb"]
    start = 132 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value
    head = struct.pack(">II", start + len(content), 0) + bytes([4, 0x20, 0, 0]) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    return (head + bytes(28) + _numbers(D50)).ljust(128, b"\0") + table + content


def _adapted(points: np.ndarray) -> np.ndarray:
    """Returns the XYZ [3, 3] of the primaries, one a column, with their white moved to D50 as Bradford does it."""
    white, red, green, blue = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points.tolist())
    matrix = np.stack([red, green, blue], axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    scale = (BRADFORD @ D50) / (BRADFORD @ white)
    adapted: np.ndarray = np.linalg.solve(BRADFORD, scale[:, None] * BRADFORD) @ matrix
    if not np.isfinite(adapted).all():
        raise np.linalg.LinAlgError("not finite")
    return adapted


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(values)


def _numbers(values: Sequence[float] | np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
