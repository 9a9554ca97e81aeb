"""From the store to batches: which crop of which image comes when is a function of (seed, epoch, index) alone."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hf_gland.config.sections import Augment
from hf_gland.data.store import TrainingStore
from hf_gland.data.transforms import apply_view, is_blank, photometric, random_rectangle, random_view
from hf_gland.errors import HfGlandError
from hf_gland.flat_arrays import FlatArrays
from hf_gland.labels import IGNORE_INDEX

Key = tuple[int, int]  # (epoch, index)
MOST_LOADERS = 8  # for one training process: so many keep a data-centre GPU busy
BATCHES_READY = 3  # of each: two that wait (the prefetch_factor of a DataLoader), one in the making
SHARED_MEMORY = "/dev/shm"  # through which they hand over what they make; a container's has 64 MB, unless told otherwise


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which epoch `epoch` visits `size` images."""
    return np.random.default_rng([seed, epoch, 0]).permutation(size)


def draw_keys(seed: int, size: int, first: int, count: int) -> list[Key]:
    """The (epoch, index) of draws first..first+count-1 of the endless stream of epochs."""
    keys = []
    for draw in range(first, first + count):
        epoch, position = divmod(draw, size)
        keys.append((epoch, int(epoch_order(seed, epoch, size)[position])))
    return keys


def crops_at_once(batch_size: int, processes: int, accumulation: int) -> int:
    """Crops in a micro-batch of one process. Raises HfGlandError where the batch cannot be divided so."""
    if batch_size % (processes * accumulation):
        raise HfGlandError(f"batch_size {batch_size} must be a multiple of processes × gradient_accumulation "
                           f"({processes} × {accumulation})")
    return batch_size // (processes * accumulation)


class ShardedDraws(Sampler[list[Key]]):
    """Micro-batches of keys for one process, from optimiser step `first_step` on.

    A step takes the next `batch_size` draws of the stream; micro-batch m of process r takes its own run of them, so
    that one process and many see the same crops in the same step.
    """

    def __init__(self, seed: int, size: int, batch_size: int, steps: int, first_step: int = 0, rank: int = 0,
                 world: int = 1, accumulation: int = 1):
        self.share = crops_at_once(batch_size, world, accumulation)
        self.seed, self.size, self.batch_size, self.steps = seed, size, batch_size, steps
        self.first_step, self.rank, self.world, self.accumulation = first_step, rank, world, accumulation

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.first_step, self.steps):
            keys = draw_keys(self.seed, self.size, step * self.batch_size, self.batch_size)
            for micro in range(self.accumulation):
                start = (micro * self.world + self.rank) * self.share
                yield keys[start:start + self.share]


