"""What to cite."""

from hf_gland.data.sources import source_of

PAPER_BIBTEX = """\
@article{khan2026gland,
  title={Weakly Supervised Teacher-Student Framework with Progressive Pseudo-mask Refinement for Gland Segmentation},
  author={Khan and Chen and Niazi},
  journal={arXiv preprint arXiv:2603.08605}, year={2026}, url={https://arxiv.org/abs/2603.08605}
}"""


def data_bibtex(source: str) -> str:
    """The papers of a data source by the name its provenance gives it; "" where none is known."""
    known = source_of(source)
    return "" if known is None else known.bibtex
