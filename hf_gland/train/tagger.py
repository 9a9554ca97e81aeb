"""A classifier of patches, and what it looks at: the image-level baseline (class activation maps, Zhou et al. 2016).

The network is the student's own, its logits averaged over the patch before the softmax; the logits before averaging are
the class activation map. It learns from one tag per patch, gland or none, and never sees where the gland is.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_gland.config import TrainConfig
from hf_gland.data.loading import CropDataset, draw_keys
from hf_gland.data.store import TrainingStore
from hf_gland.labels import IGNORE_INDEX
from hf_gland.method import schedules
from hf_gland.model.backbones import backbone_preprocessing, load_student
from hf_gland.model.precision import autocast, resolve_precision
from hf_gland.model.student import full_size_logits
from hf_gland.train.optim import make_optimizer, set_learning_rates

PRESENT, ABSENT = 0.2, 0.01  # shares of a patch: a gland's corner is neither a gland patch nor a patch without


def patch_tags(dense: Tensor, num_classes: int) -> Tensor:
    """One class per patch, int64 [B], from dense masks uint8 [B, H, W].

    The gland class that covers most of a patch, if that is at least PRESENT of it; background where glands cover less
    than ABSENT; IGNORE_INDEX in between.
    """
    shares = torch.stack([(dense == c).flatten(1).float().mean(dim=1) for c in range(1, num_classes)], dim=1)
    largest, which = shares.max(dim=1)
    tags = torch.full_like(which, IGNORE_INDEX)
    tags[largest >= PRESENT] = which[largest >= PRESENT] + 1
    tags[shares.sum(dim=1) < ABSENT] = 0
    return tags


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Cross-entropy of float [B, C] with tags int64 [B], every tag of the batch counting alike: few patches hold no gland,
    and a tagger that may forget them calls all tissue a gland. 0 (with a gradient) where no patch has a tag."""
    each = F.cross_entropy(logits.float(), tags, ignore_index=IGNORE_INDEX, reduction="none")
    known = [each[tags == tag].mean() for tag in tags.unique() if tag != IGNORE_INDEX]
    return torch.stack(known).mean() if known else each.sum()


def train_tagger(config: TrainConfig, store: TrainingStore, class_names: tuple[str, ...]) -> PreTrainedModel:
    """Train on tags of patches of `config.augment.crop_px`; settings as for a segmentation run, on the CPU or the first
    GPU."""
    optim = config.optim
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(optim.seed)
    model = load_student(config.model.backbone, class_names, config.data.mpp or None, config.model_overrides())
    model.to(torch.device(device)).train()  # type: ignore[arg-type]  # transformers wraps `to` without its types
    optimizer = make_optimizer(model, optim)
    precision = resolve_precision(device, optim.mixed_precision)
    scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)  # small gradients vanish in float16
    preprocessing = backbone_preprocessing(config.model.backbone)
    crops = CropDataset(store, dataclasses.replace(config.augment, cutmix=0.0), optim.seed)
    for step in tqdm(range(optim.steps), desc="training the tagger", unit="step"):
        set_learning_rates(optimizer, schedules.learning_rate_factor(step, optim.steps, optim.lr_warmup_fraction))
        items = [crops[key] for key in draw_keys(optim.seed, len(crops), step * optim.batch_size, optim.batch_size)]
        images, dense = (torch.stack([item[name] for item in items]).to(device) for name in ("strong", "truth"))
        tags = patch_tags(dense, len(class_names))
        with autocast(device, precision):
            logits = full_size_logits(model, preprocessing(images)).mean(dim=(2, 3))
        scaler.scale(tag_loss(logits, tags)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.max_grad_norm or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return model.eval()
