"""README.md of a dataset folder, and the parts of it that stand in its card on the Hub as well."""

from collections.abc import Mapping
from typing import Any

from hf_gland.data.sources import source_of
from hf_gland.markdown import count, escaped, table

# Licences that the Hub knows by these names; any other goes into the card's text, with `license: other`.
HUB_LICENCES = ("apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit",
                "unknown")


def folder_card(provenance: Mapping[str, Any]) -> str:
    """The card: front matter with the licence and the data files of every split, then what the data is and whom to cite."""
    front = ["---", f"license: {provenance['licence'] if provenance['licence'] in HUB_LICENCES else 'other'}",
             "task_categories:", "- image-segmentation", "tags:", "- histopathology", "- weak-supervision", "configs:",
             "- config_name: default", "  data_files:"]
    front += [line for s in provenance["splits"] for line in (f"  - split: {s}", f"    path: data/{s}-*.parquet")]
    shown = escaped(provenance)  # names, sources and licences are other people's text
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(shown["class_names"]))
    settings = ", ".join(f"{name} {value}" for name, value in shown["sparsify"].items())
    known = source_of(provenance["source"])
    citation = ["Citation:", "", "```bibtex", known.bibtex, "```", ""] if known is not None and known.bibtex else []
    return "\n".join([
        *front, "---", "", f"# Glands, sparsely annotated: {shown['source']}", "",
        f"Classes: {classes}. 255 is unlabelled, which is not background.", "", statistics_table({"": shown}),
        f"Splits by patient: {split_note(shown)}", "", f"Annotation: {settings}; seed {shown['seed']}.", "",
        f"Licence: {shown['licence']}.", "", *citation,
        f"Data SHA-256 (pixels and ids): `{shown['data_sha256']}`. `provenance.json` holds the rest.", ""])


def statistics_table(configurations: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per split of each configuration (its provenance by its name; a single one named "" is not named)."""
    rows = [[*([name] if name else []), split, s["images"], s["patients"] or "unknown", s["annotated_glands"],
             "unknown" if s["total_glands"] is None else s["total_glands"], f"{100 * s['labelled_fraction']:.2f}"]
            for name, provenance in configurations.items() for split, s in provenance["splits"].items()]
    head = ["split", "images", "patients", "glands annotated", "glands", "pixels labelled (mean %)"]
    named = "" not in configurations
    return table(["configuration", *head] if named else head, rows, 1 + named)


def split_note(provenance: Mapping[str, Any]) -> str:
    """Whether splits share patients, and which."""
    shared = provenance.get("shared_patients", {})
    if not any(s["patients"] for s in provenance["splits"].values()):
        return "no, as the patients are unknown; images of one patient may be in several splits."
    if not shared:
        return "no patient is in two splits."
    pairs = "; ".join(f"`{a}` and `{b}` share {count(len(ids), 'patient')}"
                      for (a, b), ids in ((pair.split("+"), ids) for pair, ids in shared.items()))
    return f"{pairs} (the source's own test splits); no other two splits share one."
