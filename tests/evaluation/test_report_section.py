from dataclasses import replace

import pytest

from hf_gland.config import all_variants
from hf_gland.evaluation.records import ResultError, ResultRecord
from hf_gland.evaluation.report import (
    annotation_section,
    headline,
    published_section,
    results_section,
    timings_section,
    trains_now,
    trials_section,
)
from hf_gland.metrics.keys import MEASURED

REFERENCES = [{"name": all_variants()["ours"].paper, "supervision": "glands", "mIoU": 80.1, "mDice": 89.1,
               "source": "arXiv"}]
HEADS = ("| ---", "| variant", "| style", "| method", "| test split", "| backbone", "| asked for")


def record(variant="ours", mean_iou=80.0, **changes):
    values = {"recipe": "bench", "style": "glands", "background": "rim+scribble", "budget": 0.2, "seed": 0,
              "dataset": "glas", "train_split": "train", "test_split": "testA", "backbone": "mit-b0", "command": "c",
              "commit": "abc", "data_sha256": "0" * 64, "hardware": "a CPU", "train_seconds": 321.0, "extra": {}}
    if variant == "full":
        values |= {"style": "full", "background": "all", "budget": 1.0}
    metrics = dict.fromkeys(MEASURED, 50.0) | {"mIoU": mean_iou, "brier": 0.1, "errors_in_least_confident_10": 51.5}
    return ResultRecord(variant=variant, metrics=metrics, **values | changes)


def tables(text):
    """{heading: its lines that are rows}."""
    found, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line[4:]
        elif line.startswith("| ") and not line.startswith(HEADS):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_main_table_is_ordered_has_the_papers_row_and_says_what_was_recovered():
    text = results_section([record("sparse-only", 70.0), record("ours", 76.0), record("full", 80.0),
                            record("ours", 77.0, seed=1)], REFERENCES)
    rows = tables(text)["The method beside its baselines"]
    assert [row[0] for row in rows] == ["full", "ours", "sparse-only"]
    assert rows[1][1:4] == ["80.1 / 89.1", "2", "76.5 ± 0.7"]
    assert "- glands, rim+scribble, 20 %: 60 % of 10.0 points (1 seed)\n" in text  # of the seed that all three have
    assert "recovers" not in results_section([record("sparse-only", 70.0), record("ours", 76.0, seed=1), record("full")], [])


def test_the_share_that_was_recovered_is_of_the_means_over_the_seeds():
    levels = {"sparse-only": (70.0, 72.0), "ours": (76.0, 77.0), "full": (80.0, 81.0)}
    text = results_section([record(variant, level, seed=seed) for variant, found in levels.items()
                            for seed, level in enumerate(found)], REFERENCES)
    assert "- glands, rim+scribble, 20 %: 58 % of 9.5 points\n" in text
    assert "\n\n\n" not in text


def test_a_recipe_before_and_after_it_was_made_longer_is_two_parts_of_a_table():
    text = results_section([record(variant, level + steps / 100, extra={"steps": steps, "mpp": 0.83})
                            for variant, level in (("sparse-only", 60.0), ("ours", 66.0), ("full", 70.0))
                            for steps in (600, 1200)], REFERENCES)
    assert [row[0] for row in tables(text)["The method beside its baselines"]] == ["full", "ours", "sparse-only"] * 2
    parts = text.split("glas, recipe `bench`, ")
    assert [part[:32] for part in parts[1:3]] == ["600 steps at 0.83 µm per pixel, ", "1200 steps at 0.83 µm per pixel,"]
    assert all("20 %: 60 % of 10.0 points" in part for part in parts[1:3])


def test_the_headline_is_of_its_recipe_as_it_trains_now_with_the_published_figures_of_the_same():
    now = {"recipe": "full", "extra": {"mpp": 0.83, "steps": 1600}}
    others = [record("ours", 1.0), record("ours", 2.0, recipe="full", extra={"mpp": 1.24, "steps": 1600}),
              record("ours", 3.0, budget=0.1, **now), record("ours", 4.0, test_split="testB", **now)]
    text = headline([*others, record("ours", 86.0, **now), record("ours", 87.0, seed=1, **now), record("full", 89.0, **now),
                     record("sparse-only", 85.0, **now)],
                    [*REFERENCES, {"name": "another", "supervision": "all", "mIoU": 99.0, "source": "arXiv"}])
    assert [[cell.strip() for cell in line.split("|")[1:-2]] for line in text.splitlines()[2:]] == [
        ["20 % of the glands outlined", "`--config full`", "2", "86.5 ± 0.7", *["50.0 ± 0.0"] * 3],
        ["20 % of the glands outlined", "arXiv", "", "80.1", "89.1", "–", "–"],
        ["20 % of the glands outlined, without the teacher", "`--config full`", "1", "85.0", *["50.0"] * 3],
        ["every pixel labelled", "`--config full`", "1", "89.0", *["50.0"] * 3]]
    assert headline(others, REFERENCES) == ""


