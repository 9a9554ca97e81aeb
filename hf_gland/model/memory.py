"""Whether something failed for lack of memory."""

import torch


def out_of_memory(error: BaseException) -> bool:
    """True for what numpy, Python and torch raise when there is no more memory, of the machine's or of the GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "not enough memory" in str(error)))
