"""A small Hugging Face Hub on this machine, for tests and for trying things out.

  python tests/local_hub --folder /tmp/hub          prints the lines to paste into a shell

It keeps its repositories in --folder and knows two tokens: hf_local_writer (user "me") and hf_local_reader.
"""

import argparse
import socket
import sys
from pathlib import Path

import uvicorn
from hub_app import make_app

TOKENS = {"hf_local_writer": {"name": "me", "write": True}, "hf_local_reader": {"name": "me", "write": False}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where repositories are kept (made if absent)")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    arguments = parser.parse_args()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", arguments.port))
    listener.listen(64)  # from here on a client can connect, and waits until it is served
    port = listener.getsockname()[1]
    for line in (f"HF_ENDPOINT=http://127.0.0.1:{port}", "HF_TOKEN=hf_local_writer",
                 f"HF_HOME={arguments.folder.absolute()}/cache", "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1",
                 "HF_HUB_DISABLE_UPDATE_CHECK=1"):
        print(f"export {line}", flush=True)
    config = uvicorn.Config(make_app(arguments.folder, TOKENS), log_level="error")
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
