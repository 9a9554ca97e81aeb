"""The dataset card's metadata and tables, all from the configurations' provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from hf_gland.data.card import HUB_LICENCES, class_list, restained_note, split_note, statistics_table
from hf_gland.hub.cards import PAPER_BIBTEX, data_bibtex, render_card
from hf_gland.hub.dataset_source import DEFAULT_CONFIG, Configuration
from hf_gland.hub.metadata import TASK
from hf_gland.hub.repository import OWN_TAG
from hf_gland.labels import IGNORE_INDEX
from hf_gland.markdown import count, escaped, table

MEANINGS = {
    "image": "RGB image", "sparse_mask": f"the supervision: class ids, {IGNORE_INDEX} = unlabelled, which is not background",
    "mask": "dense truth, for evaluation only; null where unknown",
    "instances": "gland ids, none = zero, for object metrics; null where unknown",
    "image_id": "name of the image, unique over all splits", "patient_id": "what splits are grouped by; empty if unknown",
    "source": "data source", "grade": "what the source calls the tissue, such as benign or malignant; empty if unknown",
    "mpp": "µm per pixel; null where unknown", "labelled_fraction": "share of the pixels that are labelled",
    "annotated_glands": "glands with a labelled pixel", "total_glands": "glands in the image; null where unknown",
    "image_sha256": "checksum of the image's size and pixels, by which the joining checks it",
}
TRAIN_SPLIT = "train"  # that training reads unless it is told of another
SIZE_CATEGORIES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def dataset_card(configurations: Sequence[Configuration], repo: str, *, features: Mapping[str, Features],
                 sizes: Mapping[str, Mapping[str, Mapping[str, int]]], picture: str, picture_caption: str, joined: bool,
                 templates: Path) -> str:
    """README.md of the dataset's repository.

    `features` by configuration (the preview among them); `sizes`: by configuration and split, `rows`, `bytes` (decoded
    columns) and `file_bytes`; `joined`: published without images, to be joined with the archive. Raises HubError.
    """
    configurations = escaped(configurations)  # provenance is other people's text
    first = configurations[0].provenance
    licence = first["licence"]
    known = licence in HUB_LICENCES
    images = sum(split["images"] for split in first["splits"].values())
    card_data = DatasetCardData(
        license=licence if known else "other", license_name=None if known else "as-the-source",
        license_link=None if known else "LICENSE.md", task_categories=[TASK],
        tags=[OWN_TAG, "histopathology", "weak-supervision", "medical-imaging"], pretty_name=repo.split("/")[-1],
        size_categories=next((name for limit, name in SIZE_CATEGORIES if images < limit), None))
    _describe_files(card_data, [c.name for c in configurations], {c.name: c.prefix for c in configurations}, features, sizes)
    values = {
        "title": repo.split("/")[-1],
        "configurations_phrase": "" if len(configurations) == 1 else
                                 f", in {len(configurations)} configurations that differ in style and budget",
        "form": (" The images are **not** in this repository, as their licence forbids it: join them on your machine."
                 if joined else ""),
        "picture": picture, "picture_caption": picture_caption,
        "usage": _usage(repo, configurations, joined),
        "configurations_table": configurations_table(configurations),
        "statistics_table": statistics_table({c.name: c.provenance for c in configurations}),
        "columns_table": _columns_table(features[configurations[0].name]),
        "classes": class_list(first["class_names"]),
        "split_note": split_note(first), "source": first["source"], "provenance_note": _provenance_note(first, joined),
        "checksums_table": table(["configuration", "SHA-256 of the data" + (", once joined" if joined else "")],
                                 [[c.name, f"`{c.provenance['data_sha256']}`"] for c in configurations], 2),
        "licence": f"{licence}.", "paper_bibtex": PAPER_BIBTEX, "data_bibtex": data_bibtex(first["source"]),
    }
    return render_card("dataset", card_data, values, templates)


def _describe_files(card_data: DatasetCardData, names: Sequence[str], prefixes: Mapping[str, str],
                    features: Mapping[str, Features], sizes: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """`configs` and `dataset_info`, as `datasets` writes them itself when it pushes a dataset."""
    infos, configs = {}, {}
    for name, splits in sizes.items():
        infos[name] = DatasetInfo(
            features=features[name], dataset_size=sum(s["bytes"] for s in splits.values()),
            splits={split: {"name": split, "num_bytes": s["bytes"], "num_examples": s["rows"], "dataset_name": None}
                    for split, s in splits.items()},
            download_size=sum(s["file_bytes"] for s in splits.values()))
        configs[name] = {"data_files": [{"split": split, "path": f"{prefixes.get(name, name)}/{split}-*.parquet"}
                                        for split in splits]}
        if name == names[0] and len(sizes) > 1:
            configs[name]["default"] = True  # type: ignore[assignment]
    DatasetInfosDict(infos).to_dataset_card_data(card_data)
    MetadataConfigs(configs).to_dataset_card_data(card_data)


def configurations_table(configurations: Sequence[Configuration]) -> str:
    rows = []
    for c in configurations:
        sparsify, splits = c.provenance["sparsify"], c.provenance["splits"].values()
        drawn, total = sum(s["annotated_glands"] for s in splits), [s["total_glands"] for s in splits]
        weight = sum(s["images"] for s in splits)
        labelled = 100 * sum(s["labelled_fraction"] * s["images"] for s in splits) / weight
        unused = sparsify["style"] in ("full", "as-is")
        budget = f"{sparsify.get('budget', '–')}{' of the images' if sparsify['style'] == 'images' else ''}"
        rows.append([c.name, sparsify["style"], "–" if unused else budget,
                     "–" if unused or sparsify["style"] in ("roi", "images") else sparsify.get("background", "–"),
                     f"{drawn} of {sum(total) if None not in total else 'unknown'}", f"{labelled:.2f}"])
    return table(["configuration", "style", "budget per image", "background", "glands annotated", "pixels labelled (%)"],
                 rows, 4)


def _columns_table(features: Features) -> str:
    def kind(feature: Any) -> str:
        if hasattr(feature, "mode"):
            return f"Image ({feature.mode})" if feature.mode else "Image (16 bit)"
        return str(feature.dtype)

    return table(["column", "type", "meaning"],
                 [[f"`{name}`", kind(feature), MEANINGS[name]] for name, feature in features.items()], 3)


def _usage(repo: str, configurations: Sequence[Configuration], joined: bool) -> str:
    """How to get it; how to train on it, where it has a split that training reads."""
    name, splits = configurations[0].name, list(configurations[0].provenance["splits"])
    named = "" if name == DEFAULT_CONFIG else f', "{name}"'
    option = "" if name == DEFAULT_CONFIG else f" --config {name}"
    trains = TRAIN_SPLIT in splits
    if joined:
        training = f"python scripts/train.py --dataset data/{name} --out runs/first\n" if trains else ""
        return ("Get the official archive from its owners, then, with hf_gland installed:\n\n```bash\n"
                f"python scripts/publish.py join --from {repo}{option} --archive ARCHIVE.zip --out data/{name}\n"
                f"{training}```\n\n"
                "Every image is compared with the checksum of the one that was annotated.")
    option = "" if name == DEFAULT_CONFIG else f" --dataset_config {name}"
    training = f"\n\n```bash\npython scripts/train.py --dataset {repo}{option} --out runs/first\n```" if trains else ""
    return (f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("{repo}"{named}, '
            f'split="{TRAIN_SPLIT if trains else splits[0]}")\n```{training}')


def _provenance_note(provenance: Mapping[str, Any], joined: bool) -> str:
    sources = provenance.get("sources", {})
    notes = []
    if "archive_sha256" in sources:
        notes.append(f"Archive SHA-256: `{sources['archive_sha256']}`.")
    if (unknown := sources.get("unverified_images")) is not None:
        notes.append(f"{count(unknown, 'image')} could not be compared with the official release, the others are identical "
                     "to it." if unknown else "Every image and mask was compared with the official release, by SHA-256.")
    if shift := sources.get("stain_shift"):
        notes.append(restained_note(shift))
    if joined:
        notes.append("This repository holds the sparse masks, the splits and checksums; dense masks and gland ids come from "
                     "the archive too.")
    return "".join(f" {note}" for note in notes)
