"""Every setting of a training run, in one frozen dataclass that is saved beside each checkpoint.

Read from a TOML or JSON file, from one of the recipes that ship with the package (`bench`, `full`, …), and from
`--key value` on the command line, later ones winning. Unknown keys are errors, never ignored.
"""

import argparse
import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from hf_gland.config.errors import ConfigError
from hf_gland.config.variants import all_variants, trained_variant, variant_name


def _setting(default: Any, help_text: str, choices: Sequence[str] = ()) -> Any:
    return field(default=default, metadata={"help": help_text, "choices": tuple(choices)})


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Lengths in px are measured at the training pixel size (`mpp`)."""

    variant: str = field(default="ours", compare=False)  # what the run is called in records, see variants.variant_name

    # What to train on
    dataset: str = _setting("", "folder made by build_dataset, or a Hub dataset id")
    dataset_config: str = _setting("", "named configuration of a Hub dataset (empty: its default)")
    dataset_revision: str = _setting("", "branch, tag or commit of a Hub dataset (empty: its main branch)")
    train_split: str = _setting("train", "split to learn from")
    validation_split: str = _setting("validation", "patient-held-out split to watch (empty: none)")
    adapt_dataset: str = _setting("", "also learn, without any label, from the images of this dataset (folder or Hub id): "
                                  "those of the place where the model is to work (empty: none)")
    adapt_split: str = _setting("train", "split of adapt_dataset")
    mpp: float = _setting(0.0, "training pixel size in µm; images are resampled to it (0: keep each image's own pixels)")
    missing_mpp: float = _setting(0.0, "pixel size in µm to assume for images that state none (0: an error if mpp is set)")

    # The network
    backbone: str = _setting("nvidia/mit-b0", "Hub id or folder with weights, or random:MODEL_TYPE (random:segformer)")
    model_kwargs: str = _setting("", "JSON object of overrides for the network's own config")

    # The method
    mode: str = _setting("refined", "refined: teacher-student on sparse labels; sparse-only: sparse labels alone; "
                         "full: the dense masks (upper bound)", ("refined", "sparse-only", "full"))
    ema: bool = _setting(True, "teacher is the student's moving average (off: the student labels for itself)")
    confidence_filter: bool = _setting(True, "only pixels above the threshold become pseudo-labels (off: τ = 0)")
    progressive: bool = _setting(True, "threshold widens and refreshes grow rarer (off: both constant)")
    veto: bool = _setting(True, "bank: regions that the annotator's own marks contradict teach nothing (off, as with "
                          "no-fusion: only the threshold decides)")
    fusion: bool = _setting(True, "ground truth overrides the teacher (off: the teacher alone after warm-up)")
    warmup_fraction: float = _setting(0.25, "share of the steps on sparse labels alone")
    threshold: str = _setting("adaptive", "how τ moves: cosine or linear from start to end; adaptive: per class, the "
                              "quantile of the teacher's confidence that lets a growing share pass",
                              ("cosine", "linear", "adaptive"))
    threshold_start: float = _setting(0.90, "cosine, linear: τ when warm-up ends")
    threshold_end: float = _setting(0.80, "cosine, linear: τ at the last step; never below 0.5")
    adaptive_share_start: float = _setting(0.2, "adaptive threshold: share of each class that passes after warm-up")
    adaptive_share_end: float = _setting(0.9, "adaptive threshold: share of each class that passes at the end")
    ema_start: float = _setting(0.99, "teacher decay α at the first step")
    ema_end: float = _setting(0.999, "teacher decay α at the last step")
    refresh: str = _setting("bank", "bank: pseudo-masks of whole images, refreshed ever more rarely; every_step: online "
                            "teacher on the weak view", ("bank", "every_step"))
    refreshes: int = _setting(4, "bank: how often the pseudo-masks are made anew in a run")
    refresh_growth: float = _setting(1.6, "bank: factor by which the gap between refreshes grows")
    loss: str = _setting("separate", "separate: truth (CE + λ Dice) and pseudo-labels (weighted CE) apart; joint: one "
                         "CE + λ Dice on their union, as the paper writes it; consistency: Mean Teacher, squared "
                         "difference of the probabilities instead of pseudo-labels",
                         ("separate", "joint", "consistency"))
    balance: str = _setting("fading", "what labelled background and labelled glands count in the CE. constant: each class "
                            "the same, though annotators draw less stroma; fading: so, until the teacher's labels bring "
                            "their own stroma, half-way through the refined steps; none: each pixel the same",
                            ("fading", "constant", "none"))
    dice_weight: float = _setting(1.0, "λ, weight of the Dice term")
    pseudo_weight: float = _setting(1.0, "weight of the pseudo-label term once ramped up")
    pseudo_ramp: float = _setting(0.2, "share of the refined steps over which that weight rises from 0")
    warmup_background: str = _setting("none", "assume: unlabelled pixels count as background with a small weight; needed "
                                      "where nothing is labelled as background", ("none", "assume"))
    assumed_weight: float = _setting(0.1, "weight of an assumed background pixel when training starts, against 1 for a "
                                     "labelled one")
    assumed_weight_end: float = _setting(0.05, "the same from the end of warm-up on, where the teacher is not sure")

    # Optimisation
    steps: int = _setting(600, "optimiser steps")
    batch_size: int = _setting(4, "crops per optimiser step, over all processes and accumulated micro-batches")
    gradient_accumulation: int = _setting(1, "micro-batches per optimiser step")
    learning_rate: float = _setting(2e-4, "peak learning rate of the encoder (AdamW)")
    head_lr_factor: float = _setting(5.0, "the decode head learns this many times faster")
    weight_decay: float = _setting(0.01, "AdamW weight decay")
    lr_warmup_fraction: float = _setting(0.05, "share of the steps over which the learning rate rises")
    max_grad_norm: float = _setting(1.0, "gradient clipping (0: none)")
    mixed_precision: str = _setting("auto", "autocast type; auto: bf16 where the hardware has it, else no; fp16: CUDA only",
                                    ("auto", "no", "bf16", "fp16"))
    seed: int = _setting(0, "everything random follows from it")

    # Augmentation
    crop_px: int = _setting(256, "side of a training crop")
    scale_min: float = _setting(0.75, "smallest magnification of a crop")
    scale_max: float = _setting(1.33, "largest magnification of a crop")
    stain_jitter: float = _setting(0.15, "H&E jitter in optical density: spread of stain strength (0: off)")
    brightness_jitter: float = _setting(0.15, "spread of brightness and contrast (0: off)")
    cutmix: float = _setting(0.5, "share of the crops that get a rectangle of another image pasted in, labels with it (0: "
                             "none)")
    blur_px: float = _setting(1.0, "largest blur sigma in px (0: off)")

    # Running and recording
    num_workers: int = _setting(0, "data loading processes per training process")
    refresh_tile_px: int = _setting(512, "side of the tiles in which whole images are predicted")
    validate_every: int = _setting(0, "steps between validations (0: only at the end)")
    panels_every: int = _setting(0, "steps between pictures of image, labels, fusion and prediction (0: at refreshes)")
    save_every: int = _setting(200, "steps between checkpoints (0: only at the end)")
    keep_last: int = _setting(2, "checkpoints kept")
    tracker: str = _setting("tensorboard", "accelerate tracker by name (tensorboard, trackio, wandb, …), or none")

    def __post_init__(self) -> None:
        for f in setting_fields():
            value = getattr(self, f.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{f.name} must be a finite number; got {value}")
            choices = f.metadata["choices"]
            if choices and getattr(self, f.name) not in choices:
                raise ConfigError(f"{f.name} must be one of {', '.join(choices)}; got {getattr(self, f.name)!r}")
        at_least = {"steps": 1, "batch_size": 1, "gradient_accumulation": 1, "crop_px": 32, "refreshes": 1,
                    "keep_last": 1, "refresh_tile_px": 64, "mpp": 0, "missing_mpp": 0, "num_workers": 0,
                    "validate_every": 0, "panels_every": 0, "save_every": 0, "max_grad_norm": 0, "dice_weight": 0,
                    "pseudo_weight": 0, "assumed_weight": 0, "assumed_weight_end": 0, "refresh_growth": 1, "seed": 0,
                    "stain_jitter": 0, "brightness_jitter": 0, "blur_px": 0, "weight_decay": 0}
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}; got {getattr(self, name)}")
        for name in ("warmup_fraction", "pseudo_ramp", "lr_warmup_fraction", "ema_start", "ema_end",
                     "adaptive_share_start", "adaptive_share_end", "cutmix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1; got {getattr(self, name)}")
        if not 0.5 <= self.threshold_end <= self.threshold_start <= 1:
            raise ConfigError("thresholds must satisfy 0.5 <= threshold_end <= threshold_start <= 1; got "
                              f"{self.threshold_start} and {self.threshold_end}")
        if not 0 < self.scale_min <= self.scale_max:
            raise ConfigError(f"scales must satisfy 0 < scale_min <= scale_max; got {self.scale_min}, {self.scale_max}")
        if self.learning_rate <= 0 or self.head_lr_factor <= 0:
            raise ConfigError("learning_rate and head_lr_factor must be positive")
        if self.threshold == "adaptive" and self.refresh == "every_step":
            raise ConfigError("threshold adaptive takes its quantiles from the pseudo-mask bank, which refresh every_step "
                              "does without; choose threshold cosine or linear, or refresh bank")
        if self.adapt_dataset and self.mode != "refined":
            raise ConfigError("adapt_dataset brings images without labels, which only mode refined learns from")
        self.model_overrides()

    def model_overrides(self) -> dict[str, Any]:
        """`model_kwargs` as a dict; raises ConfigError when it is not a JSON object."""
        try:
            overrides = json.loads(self.model_kwargs or "{}")
        except json.JSONDecodeError as error:
            raise ConfigError(f"model_kwargs is not JSON: {error}") from error
        if not isinstance(overrides, dict):
            raise ConfigError("model_kwargs must be a JSON object, such as '{\"drop_path_rate\": 0.0}'")
        return overrides

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def setting_fields() -> list[dataclasses.Field]:
    """The fields of TrainConfig that a user sets."""
    return [f for f in dataclasses.fields(TrainConfig) if f.name != "variant"]


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig from keys and values of matching type; unknown keys and wrong types raise ConfigError.

    Without a `variant` it is called after what sets it apart from the defaults.
    """
    types = get_type_hints(TrainConfig)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            raise ConfigError(f"unknown setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else
                              "; see --help for all settings"))
        if types[key] is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, types[key]) or (isinstance(value, bool) and types[key] is not bool):
            raise ConfigError(f"{key} must be of type {types[key].__name__}; got {value!r}")
        checked[key] = value
    config = TrainConfig(**checked)
    if "variant" in checked:
        return config
    return dataclasses.replace(config, variant=variant_name(dataclasses.asdict(config), dataclasses.asdict(TrainConfig())))


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(p.name.removesuffix(".toml") for p in resources.files("hf_gland.recipes").iterdir()
                  if p.name.endswith(".toml"))


