"""`python -m wandb_server --directory DIR --key KEY --entity NAME`: prints the URL when it listens."""

import argparse
import asyncio
import socket
import sys
from pathlib import Path

from aiohttp import web

from wandb_server.blobs import Blobs
from wandb_server.endpoints import Endpoints
from wandb_server.state import State


async def serve(arguments: argparse.Namespace) -> None:
    """Answer until standard input ends, which it does with whoever started this."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        state = State(Blobs(arguments.directory, url), arguments.entity)
        runner = web.AppRunner(Endpoints(state, key=arguments.key).application(), access_log=None)
        await runner.setup()
        await web.SockSite(runner, listening, shutdown_timeout=0).start()
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--entity", required=True)
    asyncio.run(serve(parser.parse_args()))


main()
