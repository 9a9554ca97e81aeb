"""A machine that is too small for a training says what to do, in one line."""

import os
import signal

import pytest
import torch
from tiny import tiny_settings
from training import run_training

from hf_gland.data.loading import CropDataset
from hf_gland.errors import HfGlandError
from hf_gland.train import loop


@pytest.mark.parametrize(("settings", "crops", "parts"), [
    ({"batch_size": 4}, "4 crops", 2), ({"batch_size": 6, "gradient_accumulation": 2}, "3 crops", 6),
    ({"batch_size": 1}, "1 crop", None)])
def test_out_of_memory_names_what_makes_a_step_smaller(tiny_dataset, tmp_path, monkeypatch, settings, crops, parts):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nOf the allocated memory 1 GiB is …")

    monkeypatch.setattr(loop, "step_loss", too_large)
    with pytest.raises(HfGlandError) as caught:
        run_training(tmp_path / "run", tiny_settings(tiny_dataset, **settings))
    smaller = f"--gradient_accumulation {parts} (the same batch in smaller parts), " if parts else ""
    assert str(caught.value) == (f"not enough memory for {crops} of 32 px at a time through random:segformer (CUDA out of "
                                 f"memory. Tried to allocate 2 GiB). Give {smaller}a smaller --crop_px or another "
                                 "--backbone")
    if parts:  # what is said can be given
        monkeypatch.undo()
        settings |= {"gradient_accumulation": parts}
        run_training(tmp_path / "again", tiny_settings(tiny_dataset, steps=1, warmup_fraction=1.0, **settings))


def test_a_loading_process_that_is_killed_ends_the_run_with_the_remedy(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(CropDataset, "__getitem__", lambda self, key: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(HfGlandError, match=r"^a process that loads crops was ended \(DataLoader worker .*\), as where "
                       r"memory is short.*--shm-size.*fewer --num_workers than 1; --resume"):
        run_training(tmp_path / "run", tiny_settings(tiny_dataset, num_workers=1))


def test_other_errors_are_left_as_they_are(tiny_dataset, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(loop, "step_loss", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_training(tmp_path / "run", tiny_settings(tiny_dataset))