def test_one_gland_per_image_is_not_all_glands_and_each_annotation_says_what_it_recovers():
    records = [record(variant, level, budget=budget, background="rim", extra={"labelled_fraction": 0.1})
               for budget, levels in ((1, (60.0, 75.0)), (1.0, (78.0, 79.0)))
               for variant, level in zip(("sparse-only", "ours"), levels, strict=True)]
    text = results_section([*records, record("full", 80.0)], REFERENCES)
    rows = tables(text)["What the annotator draws"]
    assert [(row[2], row[5], row[7]) for row in rows] == [
        ("1 per image", "ours", "75.0"), ("1 per image", "sparse-only", "60.0"),
        ("100 %", "ours", "79.0"), ("100 %", "sparse-only", "78.0")]
    assert "- glands, rim, 1 per image: 75 % of 20.0 points" in text
    assert "- glands, rim, 100 %: 50 % of 2.0 points" in text
    assert len({r.name for r in records}) == 4


def test_a_share_of_the_images_is_told_from_a_share_of_the_glands():
    records = [record(variant, level, style="images", background="all", budget=budget,
                      extra={"labelled_fraction": 0.1, "annotated_glands": 80, "total_glands": 774})
               for budget, levels in ((0.1, (60.0, 75.0)), (9, (61.0, 71.0)))
               for variant, level in zip(("sparse-only", "ours"), levels, strict=True)]
    text = results_section([*records, record("full", 80.0)], REFERENCES)
    rows = tables(text)["A share of the images"]
    assert [row[:3] for row in rows] == [
        [asked, "80 of 774", variant]
        for asked in ("9 images", "10 % of the images") for variant in ("ours", "sparse-only")]
    assert "- images, all, 10 % of the images: 75 % of 20.0 points" in text
    assert records[2].name == "glas_train_testA_sparse-only_bench_mit-b0_images_all_9-images_seed0.json"


def test_folds_have_a_table_of_their_own_with_the_gain_on_the_same_patients():
    levels = {"full": (80.0, 90.0, 85.0), "ours": (78.0, 86.0, 82.0), "sparse-only": (77.0, 84.0, 79.0)}
    records = [record(variant, level + seed, test_split=f"test_fold{fold}of3", seed=seed)
               for variant, found in levels.items() for fold, level in enumerate(found, 1) for seed in (0, 1)]
    assert records[0].fold == (1, 3)
    assert not records[0].on_usual_images
    text = results_section([*records, record(), record("sparse-only", 70.0), record("full")], REFERENCES)
    rows = tables(text)["Patients that were never seen"]
    assert [(row[0], row[1], *row[3:5]) for row in rows] == [
        ("full", "full, all, 100 %", "3", "85.5 ± 5.0"), ("ours", "glands, rim+scribble, 20 %", "3", "82.5 ± 4.0"),
        ("sparse-only", "glands, rim+scribble, 20 %", "3", "80.5 ± 3.6")]
    assert "measured on the patients held out of `train` in 3 folds" in text
    assert "standard deviation over folds" in text
    assert "- glands, rim+scribble, 20 %, mit-b0: mIoU +2.0 ± 1.0, object F1 +0.0 ± 0.0 (3 folds)" in text
    assert tables(text)["The method beside its baselines"][0][2] == "1"
    fewer = [replace(r, extra=r.extra | {"train_images": 60 + r.seed}) for r in records]
    with pytest.raises(ResultError, match="train_images"):
        results_section(fewer, REFERENCES)
    some = [r for r in records if (r.variant, r.fold) != ("full", (2, 3))]
    assert [row[3] for row in tables(results_section(some, REFERENCES))["Patients that were never seen"]] == [
        "2 of 3 (1, 3)", "3", "3"]
    found = tables(results_section([*records[:1], record(backbone="mit-b5", test_split="test_fold1of5")], REFERENCES))
    assert set(found) == {"Patients that were never seen"}


def test_rows_that_all_stand_above_are_no_table_of_their_own():
    found = tables(results_section([record(), record("full"), record("sparse-only", 70.0)], REFERENCES))
    assert set(found) == {"The method beside its baselines"}
    assert len(tables(results_section([record(), record("no-ema")], REFERENCES))["Ablations"]) == 2


