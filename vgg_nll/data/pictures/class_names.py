"""Names of classes that people can read."""

from collections.abc import Sequence

from torchvision.models import VGG16_Weights

from vgg_nll.errors import DataError


def imagenet_names(folders: Sequence[str]) -> tuple[str, ...]:
    """Returns the English names of ImageNet's classes, whose folders are the sorted WordNet ids n01440764, ...

    The names are those of torchvision's weights.

    Raises DataError unless there are 1,000 such folders.
    """
    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    if len(folders) != len(names) or not all(folder.startswith("n") and folder[1:].isdigit() for folder in folders):
        raise DataError(
            f"data.root: has {len(folders):,} class folders, the first is {folders[0]}; ImageNet has 1,000 from n01440764 on; "
            "data=image_folder takes any"
        )
    return tuple(names)
