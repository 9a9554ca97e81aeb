"""What to cite."""

PAPER_BIBTEX = """\
@article{khan2026gland,
  title={Weakly Supervised Teacher-Student Framework with Progressive Pseudo-mask Refinement for Gland Segmentation},
  author={Khan and Chen and Niazi},
  journal={arXiv preprint arXiv:2603.08605}, year={2026}, url={https://arxiv.org/abs/2603.08605}
}"""
GLAS_BIBTEX = """\
@article{sirinukunwattana2017gland,
  title={Gland segmentation in colon histology images: The GlaS challenge contest},
  author={Sirinukunwattana, Korsuk and Pluim, Josien P. W. and Chen, Hao and others},
  journal={Medical Image Analysis}, volume={35}, pages={489--502}, year={2017}
}
@article{sirinukunwattana2015stochastic,
  title={A Stochastic Polygons Model for Glandular Structures in Colon Histology Images},
  author={Sirinukunwattana, Korsuk and Snead, David R. J. and Rajpoot, Nasir M.},
  journal={IEEE Transactions on Medical Imaging}, volume={34}, number={11}, pages={2366--2378}, year={2015}
}"""


def data_bibtex(source: str) -> str:
    """The papers of a data source by the name its provenance gives it; "" where none is known."""
    return GLAS_BIBTEX if source.lower() == "glas" else ""
