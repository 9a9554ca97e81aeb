import dataclasses
import json
from html import unescape

import gradio as gr
import pytest
from gland_space import about_tab
from gland_space.about_tab import model_figures, model_licence, results_table
from gland_space.model_source import ModelSource

METRICS = {"mIoU": 81.25, "mDice": 89.5, "gland_iou": 80.0, "gland_dice": 88.0, "image_dice": 87.0, "object_f1": 75.0,
           "object_dice": 80.0, "object_hausdorff": 60.0, "ece": 3.0, "brier": 0.05}
RECORD = {"variant": "ours", "recipe": "bench", "style": "glands", "background": "rim", "budget": 0.2, "seed": 0,
          "dataset": "glas", "train_split": "train", "test_split": "testA", "backbone": "mit-b0", "command": "c",
          "commit": "d", "data_sha256": "0" * 64, "hardware": "h", "train_seconds": 1.0, "metrics": METRICS}


def write(folder, name="r.json", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(RECORD | changes))


def test_records_in_the_models_folder_are_shown(tmp_path):
    write(tmp_path / "model" / "results")
    table = model_figures(ModelSource(str(tmp_path / "model")))
    assert "All rows: dataset glas." in table
    assert "| testA | 1 | 81.2 | 89.5 |" in table


def test_a_model_trained_here_shows_the_evaluation_beside_its_run(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    assert model_figures(ModelSource(str(tmp_path / "run" / "model"))) == ""
    write(tmp_path / "evaluation")
    assert "| testA | 1 | 81.2 |" in model_figures(ModelSource(str(tmp_path / "run" / "model")))


def test_a_card_with_a_model_index_is_read(tmp_path):
    (tmp_path / "README.md").write_text("""---
model-index:
- name: m
  results:
  - task: {type: image-segmentation}
    dataset: {type: glas, name: GlaS, split: testB}
    metrics:
    - {type: mIoU, name: mIoU, value: 77.125}
---
# m
""")
    assert "| GlaS | testB | mIoU | 77.12 |" in unescape(model_figures(ModelSource(str(tmp_path))))


@pytest.mark.parametrize("text", ["", "# no front matter", "---\nmodel-index: 3\n---\n"])
def test_a_card_without_figures_or_licence_shows_none(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert model_figures(ModelSource(str(tmp_path))) == ""
    assert model_licence(ModelSource(str(tmp_path))) == ""


@pytest.mark.parametrize(("text", "licence"), [
    ("license: apache-2.0", "apache-2.0"), ("license: other\nlicense_name: nvidia-segformer", "nvidia-segformer"),
    ("license: other", "other")])
def test_the_licence_of_the_model_is_that_of_its_card(tmp_path, text, licence):
    (tmp_path / "README.md").write_text(f"---\n{text}\n---\n# m\n")
    assert model_licence(ModelSource(str(tmp_path))) == licence


def test_seeds_are_averaged_and_broken_records_show_nothing_rather_than_something_wrong(tmp_path):
    write(tmp_path, "a.json")
    write(tmp_path, "b.json", seed=1, metrics=METRICS | {"mIoU": 83.25})
    assert "| testA | 2 | 82.2 ± 1.4 |" in results_table(tmp_path)
    write(tmp_path, "full.json", variant="full")
    both = results_table(tmp_path)
    assert "| testA | ours | 2 | 82.2 ± 1.4 |" in both
    assert "| testA | full | 1 | 81.2 |" in both
    assert "backbone mit-b0" in unescape(both).splitlines()[0]
    (tmp_path / "c.json").write_text("{}")
    assert results_table(tmp_path) == ""
    assert results_table(tmp_path / "missing") == ""


def test_of_a_hub_model_only_the_card_and_the_records_of_that_revision_are_fetched(tmp_path, monkeypatch):
    write(tmp_path / "results")
    asked = []

    def snapshot_download(repo, **options):
        asked.append((repo, options))
        return str(tmp_path)

    monkeypatch.setattr(about_tab, "snapshot_download", snapshot_download)
    assert "| testA | 1 | 81.2 |" in model_figures(ModelSource("owner/name", "v1"))
    assert asked == [("owner/name", {"revision": "v1", "allow_patterns": ["README.md", "results/*.json"]})]
    monkeypatch.setattr(about_tab, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    assert model_figures(ModelSource("owner/name")) == ""


def test_the_code_on_the_page_loads_the_revision_that_it_shows(make_demo, monkeypatch):
    monkeypatch.setattr(about_tab, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    demo = make_demo()
    demo = dataclasses.replace(demo, model=dataclasses.replace(demo.model, source=ModelSource("owner/name", "v1")))
    with gr.Blocks() as page:
        about_tab.build_about_tab(demo)
    text = "\n".join(block.value for block in page.blocks.values() if isinstance(block, gr.Markdown))
    assert 'from_pretrained("owner/name", revision="v1")' in text
    assert "HF_GLAND_MODEL=owner/name@v1 python" in text
