"""A trained model and what it takes to use it on a picture: pixel size, tiles, precision, clean-up."""

import hashlib
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSemanticSegmentation

from hf_gland.errors import HfGlandError, ModelError, PixelSizeError
from hf_gland.imaging.appearance import USUAL_LOOK, Appearance, Look, appearance_of
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.pictures import ImageSource, Picture, read_picture, read_rgb
from hf_gland.imaging.pixel_size import check_mpp, working_hw
from hf_gland.imaging.resample import resample_image
from hf_gland.inference.exported import NETWORK, ExportedNetwork, choose_backend
from hf_gland.inference.glands import GlandPrediction, glands_from_probabilities
from hf_gland.inference.read_ahead import ReadFile, batches, read_ahead
from hf_gland.metrics.temperature import apply_temperature
from hf_gland.model.backbones import usual_preprocessing
from hf_gland.model.border import output_maps
from hf_gland.model.cpu import side_by_side
from hf_gland.model.identity import APPEARANCE_KEY, has_border, model_facts
from hf_gland.model.loading import check_location, load_config, load_network_weights
from hf_gland.model.memory import out_of_memory
from hf_gland.model.precision import autocast, resolve_precision
from hf_gland.model.preprocessing import Preprocessing, read_preprocessing
from hf_gland.model.segformer_head import keep_channels_last, use_cheaper_head
from hf_gland.model.student import full_size_logits
from hf_gland.model.tiled import Forward, tile_starts
from hf_gland.model.views import averaged_over_views
from hf_gland.model.whole_picture import picture_probabilities
from hf_gland.options import PostProcessing, Tiling

Device = str | torch.device | None
MOST_HELPERS = 4  # threads that read files and find glands: about 50 ms a picture, many times a GPU's share of the work


class PixelSizeWarning(UserWarning):
    """An image came without a pixel size, and one had to be assumed."""


@dataclass(frozen=True, eq=False)
class FileResult:
    """One file of `predict_many`: either its `prediction`, and the `picture` as it was read, or what went wrong.

    `seconds`: the work it took, a batch's share of the network's time evenly.
    """

    path: Path
    prediction: GlandPrediction | None = None
    picture: Picture | None = None
    error: str | None = None
    seconds: float = 0.0


