"""Time the web demo: its answer to a picture beside the bare model, slides, sliders, and many visitors at once.

  python tests/space_app/benchmark_space.py --model RUN/model --images FOLDER --mpp 0.62 --out space.json

picture: from the upload to the finished view (read, segment, measure, draw) against the network alone on the same tiles; the
aim is at most 1.5 × the network + 0.5 s. slides: of 20,000×15,000 px, from the upload to the overview (2 s), and the tiles
of a view of 1280×512 px at each level (0.5 s), of an SVS and of an OME-TIFF. sliders: in chromium, from the event to the
frame that shows it (0.3 s). visitors: `--clients` at once over HTTP from a process of their own, each with one picture, for
`--seconds`: every answer has to be that which its picture got alone (the exit status is 1 if one was not); what the server's
memory grew by, and the size of its folder. Beside seconds by the clock, which on a busy machine are longer, stand those of
the processors (cpu_s).
"""

import argparse
import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve the web server
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "space_app"))

import browser_tools
import gradio as gr
import torch
from gland_space.demo import Demo
from gland_space.model_source import load_model, parse_source
from gland_space.page import SegmentTab, build_page, launch_options
from gland_space.pictures import Limits
from gland_space.runner import Job
from gland_space.server import TemporaryFolder
from gland_space.slides import TILE_PX
from gradio_client import Client, handle_file
from slide_scene import write_scene

from hf_gland.evaluation.benchmarks import write_benchmark
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.pictures import read_picture
from hf_gland.imaging.resample import resample_image
from hf_gland.inference import GlandSegmenter
from hf_gland.model.cpu import use_all_cores
from hf_gland.model.tiled import tile_starts
from hf_gland.options import Tiling

TILING, REPEATS, PICTURES = Tiling(), 3, 3
VIEW_HW = (512, 1280)
DISCS = [(10_000 + 300 * i, 7500 + 200 * j, 60) for i in range(-8, 9) for j in range(-6, 7)]  # of both slides
GEOJSON = 2  # its place in the answer of /segment
SLIDERS = {"opacity": ".gl-opacity", "smallest_gland": "#segment-area [type=range]",
           "uncertain_below": "#segment-uncertain [type=range]"}
