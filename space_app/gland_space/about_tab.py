"""The About tab: figures read from result records and the model's card, method, limits, licence, citation, use elsewhere."""

from html import escape
from pathlib import Path

import gradio as gr
import yaml
from huggingface_hub import ModelCard, ModelCardData, snapshot_download

from gland_space.demo import Demo
from gland_space.model_source import ModelSource
from gland_space.page_parts import html_widget
from gland_space.pictures import MEGAPIXEL, Limits
from hf_gland.evaluation.records import ResultError, read_results
from hf_gland.evaluation.result_table import markdown_table
from hf_gland.hub.cards import PAPER_BIBTEX
from hf_gland.markdown import code_block, escaped, table
from hf_gland.metrics.keys import COMPARED

PAPER = ("https://arxiv.org/abs/2603.08605", "Weakly Supervised Teacher-Student Framework with Progressive Pseudo-mask "
         "Refinement for Gland Segmentation")
OWN = ("dataset", "test_split")
ALL = ("dataset", "test_split", "variant", "recipe", "backbone", "style", "background", "budget")


def build_about_tab(demo: Demo) -> None:
    with gr.Column(elem_classes="gl-about"):
        _markdown("**For research only. Not for diagnosis.** Nothing here has been validated for clinical use.\n\n"
                    + _model_text(demo))
        _markdown("## Method")
        html_widget(f'<div class="gl-figure">{method_svg()}</div>', "about-method")
        _markdown(TEXT + f"\n\nAfter *{PAPER[1]}* ([arXiv 2603.08605]({PAPER[0]})).")
        _markdown(_figures_text(demo))
        _markdown(_limits_text(demo.limits))
        _markdown(_use_text(demo))


def _markdown(text: str) -> gr.Markdown:
    return gr.Markdown(text, latex_delimiters=[])


def _model_text(demo: Demo) -> str:
    if demo.model is None:
        return "No model is loaded."
    segmenter = demo.model.segmenter
    parameters = sum(p.numel() for p in segmenter.model.parameters())
    mpp = f"{segmenter.mpp:g} µm per pixel" if segmenter.mpp else "an unstated pixel size"
    classes = ", ".join(f"{i} {escaped(name)}" for i, name in segmenter.id2label.items())
    kind = getattr(getattr(segmenter.model, "config", None), "model_type", "network")
    return (f"## Model\n<code>{escaped(demo.model_name)}</code>: {escaped(kind)}, {parameters / 1e6:.1f} million "
            f"parameters, trained at {mpp}. Classes: {classes}.")


def _figures_text(demo: Demo) -> str:
    own = "" if demo.model is None else model_figures(demo.model.source)
    none = "No model is loaded." if demo.model is None else "This model comes with no measured figures."
    project = "" if demo.results is None else results_table(demo.results)
    text = "## Measured figures\n" + (own or none)
    if project:
        text += ("\n\n### Models of this project\nMean ± standard deviation over seeds, read from the result records of the "
                 "runs.\n\n" + project)
    return text + ("\n\nmIoU and mDice pool the pixels of a split and average over background and gland; object figures are "
                   "those of the GlaS challenge; ECE is the calibration error of the confidence." if own or project else "")


def _limits_text(limits: Limits) -> str:
    return f"""## Limits
- The model knows the stain, the scanners and the organ it was trained on. Elsewhere it can be
  wrong at high confidence.
- **Confidence** is the model's own probability of the class it chose. It is not the probability that a diagnosis is right.
- Give the pixel size: at another magnification than the model's, outlines are wrong without any warning from the model.
- A gland that touches the border is cut; its sizes are lower bounds (marked *cut*). Touching glands may be
  joined.
- Files of up to {limits.max_file_mb} MB are accepted: slides of any size in pixels, of which a part of up to
  {limits.max_region_px // MEGAPIXEL} million pixels at the model's pixel size is segmented at a time, and pictures of up to
  {limits.max_decoded_px // MEGAPIXEL} million pixels. Longer sides
  than {limits.max_side_px} px are reduced for segmentation, longer ones than {limits.max_annotated_px} px for annotation,
  with a note.
- Pictures and results are kept in memory and in a temporary folder for {limits.keep_minutes:g} minutes after their last use,
  up to {limits.quota_mb} MB of all visitors together (the oldest go first), are seen by nobody else, and are used for
  nothing else. What you draw is kept in your own browser too."""