def test_figures_after_clean_up_have_a_column_where_a_record_has_them():
    new = record(seed=1)
    new.metrics["cleaned_mIoU"] = 81.25
    text = results_section([record(), new, record("sparse-only", 70.0), record(budget=1)], REFERENCES)
    main, drawn = text.split("### What the annotator draws")
    assert "| mIoU after clean-up (%) |" in main
    assert [row[-1] for row in tables(main)["The method beside its baselines"]] == ["81.2 (1 of 2)", ""]
    assert "after clean-up" in drawn
    assert "after clean-up" not in results_section([record(), record("no-ema")], REFERENCES)


def test_variants_are_explained_where_they_come_first():
    text = results_section([record(), record("sparse-only", 70.0), record("no-ema"), record("ours-held-out")], REFERENCES)
    main, ablations = text.split("### Ablations")
    assert main.count("\n- `ours`: sparse labels, widened by a teacher") == 1
    assert "\n- `no-ema`: the student labels for itself\n" in ablations
    assert [text.count(f"- `{name}`: ") for name in ("ours", "sparse-only", "no-ema", "naive")] == [1, 1, 1, 0]


def test_what_a_recipe_trained_like_before_is_told_from_what_it_trains_like_now():
    now = {"mpp": 0.83, "steps": 1200}
    assert trains_now(record(extra=now))
    assert trains_now(record("full", extra={"mpp": 0.83, "steps": 1600}, recipe="full"))
    assert not any(trains_now(record(**before)) for before in (
        {"extra": now | {"steps": 600}}, {"extra": now | {"mpp": 1.24}}, {}, {"recipe": "gone", "extra": now}))


def test_published_figures_are_a_row_each():
    text = published_section([{"name": "A", "supervision": "all", "source": "arXiv", "mIoU": 80.1, "object_f1": 91.2}])
    assert tables(text)["Published figures on GlaS"] == [["A", "all", "arXiv", "80.1", "–", "91.2", "–", "–"]]


def test_every_kind_of_record_finds_its_table():
    found = tables(results_section([
        record(), record("no-ema"), record("warmup-10"), record(background="rim"), record(style="points", budget=None),
        record(budget=1), record(backbone="random-segformer"), record(test_split="testA@stain2"),
        record("adapted", recipe="adapt"), record("ours-held-out", extra={"temperature": 1.3})], REFERENCES))
    assert set(found) == {"The method beside its baselines", "Ablations", "What the annotator draws", "Schedules",
                          "Other networks", "A foreign stain", "Calibration"}
    assert found["Calibration"] == [["ours-held-out", "1.30", "1", "80.0", "50.0", "0.100", "51.5"]]
    assert len(found["What the annotator draws"]) == 4


def test_what_no_other_table_shows_stands_in_the_last_one():
    found = tables(results_section([record(), record("something-new", seed=2), record("mean-teacher", background="rim"),
                                    record(test_split="test@crag")], REFERENCES))
    assert list(found) == ["The method beside its baselines", "Other runs"]
    assert {tuple(row[:5]) for row in found["Other runs"]} == {
        ("ours", "glands, rim+scribble, 20 %", "mit-b0", "test@crag", "1"),
        ("mean-teacher", "glands, rim, 20 %", "mit-b0", "testA", "1"),
        ("something-new", "glands, rim+scribble, 20 %", "mit-b0", "testA", "1")}


def test_a_recipes_own_encoder_is_a_usual_one_with_a_part_of_its_own():
    levels = {"mit-b0": (60.0, 66.0, 70.0), "mit-b5": (70.0, 78.0, 80.0)}
    text = results_section([record(variant, level, recipe="gpu", backbone=backbone) for backbone, found in levels.items()
                            for variant, level in zip(("sparse-only", "ours", "full"), found, strict=True)], REFERENCES)
    assert list(tables(text)) == ["The method beside its baselines"]
    parts = text.split("glas, recipe `gpu`, ")
    assert [part.split(" (")[0] for part in parts[1:]] == ["measured on `testA`", "encoder mit-b5, measured on `testA`"]
    assert ["60 % of 10.0 points" in parts[1], "80 % of 10.0 points" in parts[2]] == [True, True]


def test_only_networks_that_are_named_random_are_said_to_be_from_random_weights():
    text = results_section([record(backbone="mit-b5"), record(backbone="random-segformer")], REFERENCES)
    assert "those named random-… from random weights" in text
    assert [row[0] for row in tables(text)["Other networks"]] == ["mit-b5", "random-segformer"]


