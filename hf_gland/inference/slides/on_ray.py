"""Slides shared out over the machines of a Ray cluster: on each worker the same function as on one machine.

All machines see the files and the output folder under the same paths, and have this package. A worker that is killed is
started anew; what it had finished has a record and stays.
"""

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from hf_gland.errors import HfGlandError
from hf_gland.imaging.opening import displayable
from hf_gland.inference.requests import Request
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.slides.cohort import SlideSettings, predict_one, read_record, write_error
from hf_gland.model.cpu import make_fast

RETRIES = 3  # of a slide whose worker was killed; after that the slide itself is taken for the cause


class SlideWorker:
    """One process on one machine: a model, by which it predicts one slide after the other."""

    def __init__(self, load: Callable[[], GlandSegmenter], requests: Sequence[Request], settings: SlideSettings,
                 folder: str, before: Sequence[dict[str, Any] | None]):
        os.chdir(folder)  # that of the command, as its paths may be relative
        make_fast()
        self.segmenter, self.requests, self.settings, self.before = load(), requests, settings, before

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predict the slide of that number, unless it has a record other than `before`, which is then of this run."""
        request = self.requests[row["number"]]
        try:
            record = read_record(request)
            if record == self.before[row["number"]]:
                record = predict_one(self.segmenter, request, self.settings)
            return row | {"record": json.dumps(record), "errno": 0}
        except OSError as error:  # a full disk: not of this slide, but of the whole run
            return row | {"record": str(error), "errno": error.errno}


def predict_on_ray(address: str, load: Callable[[], GlandSegmenter], requests: Sequence[Request],
                   settings: SlideSettings, on_gpus: bool = True) -> Iterator[dict[str, Any]]:
    """Predict slides on the cluster at `address` ("local": one that is started on this machine for the time); yields the
    record of each as it is done.

    `load`: opens the model, on a worker. A worker has a GPU of its own where the cluster has some and `on_gpus`; otherwise
    HF_GLAND_THREADS cores, or those of the smallest machine. A slide whose worker is killed is tried RETRIES times more, and
    then has failed. Raises HfGlandError without Ray, or where its workers cannot start; OSError for a full disk.
    """
    if importlib.util.find_spec("ray") is None:
        raise HfGlandError("--ray needs Ray; install it with: pip install 'hf_gland[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a laboratory's runs are its own business
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what becomes of a slide is said by its record
    left, before = dict(enumerate(requests)), [read_record(request) for request in requests]
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.max_errored_blocks = False, -1  # where the worker was killed, again and again
        cores, gpus, workers = _shares(ray.nodes(), on_gpus)
        slides = ray.data.from_items([{"number": number} for number in left], override_num_blocks=len(left))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_task_retries is to get another name in Ray 2.64, which the extra excludes
            done = slides.map(
                cast(Any, SlideWorker), fn_constructor_args=[load, requests, settings, os.getcwd(), before], num_cpus=cores,
                num_gpus=gpus,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(left)), max_tasks_in_flight_per_actor=1),
                max_task_retries=RETRIES, runtime_env={"env_vars": {"HF_GLAND_THREADS": str(cores)}})
        for row in done.iter_rows():
            if row["errno"]:
                raise OSError(row["errno"], row["record"])
            del left[row["number"]]
            yield json.loads(row["record"])
    except ray.exceptions.RayError as error:
        raise HfGlandError(f"Ray could not go on: {error}") from error
    finally:
        ray.shutdown()
    for request in left.values():
        yield write_error(request, f"{displayable(request.path)}: its worker was killed {RETRIES + 1} times, as by lack of "
                          "memory; try a smaller --batch-size, or machines with more", settings)


def _shares(nodes: Sequence[dict[str, Any]], on_gpus: bool) -> tuple[int, int, int]:
    """Cores and GPUs of a worker, and how many workers there is room for."""
    machines = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    if not machines:
        raise HfGlandError("the Ray cluster has no machine with processors for work")
    if on_gpus and (gpus := int(sum(machine.get("GPU", 0) for machine in machines))):
        return 1, 1, gpus
    threads = os.environ.get("HF_GLAND_THREADS")
    cores = int(threads) if threads else int(min(machine["CPU"] for machine in machines))
    return cores, 0, max(int(sum(machine["CPU"] // cores for machine in machines)), 1)
