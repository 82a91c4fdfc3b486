"""What is in a folder of pictures, as lines for a person, before training."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from vgg_nll.data.bad_files import REPLACED, BadImage
from vgg_nll.data.pictures.decoding import Decoding, largest_number, read_header, read_picture, reason_of
from vgg_nll.data.pictures.deep import MAX_16
from vgg_nll.data.pictures.duplicates import copies
from vgg_nll.data.pictures.listing import Listing
from vgg_nll.data.pictures.samples import Sample
from vgg_nll.errors import DataError
from vgg_nll.escapes import printable
from vgg_nll.progress import track

MAX_CLASSES = 20  # in the table
MAX_HEADERS = 5000  # pictures whose headers are read, evenly spread
FEW_TESTED = 10  # pictures of a class: one more or less right is 10 points
MAX_DECODED, MAX_BYTES = 2000, 1 << 29  # pictures, and their bytes: so many are decoded, which takes some seconds
DARK_SHARE = 0.1  # of those: fewer may be dark, and true
MAX_DEEP = 100  # pictures of 16 bits whose largest number is looked for
WIDE = 2  # times as wide as high, or the reverse
IMBALANCE = 3  # times as many pictures in the largest class as in the smallest
MAX_SHOWN, MAX_REASONS = 3, 8


class Headers:
    """What the headers of pictures say, and the pictures that have none; of a small folder, those that cannot be decoded."""

    def __init__(self, listing: Listing, decoding: Decoding, image_size: int) -> None:
        self.formats: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.sizes: list[tuple[int, int]] = []
        self.bad: list[BadImage] = []
        self.deep: list[int] = []  # the largest number of some pictures of 16 bits
        self.of = sum(map(len, listing.samples.values()))
        pictures = [(split, sample) for split, samples in listing.samples.items() for sample in samples]
        looked_at = pictures[:: -(-len(pictures) // MAX_HEADERS)]
        is_small = len(pictures) <= MAX_DECODED and sum(sample.bytes for _, sample in pictures) <= MAX_BYTES
        for split, sample in track(looked_at, len(looked_at), "pictures" if is_small else "headers"):
            try:
                header = read_header(Path(sample.path))
                if is_small:
                    read_picture(Path(sample.path), image_size, decoding)
            except DataError as error:
                reason = reason_of(error, sample.path)
                self.bad.append(BadImage(sample.path, split, listing.class_names[sample.label], reason, REPLACED, True))
            else:
                self.formats[header.format] += 1
                self.modes[header.mode] += 1
                self.sizes.append(header.size)
                if header.is_deep and len(self.deep) < MAX_DEEP:
                    self.deep.append(largest_number(Path(sample.path)))


def lines(
    listing: Listing,
    headers: Headers,
    bad: list[BadImage],
    image_size: int,
    white: int | None,
    fit: str,
    weights: Sequence[float] | None = None,
    *,
    flips: bool = False,
) -> list[str]:
    """Returns what a person should know of the folder: classes, sizes, formats, files left out, and what to change.

    Args:
        white, fit: as `data.white`, `data.fit`; flips: whether training pictures are mirrored.
        weights: [C], of the classes in the loss.
    """
    parts = _table(listing, weights), _lines(listing, headers, bad, image_size, white, fit, flips)
    return [printable(line) for part in parts for line in part]


def _lines(
    listing: Listing, headers: Headers, bad: list[BadImage], image_size: int, white: int | None, fit: str, flips: bool
) -> Iterator[str]:
    if headers.sizes:
        yield _on_the_disk(headers)
    if listing.by_content:
        yield "split by content: a picture and its copies stay on one side, whatever is added; data.split_seed draws again"
    for verb, damaged in (("left out", False), ("cannot be used", True)):
        reasons = Counter(row.reason for row in bad if row.is_damaged == damaged)
        if reasons:
            what = _counted(reasons.total(), "picture" if damaged else "other file")
            yield f"{'warning: ' * damaged}{verb}: {what}, listed in the run's bad_images.csv"
            yield from _counts(reasons)
    yield from _warnings(listing, headers, image_size, fit, flips)
    if white is None:
        yield from _dark(headers.deep)


def _dark(largest: list[int]) -> Iterator[str]:
    """Yields a warning if pictures of 16 bits seem to hold fewer."""
    few = [number for number in largest if 0 < number <= MAX_16 // 2]
    if few and len(few) >= DARK_SHARE * len(largest):
        top, of = max(few), f" of {len(largest):,}" if len(few) < len(largest) else ""
        bits = top.bit_length()
        yield (
            f"warning: {len(few):,}{of} pictures of 16 bits hold numbers up to {top:,} alone, which become "
            f"{round(top * 255 / MAX_16) + 1} levels of 256; data.white={2**bits - 1} ({bits} bits) spreads them"
        )


def _table(listing: Listing, weights: Sequence[float] | None) -> Iterator[str]:
    splits = list(listing.samples)
    counts = {split: Counter(sample.label for sample in samples) for split, samples in listing.samples.items()}
    order = sorted(range(len(listing.class_names)), key=lambda k: -counts["train"][k])
    shown = order if len(order) <= MAX_CLASSES else order[: MAX_CLASSES // 2] + order[-MAX_CLASSES // 2 :]
    names = listing.class_names
    width = max(len("class"), *(len(names[k]) for k in shown))
    yield f"  {'class':<{width}}" + "".join(f"{split:>9}" for split in splits) + ("   weight" if weights is not None else "")
    for place, k in enumerate(shown):
        if len(shown) < len(order) and place == MAX_CLASSES // 2:
            yield f"  ... {len(order) - len(shown)} classes between these"
        yield (
            f"  {names[k]:<{width}}"
            + "".join(f"{counts[split][k]:>9,}" for split in splits)
            + (f"{weights[k]:>9.3g}" if weights is not None else "")
        )


def _on_the_disk(headers: Headers) -> str:
    small, large = (pick(headers.sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
    middle = [round(median(side)) for side in zip(*headers.sizes, strict=True)]
    text = f"pictures of {small[0]}x{small[1]} to {large[0]}x{large[1]} pixels (median {middle[0]}x{middle[1]}); "
    text += ", ".join(f"{count:,} {name}" for name, count in headers.formats.most_common())
    others = [(mode, count) for mode, count in headers.modes.most_common() if mode != "RGB"]
    text += "; become RGB: " + ", ".join(f"{count:,} {mode}" for mode, count in others) if others else ""
    return text + (f" (of {len(headers.sizes):,} looked at)" if len(headers.sizes) + len(headers.bad) < headers.of else "")


def _counts(reasons: Counter[str]) -> Iterator[str]:
    for reason, count in reasons.most_common(MAX_REASONS):
        yield f"{count:>7,}  {reason}"
    rest = len(reasons) - MAX_REASONS
    if rest > 0:
        yield f"         and {rest} other reasons"


def _warnings(listing: Listing, headers: Headers, image_size: int, fit: str, flips: bool) -> Iterator[str]:
    counts = Counter(sample.label for sample in listing.samples["train"])
    most, fewest = (pick(counts, key=lambda k: counts[k]) for pick in (max, min))
    if counts[most] >= IMBALANCE * counts[fewest]:
        largest, smallest = (listing.class_names[k] for k in (most, fewest))
        yield (
            f"warning: {largest} has {counts[most] / counts[fewest]:.1f} times as many training pictures as {smallest}; "
            "loss.weight=auto or data.balanced=true makes classes count the same"
        )
    for split, samples in listing.samples.items():
        there = {sample.label for sample in samples}
        missing = [name for k, name in enumerate(listing.class_names) if k not in there]
        if missing:
            more = f" and {len(missing) - MAX_SHOWN} more" if len(missing) > MAX_SHOWN else ""
            yield f"warning: {split} has no picture of {', '.join(missing[:MAX_SHOWN])}{more}: it says nothing of them"
    yield from _too_few(listing)
    small = sum(min(size) < image_size for size in headers.sizes)
    if 2 * small > len(headers.sizes):
        share = small / len(headers.sizes)
        yield f"note: {share:.0%} of the pictures are smaller than data.image_size={image_size}, and are enlarged"
    width, height = (median(side) for side in zip(*headers.sizes, strict=True)) if headers.sizes else (1, 1)
    if fit == "crop" and max(width, height) > WIDE * min(width, height):
        yield (
            f"note: the median picture has {width:.0f}x{height:.0f} pixels: its ends are cut off; data.fit=pad or squash keeps "
            "them"
        )
    sides = {name for name in listing.class_names if re.fullmatch(r".*(left|right).*", name, re.IGNORECASE)}
    if flips and len(sides) > 1:
        yield f"warning: {' and '.join(sorted(sides)[:2])} are classes, and data.horizontal_flip=true mirrors their pictures"
    yield from _copies(listing)


def _too_few(listing: Listing) -> Iterator[str]:
    """Yields a warning if the test split has too few pictures of some classes to judge them."""
    if "test" not in listing.samples:
        return
    counts = Counter(sample.label for sample in listing.samples["test"])
    found = sorted(counts[label] for label in range(len(listing.class_names)))
    if found[0] < FEW_TESTED:
        shown = ", ".join(map(str, found)) if len(found) <= MAX_SHOWN else f"{found[0]} to {found[-1]}"
        yield (
            f"warning: {shown} test pictures a class are too few to judge: -m data.folds=5 data.fold=0,1,2,3,4 tests each "
            "picture once"
        )


def _copies(listing: Listing) -> Iterator[str]:
    where: dict[str, tuple[str, Sample]] = {s.path: (split, s) for split, part in listing.samples.items() for s in part}
    try:
        groups = copies((path, sample.bytes) for path, (_, sample) in where.items())
    except DataError as error:
        yield f"note: copies were not looked for: {error}"
        return
    across = [group for group in groups if len({where[path][0] for path in group}) > 1]
    contradicting = [group for group in groups if len({where[path][1].label for path in group}) > 1]
    if groups:
        spare = sum(len(group) - 1 for group in groups)
        yield f"copies: {_counted(spare, 'picture')} with the same bytes as another ({' = '.join(groups[0][:2])})"
    if across:
        advice = "tests on them are too good; remove one of each"
        yield f"warning: {_counted(len(across), 'picture')} in two splits ({' = '.join(across[0][:2])}): {advice}"
    if contradicting:
        example = " = ".join(contradicting[0][:2])
        yield f"warning: {_counted(len(contradicting), 'picture')} in two classes ({example}): remove the wrong one of each"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
