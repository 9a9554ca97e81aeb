import io

import numpy as np
import pytest
from PIL import Image

from hf_gland.inference.glands import GlandPrediction, glands_from_probabilities
from hf_gland.options import ExportOptions, PostProcessing

KEEP_ALL = PostProcessing(min_gland_area_px=0, max_hole_area_px=0)
NAMES = {0: "background", 1: "benign", 2: "malignant"}


@pytest.fixture
def predicted():
    """`predicted(class_map, mpp=None)`: a prediction of three classes with this class map, 90 % sure."""
    def build(class_map: np.ndarray, mpp: float | None = None) -> GlandPrediction:
        probabilities = np.full((3, *class_map.shape), 0.05, np.float32)
        np.put_along_axis(probabilities, class_map[None].astype(np.intp), np.float32(0.9), axis=0)
        return glands_from_probabilities(probabilities, NAMES, KEEP_ALL, mpp=mpp)
    return build


@pytest.fixture
def two_glands(predicted):
    """A 10×12 benign ring (rows 5-14, columns 4-15) with a 2×4 hole, and a 6×6 malignant square, of 0.5 µm pixels."""
    class_map = np.zeros((30, 40), np.uint8)
    class_map[5:15, 4:16] = 1
    class_map[9:11, 8:12] = 0
    class_map[20:26, 30:36] = 2
    return predicted(class_map, mpp=0.5)


@pytest.fixture
def written():
    """`written(writer, prediction, **options)`: the bytes that a format's writer makes."""
    def write(writer, prediction, **options):
        file = io.BytesIO()
        writer(file, prediction, ExportOptions(**options))
        return file.getvalue()
    return write


@pytest.fixture
def drawn(written):
    """`drawn(writer, prediction)`: the picture that a format's writer makes."""
    return lambda writer, prediction: Image.open(io.BytesIO(written(writer, prediction)))
