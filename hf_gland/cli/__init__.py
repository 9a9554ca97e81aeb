"""The commands, one module each; `scripts/*.py` are doors to them."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve each other
