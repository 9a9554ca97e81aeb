"""Runs scripts one after the other, each in a fork of this process, which has the imports done (see conftest.HubClient)."""

import json
import os
import runpy
import sys
import traceback

import datasets  # noqa: F401
import evaluate  # noqa: F401
import matplotlib.figure  # noqa: F401
import torch  # noqa: F401
import transformers.models.segformer.image_processing_pil_segformer
import transformers.models.segformer.modeling_segformer
import transformers.pipelines.image_segmentation  # noqa: F401

import hf_gland.export.overlay
import hf_gland.hub.model_repo
import hf_gland.hub.pusher  # noqa: F401


def run(order: dict) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        os.environ.update(order["environment"])
        sys.argv = order["argv"]
        sys.path[0] = os.path.dirname(sys.argv[0])
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
for line in sys.stdin:
    print(run(json.loads(line)), file=answers, flush=True)
