"""`python -m hf_gland COMMAND`, and `accelerate launch -m hf_gland train …`: the same as `hf-gland`."""

import sys

from hf_gland.cli.main import main

sys.exit(main())
