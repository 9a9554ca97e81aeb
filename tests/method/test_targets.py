import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.targets import confident_labels, fuse


def labels(seed, classes, labelled):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, classes, (2, 9, 6), generator=generator)
    return drawn.masked_fill(torch.rand(2, 9, 6, generator=generator) > labelled, IGNORE_INDEX)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5), truth_share=st.floats(0, 1),
       pseudo_share=st.floats(0, 1))
def test_truth_wins_and_the_teacher_fills_the_rest(seed, classes, truth_share, pseudo_share):
    truth, pseudo = labels(seed, classes, truth_share), labels(seed + 1, classes, pseudo_share)
    fused = fuse(truth, pseudo)
    for place in torch.cartesian_prod(torch.arange(2), torch.arange(9), torch.arange(6)):
        b, y, x = place.tolist()
        expected = truth[b, y, x] if truth[b, y, x] != IGNORE_INDEX else pseudo[b, y, x]
        assert fused[b, y, x] == expected


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), tau=st.floats(0.5, 1))
def test_no_threshold_drops_or_alters_a_labelled_pixel(seed, tau):
    truth = labels(seed, 3, 0.3)
    probabilities = torch.rand(2, 3, 9, 6, generator=torch.Generator().manual_seed(seed)).softmax(1)
    fused = fuse(truth.byte(), confident_labels(probabilities, torch.full((3,), tau)))
    assert fused.dtype == torch.int64
    assert torch.equal(fused[truth != IGNORE_INDEX], truth[truth != IGNORE_INDEX])


def test_each_class_has_a_threshold_of_its_own():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.85, 0.1, 0.05]])
    found = confident_labels(probabilities.T.reshape(1, 3, 2, 2), torch.tensor([0.8, 0.65, 0.75]))
    assert found.flatten().tolist() == [IGNORE_INDEX, 1, IGNORE_INDEX, 0]


def test_a_tie_with_the_threshold_does_not_pass():
    stored = torch.tensor([152, 153, 154], dtype=torch.uint8).float() / 255  # 153/255 is 0.6
    probabilities = torch.stack([stored, 1 - stored])[None, :, None]
    thresholds = torch.tensor([0.6, 0.6])
    assert confident_labels(probabilities, thresholds).flatten().tolist() == [IGNORE_INDEX, IGNORE_INDEX, 0]
    certain = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert confident_labels(certain, torch.tensor([1.0, 1.0])).item() == IGNORE_INDEX
    assert confident_labels(certain, torch.tensor([0.999, 0.999])).item() == 0


def test_where_the_teacher_has_no_opinion_nothing_passes_even_without_a_filter():
    assert (confident_labels(torch.zeros(1, 2, 3, 3), torch.zeros(2)) == IGNORE_INDEX).all()


def test_thresholds_of_double_precision_and_half_precision_probabilities_go_together():
    probabilities = torch.tensor([0.9, 0.1], dtype=torch.bfloat16).view(1, 2, 1, 1)
    assert confident_labels(probabilities, torch.tensor([0.8, 0.8], dtype=torch.float64)).item() == 0
