"""The settings of a training run by section: for each its default, what it means, its range, and where it applies.

To add a setting, add its field here; it is then in the files, on the command line, in --help and in the checks.

`low`, `high`: bounds that belong to the range; `above`: one that does not. `short`: the name it goes by outside its
section (its own name unless said otherwise). `only`: other settings, by short name, that must have one of these values
for it to have any effect (SET: any but empty or 0); a tuple of such says that one of them is enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SET = ("set",)
Conditions = Mapping[str, tuple]
REFINED: Conditions = {"mode": ("refined",)}


def setting(default: Any, text: str, *, choices: Sequence[str] = (), low: float | None = None, high: float | None = None,
            above: float | None = None, short: str = "", only: Conditions | tuple[Conditions, ...] = ()) -> Any:
    """A field with what a user has to know about it."""
    return field(default=default, metadata={
        "text": text, "choices": tuple(choices), "low": low, "high": high, "above": above, "short": short,
        "only": only if isinstance(only, tuple) else (only,)})


@dataclass(frozen=True)
class Data:
    """What to learn from."""

    dataset: str = setting("", "folder made by build_dataset, or a Hub dataset id")
    configuration: str = setting("", "named configuration of a Hub dataset (empty: its default)", short="dataset_config")
    revision: str = setting("", "branch, tag or commit of a Hub dataset (empty: its main branch)", short="dataset_revision")
    train_split: str = setting("train", "split to learn from")
    validation_split: str = setting("validation", "patient-held-out split to watch (empty: none)")
    adapt_dataset: str = setting("", "also learn, without any label, from the images of this dataset (folder or Hub id): "
                                 "those of the place where the model is to work (empty: none)", only=REFINED)
    adapt_split: str = setting("train", "split of adapt_dataset", only={"adapt_dataset": SET})
    mpp: float = setting(0.0, "training pixel size in µm; images are resampled to it (0: keep each image's own pixels)",
                         low=0)
    missing_mpp: float = setting(0.0, "pixel size in µm to assume for images that state none (0: an error if mpp is set)",
                                 low=0, only={"mpp": SET})


@dataclass(frozen=True)
class Model:
    """The network."""

    backbone: str = setting("nvidia/mit-b0", "Hub id or folder with weights, or random:MODEL_TYPE (random:segformer)")
    kwargs: str = setting("", "JSON object of overrides for the network's own config", short="model_kwargs")


@dataclass(frozen=True)
class Threshold:
    """How sure the teacher must be: τ."""

    kind: str = setting("adaptive", "how τ moves: cosine or linear from start to end; adaptive: per class, the quantile of "
                        "the teacher's confidence that lets a growing share pass",
                        choices=("cosine", "linear", "adaptive"), short="threshold")
    start: float = setting(0.90, "cosine, linear: τ when warm-up ends", low=0.5, high=1, short="threshold_start",
                           only={"threshold": ("cosine", "linear")})
    end: float = setting(0.80, "cosine, linear: τ at the last step", low=0.5, high=1, short="threshold_end",
                         only={"threshold": ("cosine", "linear"), "progressive": (True,)})
    share_start: float = setting(0.2, "adaptive: share of each class that passes after warm-up", low=0, high=1,
                                 short="adaptive_share_start", only={"threshold": ("adaptive",)})
    share_end: float = setting(0.9, "adaptive: share of each class that passes at the end", low=0, high=1,
                               short="adaptive_share_end", only={"threshold": ("adaptive",), "progressive": (True,)})


@dataclass(frozen=True)
class Refresh:
    """When the teacher labels the training images."""

    kind: str = setting("bank", "bank: pseudo-labels of whole images, refreshed ever more rarely; every_step: online "
                        "teacher on the weak view", choices=("bank", "every_step"), short="refresh")
    count: int = setting(4, "how often the pseudo-labels are made anew in a run", low=1, high=500, short="refreshes",
                         only={"refresh": ("bank",)})
    growth: float = setting(1.6, "factor by which the gap between refreshes grows", low=1, high=4, short="refresh_growth",
                            only={"refresh": ("bank",), "progressive": (True,)})
    tile_px: int = setting(1024, "side of the tiles in which whole images are predicted", low=64, short="refresh_tile_px",
                           only={"refresh": ("bank",)})
    views: int = setting(4, "over how many views of an image the teacher averages, mirrored and smaller ones", low=1, high=4,
                         short="refresh_views", only={"refresh": ("bank",)})


@dataclass(frozen=True)
class Method:
    """The method."""

    mode: str = setting("refined", "refined: teacher-student on sparse labels; sparse-only: sparse labels alone; full: the "
                        "dense masks (upper bound)", choices=("refined", "sparse-only", "full"))
    ema: bool = setting(True, "teacher is the student's moving average (off: the student labels for itself)")
    ema_start: float = setting(
        0.99, "teacher decay α at the first step; in runs with a warm-up never above (1 + t) / (10 + t) at step t, so that "
        "the random head is soon forgotten", low=0, high=1, only={"ema": (True,)})
    ema_end: float = setting(0.999, "teacher decay α at the last step", low=0, high=1, only={"ema": (True,)})
    confidence_filter: bool = setting(True, "only pixels above the threshold become pseudo-labels (off: τ = 0)",
                                      only=REFINED)
    progressive: bool = setting(True, "threshold widens and refreshes grow rarer (off: both constant)", only=REFINED)
    veto: bool = setting(True, "regions that the annotator's own marks contradict teach nothing (off: only the threshold "
                         "decides)", only={**REFINED, "refresh": ("bank",), "fusion": (True,)})
    fusion: bool = setting(True, "ground truth overrides the teacher (off: the teacher alone after warm-up)", only=REFINED)
    warmup_fraction: float = setting(0.25, "share of the steps on sparse labels alone", low=0, high=1,
                                     only=(REFINED, {"warmup_background": ("assume",)}))
    threshold: Threshold = field(default_factory=Threshold, metadata={"only": ({**REFINED, "confidence_filter": (True,)},)})
    refresh: Refresh = field(default_factory=Refresh, metadata={"only": (REFINED,)})
    loss: str = setting("separate", "separate: truth (CE + λ Dice) and pseudo-labels (weighted CE) apart; joint: one CE + λ "
                        "Dice on their union, as the paper writes it; consistency: Mean Teacher, squared difference of the "
                        "probabilities instead of pseudo-labels", choices=("separate", "joint", "consistency"), only=REFINED)
    class_weighting: str = setting(
        "fading", "weights of the classes in the cross-entropy on labelled pixels. none: each pixel counts the same; "
        "constant: all background pixels together count as much as all gland pixels together, though annotators label "
        "fewer of them; fading: constant in warm-up, then less and less, none from the middle of the refined steps on",
        choices=("fading", "constant", "none"), short="balance")
    dice_weight: float = setting(1.0, "λ, weight of the Dice term", low=0)
    border_px: float = setting(
        4.0, "width of the rim of an outlined gland, in px at the training pixel size, that the network learns to tell from "
        "the gland's core, so that touching glands come out as two (0: no such output)", low=0)
    border_weight: float = setting(1.0, "weight of that term", low=0, only={"border_px": SET})
    pseudo_weight: float = setting(1.0, "weight of the pseudo-label term once ramped up", low=0,
                                   only={**REFINED, "loss": ("separate", "consistency")})
    pseudo_ramp: float = setting(0.2, "share of the refined steps over which that weight rises from 0", low=0, high=1,
                                 only={**REFINED, "loss": ("separate", "consistency")})
    unlabelled: str = setting(
        "none", "what unlabelled pixels count as. none: nothing; assume: background, with a small weight (needed where "
        "nothing is labelled as background)", choices=("none", "assume"), short="warmup_background",
        only={"mode": ("refined", "sparse-only")})
    unlabelled_weight: float = setting(0.1, "weight of an unlabelled pixel taken for background when training starts, "
                                       "against 1 for a labelled one", low=0, short="assumed_weight",
                                       only={"warmup_background": ("assume",)})
    unlabelled_weight_end: float = setting(0.05, "the same from the end of warm-up on, where the teacher is not sure", low=0,
                                           short="assumed_weight_end", only={"warmup_background": ("assume",)})

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher labels what the annotator left out, once warm-up is over."""
        return self.mode == "refined"

    @property
    def learns_from_truth(self) -> bool:
        """Whether the dense masks are the labels."""
        return self.mode == "full"

    @property
    def keeps_bank(self) -> bool:
        """Whether the pseudo-labels are those of the last refresh."""
        return self.has_teacher and self.refresh.kind == "bank"

    @property
    def asks_teacher_each_step(self) -> bool:
        """Whether the teacher labels each crop as it comes."""
        return self.has_teacher and self.refresh.kind == "every_step"

    @property
    def has_veto(self) -> bool:
        """Whether the annotator's marks are held against the teacher's regions; `no-fusion` leaves the annotator out."""
        return self.veto and self.fusion and self.keeps_bank

    @property
    def has_border(self) -> bool:
        """Whether the network says where a gland's border is, beside the classes."""
        return self.border_px > 0

    @property
    def assumes_background(self) -> bool:
        """Whether unlabelled pixels count as background with a small weight."""
        return self.unlabelled == "assume" and not self.learns_from_truth