def recipe_name(source: str | None) -> str:
    """What records call the settings that a run started from: a shipped recipe, or a file of the user's."""
    if not source:
        return "none"
    path = Path(source)
    return path.name if path.suffix and path.stem in (*recipe_names(), "none") else path.stem


def read_config_file(source: str | Path) -> dict[str, Any]:
    """Keys and values of a .toml or .json file, or of a shipped recipe by name; raises ConfigError."""
    path = Path(source)
    if not path.suffix and str(source) in recipe_names():
        return tomllib.loads((resources.files("hf_gland.recipes") / f"{source}.toml").read_text("utf-8"))
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(f"{source}: not a .toml or .json file, nor one of the recipes {', '.join(recipe_names())}")
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold one object of settings, such as {{\"steps\": 600}}")
    return values


def add_settings(parser: argparse._ActionsContainer) -> None:
    """Add one `--key` per setting to `parser`; those not given stay absent from the parsed namespace."""
    parser.add_argument("--variant", metavar="NAME", help="train as this variant of the method, on top of the recipe: "
                        f"{', '.join(n for n, v in all_variants().items() if not v.weights_of)}")
    for f in setting_fields():
        kind = get_type_hints(TrainConfig)[f.name]
        text = f"{f.metadata['help']} [{f.default}]".replace("%", "%%")
        extra: dict[str, Any] = {"choices": f.metadata["choices"]} if f.metadata["choices"] else {}
        if kind is bool:
            extra = {"action": argparse.BooleanOptionalAction}
        else:
            extra.update(type=kind, metavar=f.name.upper() if not f.metadata["choices"] else None)
        names = [f"--{f.name}"] + ([f"--{f.name.replace('_', '-')}"] if "_" in f.name else [])
        parser.add_argument(*names, dest=f.name, default=argparse.SUPPRESS, help=text, **extra)


def config_from_arguments(arguments: argparse.Namespace, config_file: str | None) -> TrainConfig:
    """Combine a config file or recipe (may be None), a variant and the settings parsed by `add_settings`; the later ones
    win. Raises ConfigError."""
    from_file = read_config_file(config_file) if config_file else {}
    variant = trained_variant(arguments.variant) if arguments.variant else None
    names = {f.name for f in setting_fields()}
    given = {k: v for k, v in vars(arguments).items() if k in names}
    config = make_config({**from_file, **(variant.settings if variant else {}), **given, "variant": ""})
    if variant and (lacking := [key for key in variant.needs if not getattr(config, key)]):
        raise ConfigError(f"variant {variant.name} needs --{lacking[0]}")
    of_methods = {key for v in all_variants().values() for key in v.settings}
    is_recipe = config_file in recipe_names()  # its choices are ours; a file of the user's may make any method of it
    start = make_config({k: v for k, v in from_file.items() if is_recipe or k not in of_methods})
    return dataclasses.replace(config, variant=variant_name(
        dataclasses.asdict(config), dataclasses.asdict(start), variant.name if variant else ""))