MOVE_JS = """async (selector) => {
  const input = document.querySelector(`#segment-stage ${selector}`);
  const stage = document.querySelector("#segment-stage .gl-stage");
  const frame = () => new Promise(requestAnimationFrame), taken = [];
  for (let turn = 0; turn < 20; turn++) {
    const begun = performance.now();
    input.value = Number(input.min) + (input.max - input.min) * (0.2 + 0.03 * turn);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    do await frame(); while (stage.dataset.moving !== undefined);
    await frame();  // the one before is on the screen
    taken.push((performance.now() - begun) / 1000);
  }
  return taken.sort((a, b) => a - b);
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--mpp", type=float, required=True, help="µm per pixel of the pictures")
    parser.add_argument("--clients", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=60, help="that they keep asking [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args()
    use_all_cores()
    images = sorted(path for path in arguments.images.iterdir() if path.suffix.lower() in SUFFIXES)
    folder = TemporaryFolder(600)
    try:
        demo = Demo(load_model(parse_source(arguments.model)), None, folder.path, Limits())
        with gr.Blocks():
            tab = SegmentTab(demo, [])
        figures = {"benchmark": "web demo", "load_before": os.getloadavg()[0],
                   "picture": answers(demo, tab, images, arguments.mpp)}
        for name, options in (("slide_svs", {}), ("slide_ome_tiff", {"ome": True})):
            path = write_scene(folder.path / f"scene.{'ome.tif' if options else 'svs'}", 20_000, 15_000, DISCS, **options)
            figures[name] = slide_views(demo, tab, path)
            path.unlink()
        figures["sliders"] = sliders(demo, images[0], arguments.mpp)
        figures["visitors"] = visitors(demo, images, arguments.mpp, arguments.clients, arguments.seconds)
        demo.runner.close()
    finally:
        folder.close()
    write_benchmark(arguments.out, figures)
    if wrong := figures["visitors"]["wrong_answers"]:
        print(f"error: {wrong} of {figures['visitors']['answers']} answers were other than alone", file=sys.stderr)
    return int(wrong > 0)


def in_turns(works: Sequence[Callable[[], object]], repeats: int) -> list[tuple[float, float]]:
    """Median seconds of each, by the clock and of the processors, over `repeats` rounds after one that warms up; in turns,
    so that all meet the same machine."""
    taken: list[list[tuple[float, float]]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, seconds in zip(works, taken, strict=True):
            begun, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:
                seconds.append((time.perf_counter() - begun, time.process_time() - cpu))
    return [(statistics.median(clock for clock, _ in seconds), statistics.median(cpu for _, cpu in seconds))
            for seconds in taken]


def bare_network(segmenter: GlandSegmenter, path: Path, mpp: float) -> Callable[[], object]:
    """The network alone on the tiles that the demo gives it, ready in memory."""
    rgb = read_picture(path, upright=False).rgb
    hw = segmenter.working_hw(rgb.shape[:2], mpp)
    image = torch.from_numpy(resample_image(rgb, hw)).permute(2, 0, 1)
    side, batch, forward = TILING.tile_px, TILING.batch_size, segmenter.network(TILING)
    tiles = [image[:, y:y + side, x:x + side] for y in tile_starts(hw[0], side, TILING.stride_px)
             for x in tile_starts(hw[1], side, TILING.stride_px)]
    batches = [torch.stack(tiles[start:start + batch]) for start in range(0, len(tiles), batch)]
    return lambda: [forward(one) for one in batches]


def answers(demo: Demo, tab: SegmentTab, images: Sequence[Path], mpp: float) -> dict[str, Any]:
    """Seconds of the demo's whole answer and of the bare network, median over pictures."""
    assert demo.model is not None
    bare, whole, cpu = [], [], []
    for path in images[:PICTURES]:
        def answer(path: Path = path) -> None:
            key, _ = demo.load(path)
            *_, (_, changes) = tab.answer(Job(), {"view": key}, str(mpp))
            tab.view(changes[tab.stage]["view"])

        (network, network_cpu), (answered, answered_cpu) = in_turns(
            [bare_network(demo.model.segmenter, path, mpp), answer], REPEATS)
        bare.append(network)
        whole.append(answered)
        cpu.append((network_cpu, answered_cpu))
    shares = [answered / (1.5 * network + 0.5) for network, answered in zip(bare, whole, strict=True)]
    return {"pictures": len(bare), "bare_network_s": statistics.median(bare), "answer_s": statistics.median(whole),
            "slowest_answer_s": max(whole), "share_of_what_is_allowed": max(shares),
            "bare_network_cpu_s": statistics.median(network for network, _ in cpu),
            "answer_cpu_s": statistics.median(answered for _, answered in cpu)}


