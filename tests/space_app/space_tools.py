"""A model whose answer is known, pictures for it, and the page served from this process."""

import sys
import threading
from pathlib import Path

import numpy as np
import torch
from gradio_client import Client
from ports import free_port
from torch import nn

from hf_gland.inference.segmenter import GlandSegmenter, Preprocessing

SPACE_APP = Path(__file__).resolve().parents[2] / "space_app"
sys.path.insert(0, str(SPACE_APP))  # as it is when `python space_app/app.py` runs

from gland_space.demo import Demo  # noqa: E402
from gland_space.model_source import LoadedModel, ModelSource  # noqa: E402
from gland_space.pictures import Limits  # noqa: E402
from gland_space.server import TemporaryFolder  # noqa: E402


class DarkIsGland(nn.Module):
    """A network whose answer is known: a pixel is gland as surely as it is dark.

    `gate`: while it is closed, the network waits. `runs` counts the batches it has seen.
    """

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.runs = 0

    def forward(self, pixel_values):
        self.runs += 1
        assert self.gate.wait(timeout=600)
        darkness = 0.5 - pixel_values.mean(dim=1, keepdim=True)
        return type("Output", (), {"logits": torch.cat([-5 * darkness, 5 * darkness], dim=1)})


def dark_segmenter(mpp=0.8, gland="gland"):
    scaling = Preprocessing(rescale=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return GlandSegmenter(DarkIsGland(), scaling, {0: "background", 1: gland}, device="cpu", mpp=mpp)


def dark_demo(folder, mpp=0.8, **limits):
    model = LoadedModel(dark_segmenter(mpp), ModelSource("test/dark-is-gland"))
    return Demo(model, None, folder, Limits(**limits))


def discs(count, height=200, width=260, radius=20, darkness=0.95):
    """A bright uint8 [H, W, 3] picture with `count` dark discs in a row, well apart; one beyond 5 goes to a second row.

    One of radius 20 has 804 µm² at the model's 0.8 µm per pixel, well above the smallest gland.
    """
    image = np.full((height, width), 240.0)
    y, x = np.mgrid[:height, :width]
    for index in range(count):
        row, column = divmod(index, 5)
        inside = (x - (26 + 52 * column)) ** 2 + (y - (50 + 80 * row)) ** 2 <= radius**2
        image[inside] = 255 * (1 - darkness)
    return np.repeat(image[..., None], 3, axis=2).astype(np.uint8)


def connect(url, downloads=False):
    """A client of the API that waits longer than a busy machine takes; it puts files into the folder `downloads`."""
    return Client(url, verbose=False, download_files=downloads and str(downloads), httpx_kwargs={"timeout": 300})


class Server:
    """The page of a demo, served on loopback from this process."""

    def __init__(self, **options):
        from gland_space.page import build_page, launch_options

        self.temporary = TemporaryFolder(24 * 3600)
        self.demo = dark_demo(self.temporary.path, **options)
        self.network = self.demo.model.segmenter.model
        self.page = build_page(self.demo)
        self.page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True,
                         **launch_options(self.demo))
        self.url = self.page.local_url.rstrip("/")

    def close(self):
        self.network.gate.set()
        self.page.close()
        self.demo.runner.close()
        self.temporary.close()
