"""README.md of a dataset folder, and the parts of it that stand in its card on the Hub as well."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_gland.data.sources import source_of
from hf_gland.markdown import count, escaped, table

# Licences that the Hub knows (https://huggingface.co/docs/hub/repositories-licenses); any other goes into the card's text.
_KNOWN = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl mpl-2.0 odc-by odbl openmdw-1.0 openrail++
    osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license
    llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
HUB_LICENCES = frozenset(_KNOWN.split())


def folder_card(provenance: Mapping[str, Any]) -> str:
    """The card: front matter with the licence and the data files of every split, then what the data is and whom to cite."""
    front = ["---", f"license: {provenance['licence'] if provenance['licence'] in HUB_LICENCES else 'other'}",
             "task_categories:", "- image-segmentation", "tags:", "- histopathology", "- weak-supervision", "configs:",
             "- config_name: default", "  data_files:"]
    front += [line for s in provenance["splits"] for line in (f"  - split: {s}", f"    path: data/{s}-*.parquet")]
    shown = escaped(provenance)  # names, sources and licences are other people's text
    settings = ", ".join(f"{name} {value}" for name, value in shown["sparsify"].items())
    known = source_of(provenance["source"])
    citation = ["Citation:", "", "```bibtex", known.bibtex, "```", ""] if known is not None and known.bibtex else []
    return "\n".join([
        *front, "---", "", f"# Glands, sparsely annotated: {shown['source']}", "",
        f"Classes: {class_list(shown['class_names'])}. 255 is unlabelled, which is not background.", "",
        statistics_table({"": shown}),
        f"Splits by patient: {split_note(shown)}", "", f"Annotation: {settings}; seed {shown['seed']}.", "",
        *([restained_note(shift), ""] if (shift := shown.get("sources", {}).get("stain_shift")) else []),
        f"Licence: {shown['licence']}.", "", *citation,
        f"Data SHA-256 (pixels and ids): `{shown['data_sha256']}`. `provenance.json` holds the rest.", ""])


def class_list(class_names: Sequence[str]) -> str:
    """`0 background, 1 gland`."""
    return ", ".join(f"{number} {name}" for number, name in enumerate(class_names))


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
    shared, splits = provenance.get("shared_patients", {}), provenance["splits"]
    unknown = [f"`{name}`" for name, split in splits.items() if not split["patients"]]
    if len(unknown) == len(splits):
        return "no, as the patients are unknown; images of one patient may be in several splits."
    pairs = "; ".join(f"`{a}` and `{b}` share {count(len(ids), 'patient')}"
                      for (a, b), ids in ((pair.split("+"), ids) for pair, ids in shared.items()))
    own = " (the source's own test splits)" if all("test" in pair for pair in shared) else ""
    note = f"{pairs}{own}; no other two splits share one" if pairs else "no patient is in two splits"
    return note + (f", as far as is known: those of {', '.join(unknown)} are not." if unknown else ".")


def restained_note(strength: float) -> str:
    """What `build_dataset --stain-shift` did to the images."""
    return f"The images are restained, as another laboratory might stain them (strength {strength:g})."
