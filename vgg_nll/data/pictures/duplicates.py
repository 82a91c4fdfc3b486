"""Pictures told apart by their bytes: a split that copies and new files do not disturb, and a search for copies."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vgg_nll.errors import DataError
from vgg_nll.progress import track

WHOLE = 1 << 16  # bytes: larger files are read at PARTS places; equal there, they go to one split, whatever lies between
PARTS, PART = 16, 4096
MAX_COMPARED = 50_000  # files of one size that are opened in search of copies


def split_by_content(paths: Sequence[str], labels: Sequence[int], shares: dict[str, float], seed: int) -> list[str]:
    """Returns the split of each picture: one of `shares`, which are fractions of all, or "train".

    It is a function of the picture's bytes and the seed. So other files change nothing, copies of a picture stand on one side,
    and the counts of a class are those of independent draws, off by about sqrt(n share (1 - share)). But a class without any
    picture to train on keeps the one with the largest digest: a new file of that class may give that one picture back.
    """
    splits: list[str] = []
    largest: dict[int, tuple[int, int]] = {}  # label -> digest, index
    for path in track(paths, len(paths), "files"):
        digest = hashlib.blake2b(fingerprint(path), key=str(seed).encode(), digest_size=8).digest()
        label, number = labels[len(splits)], int.from_bytes(digest)
        largest[label] = max(largest.get(label, (-1, 0)), (number, len(splits)))
        place = number / 2**64
        name = "train"
        for split, share in shares.items():
            if place < share:
                name = split
                break
            place -= share
        splits.append(name)
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for label, (_, index) in largest.items():
        if label not in trained:
            splits[index] = "train"
    return splits


def fingerprint(path: str) -> bytes:
    """Returns a hash of a file's size and bytes (of a large one at 16 places), or of its name if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            content = file.read(WHOLE if size <= WHOLE else PART)
            for k in range(1, PARTS if size > WHOLE else 1):
                file.seek(k * (size - PART) // (PARTS - 1))
                content += file.read(PART)
    except OSError:  # said when it is used
        return hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=16).digest()
    return hashlib.blake2b(size.to_bytes(8) + content, digest_size=16).digest()


def copies(files: Iterable[tuple[str, int]]) -> list[list[str]]:
    """Returns groups of files with the same bytes.

    Files are (path, size). Only those of one size are opened, and read whole only if their fingerprints agree.

    Raises DataError if those are more than `MAX_COMPARED`.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in files:
        by_size[size].append(path)
    of_one_size = [path for paths in by_size.values() if len(paths) > 1 for path in paths]
    if len(of_one_size) > MAX_COMPARED:
        raise DataError(f"{len(of_one_size):,} files share their size with another, which are too many to compare")
    by_fingerprint: dict[bytes, list[str]] = defaultdict(list)
    for path in track(of_one_size, len(of_one_size), "files of one size"):
        by_fingerprint[fingerprint(path)].append(path)
    found: dict[bytes, list[str]] = defaultdict(list)
    for paths in by_fingerprint.values():
        for path in paths if len(paths) > 1 else ():
            try:
                found[hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()].append(path)
            except OSError:  # said when it is used
                continue
    return [paths for paths in found.values() if len(paths) > 1]
