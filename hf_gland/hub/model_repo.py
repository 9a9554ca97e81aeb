"""A model repository: teacher as its model, student in a subfolder, card, records, log.

    README.md LICENSE.md? config.json model.safetensors preprocessor_config.json student/
    training_config.json training_metrics.json training_log.jsonl
    results/*.json .eval_results/*.yaml media/predictions.png
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry
from huggingface_hub import eval_result_entries_to_yaml as entries_to_yaml

from hf_gland.data.sources.synthetic.images import iter_synthetic
from hf_gland.evaluation.records import UNUSUAL, ResultRecord
from hf_gland.export.overlay import write_comparison
from hf_gland.files import safe_name
from hf_gland.hub.cards import Links
from hf_gland.hub.licences import Licence, model_licence
from hf_gland.hub.metadata import check_card
from hf_gland.hub.model_card import model_card
from hf_gland.hub.model_source import ModelSource, record_file_name
from hf_gland.hub.staging import place
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.options import Tiling

PICTURE = "media/predictions.png"
PICTURE_SEED = 1_000_003  # an image of no dataset
SYNTHETIC_CLASSES = 3  # most that the generator draws


def stage_model(source: ModelSource, out: Path, repo: str, *, templates: Path, links: Links = Links(), licence: str = "",
                comparison: Sequence[ResultRecord] = ()) -> str:
    """Write the repository `repo` into the empty folder `out`; returns its card, which has been checked.

    `links.base_model`: the Hub model that a local backbone folder stands for; `licence`: of the weights, where it does not
    follow from weights and data. Raises HubError.
    """
    links = replace(links, base_model=source.base_model(links.base_model))
    terms = model_licence(links.base_model, source.data_used("licence"), licence)
    for name, file in source.files.items():
        place(file, out / name)
    for record in reversed(source.records):  # those with a mark in their names first, as `write` knows none
        path = record.write(out / "results")
        path.rename(path.with_name(record_file_name(record)))
    if links.dataset_repo:
        _write_eval_results(out / ".eval_results", source.records, links.dataset_repo)
    if terms.name:
        (out / "LICENSE.md").write_text(_licence_text(terms), "utf-8")
    (out / PICTURE).parent.mkdir()
    prediction_picture(out, out / PICTURE)
    card = model_card(source, repo, picture=PICTURE, licence=terms, templates=templates, links=links,
                      comparison=comparison)
    (out / "README.md").write_text(card, "utf-8")
    check_card(card, "model", out)
    return card


def _write_eval_results(folder: Path, records: Sequence[ResultRecord], dataset_repo: str) -> None:
    """One file per test split of the training's dataset in the Hub's newer convention, with the pooled mIoU, which needs a
    Hub dataset to refer to."""
    folder.mkdir()
    own = [record for record in records if not record.is_of_student and not record.elsewhere]
    for split, record in {r.test_split: r for r in reversed(own)}.items():
        if record.metrics.get("mIoU") is None:
            continue
        notes = ", ".join(["mIoU in %, pooled over the split", *(UNUSUAL[mark] for mark in record.unusual)])
        entry = EvalResultEntry(dataset_id=dataset_repo, task_id=split, value=record.metrics["mIoU"], notes=notes)
        (folder / f"{safe_name(split)}.yaml").write_text(yaml.safe_dump(entries_to_yaml([entry]), sort_keys=False), "utf-8")


def _licence_text(licence: Licence) -> str:
    return "# Licence of the weights\n\n" + "".join(f"- {term}\n" for term in licence.terms)


def prediction_picture(model: Path, path: Path) -> None:
    """PNG of truth, prediction and confidence on a synthetic image that no dataset holds; the same every time."""
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    sample = next(iter(iter_synthetic("test", seed=PICTURE_SEED, images=1,
                                      num_classes=min(len(segmenter.id2label), SYNTHETIC_CLASSES))))
    assert sample.mask is not None
    prediction = segmenter.predict(sample.image, sample.mpp, Tiling(precision="float32"), name=sample.image_id)
    write_comparison(path, sample.image, sample.mask, prediction)
