"""What a user can do about it where the machine is too small for a training."""

from hf_gland.config import TrainConfig
from hf_gland.data.loading import crops_at_once
from hf_gland.errors import HfGlandError
from hf_gland.markdown import count
from hf_gland.model.memory import out_of_memory


def of_the_machine(error: Exception, config: TrainConfig, processes: int, loaders: int) -> HfGlandError | None:
    """The error with its remedy, for one of memory or of the processes that load data; None for any other.

    `processes`: that train; `loaders`: that make crops for each of them.
    """
    if out_of_memory(error):
        optim, crop_px = config.optim, config.augment.crop_px
        crops = crops_at_once(optim.batch_size, processes, optim.gradient_accumulation)
        parts = next((optim.gradient_accumulation * n for n in range(2, crops + 1) if crops % n == 0), None)
        smaller = f"--gradient_accumulation {parts} (the same batch in smaller parts), " if parts else ""
        return HfGlandError(f"not enough memory for {count(crops, 'crop')} of {crop_px} px at a time through "
                            f"{config.model.backbone} ({_first_line(error)}). Give {smaller}a smaller --crop_px or another "
                            "--backbone")
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return HfGlandError(f"a process that loads crops was ended ({_first_line(error)}), as where memory is short, in a "
                            "container the memory that processes share (/dev/shm; docker run --shm-size). Give it more, or "
                            f"fewer --num_workers than {loaders}; --resume goes on from the last checkpoint")
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