def _use_text(demo: Demo) -> str:
    licence = "" if demo.model is None else model_licence(demo.model.source)
    model = f"This model: {escaped(licence)}, as its card says." if licence else \
        "A model and the data it was trained on carry their own."
    hub = demo.model.source if demo.model is not None and not demo.model.source.is_folder else None
    source = hub or ModelSource("path/to/model")
    revision = f', revision="{source.revision}"' if source.revision else ""
    start = f"""pip install -r requirements.txt                # of this Space
HF_GLAND_MODEL={source.shown} python app.py      # a Hub id, owner/name@revision, or a folder"""
    use = f"""from hf_gland import GlandSegmenter
prediction = GlandSegmenter.from_pretrained("{source.location}"{revision}).predict("biopsy.png", mpp=0.5)"""
    return f"""## Run it yourself
{code_block(start)}
In Python, without the page:
{code_block(use, "python")}

## API
Named endpoints with typed inputs and outputs; *Use via API* at the foot of the page lists them all.
```python
from gradio_client import Client, handle_file
client = Client("http://127.0.0.1:7860")       # or the name of the Space
summary, glands, *files = client.predict(handle_file("biopsy.png"), mpp=0.5, api_name="/segment")
```
Started with `--mcp`, the same endpoints are tools for language models (it needs `pip install 'gradio[mcp]'`); they take
pictures as `data:` URIs, and fetch none from an address.

## Licence and citation
Code: Apache-2.0. {model} Please cite
```bibtex
{PAPER_BIBTEX}
```
"""


def header_html(demo: Demo) -> str:
    name = demo.model_name if demo.model is None else f"model: {demo.model_name}"
    chip = f'<span class="gl-chip">{escape(name)}</span>'
    return ('<header class="gl-header"><h1>Gland segmentation</h1>'
            f'<p><span class="gl-warning">Research only, not for diagnosis.</span> {chip}</p></header>')


def no_model_html(problem: str | None) -> str:
    """What to do where there is no model."""
    why = f'<p class="gl-message gl-error" role="alert">{escape(problem)}</p>' if problem else ""
    return f"""<section class="gl-message" id="no-model">
<h2>No model is loaded: pictures can be annotated, but not segmented</h2>{why}
<p>Give a model in one of these ways, then start the demo again:</p>
<ol><li>Train the demo model, in a few minutes: <code>make demo</code>. It is found by itself.</li>
<li>Name one: <code>HF_GLAND_MODEL=owner/name python space_app/app.py</code>, with <code>owner/name@revision</code> for a
certain version, or a folder that training wrote, such as <code>runs/first/model</code>.</li>
<li>On a Hugging Face Space:
<em>Settings → Variables and secrets → New variable</em> <code>HF_GLAND_MODEL</code>.</li></ol></section>"""


def model_figures(source: ModelSource) -> str:
    """A Markdown table of this model's own figures, or an empty text.

    They are those of the records in its folder or repository (`results/`), else of its card's front matter
    (`model-index`), else, for a model that was trained here, of the records that evaluation left beside its run.
    """
    folder = _own_files(source)
    if folder is None:
        return ""
    beside = folder.parent.parent / "evaluation" if source.is_folder and folder.name == "model" else None
    return (results_table(folder / "results", OWN) or _card_figures(folder / "README.md")
            or (results_table(beside, OWN) if beside is not None else ""))


def results_table(folder: Path, group_by: tuple[str, ...] = ALL) -> str:
    """The result records of a folder as a Markdown table; empty where there are none that can be shown as one.

    What all records have in common is said once, above the table.
    """
    try:
        records = read_results(folder) if folder.is_dir() else []
        if not records:
            return ""
        records = [escaped(record) for record in records]
        values = {field: {getattr(record, field) for record in records} for field in group_by}
        varying = tuple(field for field in group_by if field == "test_split" or len(values[field]) > 1)
        same = ", ".join(f"{field.replace('_', ' ')} {next(iter(values[field]))}" for field in group_by
                         if field not in varying)
        return (f"All rows: {same}.\n\n" if same else "") + markdown_table(records, COMPARED, varying)
    except ResultError:
        return ""


