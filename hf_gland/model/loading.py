"""The one place where networks are loaded: what a folder or repository holds is checked before any of it is used.

Weights come from safetensors alone, no code of a repository is run, and a config that asks for more memory than its
weights can fill is refused before the memory is taken.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from hf_gland.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Keys of a config.json by which transformers fetches or runs something else.
REACHES_OUT = ("auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
               "experts_implementation", "quantization_config", "use_pretrained_backbone", "use_timm_backbone",
               "backbone", "custom_pipelines")
MOST_CLASSES = 255  # masks are 8-bit, and 255 is unlabelled
MOST_LAYERS = 512
MOST_ENTRIES = 1000  # of any list in a config
MOST_PARAMETERS = 2_000_000_000
FRESH_PARAMETERS = 2**27  # a new head may have so many that no file holds


def load_config(where: str, *, revision: str = "main", subfolder: str = "", **changes: Any) -> PretrainedConfig:
    """The checked config of a folder or repository, `changes` set in it. Raises ModelError."""
    try:
        values, _ = PretrainedConfig.get_config_dict(where, revision=revision, subfolder=subfolder)
        _check_values(values | changes, where)
        return AutoConfig.from_pretrained(where, revision=revision, subfolder=subfolder, trust_remote_code=False, **changes)
    except ModelError:
        raise
    except Exception as error:  # each family refuses settings in a way of its own
        raise ModelError(f"{where}: cannot be loaded as a segmentation model: {first_line(error)}") from error


def load_network_weights(auto_class: Any, where: str, config: PretrainedConfig, *, revision: str = "main",
                         subfolder: str = "", fresh_head: bool = False) -> tuple[PreTrainedModel, list[str]]:
    """The network that `config` describes, with the weights of a folder or repository, in float32, and the names of those
    that were missing there and start at random.

    `auto_class`: AutoModelForSemanticSegmentation, or the class of one family. `fresh_head`: weights of other shapes count
    as missing; otherwise they are an error. Raises ModelError.
    """
    options = {"revision": revision, "subfolder": subfolder}
    try:
        held = sum(path.stat().st_size for path in _weight_files(where, options))
        asked = count_parameters(auto_class, config)
        if asked > MOST_PARAMETERS or asked > held + FRESH_PARAMETERS:
            raise ModelError(f"{where}: config.json describes a network of {asked / 1e6:,.0f} million parameters, and the "
                               f"weights have {held / 1e6:,.0f} MB; one of them is damaged")
        model, report = auto_class.from_pretrained(
            where, config=config, use_safetensors=True, trust_remote_code=False, ignore_mismatched_sizes=fresh_head,
            output_loading_info=True, **options)
    except ModelError:
        raise
    except (Exception, SafetensorError) as error:  # safetensors refuses damaged files in a way of its own
        raise ModelError(f"{where}: cannot be loaded as a segmentation model: {first_line(error)}") from error
    broken = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(f"{where}: {len(broken)} weights hold NaN or infinite numbers ({broken[0]}, …): the model is "
                           "damaged, or its training has diverged")
    return model.float(), sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})


def count_parameters(auto_class: Any, config: PretrainedConfig) -> int:
    """Parameters of the network that `config` describes, without the memory for them."""
    make = getattr(auto_class, "from_config", None) or auto_class._from_config  # the latter for one family's class
    with torch.device("meta"):
        return sum(p.numel() for p in make(config).parameters())


def weights_sha256(where: str, *, revision: str = "main", subfolder: str = "") -> str:
    """Checksum of the weights of a folder or repository. Raises ModelError."""
    digest = hashlib.sha256()
    for path in _weight_files(where, {"revision": revision, "subfolder": subfolder}):
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """What an error of another library says, without its stack of hints."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_location(path_or_repo: str | Path, subfolder: str = "") -> str:
    """The folder or repository id; raises ModelError for a folder without a model, or a path that is none."""
    path = Path(path_or_repo).expanduser()
    if path.is_dir():
        if not (path / subfolder / "config.json").is_file():
            raise ModelError(f"{path / subfolder}: not a model folder (no config.json); give the folder that training "
                               "wrote, or a Hub repository such as owner/name")
        return str(path)
    if path.exists() or not re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", str(path_or_repo)):
        raise ModelError(f"{path_or_repo}: {'a file, not a model folder' if path.exists() else 'no such folder'}")
    return str(path_or_repo)


def _weight_files(where: str, options: Mapping[str, Any]) -> list[Path]:
    """The safetensors files that hold the weights; ModelError where there is none, or where a list of shards names
    another kind of file."""
    if cached_file(where, "adapter_config.json", _raise_exceptions_for_missing_entries=False,
                   _raise_exceptions_for_connection_errors=False, **options) is not None:
        raise ModelError(f"{where}: holds an adapter, which is put on the weights of another repository; merge them first")
    if path := cached_file(where, WEIGHTS, _raise_exceptions_for_missing_entries=False, **options):
        return [Path(path)]
    index = cached_file(where, INDEX, _raise_exceptions_for_missing_entries=False, **options)
    if index is None:
        raise ModelError(f"{where}: cannot be loaded as a segmentation model: it has no {WEIGHTS}, the only kind of weights "
                         "that is read")
    shards = set(json.loads(Path(index).read_text("utf-8"))["weight_map"].values())
    foreign = sorted(name for name in shards if not re.fullmatch(r"[\w.-]+\.safetensors", name))
    if foreign:
        raise ModelError(f"{where}: {INDEX} names {foreign[0]}, and only safetensors files beside it are loaded")
    return [Path(str(cached_file(where, name, **options))) for name in sorted(shards)]


def _check_values(values: Mapping[str, Any], where: str) -> None:
    """Refuse a config that runs code or is of an absurd size."""
    entries = list(_entries(values))
    for key, value in entries:
        if key in REACHES_OUT and value not in (None, False):
            raise ModelError(f"{where}: {key} in config.json would fetch or run code or weights from elsewhere, which is "
                               "never done here; remove it if the network does without")
        if isinstance(value, list) and len(value) > MOST_ENTRIES:
            raise ModelError(f"{where}: {key} in config.json has {len(value)} entries")
    layers = max((sum(value) if isinstance(value, list) else value for key, value in entries
                  if re.search(r"layers|depths|blocks", key) and _counts(value)), default=0)
    if layers > MOST_LAYERS:
        raise ModelError(f"{where}: config.json asks for {layers} layers; the most is {MOST_LAYERS}")
    classes = max(len(values.get("id2label") or ()), values.get("num_labels") or 0)
    if classes > MOST_CLASSES:
        raise ModelError(f"{where}: config.json names {classes} classes; the most is {MOST_CLASSES}")


def _entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a config and of the configs in it."""
    for key, value in values.items():
        yield str(key), value
        if isinstance(value, Mapping):
            yield from _entries(value)


def _counts(value: Any) -> bool:
    """Whether a value is a count, or a list of them."""
    return all(isinstance(v, int) and not isinstance(v, bool) for v in (value if isinstance(value, list) else [value]))