class GlandSegmenter:
    """Glands of H&E images, from a model folder or a Hub repository.

    >>> segmenter = GlandSegmenter.from_pretrained("path/to/model")  # doctest: +SKIP
    >>> prediction = segmenter.predict("biopsy.png", mpp=0.5)        # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, id2label: Mapping[int, str], *,
                 mpp: float | None = None, missing_mpp: float | None = None, temperature: float = 1.0,
                 device: Device = None, appearance: Appearance | None = None):
        self.device = _usable_device(device)
        self.model = model.to(self.device).eval()
        self.backend, self._run = "torch", self.model  # what computes, see use_backend
        self.preprocessing = preprocessing
        self.id2label = dict(id2label)
        self.mpp = mpp
        self.missing_mpp = missing_mpp or mpp  # what is assumed of a picture that comes without a pixel size
        self.temperature = temperature
        self.appearance = appearance  # of its training images

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, revision: str | None = None,
                        device: Device = None, subfolder: str | None = None) -> "GlandSegmenter":
        """Load a folder written by `save_pretrained`, or a Hub repository at `revision`; safetensors only.

        `device`: such as "cpu" or "cuda:0" (None: a GPU if there is one). `subfolder`: "student" holds the
        student of a teacher-student run. Raises ModelError, and HfGlandError for a device that cannot compute.
        """
        options: dict[str, Any] = {"revision": revision or "main", "subfolder": subfolder or ""}
        where = check_location(path_or_repo, subfolder or "")
        config = load_config(where, **options)
        facts = model_facts(config, where)
        model, absent = load_network_weights(AutoModelForSemanticSegmentation, where, config, **options)
        if absent:
            raise ModelError(f"{where}: {len(absent)} weights are missing ({absent[0]}, …): this is a pretrained encoder, "
                             "not a trained segmentation model. Train one from it first")
        use_cheaper_head(model)
        keep_channels_last(model)
        preprocessing = read_preprocessing(where, usual_preprocessing(config.model_type), **options)
        return cls(model, preprocessing, dict(enumerate(facts.class_names)), mpp=facts.mpp, missing_mpp=facts.missing_mpp,
                   temperature=facts.temperature, device=device,
                   appearance=appearance_of(getattr(config, APPEARANCE_KEY, None)))

    def use_backend(self, wanted: str, folder: Path, precision: str = "auto") -> str | None:
        """Compute with another library (see `inference.exported`), of the network exported to `folder`; returns what to say.

        Only on a CPU in float32: "auto" stays with torch elsewhere, and HfGlandError is raised for another.
        """
        if self.device.type != "cpu" or resolve_precision(self.device, precision) != torch.float32:
            if wanted not in ("auto", "torch"):
                raise HfGlandError(f"{wanted} computes in float32 on a CPU only; give --device cpu --precision float32")
            return None
        self.backend, words = choose_backend(wanted, folder, self.weights_sha256)
        if self.backend != "torch":
            self._run = ExportedNetwork(folder / NETWORK, self.backend, getattr(self.model, "config", None))
        return words

    @property
    def class_names(self) -> list[str]:
        """The classes by their number, background first."""
        return [name for _, name in sorted(self.id2label.items())]

    def predict(self, image: ImageSource, mpp: float | None = None, tiling: Tiling = Tiling(),
                post: PostProcessing = PostProcessing(), *, progress: Callable[[float], None] | None = None,
                name: str | None = None) -> GlandPrediction:
        """Segment one picture (see `read_rgb` for what is accepted); the result has the picture's own size.

        Its pixels are taken as they are stored, without the camera's orientation tag, as QuPath shows them.

        `mpp`: the picture's µm per pixel (None: what its file states). It is resampled to the pixel size the model was
        trained at; where neither is known that same size is assumed (or what training assumed of such images), with a
        PixelSizeWarning, and sizes in µm are left out.
        `progress` is called with the share done, 0-1. `name` is what errors call the picture.

        Raises ImageError, PixelSizeError, and ModelError where the model gives no probabilities.
        """
        path = Path(image) if isinstance(image, str | Path) else None
        label = name or (displayable(path) if path else "image")
        if path is not None:
            picture = read_picture(path, name=label, upright=False)
            rgb, mpp = picture.rgb, picture.mpp if mpp is None else mpp
        else:
            rgb = read_rgb(image, name=label, upright=False)
        clean_up = self._clean_up(mpp, post, label)
        look = self.look(rgb, mpp, label, tiling.match_stain)
        (maps,) = self._maps_alike([look.matched(rgb)], mpp, tiling, label, progress)
        return clean_up(maps, look, rgb=rgb, name=name or (displayable(path.name) if path else "image"))

    def probabilities(self, rgb: np.ndarray, mpp: float | None = None, tiling: Tiling = Tiling(), *,
                      progress: Callable[[float], None] | None = None, name: str = "image") -> np.ndarray:
        """Class probabilities float32 [C, H, W] of uint8 [H, W, 3], without clean-up; options as in
        `predict`.

        With a `confidence_temperature` T in the model's config they are calibrated: softmax(log p / T).
        """
        seen = self.look(rgb, mpp, name).matched(rgb) if tiling.match_stain else rgb
        return self._maps_alike([seen], mpp, tiling, name, progress)[0][:len(self.id2label)]

    def _maps_alike(self, pictures: Sequence[np.ndarray], mpp: float | None, tiling: Tiling, name: str,
                    progress: Callable[[float], None] | None) -> list[np.ndarray]:
        """Calibrated class probabilities of equally large pictures, and P(border | gland) where the network gives it:
        float32 [C or C + 1, H, W] each, in one pass where they are no larger than a tile."""
        hw = self.working_hw(pictures[0].shape[:2], mpp, name)
        forward = self.network(tiling)
        if progress is not None:
            rows, columns = (len(tile_starts(side, tiling.tile_px, tiling.stride_px)) for side in hw)
            forward = _reporting(forward, rows * columns * len(pictures), progress)
        try:
            full = picture_probabilities(forward, pictures, hw, self.device, tiling)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        return [self.calibrated(image).cpu().numpy() for image in full]

    @property
    def channels(self) -> int:
        """How many maps the network gives: one per class, and that of the border of glands if it has it."""
        return len(self.id2label) + has_border(getattr(self.model, "config", None))

    def network(self, tiling: Tiling) -> Forward:
        """What maps [B, 3, h, w] of 0-255 at the model's pixel size to the network's output [B, channels, h, w]."""
        precision = resolve_precision(self.device, tiling.precision)

        def forward(tiles: Tensor) -> Tensor:
            with torch.no_grad(), autocast(self.device, precision):
                return output_maps(full_size_logits(self._run, self.preprocessing(tiles)), len(self.id2label))

        return averaged_over_views(forward, tiling.views)

    def passes(self, batch_size: int) -> int:
        """How many passes to have side by side, sharing `batch_size` pictures: on a CPU one for each of torch's
        threads, as a pass that is split over all of them waits for the slowest at each step."""
        return min(batch_size, torch.get_num_threads()) if self.device.type == "cpu" and self.backend == "torch" else 1

    def calibrated(self, output: Tensor) -> Tensor:
        """Blended output of the network, [channels, h, w], with the confidence that the model's temperature gives it."""
        if self.temperature == 1.0:
            return output
        classes = len(self.id2label)
        return torch.cat([apply_temperature(output[:classes], self.temperature), output[classes:]])

    def _clean_up(self, mpp: float | None, post: PostProcessing, name: str) -> Callable[..., GlandPrediction]:
        """What makes glands of the probabilities of pictures with this pixel size, and their look; raises PixelSizeError."""
        assumed_mpp = self._scale_mpp(mpp, name)
        post.areas_px(assumed_mpp, name)  # what it lacks is said before the network runs

        def clean_up(probabilities: np.ndarray, look: Look, **picture: Any) -> GlandPrediction:
            found = glands_from_probabilities(probabilities, self.id2label, post, mpp=mpp, assumed_mpp=assumed_mpp,
                                              temperature=self.temperature, **picture)
            return replace(found, look=look)

        return clean_up

    def predict_many(self, paths: Iterable[str | Path], mpp: float | None = None, tiling: Tiling = Tiling(),
                     post: PostProcessing = PostProcessing(), *,
                     progress: Callable[[float], None] | None = None) -> Iterator[FileResult]:
        """Predict file after file; one that cannot be used yields its error. Options as in `predict`.

        Up to `batch_size` pictures that are no larger than a tile are in the network at a time, neighbours of one size in
        one pass; where there are several files, in `passes` side by side. A larger picture has the network to itself.
        `progress` counts the pictures that are through it, from one thread at a time. Helper threads read the next files
        and find the glands of those before: up to three batches ahead of what is asked for, and one of the pictures that
        are larger than a tile.
        """
        def seen(picture: Picture) -> tuple[bool, Look]:
            given = picture.mpp if mpp is None else mpp
            small = max(self.working_hw(picture.rgb.shape[:2], given, picture.name)) <= tiling.tile_px
            return small, self.look(picture.rgb, given, picture.name, tiling.match_stain)

        paths = iter(paths)
        start, threads = list(islice(paths, 2)), torch.get_num_threads()
        passes = self.passes(tiling.batch_size) if len(start) > 1 else 1
        helpers = ThreadPoolExecutor(min(threads, MOST_HELPERS))
        found: deque[Future[Future[list[FileResult]]]] = deque()
        through, lock = 0, Lock()  # pictures that are through the network

        def within(share: float) -> None:
            if progress is not None:
                progress(through + share)

        def through_network(batch: Sequence[ReadFile], shown: Callable[[float], None] | None = None) -> (
                Future[list[FileResult]]):
            nonlocal through
            results = self._predict_batch(helpers, batch, mpp, tiling, post, shown)
            with lock:
                through += len(batch)
                if progress is not None:
                    progress(through)
            return results

        try:
            with side_by_side(passes) as networks:
                files = read_ahead(helpers, chain(start, paths), tiling.batch_size, seen)
                for batch in batches(files, tiling.batch_size // passes):
                    large = batch[0].picture is not None and not batch[0].small
                    if not large:
                        found.append(networks.submit(through_network, batch))
                    while found and (len(found) > passes or large):
                        yield from found.popleft().result().result()
                    if large:  # in this thread, so that Ctrl-C need not wait for all its tiles
                        yield from through_network(batch, within).result()
                for results in found:
                    yield from results.result().result()
        finally:
            helpers.shutdown(cancel_futures=True)

    def _predict_batch(self, helpers: ThreadPoolExecutor, batch: Sequence[ReadFile], mpp: float | None, tiling: Tiling,
                       post: PostProcessing, within: Callable[[float], None] | None) -> Future[list[FileResult]]:
        """Put the pictures of one size through the network, and leave their glands to the helpers."""
        def failed(error: str | None) -> list[FileResult]:
            return [FileResult(f.path, error=error, seconds=f.seconds) for f in batch]

        def said(error: Exception) -> str:
            return str(error) if isinstance(error, HfGlandError) else (
                f"{name}: too large for the memory of this machine; crop it, or try a smaller tile or batch")

        name = displayable(batch[0].path)
        pictures = [file.picture for file in batch if file.picture is not None]
        if not pictures:
            return helpers.submit(failed, batch[0].error)
        started = time.perf_counter()
        mpp = pictures[0].mpp if mpp is None else mpp
        try:
            clean_up = self._clean_up(mpp, post, name)
            seen = [file.look.matched(file.picture.rgb) for file in batch if file.picture is not None]
            probabilities = self._maps_alike(seen, mpp, tiling, name, within)
        except Exception as error:
            if not isinstance(error, PixelSizeError | ModelError) and not out_of_memory(error):
                raise
            if len(batch) == 1:
                return helpers.submit(failed, said(error))
            alone = [self._predict_batch(helpers, [file], mpp, tiling, post, within) for file in batch]
            return helpers.submit(lambda: [result for future in alone for result in future.result()])
        each = (time.perf_counter() - started) / len(batch)

        def finish(file: ReadFile, picture: Picture, of_file: np.ndarray) -> FileResult:
            started = time.perf_counter()
            try:
                prediction = clean_up(of_file, file.look, rgb=picture.rgb, name=displayable(file.path.name))
            except MemoryError as error:
                return FileResult(file.path, error=said(error), seconds=file.seconds + each)
            return FileResult(file.path, prediction, picture,
                              seconds=file.seconds + each + time.perf_counter() - started)

        return helpers.submit(lambda: [finish(*of_one) for of_one in zip(batch, pictures, probabilities, strict=True)])

    def working_hw(self, image_hw: tuple[int, int], mpp: float | None, name: str = "image") -> tuple[int, int]:
        """(height, width) at which the network sees a picture of `mpp` µm per pixel, None: what is assumed of it."""
        return working_hw(image_hw, self.missing_mpp if mpp is None else mpp, self.mpp, name)

    def look(self, rgb: np.ndarray, mpp: float | None, name: str = "image", match: bool = True) -> Look:
        """Whether a picture, uint8 [H, W, 3], looks unlike the training images, and, to `match`, what gives it theirs."""
        if self.appearance is None:
            return USUAL_LOOK
        return self.appearance.look([resample_image(rgb, self.working_hw(rgb.shape[:2], mpp, name))], match)

    def weights_sha256(self) -> str:
        """Checksum of all weights and buffers: equal for equal models, wherever they were loaded from."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _scale_mpp(self, mpp: float | None, name: str) -> float | None:
        """µm per pixel to scale clean-up by: the stated one, or else what is assumed, with a warning."""
        if mpp is not None:
            return check_mpp(mpp, name)
        if self.missing_mpp is not None:
            warnings.warn(f"{name}: no pixel size given; {self.assumption()}", PixelSizeWarning, stacklevel=4)
        return self.missing_mpp

    def assumption(self) -> str:
        """What is assumed of a picture that comes without a pixel size, in words."""
        reason = "was trained at" if self.missing_mpp == self.mpp else "took such images for in training"
        return (f"assuming {self.missing_mpp:g} µm per pixel, as the model {reason}. At another magnification the outlines "
                "will be wrong. Sizes in µm are left out")


def _usable_device(device: Device) -> torch.device:
    """`device`, or, for None, a GPU if there is one; raises HfGlandError for one that cannot compute."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # no such name, or not of this torch or this machine
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise HfGlandError(f"device {str(device)!r} cannot be used here: {reason}; leave --device out, or give cpu or "
                           "cuda:0") from error
    return torch.device(device)


def _reporting(forward: Forward, tiles: int, progress: Callable[[float], None]) -> Forward:
    done = 0

    def reported(batch: Tensor) -> Tensor:
        nonlocal done
        result = forward(batch)
        done += len(batch)
        progress(min(done / tiles, 1.0))
        return result

    return reported