def slide_views(demo: Demo, tab: SegmentTab, path: Path) -> dict[str, Any]:
    """Seconds of a slide's first view, and of the tiles of one view at each level."""
    key, loaded = demo.load(path)
    ((first, first_cpu),) = in_turns([lambda: tab.view(demo.load(path)[0])], REPEATS)
    height, width = loaded.picture.full_hw
    zooms, cpu = {}, {}
    for level in range(16):
        side = TILE_PX << level
        if 2**level >= loaded.picture.reduction:
            break
        tiles = [[column, row] for row in range(height // 2 // side, (height // 2 + (VIEW_HW[0] << level)) // side + 1)
                 for column in range(width // 2 // side, (width // 2 + (VIEW_HW[1] << level)) // side + 1)
                 if column * side < width and row * side < height]
        asked = {"view": key, "level": level, "at": tiles}
        if demo.tiles(asked) is None:
            raise RuntimeError(f"{path.name}: no tiles of level {level}")
        name = f"1:{2**level}"
        ((zooms[name], cpu[name]),) = in_turns([lambda asked=asked: demo.tiles(asked)], REPEATS)
    return {"width_px": width, "height_px": height, "first_view_s": first, "first_view_cpu_s": first_cpu,
            "tiles_of_a_view_s": zooms, "tiles_of_a_view_cpu_s": cpu}


@contextlib.contextmanager
def served(demo: Demo) -> Iterator[str]:
    """The address of the demo's page."""
    page = build_page(demo)
    with patch("gradio.networking.url_ok", lambda url: True):  # which gives a busy machine three seconds
        page.launch(server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True, **launch_options(demo))
    try:
        yield page.local_url.rstrip("/")
    finally:
        page.close()


def sliders(demo: Demo, path: Path, mpp: float) -> dict[str, Any]:
    """Median and longest seconds of each slider, over a result on the page."""
    with served(demo) as url, browser_tools.browser() as chromium, browser_tools.visit(chromium, url) as page:
        browser_tools.segment(page, path, str(mpp))
        taken = {name: page.evaluate(MOVE_JS, selector) for name, selector in SLIDERS.items()}
    return {name: {"median_s": statistics.median(seconds), "longest_s": seconds[-1]} for name, seconds in taken.items()}


def visitors(demo: Demo, images: Sequence[Path], mpp: float, clients: int, seconds: float) -> dict[str, Any]:
    """How many answers that many visitors get, how many of them are wrong, and what they leave behind."""
    with served(demo) as url, \
            concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        jobs = [(url, images[number % len(images)], mpp) for number in range(clients)]
        process.submit(crowd, jobs, seconds / 4).result()  # pools, caches and threads reach their size
        gc.collect()
        before = resident_mb()
        found = process.submit(crowd, jobs, seconds).result()
        waits = [wait for wait, _ in found]
        gc.collect()
        return {"clients": clients, "pictures": len(set(jobs)), "seconds": seconds, "answers": len(waits),
                "wrong_answers": sum(not right for _, right in found),
                "median_wait_s": statistics.median(waits), "longest_wait_s": max(waits),
                "memory_before_mb": before, "memory_grown_mb": resident_mb() - before, "quota_mb": demo.limits.quota_mb,
                "files_mb": sum(file.stat().st_size for file in demo.folder.rglob("*") if file.is_file()) / 2**20}


def crowd(jobs: Sequence[tuple[str, Path, float]], seconds: float) -> list[tuple[float, bool]]:
    """Seconds that each answer took, asked for from as many threads as `jobs`, and whether it was the right one."""
    with tempfile.TemporaryDirectory() as place, patch("tempfile.tempdir", place):  # gradio_client leaves folders there
        alone = {path: ask(Client(url, verbose=False, download_files=place), path, mpp) for url, path, mpp in set(jobs)}
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            until = time.monotonic() + seconds
            found = pool.map(lambda job: visit(*job, alone[job[1]], until, place), jobs)
            return [answer for answers in found for answer in answers]


def visit(url: str, path: Path, mpp: float, expected: str, until: float, place: str) -> list[tuple[float, bool]]:
    """One visitor, who asks about one picture again and again: see `crowd`."""
    client, found = Client(url, verbose=False, download_files=place, httpx_kwargs={"timeout": 300}), []
    while not found or time.monotonic() < until:
        begun = time.perf_counter()
        right = ask(client, path, mpp) == expected
        found.append((time.perf_counter() - begun, right))
    client.close()
    return found


def ask(client: Client, path: Path, mpp: float) -> str:
    """The outlines of a picture, as GeoJSON."""
    answer = client.predict(handle_file(str(path)), mpp=mpp, api_name="/segment")
    text = Path(answer[GEOJSON]).read_text()
    for file in answer[GEOJSON:]:
        with contextlib.suppress(OSError):
            Path(file).unlink()
    return text


def resident_mb() -> float:
    """Memory of this process; Linux alone says so."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
