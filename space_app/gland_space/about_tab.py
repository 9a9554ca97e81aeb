"""The About tab: measured figures, method, limits, licence, citation, and how to use this elsewhere."""

from html import escape

import gradio as gr

from gland_space.demo import Demo
from gland_space.figures import model_figures, model_licence, results_table
from gland_space.limits import MEGAPIXEL, Limits
from gland_space.method_picture import TEXT, method_svg
from gland_space.widgets import html_widget
from hf_gland.hub.citations import PAPER_BIBTEX

PAPER = ("https://arxiv.org/abs/2603.08605", "Weakly Supervised Teacher-Student Framework with Progressive Pseudo-mask "
         "Refinement for Gland Segmentation")


def build_about_tab(demo: Demo) -> None:
    with gr.Column(elem_classes="gl-about"):
        gr.Markdown("**For research only. Not for diagnosis.** Nothing here has been validated for clinical use.\n\n"
                    + _model_text(demo))
        gr.Markdown("## Method")
        html_widget(f'<div class="gl-figure">{method_svg()}</div>', "about-method")
        gr.Markdown(TEXT + f"\n\nAfter *{PAPER[1]}* ([arXiv 2603.08605]({PAPER[0]})).")
        gr.Markdown(_figures_text(demo))
        gr.Markdown(_limits_text(demo.limits))
        gr.Markdown(_use_text(demo))


def _model_text(demo: Demo) -> str:
    if demo.model is None:
        return "No model is loaded."
    segmenter = demo.model.segmenter
    parameters = sum(p.numel() for p in segmenter.model.parameters())
    mpp = f"{segmenter.mpp:g} µm per pixel" if segmenter.mpp else "an unstated pixel size"
    classes = ", ".join(f"{i} {name}" for i, name in segmenter.id2label.items())
    kind = getattr(getattr(segmenter.model, "config", None), "model_type", "network")
    return (f"## Model\n`{demo.model_name}`: {kind}, {parameters / 1e6:.1f} million parameters, trained at {mpp}. "
            f"Classes: {classes}.")


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
- The model knows the stain, the scanners and the organ it was trained on. Elsewhere it can be wrong and sure of itself.
- **Confidence** is the model's own probability of the class it chose. It is not the probability that a diagnosis is right.
- Give the pixel size: at another magnification than the model's, outlines are wrong without any warning from the model.
- A gland that touches the border is cut; its sizes are lower bounds (marked *cut*). Touching glands may be
  joined.
- Pictures of up to {limits.max_file_mb} MB and {limits.max_decoded_px // MEGAPIXEL} million pixels are accepted (of
  pyramids, the level that fits). Longer sides than {limits.max_side_px} px are reduced for segmentation, longer ones than
  {limits.max_annotated_px} px for annotation, with a note.
- Pictures and results are kept in memory and in a temporary folder for {limits.keep_minutes:g} minutes after their last use,
  are seen by nobody else, and are used for nothing else."""


def _use_text(demo: Demo) -> str:
    licence = "" if demo.model is None else model_licence(demo.model.source)
    model = f"This model: {licence}, as its card says." if licence else \
        "A model and the data it was trained on carry their own."
    repository = demo.model_name if demo.model is not None and not demo.model.source.is_folder else "path/to/model"
    return f"""## Run it yourself
```
pip install -r requirements.txt                # of this Space
HF_GLAND_MODEL={repository} python app.py      # a Hub id, owner/name@revision, or a folder
```
In Python, without the page:
```python
from hf_gland.inference import GlandSegmenter
prediction = GlandSegmenter.from_pretrained("{repository}").predict("biopsy.png", mpp=0.5)
```

## API
Named endpoints with typed inputs and outputs; *Use via API* at the foot of the page lists them all.
```python
from gradio_client import Client, handle_file
client = Client("http://127.0.0.1:7860")       # or the name of the Space
summary, glands, *files = client.predict(handle_file("biopsy.png"), mpp=0.5, api_name="/segment")
```
Started with `--mcp`, the same endpoints are tools for language models (it needs `pip install 'gradio[mcp]'`).

## Licence and citation
Code: Apache-2.0. {model} Please cite
```bibtex
{PAPER_BIBTEX}
```
"""


def header_html(demo: Demo) -> str:
    chip = f'<span class="gl-chip">model: {escape(demo.model_name)}</span>'
    return ('<header class="gl-header"><h1>Gland segmentation</h1>'
            f'<p><span class="gl-warning">Research only, not for diagnosis.</span> {chip}</p></header>')


def no_model_html(problem: str | None) -> str:
    """What to do where there is no model."""
    why = f'<p class="gl-message gl-error" role="alert">{escape(problem)}</p>' if problem else ""
    return f"""<section class="gl-message" id="no-model"><h2>There is no model to show yet</h2>{why}
<p>Give one in any of these ways, then start the demo again:</p>
<ol><li>Train the demo model, in a few minutes: <code>make demo</code>. It is found by itself.</li>
<li>Name one: <code>HF_GLAND_MODEL=owner/name python space_app/app.py</code>, with <code>owner/name@revision</code> for a
certain version, or a folder that training wrote, such as <code>runs/first/model</code>.</li>
<li>On a Hugging Face Space: <em>Settings → Variables and secrets → New variable</em> <code>HF_GLAND_MODEL</code>.</li></ol>
<p>Annotating pictures works without a model.</p></section>"""