def model_licence(source: ModelSource) -> str:
    """The licence that the model's card names, or an empty text."""
    folder = _own_files(source)
    card = None if folder is None else _card(folder / "README.md")
    if card is None or not card.license:
        return ""
    return str(card.get("license_name") or card.license) if card.license == "other" else str(card.license)


def _own_files(source: ModelSource) -> Path | None:
    """The folder that holds the model's card and records, downloaded if need be."""
    if source.is_folder:
        return Path(source.location).resolve()
    try:
        return Path(snapshot_download(source.location, revision=source.revision,
                                      allow_patterns=["README.md", "results/*.json"]))
    except (OSError, ValueError):
        return None


def _card(file: Path) -> ModelCardData | None:
    try:
        data = ModelCard.load(file).data if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return data if isinstance(data, ModelCardData) else None


def _card_figures(file: Path) -> str:
    card = _card(file)
    results = [] if card is None else card.eval_results or []
    cells = [(r.dataset_name, r.dataset_split or "", r.metric_name or r.metric_type, _shown(r.metric_value))
             for r in results]
    return table(("dataset", "split", "figure", "value"), escaped(cells), 3) if cells else ""


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


# The method in one drawing, in the page's own colours: one for a wide page and one for a phone.
_BOXES = (  # heading, line below, kind
    ("a few outlines", "255 = not labelled", ""),
    ("teacher", "average of past students", "gl-strong"),
    ("student", "learns at every step", "gl-strong"),
    ("pseudo-mask", "refined as it learns", ""),
)
_CAPTIONS = ("moving average", "where confidence > τ(t)", "loss on labelled pixels alone", "outlines always win", "warm-up")
# A layout: size, width of a box, corners of the boxes, and for each arrow its path and its caption's place and anchor.
_WIDE = (
    (810, 235), 190, ((10, 95), (300, 20), (300, 170), (610, 95)), (
        ("M395 170V84", 404, 155, "start"),
        ("M490 50C600 50 700 60 704 91", 600, 40, "middle"),
        ("M705 155C705 195 600 200 494 200", 600, 222, "middle"),
        ("M200 125H606", 215, 117, "start"),
        ("M105 155C105 195 200 200 296 200", 190, 222, "middle"),
    ))
_NARROW = (
    (470, 370), 182, ((144, 10), (144, 300), (43, 150), (245, 150)), (
        ("M115 210C115 250 145 270 169 296", 108, 262, "end"),
        ("M301 300C325 270 355 250 355 214", 343, 284, "start"),
        ("M297 210C297 232 173 232 173 214", 235, 246, "middle"),
        ("M280 70C305 100 330 115 335 146", 331, 112, "start"),
        ("M190 70C165 100 140 115 135 146", 139, 112, "end"),
    ))
TEXT = ("A student network learns from a few outlined glands. A teacher, the moving average of the student, labels the "
        "pixels of high confidence; outlined pixels always keep their own label. The threshold of confidence falls as "
        "training goes on, so that the pseudo-masks grow.")


def method_svg() -> str:
    """Four boxes and the arrows between them, twice: the stylesheet shows the one that fits. `TEXT` says the same."""
    return _drawing(_WIDE, "gl-method") + _drawing(_NARROW, "gl-method gl-narrow")


def _drawing(layout: tuple, kind: str) -> str:
    (width, height), box_width, corners, paths = layout
    tip = f"tip-{width}"
    boxes = "".join(
        f'<rect class="{style}" x="{x}" y="{y}" width="{box_width}" height="60" rx="9"/>'
        f'<text x="{x + box_width / 2:g}" y="{y + 27}" text-anchor="middle" font-weight="600">{head}</text>'
        f'<text class="gl-small" x="{x + box_width / 2:g}" y="{y + 46}" text-anchor="middle">{below}</text>'
        for (x, y), (head, below, style) in zip(corners, _BOXES, strict=True))
    arrows = "".join(
        f'<path d="{path}" marker-end="url(#{tip})"/>'
        f'<text class="gl-small" x="{x}" y="{y}" text-anchor="{anchor}">{caption}</text>'
        for (path, x, y, anchor), caption in zip(paths, _CAPTIONS, strict=True))
    return (f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{TEXT}"><title>The method</title>'
            f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0L8 4L0 8z"/></marker></defs>{boxes}{arrows}</svg>')
