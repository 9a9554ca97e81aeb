import json
import os

import numpy as np
import pytest
import torch
from networks import THREE, tiny_student
from PIL import Image
from tiny import NO_DROPOUT, tree
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import full_size_logits, predicted_maps, save_model_folder
from hf_gland.model.teacher import make_teacher
from hf_gland.options import Tiling


@pytest.mark.parametrize("hw", [(32, 32), (33, 47), (64, 40)])
def test_logits_and_probabilities_have_the_size_of_the_input(hw):
    model = tiny_student(THREE).eval()
    pixels = torch.randn(2, 3, *hw)
    logits = full_size_logits(model, pixels)
    assert logits.shape == (2, 3, *hw)
    assert logits.requires_grad
    probabilities = predicted_maps(model, pixels)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities, logits.detach().softmax(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *hw))


@pytest.mark.parametrize("hw", [(33, 47), (64, 40), (5, 70)])
def test_the_network_only_ever_sees_sides_of_whole_strides(hw, monkeypatch):
    """Otherwise the levels of the encoder, each rounded up, would be shifted against one another."""
    model, seen = tiny_student().eval(), []
    forward = model.segformer.forward
    monkeypatch.setattr(model.segformer, "forward", lambda pixels, *a, **k: seen.append(pixels) or forward(pixels, *a, **k))
    pixels = torch.randn(1, 3, *hw)
    logits = full_size_logits(model, pixels)
    whole = tuple(-(-side // 32) * 32 for side in hw)
    assert seen[0].shape[2:] == whole
    assert torch.equal(seen[0][..., :hw[0], :hw[1]], pixels)
    assert torch.equal(logits, full_size_logits(model, seen[0])[..., :hw[0], :hw[1]])
    if hw == (33, 47):
        assert torch.equal(seen[0], torch.nn.functional.pad(pixels, (0, 17, 0, 31), mode="reflect"))


class TestModelFolder:
    @pytest.fixture(scope="class")
    def networks(self):
        student = tiny_student(THREE, mpp=0.62)
        teacher = make_teacher(student)
        with torch.no_grad():
            teacher.decode_head.classifier.bias.add_(1)
        return teacher, student

    @pytest.fixture(scope="class")
    def folder(self, networks, tmp_path_factory):
        folder = tmp_path_factory.mktemp("saved") / "model"
        save_model_folder(folder, *networks, Preprocessing())
        return folder

    def test_it_is_a_plain_repository_of_the_teacher_with_the_student_beside_it(self, folder, networks):
        for path, network in zip((folder, folder / "student"), networks, strict=True):
            loaded = AutoModelForSemanticSegmentation.from_pretrained(path, use_safetensors=True)
            for name, value in network.state_dict().items():
                assert torch.equal(loaded.state_dict()[name], value), name
            assert loaded.config.mpp == 0.62
            assert loaded.config.id2label == dict(enumerate(THREE))

    def test_it_holds_json_and_safetensors_alone(self, folder):
        files = tree(folder)
        assert {n.rsplit(".")[-1] for n in files} == {"json", "safetensors"}
        for name, content in files.items():
            if name.endswith(".json"):
                assert "auto_map" not in json.loads(content)
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]

    def test_the_plain_pipeline_gives_the_teachers_classes_at_the_size_of_the_picture(self, folder, networks):
        pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        segments = pipeline("image-segmentation", model=str(folder))(Image.fromarray(pixels))
        expected = full_size_logits(networks[0], Preprocessing()(torch.from_numpy(pixels).movedim(-1, 0))[None])[0].argmax(0)
        assert {s["label"] for s in segments} == {THREE[c] for c in expected.unique().tolist()}
        for segment in segments:
            mask = np.asarray(segment["mask"]) > 0
            assert mask.shape == (64, 96)
            assert (mask == (expected.numpy() == THREE.index(segment["label"]))).mean() > 0.999

    def test_saving_again_replaces_it_whole(self, networks, tmp_path):
        folder = tmp_path / "model"
        save_model_folder(folder, *networks, Preprocessing())
        (folder / "stale.txt").write_text("old")
        save_model_folder(folder, *networks, Preprocessing(mean=(0.1, 0.2, 0.3)))
        assert not (folder / "stale.txt").exists()
        assert AutoImageProcessor.from_pretrained(folder).image_mean[2] == 0.3

    def test_its_files_are_as_readable_as_any_new_file(self, networks, tmp_path):
        before = os.umask(0o027)
        try:
            save_model_folder(tmp_path / "model", *networks, Preprocessing())
        finally:
            os.umask(before)
        files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
        assert "model.safetensors" in {path.name for path in files}

    def test_a_save_that_fails_leaves_the_old_folder(self, folder, networks, file_size_limit):
        before = tree(folder)
        file_size_limit(2000)
        with pytest.raises(OSError, match=r"model: the model could not be written .*disk space"):
            save_model_folder(folder, *networks, Preprocessing(mean=(0.9, 0.9, 0.9)))
        assert tree(folder) == before
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]


class TestPlainPipeline:
    """What somebody gets who loads the repository with transformers alone."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """A network that has learnt which of two stains is gland, from the features of all its levels."""
        torch.manual_seed(3)
        network = tiny_student(**NO_DROPOUT)
        images, truth = zip(*(tissue((96, 128), seed) for seed in range(4)), strict=True)
        pixels = Preprocessing()(torch.from_numpy(np.stack(images)).movedim(-1, 1))
        labels = torch.from_numpy(np.stack(truth)).long()
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(40):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(full_size_logits(network, pixels), labels).backward()
            optimizer.step()
        folder = tmp_path_factory.mktemp("plain") / "model"
        save_model_folder(folder, make_teacher(network), network, Preprocessing())
        return folder

    @pytest.mark.parametrize(("hw", "least"), [((384, 512), 0.99), ((480, 640), 0.99), ((580, 760), 0.95),
                                               ((261, 388), 0.9)])
    def test_it_sees_pictures_at_their_own_size(self, folder, hw, least):
        """Sides that are no multiple of 32 px are rounded up by the encoder, which shifts its coarse levels a little."""
        image, truth = tissue(hw, seed=9)
        found = {s["label"]: np.asarray(s["mask"]) > 0
                 for s in pipeline("image-segmentation", model=str(folder))(Image.fromarray(image))}
        ours = GlandSegmenter.from_pretrained(folder, device="cpu").probabilities(image, 0.5, Tiling(precision="float32"))
        ours = ours.argmax(0) == 1
        assert (ours & (truth == 1)).sum() / (ours | (truth == 1)).sum() > 0.8  # it has learnt something
        assert found["gland"].shape == hw
        assert (ours & found["gland"]).sum() / (ours | found["gland"]).sum() >= least


def tissue(hw, seed):
    """Dark round glands of 10 to 30 px on pale stroma, none in the lower left: uint8 [H, W, 3] and mask uint8 [H, W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:hw[0], :hw[1]]
    mask = np.zeros(hw, np.uint8)
    for _ in range(hw[0] * hw[1] // 3000):
        cy, cx = rng.uniform(0, hw[0]), rng.uniform(0, hw[1])
        if cy < 0.6 * hw[0] or cx > 0.4 * hw[1]:
            mask[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(10, 30) ** 2] = 1
    image = np.array([[228, 170, 200], [110, 60, 140]])[mask] + rng.normal(0, 10, (*hw, 3))
    return image.clip(0, 255).astype(np.uint8), mask
