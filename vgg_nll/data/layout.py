"""What a folder of pictures must look like. Loads nothing slow, so that a wrong folder is refused at once."""

from pathlib import Path

from vgg_nll.errors import DataError

EXPECTED_TREE = "expected {root}/train/<class>/*.png|jpg, {root}/val/<class>/..., and optionally {root}/test/<class>/..."


def check_root(root: Path) -> None:
    """Raises DataError if there is no such folder."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: there is no such folder; {EXPECTED_TREE.format(root=root)}")