@dataclass(frozen=True)
class Optim:
    """Optimisation."""

    steps: int = setting(600, "optimiser steps", low=1)
    batch_size: int = setting(4, "crops per optimiser step, over all processes and accumulated micro-batches", low=1)
    gradient_accumulation: int = setting(1, "micro-batches per optimiser step", low=1)
    learning_rate: float = setting(2e-4, "peak learning rate of the encoder (AdamW)", above=0)
    head_lr_factor: float = setting(5.0, "the decode head learns this many times faster", above=0)
    weight_decay: float = setting(0.01, "AdamW weight decay", low=0)
    lr_warmup_fraction: float = setting(0.05, "share of the steps over which the learning rate rises", low=0, high=1)
    max_grad_norm: float = setting(1.0, "gradient clipping (0: none)", low=0)
    mixed_precision: str = setting("auto", "autocast type; auto: bf16 where the hardware has it, else no; fp16: CUDA only",
                                   choices=("auto", "no", "bf16", "fp16"))
    seed: int = setting(0, "everything random follows from it", low=0, high=2**32 - 1)


@dataclass(frozen=True)
class Augment:
    """Augmentation."""

    crop_px: int = setting(256, "side of a training crop, at the training pixel size", low=32)
    scale_min: float = setting(0.6, "smallest magnification of a crop", above=0)
    scale_max: float = setting(1.6, "largest magnification of a crop", above=0)
    stain_jitter: float = setting(0.3, "H&E jitter in optical density: spread of stain strength (0: off)", low=0)
    brightness_jitter: float = setting(0.25, "spread of brightness and contrast (0: off)", low=0)
    cutmix: float = setting(0.5, "share of the crops that get a rectangle of another image pasted in, labels with it (0: "
                            "none)", low=0, high=1)
    blur_px: float = setting(2.0, "largest blur sigma in px (0: off)", low=0)


@dataclass(frozen=True)
class Run:
    """How the run is carried out and recorded; these may change on --resume."""

    num_workers: int = setting(-1, "processes that make crops for each training process (-1: with a GPU one per core up to "
                               "8, as far as shared memory has room for what they make; on a CPU none)", low=-1)
    validate_every: int = setting(0, "steps between validations (0: only at the end)", low=0,
                                  only={"validation_split": SET})
    panels_every: int = setting(0, "steps between pictures of image, labels, fusion and prediction (0: at refreshes)", low=0)
    save_every: int = setting(200, "steps between checkpoints (0: only at the end)", low=0)
    keep_last: int = setting(2, "checkpoints kept", low=1)
    tracker: str = setting("tensorboard", "accelerate tracker by name (tensorboard, trackio, wandb, …), or none")
