import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.losses import class_weights, cross_entropy_sum, dice_sum, mean_over

LOSSES = [cross_entropy_sum, dice_sum]
SEEDS = st.integers(0, 10**6)


def random_batch(seed, labelled=0.4):
    """Logits [B, C, H, W] and a target with unlabelled pixels, for 2 to 5 classes, of which one is absent."""
    torch.manual_seed(seed)
    batch, classes = 1 + seed % 3, 2 + seed % 4
    target = torch.randint(0, classes, (batch, 5, 7))
    target[target == classes - 1] = 0  # the last class is absent
    target[torch.rand(target.shape) > labelled] = IGNORE_INDEX
    return torch.randn(batch, classes, 5, 7), target


def value_and_gradient(loss, logits, target, **options):
    leaf = logits.clone().requires_grad_()
    value = mean_over(loss(leaf, target, **options))
    value.backward()
    return value.detach(), leaf.grad


def cross_entropy_by_hand(logits, target):
    total = torch.zeros((), dtype=torch.float64)
    for b, y, x in (target != IGNORE_INDEX).nonzero().tolist():
        scores = logits[b, :, y, x].double()
        total += scores.exp().sum().log() - scores[target[b, y, x]]
    return total, int((target != IGNORE_INDEX).sum())


def dice_by_hand(logits, target):
    total, pairs = torch.zeros((), dtype=torch.float64), 0
    for scores, labels in zip(logits.double(), target, strict=True):
        p = scores[:, labels != IGNORE_INDEX].softmax(0)
        y = labels[labels != IGNORE_INDEX]
        for c in sorted(set(y.tolist())):
            total += 1 - 2 * p[c][y == c].sum() / (p[c].sum() + (y == c).sum())
            pairs += 1
    return total, pairs


@pytest.mark.parametrize("loss", LOSSES)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_what_lies_under_unlabelled_pixels_changes_neither_value_nor_gradient(loss, seed):
    logits, target = random_batch(seed)
    hidden = (target == IGNORE_INDEX)[:, None].expand_as(logits)
    other = torch.where(hidden, 50 * torch.randn(logits.shape), logits)
    value, gradient = value_and_gradient(loss, logits, target)
    assert torch.equal(value_and_gradient(loss, other, target)[0], value)
    assert torch.equal(value_and_gradient(loss, other, target)[1], gradient)
    assert not gradient[hidden].any()


@pytest.mark.parametrize(("loss", "by_hand"), [(cross_entropy_sum, cross_entropy_by_hand),
                                               (dice_sum, dice_by_hand)])
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_equals_the_loss_on_the_labelled_pixels_alone(loss, by_hand, seed):
    logits, target = random_batch(seed)
    total, count = loss(logits, target)
    expected_total, expected_count = by_hand(logits, target)
    assert count.item() == expected_count
    torch.testing.assert_close(total.double(), expected_total, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_labelled_gives_zero_with_a_gradient_path(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = mean_over(loss(logits, torch.full((2, 4, 4), IGNORE_INDEX)))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_image_without_labels_in_the_batch_changes_nothing(loss):
    logits, target = random_batch(5)
    blank = torch.full((1, 5, 7), IGNORE_INDEX)
    more = torch.cat([logits, torch.randn(1, *logits.shape[1:])])
    assert torch.equal(mean_over(loss(more, torch.cat([target, blank]))), mean_over(loss(logits, target)))


@pytest.mark.parametrize("loss", LOSSES)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, cut=st.integers(1, 3))
def test_parts_with_shared_counts_are_the_whole_batch(loss, seed, cut):
    torch.manual_seed(seed)
    logits, target = torch.randn(4, 3, 5, 7), torch.randint(0, 3, (4, 5, 7))
    target[torch.rand(4, 5, 7) > 0.3] = IGNORE_INDEX
    value, gradient = value_and_gradient(loss, logits, target)
    leaf = logits.clone().requires_grad_()
    halves = [loss(leaf[:cut], target[:cut]), loss(leaf[cut:], target[cut:])]
    count = halves[0][1] + halves[1][1]
    shared = sum(mean_over((total, count)) for total, _ in halves)
    shared.backward()
    torch.testing.assert_close(shared.detach(), value)
    torch.testing.assert_close(leaf.grad, gradient)


def test_pixel_weights_scale_the_sum_and_the_count():
    logits, target = random_batch(3, labelled=0.8)
    weight = torch.rand(target.shape)
    weight[:, 0] = 0
    total, count = cross_entropy_sum(logits, target, weight)
    per_pixel = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="none")
    labelled = target != IGNORE_INDEX
    torch.testing.assert_close(total, (per_pixel * weight)[labelled].sum())
    torch.testing.assert_close(count, weight[labelled].sum())
    ones = torch.ones(target.shape)
    assert torch.equal(cross_entropy_sum(logits, target, ones)[0], cross_entropy_sum(logits, target)[0])


def test_dice_is_near_zero_for_a_perfect_answer_and_one_for_the_opposite():
    target = torch.randint(0, 2, (2, 8, 8))
    sure = 40 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    assert mean_over(dice_sum(sure, target)).item() < 1e-6
    assert mean_over(dice_sum(-sure, target)).item() > 1 - 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_logits_are_summed_in_float32(loss):
    logits, target = torch.randn(2, 3, 64, 64).bfloat16(), torch.randint(0, 3, (2, 64, 64))
    total, count = loss(logits, target)
    assert total.dtype == count.dtype == torch.float32
    torch.testing.assert_close(total, loss(logits.float(), target)[0])


@given(counts=st.lists(st.integers(1, 10**9), min_size=2, max_size=5))
def test_balancing_gives_background_and_glands_the_same_say(counts):
    weights = class_weights(counts).double()
    total = weights * torch.tensor(counts, dtype=torch.float64)
    assert total[0] == pytest.approx(float(total[1:].sum()), rel=1e-5)
    assert float(total.sum()) == pytest.approx(sum(counts), rel=1e-5)
    assert len(set(weights[1:].tolist())) == 1  # kinds of glands keep their own frequencies


@pytest.mark.parametrize("counts", [(0, 5), (5, 0), (0, 3, 4)])
def test_balancing_leaves_labels_of_one_side_alone_as_they_are(counts):
    assert class_weights(counts).tolist() == [1] * len(counts)
