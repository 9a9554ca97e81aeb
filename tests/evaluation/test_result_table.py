"""Tables: every cell can be computed by hand from the records, and misleading rows are refused."""

from dataclasses import replace

import pytest

from hf_gland.evaluation.records import ResultError, ResultRecord, read_results
from hf_gland.evaluation.result_table import class_table, markdown_table
from hf_gland.metrics.keys import MEASURED


def record(variant, seed, extra=None, **metrics):
    return ResultRecord(variant=variant, recipe="bench", style="glands", background="rim", budget=0.2,
                        seed=seed, dataset="synthetic", train_split="train", test_split="testA",
                        backbone="mit-b0", command="x", commit="c", data_sha256="0" * 64, hardware="h",
                        train_seconds=1.0, metrics=dict.fromkeys(MEASURED, 10.0) | metrics, extra=extra or {})


RECORDS = [
    record("ours", 0, mIoU=80.0, brier=0.1234), record("ours", 1, mIoU=81.0, brier=0.2),
    record("ours", 2, mIoU=84.0, brier=None, brier_missing="why"),
    record("full", 0, mIoU=90.04, brier=None, brier_missing="why"),
]


def test_mean_and_sample_deviation_over_seeds():
    # ours: mean 245/3 = 81.67, deviations -1.67, -0.67, 2.33: sd = sqrt(8.667 / 2) = 2.08
    assert markdown_table(RECORDS, ["mIoU", "object_hausdorff", "brier"], ["variant"]) == (
        "| variant | seeds | mIoU (%) | object Hausdorff (px) | Brier |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| ours | 3 | 81.7 ± 2.1 | 10.0 ± 0.0 | 0.162 ± 0.054 (2 of 3) |\n"
        "| full | 1 | 90.0 | 10.0 | – |\n")


def test_same_table_from_the_files_alone(tmp_path):
    for each in RECORDS:
        each.write(tmp_path)
    by_name = sorted(RECORDS, key=lambda r: r.name)
    columns, groups = ["mIoU", "ece"], ["dataset", "variant"]
    assert markdown_table(read_results(tmp_path), columns, groups) == markdown_table(by_name, columns, groups)


def test_rows_by_an_extra_key():
    records = [record("ours", 0, {"threshold": "a|b"}, mIoU=1.0), record("ours", 0, mIoU=2.0)]
    table = markdown_table(records, ["mIoU"], ["threshold"]).splitlines()
    assert table[2:] == ["| a\\|b | 1 | 1.0 |", "| – | 1 | 2.0 |"]


def test_rows_that_mix_settings_are_refused():
    with pytest.raises(ResultError, match="mixes different variant"):
        markdown_table(RECORDS, ["mIoU"], ["dataset"])


def test_figures_by_class_are_named_where_there_are_more_than_two():
    scored = record("ours", 0)
    scored.metrics.update(class_iou=[90.0, 71.25, None], class_dice=[95.0, 83.25, None])
    text = class_table([scored], ("background", "benign", "malignant"))
    assert "| testA | benign | 71.2 | 83.2 |" in text
    assert "| testA | malignant | – | – |" in text
    assert "count all gland classes as one" in text
    assert class_table([scored], ("background", "gland")) == ""


def test_rows_that_mix_training_images_are_refused_but_over_folds():
    records = [record("ours", seed, {"train_images": images}) for seed, images in enumerate((85, 85, 68))]
    with pytest.raises(ResultError, match="mixes different train_images"):
        markdown_table(records, ["mIoU"], ["variant"])
    assert markdown_table([*records[:2], record("ours", 2)], ["mIoU"], ["variant"])  # one from before it was noted
    folds = [replace(r, seed=0, test_split=f"test_fold{r.seed + 1}of3") for r in records]
    assert markdown_table(folds, ["mIoU"], ["variant"], over="fold")


def test_repeated_seeds_are_refused():
    with pytest.raises(ResultError, match="same seed"):
        markdown_table([*RECORDS, RECORDS[0]], ["mIoU"], ["variant"])


@pytest.mark.parametrize(("columns", "groups"), [(["mIou"], ["variant"]), (["mIoU"], ["varient"])])
def test_misspelt_columns_are_refused(columns, groups):
    with pytest.raises(ResultError, match="no record has"):
        markdown_table(RECORDS, columns, groups)


def test_no_records_give_a_header_only():
    assert markdown_table([], ["mIoU"], ["variant"]).count("\n") == 2
