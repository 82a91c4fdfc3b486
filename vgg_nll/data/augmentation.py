"""What `augment=` adds to the flips and crops of a data set: operations on single images, and mixtures of a batch."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from vgg_nll import rng


class Augmentation:
    """`configs/augment`: what happens to training images.

    Every draw is a function of the seed, the epoch and the place of the image (of the batch, for mixtures), so a resumed run
    draws the same. The operations are torchvision's; they run on the device of the images.

    Args:
        flip_crop: whether the data set flips and crops, as its own settings say.
        trivial: one operation of random strength for each image (TrivialAugment, arXiv:2103.10158).
        erasing: probability that a rectangle is painted black (arXiv:1708.04896).
        mixup, cutmix: alpha of Beta(alpha, alpha), the share of another image of the batch (arXiv:1710.09412,
            arXiv:1905.04899); 0 for none; with both, each batch has one of them, with probability 1/2.
    """

    def __init__(
        self, *, flip_crop: bool = True, trivial: bool = False, erasing: float = 0.0, mixup: float = 0.0, cutmix: float = 0.0
    ) -> None:
        self.flip_crop = flip_crop
        operations = [v2.TrivialAugmentWide()] if trivial else []
        operations += [v2.RandomErasing(erasing)] if erasing > 0 else []
        self._operations = v2.Compose(operations) if operations else None
        self._mixup, self._cutmix = mixup, cutmix
        self.mixes = mixup > 0 or cutmix > 0  # each image of a batch with the one before it
        self.changes = self._operations is not None or self.mixes  # anything, besides flips and crops

    def image(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Changes one image, uint8 [3, H, W]; draws come from the generator."""
        if self._operations is None:
            return image
        # torchvision draws from PyTorch's global generator alone.
        with rng.seeded(int(torch.randint(2**62, (), generator=generator)), "operations"):
            changed: Tensor = self._operations(image)
        return changed

    def images(self, images: Tensor, seed: int, epoch: int, indices: Tensor) -> Tensor:
        """Changes each image of uint8 [B, 3, H, W]; `indices` [B] are their places in the training set."""
        if self._operations is None:
            return images
        draws = [rng.generator(seed, "operations", epoch, index) for index in indices.tolist()]
        return torch.stack([self.image(image, draw) for image, draw in zip(images, draws, strict=True)])

    def mix(self, images: Tensor, target: Tensor, num_classes: int, seed: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Mixes a batch of normalised images [B, 3, H, W] with classes [B]: the target becomes probabilities [B, C]."""
        if not self.mixes:
            return images, target
        with rng.seeded(seed, "mix", epoch, step):
            use_mixup = self._cutmix == 0 or (self._mixup > 0 and bool(torch.rand(()) < 0.5))
            mixture = v2.MixUp if use_mixup else v2.CutMix
            mixed, soft = mixture(alpha=self._mixup if use_mixup else self._cutmix, num_classes=num_classes)(images, target)
        return mixed.contiguous(memory_format=torch.channels_last), soft.float()
