"""A slide of many glands: every outline valid, time linear, memory flat."""

import json
import resource
import time

import numpy as np
import pytest
from scipy import ndimage
from shapely.geometry import shape

from hf_gland.inference.glands import GlandRules
from hf_gland.inference.slides.outputs import SlideOutputs
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.options import PostProcessing

PITCH_PX = 40


def rings(rng):
    """Probabilities [32, PITCH, PITCH] of 32 uneven rings, some of which touch the next one."""
    y, x = np.mgrid[:PITCH_PX, :PITCH_PX] - PITCH_PX / 2 + 0.5
    made = []
    for _ in range(32):
        radius = np.hypot(y, x * rng.uniform(0.75, 1.2))
        outer = 15 + ndimage.gaussian_filter(rng.normal(0, 12, radius.shape), 3) + rng.uniform(-2, 3)
        made.append(1 / (1 + np.exp(radius - outer)) / (1 + np.exp(6 - radius)))
    return np.clip(made, 0.01, 0.99).astype(np.float32)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("side", [14, pytest.param(350, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_outlines_are_valid_and_time_and_memory_do_not_grow_faster_than_glands(tmp_path, side):
    rng = np.random.default_rng(3)
    patterns = rings(rng)
    grid = SlideGrid(side * PITCH_PX, side * PITCH_PX, 0.5, scale_xy=(1.98, 1.98))
    post = PostProcessing(min_gland_confidence=0, min_gland_area_px=30, max_hole_area_px=20)
    rules = GlandRules({0: "background", 1: "gland"}, post, mpp=0.5)
    cpu_s, memory = [], []
    thumbnail = np.zeros((9, 9, 3), np.uint8)
    with SlideOutputs(tmp_path / "a", ["geojson", "csv", "mask"], rules, grid, thumbnail, "a") as outputs:
        for row in range(side):
            gland = np.concatenate(patterns[rng.integers(0, 32, side)], axis=1)
            stripe = Stripe(row * PITCH_PX, np.stack([1 - gland, gland]), np.ones(gland.shape, bool))
            started = time.process_time()
            outputs.add(stripe)
            cpu_s.append(time.process_time() - started)
            memory.append(peak_mib())
        outputs.finish({})
    glands = holes = 0
    with outputs.paths["geojson"].open("rb") as file:
        assert file.readline() == b'{"type":"FeatureCollection","features":[\n'
        for line in file:
            feature = json.loads(line.removesuffix(b",\n").removesuffix(b"]}\n"))
            outline = shape(feature["geometry"])
            assert outline.is_valid, feature["id"]
            assert outline.area == pytest.approx(feature["properties"]["measurements"]["Area px^2"], rel=2e-3)
            for part in getattr(outline, "geoms", [outline]):
                assert part.exterior.is_ring
                holes += len(part.interiors)
            glands += 1
    assert glands == outputs.counts.glands > 0.8 * side**2  # some touch, and are one
    assert holes > 0.7 * side**2
    if side > 100:
        print(f"{glands} glands, {holes} holes, {sum(cpu_s):.0f} CPU-s, {memory[-1]:.0f} MiB")
        half = side // 2
        assert sum(cpu_s[half:]) < 1.5 * sum(cpu_s[:half])
        assert memory[-1] < memory[side // 4] + 100
