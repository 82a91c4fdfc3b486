"""Pictures told apart by their bytes: a split that copies and new files do not disturb, and a search for copies."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vgg_nll.progress import track

END = 4096  # bytes: pictures with the same size and the same ends go to the same split, whatever lies between


def split_by_content(paths: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Returns the split of each picture: one of `shares`, which are fractions of all, or "train".

    It is a function of the picture's bytes and the seed alone. So other files change nothing, copies of a picture stand on one
    side, and the counts of a class are those of independent draws, off by about sqrt(n share (1 - share)).
    """
    splits = []
    for path in track(paths, len(paths), "files"):
        digest = hashlib.blake2b(fingerprint(path), key=str(seed).encode(), digest_size=8).digest()
        place = int.from_bytes(digest) / 2**64
        name = "train"
        for split, share in shares.items():
            if place < share:
                name = split
                break
            place -= share
        splits.append(name)
    return splits


def fingerprint(path: str) -> bytes:
    """Returns a hash of the size and both ends of a file, which takes no longer for a large one; of its name if it fails."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            content = file.read(END)
            if size > END:
                file.seek(max(END, size - END))
                content += file.read(END)
    except OSError:  # said when it is used
        return hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=16).digest()
    return hashlib.blake2b(size.to_bytes(8) + content, digest_size=16).digest()


def copies(files: Iterable[tuple[str, int]]) -> list[list[str]]:
    """Returns groups of files with the same bytes.

    Files are (path, size). Only those of one size are opened, and read whole only if their ends agree.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in files:
        by_size[size].append(path)
    of_one_size = [path for paths in by_size.values() if len(paths) > 1 for path in paths]
    by_ends: dict[bytes, list[str]] = defaultdict(list)
    for path in track(of_one_size, len(of_one_size), "files of one size"):
        by_ends[fingerprint(path)].append(path)
    found: dict[bytes, list[str]] = defaultdict(list)
    for paths in by_ends.values():
        for path in paths if len(paths) > 1 else ():
            try:
                found[hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()].append(path)
            except OSError:  # said when it is used
                continue
    return [paths for paths in found.values() if len(paths) > 1]
