"""`import hf_gland` is light, and gives what people need by name."""

import subprocess
import sys

import pytest

import hf_gland


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'transformers', 'datasets', 'matplotlib'}"
    subprocess.run([sys.executable, "-c", f"import sys, hf_gland; assert not {heavy} & set(sys.modules)"], check=True)


def test_the_public_names_are_found():
    from hf_gland import GlandSegmenter, PostProcessing, Tiling
    from hf_gland.inference.segmenter import GlandSegmenter as Original

    assert GlandSegmenter is Original
    assert (Tiling().tile_px, PostProcessing().split_touching) == (1024, True)
    assert all(hasattr(hf_gland, name) for name in hf_gland.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hf_gland.nothing  # noqa: B018
