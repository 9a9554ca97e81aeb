"""Cards: their words against a golden copy, their figures against the records they are read from."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from publications import TEMPLATES, measure, write_glas_archive, write_glas_dataset, write_run
from tiny_model import assert_lines_agree

import hf_gland
from hf_gland.data.build import About, annotated, build_dataset, load_provenance
from hf_gland.data.sources.synthetic.images import iter_synthetic
from hf_gland.data.sparsify import SparsifyConfig
from hf_gland.evaluation.fitted_temperature import write_temperature
from hf_gland.evaluation.records import ResultRecord, read_result, read_results
from hf_gland.hub.cards import Links, render_card, results_table
from hf_gland.hub.dataset_card import configurations_table
from hf_gland.hub.dataset_repo import stage_dataset
from hf_gland.hub.dataset_source import read_configurations
from hf_gland.hub.errors import HubError
from hf_gland.hub.licences import Licence, model_licence
from hf_gland.hub.metric_repo import stage_metric
from hf_gland.hub.model_card import annotation_budget, comparison_table, model_card
from hf_gland.hub.model_repo import stage_model
from hf_gland.hub.model_source import ModelSource, read_model
from hf_gland.hub.space_repo import stage_space
from hf_gland.inference import PostProcessing, Tiling
from hf_gland.markdown import escaped
from hf_gland.metrics import gland_segmentation

GOLDEN = Path(__file__).with_name("golden")
APP = TEMPLATES.parent / "space_app"
NUMBER = re.compile(r"(?<![\w-])\d+(?:\.\d+)?(?!\w)")  # not the digits of F1, SHA-256 or area_um2
# References, not figures: they may stand in a card whatever was measured.
NAMES = re.compile(r"95 % bootstrap|(?:height|width) % 32|@article\{.*?^\}", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def source(run: Path) -> ModelSource:
    return read_model(run)


def card_of(source: ModelSource, comparison=(), **links: str) -> str:
    return model_card(source, "me/glands", picture="media/predictions.png", links=Links(**links), templates=TEMPLATES,
                      licence=Licence("apache-2.0", ("The weights start from random numbers.",)), comparison=comparison)


def with_metrics(source: ModelSource, **metrics: object) -> ModelSource:
    first = source.records[0]
    changed = dataclasses.replace(first, metrics=first.metrics | metrics)
    return dataclasses.replace(source, records=(changed, *source.records[1:]))


def body(card: str) -> str:
    return ModelCard(card).text


# Every figure another one, so that none can stand in another's place unseen.
FIXED = {"mIoU": 81.23, "mDice": 88.51, "gland_iou": 79.46, "gland_dice": 87.62, "image_dice": 86.77, "object_f1": 74.38,
         "object_dice": 77.19, "object_hausdorff": 93.64, "ece": 5.27, "brier": 0.1938,
         "errors_in_least_confident_10": 37.4, "images": 2}


def with_fixed_figures(source: ModelSource) -> ModelSource:
    """The source with figures, times and checksums that do not depend on this machine."""
    intervals = {f"{key}_ci95": [value - 1.5, value + 2.25] for key, value in FIXED.items() if key not in ("ece", "brier")}
    (record,) = source.records
    record = dataclasses.replace(record, metrics=FIXED | intervals, data_sha256="d474" * 16)
    return dataclasses.replace(source, records=(record,))


def assert_golden(name: str, card: str) -> None:
    """The card is the golden copy, figures included; a copy that is missing is written, to be looked at.

    Struck out are sizes of files and versions in the metadata, checksums, and this checkout's folder and version.
    """
    _, metadata, text = card.replace(str(Path.cwd()), "<here>").split("---\n", 2)
    metadata = re.sub(r"((?:num_bytes|_size|sdk_version): ).*", r"\1#", metadata)
    text = f"---\n{metadata}---\n{text}".replace(f"hf_gland {hf_gland.__version__}", "hf_gland <version>")
    text = re.sub(r"\b[0-9a-f]{40,64}\b", "<hash>", text)
    path = GOLDEN / f"{name}.md"
    if not path.exists():
        path.write_text(text, "utf-8")
        pytest.fail(f"{path} was missing and has been written; look at it, and commit it")
    assert text == path.read_text("utf-8"), f"not as in {path}; if it is meant to differ, delete that file and run again"


def test_templates_hold_no_figure():
    for template in sorted(TEMPLATES.glob("*.jinja")):
        words = re.sub(r"```python.*?```", "", template.read_text("utf-8"), flags=re.DOTALL)  # code counts and indexes
        assert not NUMBER.search(words), f"{template.name}: figures belong in values"
    assert len(list(TEMPLATES.glob("*.jinja"))) == 4


def test_a_figure_typed_into_a_template_would_show(source, tmp_path):
    """The check above and the one below have teeth."""
    shutil.copytree(TEMPLATES, tmp_path / "cards")
    template = tmp_path / "cards" / "model.md.jinja"
    template.write_text(template.read_text("utf-8") + "\nIt reaches an mIoU of 99.9.\n", "utf-8")
    assert NUMBER.search(template.read_text("utf-8"))
    card = model_card(source, "me/glands", picture="p.png", templates=tmp_path / "cards",
                      licence=Licence("apache-2.0", ()))
    assert unexplained(card, source) == {"99.9"}


def test_every_figure_comes_from_a_record(source):
    assert unexplained(card_of(source, dataset_repo="me/tiny"), source) == set()


def unexplained(card: str, source: ModelSource) -> set[str]:
    """Figures in a card's body that are in no record and no note, however they are rounded."""
    known: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(key)
                collect(item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)
            known.add(str(len(value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known.update(f"{value:.{d}f}" for d in range(4))
            known.update({f"{value:g}", f"{100 * value:.1f}", f"{value / 60:.1f}"})
        elif isinstance(value, str):
            known.update(NUMBER.findall(value))

    for record in source.records:
        collect(record.as_dict())
    collect(source.notes)
    collect(list(range(len(source.notes["data"]["class_names"]))))
    return set(NUMBER.findall(NAMES.sub("", body(card)))) - known


def test_the_model_cards_lines_for_transformers_alone_give_the_same_glands(source, tmp_path):
    assert_lines_agree(card_of(source), "me/glands", source.folder, "image.png", tmp_path)


def test_the_model_card_against_its_golden_copy(source, run, tiny_dataset, tmp_path):
    source = with_fixed_figures(source)
    own = source.records[0]
    others = [dataclasses.replace(own, variant="sparse-only", seed=seed, metrics=own.metrics | {"mIoU": level})
              for seed, level in ((0, 70.0), (1, 73.0))]
    assert_golden("model", card_of(source, dataset_repo="me/tiny", metric_repo="me/metric", comparison=[own, *others]))


def test_the_card_says_which_share_of_the_errors_the_least_sure_pixels_hold(source):
    card = card_of(with_metrics(source, ece=4.26, errors_in_least_confident_10=37.4))
    assert ("- validation: expected calibration error 4.3 %; the tenth of the pixels that it is least sure of holds 37 % of "
            "its errors") in card


def test_pixels_labelled_are_weighted_by_the_images_of_each_split(tiny_dataset, tmp_path):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    provenance = load_provenance(tiny_dataset)
    provenance["splits"]["train"]["labelled_fraction"] = 0.1  # of 6 images
    provenance["splits"]["validation"]["labelled_fraction"] = 0.3  # of 2: (6 × 0.1 + 2 × 0.3) / 8
    (tmp_path / "data" / "provenance.json").write_text(json.dumps(provenance))
    row = configurations_table(read_configurations([str(tmp_path / "data")])).splitlines()[-1]
    assert row.endswith("| 15.00 |")


HOSTILE = '<form action="https://evil.example">password</form> ![](https://evil.example/t.png) | [here](www.evil.example) `'


def assert_harmless(card: str) -> None:
    text = body(card)
    assert "password" in text  # it is shown, as the text that it is
    for mark in ("<form", "![](", "[here](", "https://evil", "www.evil"):
        assert mark not in text, mark


def test_a_model_of_no_known_pixel_size_has_none_in_its_card(source, tmp_path):
    assert "pixel size the model was trained at (0.5 µm)" in card_of(source)
    folder = shutil.copytree(source.folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mpp": None}))
    card = card_of(dataclasses.replace(source, folder=folder))
    assert 'predict("image.png")' in card
    assert "pixel size the model was trained at (that of its training images)" in card
    assert "0.5 µm" not in card


def test_other_peoples_words_stay_words_in_a_model_card(source):
    record = source.records[0]
    data = source.notes["data"] | {"class_names": ["background", HOSTILE], "source": HOSTILE}
    hostile = dataclasses.replace(
        record, hardware=HOSTILE, recipe=HOSTILE, test_split=HOSTILE, commit=HOSTILE, command=f"train\n```\n{HOSTILE}")
    licence = model_licence("", [HOSTILE])
    card = model_card(dataclasses.replace(source, records=(hostile,), notes=source.notes | {"data": data}), "me/glands",
                      picture="media/predictions.png", templates=TEMPLATES, licence=licence,
                      comparison=[hostile, dataclasses.replace(hostile, variant=HOSTILE)])
    assert f"````bash\ntrain\n```\n{HOSTILE}\n````" in card  # the command, between fences it cannot close
    assert_harmless(card.replace(f"```\n{HOSTILE}\n", ""))
    assert_harmless("---\na: b\n---\n" + results_table(escaped([hostile])))


def test_other_peoples_words_stay_words_in_a_dataset_card(tiny_dataset, tmp_path):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    provenance = load_provenance(tiny_dataset) | {"source": HOSTILE, "licence": HOSTILE}
    (tmp_path / "data" / "provenance.json").write_text(json.dumps(provenance))
    (tmp_path / "out").mkdir()
    assert_harmless(stage_dataset(read_configurations([str(tmp_path / "data")]), tmp_path / "out", "me/tiny",
                                  templates=TEMPLATES, have_the_right=True))
    assert "<form" not in (tmp_path / "out" / "LICENSE.md").read_text()


def test_another_result_is_another_card(source):
    before = card_of(source)
    after = card_of(with_metrics(source, mIoU=77.7, mIoU_ci95=[71.1, 79.9]))
    assert "| mIoU (%) | 77.7 [71.1, 79.9] |" in after
    assert "77.7" not in before
    assert ModelCard(after).data.eval_results[0].metric_value == 77.7
    assert NUMBER.sub("#", before) == NUMBER.sub("#", after)


def test_what_was_not_measured_is_said(source):
    missing = with_metrics(source, ece=None, ece_missing="class probabilities were not given", mDice=None,
                           mDice_missing="no labelled pixel")
    card = card_of(missing)
    assert "not measured (class probabilities were not given)" in card
    assert "mDice (%) |" not in card.replace("mDice (%) | –", "")
    names = [r.metric_name for r in ModelCard(card).data.eval_results]
    assert "ECE (%)" not in names
    assert "mIoU (%)" in names


def test_an_unusual_measurement_is_a_column_of_its_own_behind_the_usual_one(run, tiny_dataset, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for folder, options in (("a", {"post": PostProcessing(split_touching=False)}), ("b", {"tiling": Tiling(views=2)})):
        measure(copy, tiny_dataset, folder=folder, **options)
    source = read_model(copy)
    assert source.records[0].unusual == ()
    assert {r.unusual for r in source.records[1:]} == {("joined",), ("views",)}
    card = card_of(source)
    assert "| validation | validation (touching glands left joined) | validation (several views averaged) |" in card
    names = {r.metric_name for r in ModelCard(card).data.eval_results}
    assert {"mIoU (%)", "mIoU (%), several views averaged", "mIoU (%), touching glands left joined"} <= names


def test_figures_on_another_dataset_are_not_those_on_the_trainings_own(source, tmp_path):
    (own,) = source.records
    other = dataclasses.replace(own, test_split="test@CRAG", metrics=own.metrics | {"images": 7, "mIoU": 11.25},
                                extra=own.extra | {"test_dataset": "CRAG"})
    assert (own.elsewhere, other.elsewhere, own.on_usual_images, other.on_usual_images) == (False, True, True, False)
    both = dataclasses.replace(source, records=(own, other))
    card = card_of(both, dataset_repo="me/tiny")
    assert "`validation` (2 images) of [me/tiny](https://huggingface.co/datasets/me/tiny), `test@CRAG` (7 images)" in card
    found = {(r.dataset_type, r.dataset_name, r.metric_value) for r in ModelCard(card).data.eval_results
             if r.metric_name == "mIoU (%)"}
    assert found == {("me/tiny", "tiny, validation", own.metrics["mIoU"]), ("CRAG", "test@CRAG", 11.25)}
    stage_model(both, tmp_path / "out", "me/glands", templates=TEMPLATES, links=Links(dataset_repo="me/tiny"))
    assert [path.name for path in (tmp_path / "out" / ".eval_results").iterdir()] == ["validation.yaml"]


def test_the_students_figures_are_shown_but_are_not_the_models(run, tiny_dataset, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    measure(copy, tiny_dataset, weights="student")
    source = read_model(copy)
    assert [r.extra["weights"] for r in source.records] == ["teacher", "student"]
    card = card_of(source)
    assert "| validation | validation (student) |" in card
    results = ModelCard(card).data.eval_results
    assert len(results) == len(ModelCard(card_of(dataclasses.replace(source, records=source.records[:1]))).data.eval_results)


@pytest.mark.parametrize(("settings", "words"), [
    ({"mode": "sparse-only"}, "It learned from those pixels alone."),
    ({"mode": "refined"}, "A teacher, the moving average of the student"),
    ({"mode": "refined", "ema": False}, "It labelled the other pixels for itself"),
])
def test_the_card_says_how_the_model_was_trained(source, settings, words):
    changed = dataclasses.replace(source, settings=source.settings | settings)
    assert words in body(card_of(changed)).replace("\n", " ")


def test_ways_of_training_are_compared_only_where_there_are_others(source):
    own: ResultRecord = source.records[0]
    others = [dataclasses.replace(own, variant="full", seed=seed) for seed in (0, 1)]
    assert "Beside other ways" not in card_of(source, comparison=[own])
    card = card_of(source, comparison=[own, *others])
    table = card[card.index("## Beside other ways"):]
    assert re.search(r"\| full .*\| 2 \|.* ± ", table)
    assert re.search(r"\| ours .*\| 1 \|", table)


@pytest.mark.parametrize("variant", ["ours", "full"])
def test_a_model_stands_beside_the_shipped_results_of_its_recipe_alone(variant):
    shipped = read_results(TEMPLATES / "results")
    for own in [r for r in shipped if r.variant == variant and r.on_usual_images]:
        assert f"| {variant} |" in comparison_table(shipped, own), own.name
    own = next(r for r in shipped if (r.variant, r.recipe, r.mpp, r.seed) == ("ours", "bench", 0.83, 0)
               and r.asked_for == "20 %" and r.background == "rim+scribble")
    table = comparison_table(shipped, own)
    assert re.search(r"\| ours \| glands \| rim\+scribble \| 20 % \| 3 \|", table)
    assert re.search(r"\| ours \| glands \| rim\+scribble \| 1 per image \| \d \|", table)


def test_a_template_that_asks_for_too_much_is_named(tmp_path):
    (tmp_path / "model.md.jinja").write_text("{{ card_data }} {{ accuracy }} {{ title }}")
    with pytest.raises(HubError, match=r"model\.md\.jinja: asks for accuracy"):
        render_card("model", ModelCardData(), {"title": "glands"}, tmp_path)
    with pytest.raises(HubError, match="restore it from the release"):
        render_card("dataset", ModelCardData(), {}, tmp_path)


def test_the_dataset_card_against_its_golden_copy(tiny_dataset, tmp_path):
    card = stage_dataset(read_configurations([f"outlines={tiny_dataset}", f"again={tiny_dataset}"]), tmp_path, "me/tiny",
                         templates=TEMPLATES)
    assert_golden("dataset", card)


def test_the_card_of_a_dataset_without_its_images(tmp_path):
    data = write_glas_dataset(write_glas_archive(tmp_path / "glas.zip"), tmp_path / "data")
    (tmp_path / "out").mkdir()
    card = stage_dataset(read_configurations([f"glands={data}"]), tmp_path / "out", "me/glas", templates=TEMPLATES,
                         masks_only=True)
    assert_golden("dataset_masks_only", card)
    assert "`train` and `testA` share 2 patients" in card


@pytest.mark.parametrize("joined", [False, True])
def test_without_a_training_split_the_card_names_one_that_is_there_and_does_not_train(tmp_path, joined):
    images = iter_synthetic("test", images=1, seed=0, size_px=(64, 96))
    about = About(("background", "gland"), "GlaS" if joined else "Mine", "cc0-1.0", SparsifyConfig())
    build_dataset({"test_shifted": annotated(images, SparsifyConfig(), 0)}, tmp_path / "data", about)
    (tmp_path / "out").mkdir()
    card = stage_dataset(read_configurations([str(tmp_path / "data")]), tmp_path / "out", "me/only", templates=TEMPLATES,
                         masks_only=joined)
    usage = card[card.index("## Use"):card.index("## Configurations")]
    assert ("publish.py join --from me/only" if joined else 'load_dataset("me/only", split="test_shifted")') in usage
    assert "train" not in usage
    assert usage.count("```") == 2


@pytest.mark.parametrize(("unverified", "said"), [
    (0, "Every image and mask was compared with the official release"), (2, "2 images could not be compared")])
def test_the_card_says_what_was_compared_with_the_release(tiny_dataset, tmp_path, unverified, said):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    provenance = load_provenance(tiny_dataset)
    sources = {"sources": {"unverified_images": unverified}}
    (tmp_path / "data" / "provenance.json").write_text(json.dumps(provenance | sources))
    (tmp_path / "out").mkdir()
    assert said in stage_dataset(read_configurations([str(tmp_path / "data")]), tmp_path / "out", "me/tiny",
                                 templates=TEMPLATES)


def test_the_metric_card_against_its_golden_copy(source, tmp_path):
    card = stage_metric(tmp_path, "me/gland_segmentation", templates=TEMPLATES, records=with_fixed_figures(source).records)
    for words, mark in ((gland_segmentation.DESCRIPTION, "<description>"), (gland_segmentation.INPUTS, "<inputs>")):
        assert words.strip() in card
        card = card.replace(words.strip(), mark)
    assert_golden("metric", card)


def test_the_space_card_against_its_golden_copy(source, tmp_path):
    records = with_fixed_figures(source).records
    card = stage_space(APP, tmp_path, "me/demo", templates=TEMPLATES, model_repo="me/glands", records=records)
    assert_golden("space", card)
    assert results_table(records) in card
    assert (tmp_path / "hf_gland" / "inference" / "segmenter.py").is_file()
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_space_whose_versions_are_loose_is_refused(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.py").write_text("")
    (app / "README.md").write_text("")
    for requirements, said in (("gradio==6.31.0\ntorch>=2\n", "torch>=2 states no version"), ("torch==2.13.0\n", "gradio"),
                               (None, "requirements.txt is missing")):
        if requirements is not None:
            (app / "requirements.txt").write_text(requirements)
        else:
            (app / "requirements.txt").unlink()
        with pytest.raises(HubError, match=re.escape(said)):
            stage_space(app, tmp_path / said[:5], "me/demo", templates=TEMPLATES)


def test_published_records_read_back(source, tmp_path):
    for record in source.records:
        assert read_result(record.write(tmp_path)) == record


def test_a_model_that_went_on_from_another_tells_of_all_its_trainings(source, tmp_path):
    before = {"steps": 1234, "train_seconds": 3600, "recipe": "bench", "train_split": "early", "commit": "0" * 40, "data": {
        "source": "Elsewhere", "licence": "for research only", "data_sha256": "f" * 64}}
    notes = source.notes | {"backbone": "nvidia/mit-b2", "continued_from": [before], "data": source.notes["data"] | {
        "adapted_to": {"source": "Third", "licence": "cc-by-4.0", "split": "train"}}}
    continued = dataclasses.replace(source, notes=notes, settings=source.settings | {"backbone": str(tmp_path)})
    assert continued.base_model() == "nvidia/mit-b2"
    assert set(continued.data_used("licence")) == {"for research only", source.notes["data"]["licence"], "cc-by-4.0"}
    words = " ".join(body(card_of(continued, base_model=continued.base_model())).split())
    assert re.search(r"1234 steps from \[nvidia/mit-b2\]\S+ on `early` of Elsewhere, recipe `bench`; then \d+ steps more "
                     r"on `train` of .* and the unlabelled images of Third, recipe `tiny`, seed 0; the last took 7.2 min",
                     words)
    assert "Training took 67.2 min" in words
    assert re.search(r"Trained on \d+ images of \d+ patients, from \S+, and on images of Elsewhere, Third: other", words)


def test_all_glands_are_not_one_gland_per_image():
    shipped = next(iter(read_results(TEMPLATES / "results")))
    drawn = dataclasses.replace(shipped, style="glands", background="rim", extra={
        "train_images": 85, "annotated_glands": 70, "total_glands": 774, "labelled_fraction": 0.1, "annotation_seed": 0})
    said = [annotation_budget(dataclasses.replace(drawn, budget=budget)) for budget in (1.0, 0.2, 1)]
    assert [text.split(":")[0].split("budget ")[1] for text in said] == ["100 %", "20 %", "1 per image"]


def test_local_backbones_need_a_name(source, tiny_dataset, tmp_path):
    folder = dataclasses.replace(source, settings=source.settings | {"backbone": str(tmp_path)})
    with pytest.raises(HubError, match="--base-model nvidia/mit-b0"):
        folder.base_model()
    assert folder.base_model("nvidia/mit-b0") == "nvidia/mit-b0"
    assert source.base_model() == ""
    published = dataclasses.replace(source, settings=source.settings | {"backbone": "nvidia/mit-b2"})
    assert published.base_model() == "nvidia/mit-b2"


class TestResultsOfAModel:
    def test_none(self, tiny_dataset, tmp_path):
        run = write_run(tmp_path / "run", tiny_dataset, measured=False)
        with pytest.raises(HubError, match=r"has no results.*scripts/evaluate\.py"):
            read_model(run)

    def test_of_the_model_before_it_was_calibrated(self, run, tiny_dataset, tmp_path):
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        record = next((copy / "evaluation").glob("*_seed*.json"))
        write_temperature(copy / "model", 2.5)
        with pytest.raises(HubError, match=r"temperature 1\.0 there, 2\.5 here.*scripts/evaluate\.py"):
            read_model(copy, [record])
        with pytest.raises(HubError, match=r"temperature 1\.0 there, 2\.5 here.*evaluation --overwrite") as raised:
            read_model(copy)
        assert "--split" not in str(raised.value)
        stale = Path(shutil.copytree(copy / "evaluation", tmp_path / "kept"))
        measured = read_result(record)
        dataclasses.replace(measured, extra=measured.extra | {"temperature": 2.5}).write(record.parent, overwrite=True)
        assert len(read_model(copy, shared_results=stale).records) == 1

    def test_of_another_model(self, run, tiny_dataset, tmp_path):
        other = write_run(tmp_path / "other", tiny_dataset, seed=1)
        with pytest.raises(HubError, match=r"was measured on another model.*seed 0 there, 1 here"):
            read_model(other, [run / "evaluation"])
        records = [*read_model(other, shared_results=run / "evaluation").records]
        assert [r.seed for r in records] == [1]

    def test_given_twice(self, run):
        with pytest.raises(HubError, match="two of the results given are of the same measurement"):
            read_model(run, [run / "evaluation", run / "evaluation"])

    def test_of_the_student_alone(self, run, tiny_dataset, tmp_path):
        shutil.copytree(run, tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "evaluation")
        measure(tmp_path / "run", tiny_dataset, weights="student")
        with pytest.raises(HubError, match="without --student as well"):
            read_model(tmp_path / "run")

    def test_that_lack_what_the_card_shows(self, run, tmp_path):
        record = json.loads(next((run / "evaluation").glob("*.json")).read_text())
        del record["train_images"]
        (tmp_path / "old_seed0.json").write_text(json.dumps(record))
        with pytest.raises(HubError, match="lacks train_images"):
            read_model(run, [tmp_path])

    def test_that_are_broken(self, run, tmp_path):
        (tmp_path / "bad_seed0.json").write_text("{}")
        with pytest.raises(HubError, match=r"bad_seed0\.json: not a result record"):
            read_model(run, [tmp_path / "bad_seed0.json"])
        with pytest.raises(HubError, match="holds no result record"):
            read_model(run, [tmp_path / "empty"])

    @pytest.mark.parametrize("file", ["model.safetensors", "training_config.json", "student/config.json"])
    def test_of_a_folder_that_is_not_a_model(self, run, tmp_path, file):
        shutil.copytree(run / "model", tmp_path / "model")
        (tmp_path / "model" / file).unlink()
        with pytest.raises(HubError, match=f"not a trained model \\({file} is missing\\)"):
            read_model(tmp_path / "model")