def test_timings_are_ratios_with_their_range():
    ratio = {"median": 1.234, "lowest": 1.1, "highest": 1.456}
    text = timings_section([{"ratios": {"ours / theirs": ratio}, "hardware": "a CPU", "precision": "float32 for both"}])
    assert "| ours / theirs | float32 for both | a CPU | 1.23 | 1.10 – 1.46 |" in text
    assert "| r | not recorded | a CPU | 1.23 |" in timings_section([{"ratios": {"r": ratio}, "hardware": "a CPU"}])
    agreeing = {"ratios": {"r": ratio}, "hardware": "a CPU", "benchmark": "ours against theirs",
                "pixels_that_agree": {"median": 0.971, "lowest": 0.9, "highest": 0.98}}
    assert ("The class maps of both agree in 97 % of the pixels (median of the images; 90 to 98 %): ours against theirs."
            in timings_section([agreeing]))
    stages = timings_section([{"ratios": {"ours / theirs": ratio}, "hardware": "a CPU", "benchmark": "a step",
                               "stages_ms": {"loss": 1.25, "all else": 3.0}}])
    assert "| loss | a step | 1.2 |\n| all else | a step | 3.0 |" in stages
    run = {"side_px": 20_000, "tissue_mm2": 2.0, "tiles": 42, "seconds": {"planning": 4.94, "prediction in all": 11.38},
           "postprocessing_share": 0.168, "peak_memory_mib": 1484}
    slides = timings_section([{"ratios": {"r": ratio}, "hardware": "a CPU", "postprocessing_share": 0.162, "runs": [run]}])
    assert "| 20,000 | 2 | 42 | 5 | 11 | 17 | 1.4 |" in slides
    assert timings_section([]) == ""


def test_trials_are_a_table_per_benchmark_that_has_some():
    trial = {"variant": "ours", "mpp": 0.83, "crops": "3 × 320²", "augmentation": "doubled", "fold": 2, "mIoU": 77.25,
             "object_f1": 71.0, "object_dice": 74.96, "object_hausdorff": 140.4, "mIoU_restained": 61.04}
    text = trials_section([{"ratios": {}}, {"benchmark": "sizes", "about": "How.", "hardware": "a CPU", "trials": [trial],
                            "columns": {"variant": "variant", "mpp": "µm per pixel", "crops": "crops (px)",
                                        "augmentation": "augmentation", "fold": "fold"}}])
    assert text.startswith("### Choices: sizes\n\nHow. (a CPU)\n\n| variant | µm per pixel | crops (px) |")
    assert "| object Hausdorff (px) | mIoU, restained (%) |\n" in text
    assert "| ours | 0.83 | 3 × 320² | doubled | 2 | 77.2 | 71.0 | 75.0 | 140.4 | 61.0 |" in text
    assert trials_section([{"ratios": {}}]) == ""
    other = {"stain": "matched", "mIoU": 69.54, "object_f1": 64.0, "object_dice": 67.5, "object_hausdorff": 154.4}
    table = trials_section([{"benchmark": "stain", "about": "So.", "hardware": "a CPU", "columns": {"stain": "seen with"},
                             "trials": [other]}])
    assert "| seen with | mIoU (%) | object F1 (%) | object Dice (%) | object Hausdorff (px) |\n" in table
    assert "| matched | 69.5 | 64.0 | 67.5 | 154.4 |\n" in table


def test_ways_of_choosing_outlines_are_rows_with_their_budgets_beside():
    record = {"benchmark": "where next", "about": "How.", "budgets": [0.02, 0.1], "seeds": [0, 1], "recipe": "bench",
              "train_options": "--steps 9", "split": "testA", "hardware": ["a CPU"], "precision": ["float32"],
              "mIoU": {"random": [[70.0, 80.0], [72.0, None]], "suggested": [[71.0, None], [None, None]]},
              "object_f1": {"random": [[50.0, 60.0], [52.0, 64.0]], "suggested": [[51.0, None], [None, None]]},
              "area_under_the_curve": {"random": {"mean": 75.25, "sd": 0.5}}}
    text = annotation_section([{"ratios": {}}, record])
    assert text.startswith("### Choices: where next\n\nHow. (a CPU, float32; recipe `bench`, `--steps 9`; measured on "
                           "`testA`;")
    assert "| glands chosen | figure | 2 % outlined | 10 % outlined | area |" in text
    assert "| random | mIoU (%) | 71.0 ± 1.4 | 80.0 (1 of 2) | 75.2 ± 0.5 |" in text
    assert "| suggested | mIoU (%) | 71.0 (1 of 2) | – | |" in text
    assert "| random | object F1 (%) | 51.0 ± 1.4 | 62.0 ± 2.8 | |" in text
    assert annotation_section([{"ratios": {}}]) == ""