class CropDataset(Dataset):
    """Augmented crops of a store; item (epoch, position) depends on nothing but (seed, epoch, position).

    An epoch shows every image once; labelled ones more often, where fewer than half of the annotator's images have labels,
    and images from elsewhere, whose labels do not count, as often as makes their number even with the annotator's.
    `labelled_only`: images without labels are left out, as they teach nothing before a teacher labels them.

    A share `augment.cutmix` of the crops gets a rectangle of a second image pasted in, labels and pseudo-labels with it:
    the student has to name what it sees without the surroundings that made the annotator or the teacher sure. Blank pixels
    of such a crop carry no label: whether white is the lumen of a gland or bare glass, only its surroundings tell.

    An item holds `strong` (the augmented image, uint8 [3, S, S]), `sparse`, `truth` and, if the run learns it, `border`
    (uint8 [S, S]), `index` (of the image in the store) and `annotated`; with a bank, `bank` (what the teacher says, uint8
    [outputs, S, S]); with `weak`, the image before photometric changes.
    """

    def __init__(self, store: TrainingStore, augment: Augment, seed: int, *, bank: FlatArrays | None = None,
                 weak: bool = False, labelled_only: bool = False):
        self.store, self.augment, self.seed, self.bank, self.weak = store, augment, seed, bank, weak
        self.kinds = list(zip(store.annotated, store.labelled, strict=True))
        bare = self.kinds.count((True, False))
        times = {(True, True): max(round(bare / max(self.kinds.count((True, True)), 1)), 1) if not labelled_only else 1,
                 (True, False): int(not labelled_only)}
        own = [i for i, kind in enumerate(self.kinds) for _ in range(times.get(kind, 0))]
        elsewhere = [i for i, known in enumerate(store.annotated) if not known and not labelled_only]
        self.images = own + elsewhere * max(round(len(own) / max(len(elsewhere), 1)), 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        (epoch, position), augment = key, self.augment
        rng = np.random.default_rng([self.seed, epoch, 1, position])
        index = self.images[position]
        crop = self._crop(rng, index)
        mixing = np.random.default_rng([self.seed, epoch, 2, position])
        if mixing.random() < augment.cutmix:
            alike = [i for i in self.images if self.kinds[i] == self.kinds[index]]
            other = self._crop(mixing, int(mixing.choice(alike)))
            part = random_rectangle(mixing, augment.crop_px)
            window = (..., slice(part.top, part.top + part.height), slice(part.left, part.left + part.width))
            for name, planes in crop.items():
                crop[name] = planes.clone()
                crop[name][window] = other[name][window]
            blank = is_blank(crop["image"])
            for name in {"sparse", "border"} & crop.keys():
                crop[name][blank] = IGNORE_INDEX
            if "bank" in crop:
                crop["bank"][:, blank] = 0
        image = crop.pop("image")
        item = {"index": index, "annotated": self.store.annotated[index], **crop,
                "strong": photometric(image, rng, augment.stain_jitter, augment.brightness_jitter, augment.blur_px)}
        return {**item, "weak": image} if self.weak else item

    def _crop(self, rng: np.random.Generator, index: int) -> dict[str, Tensor]:
        """One view of image `index`: `image`, `sparse`, `dense` and, with a bank, `bank`, without photometric changes."""
        augment, crop_px = self.augment, self.augment.crop_px
        view = random_view(rng, self.store.sizes[index], crop_px, augment.scale_min, augment.scale_max)
        crop = {"image": apply_view(self.store.images[index], view, crop_px, labels=False)}
        for name, mask in (("sparse", self.store.sparse(index)), ("truth", self.store.truth(index)),
                           ("border", self.store.border(index))):
            if mask is not None:
                crop[name] = apply_view(mask, view, crop_px, labels=True, fill=IGNORE_INDEX)
        if self.bank is not None:
            # Outside the image the teacher has no opinion: 0 for every class passes no threshold.
            crop["bank"] = apply_view(self.bank[index], view, crop_px, labels=False, fill=0)
        return crop


def crop_bytes(crop_px: int, outputs: int) -> int:
    """The most that an item of a CropDataset takes; `outputs`: planes of the bank."""
    return (3 + 3 + 1 + 1 + 1 + outputs) * crop_px**2  # strong, weak, sparse, truth, border, bank


def free_shared_memory() -> int | None:
    """Bytes; None where the system sets no limit of its own."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def loading_processes(asked: int, on_gpu: bool, cores: int, batch_bytes: int, room_bytes: int | None) -> tuple[int, str]:
    """How many processes make the crops of a training process (0: it makes them itself, between its steps), and a
    sentence where there is no room for as many as there should be, else "".

    `asked`: the setting. -1: with a GPU, which else waits for crops, one per core but one, MOST_LOADERS at most, as far as
    BATCHES_READY of `batch_bytes` each fit into the memory that processes share (`room_bytes`; None: no limit). On a CPU
    none, as they would only take its cores away.
    """
    if asked >= 0 or not on_gpu:
        return max(asked, 0), ""
    wanted = min(cores - 1, MOST_LOADERS)
    fit = wanted if room_bytes is None else min(room_bytes // (BATCHES_READY * batch_bytes), wanted)
    return fit, "" if fit == wanted else (
        f"{fit} of {wanted} processes make crops: {SHARED_MEMORY}, through which they hand them over, has room for no more. "
        "A container gets more by docker run --shm-size 8g")


def crop_loader(dataset: CropDataset, draws: ShardedDraws, num_workers: int, pin_memory: bool) -> DataLoader:
    """A loader with a generator of its own, so that starting it does not disturb the training's random state."""
    return DataLoader(dataset, batch_sampler=draws, num_workers=num_workers, pin_memory=pin_memory,
                      generator=torch.Generator().manual_seed(0), worker_init_fn=_leave_process_group)


def _leave_process_group(_: int) -> None:
    """Keep Ctrl-C and a launcher's SIGTERM, which go to all of a group, from the processes that load: the training, which
    gets them too, is to finish its step and save, and ends these itself."""
    if hasattr(os, "setsid"):  # not on Windows
        os.setsid()
