"""The command line: `python -m activitysmith_track demo`, or `activitysmith-track demo`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those after the program's name; `None` takes the process's own.

    Returns:
        The exit status: 0 when all went well, 2 when something that is needed is missing.
    """
    options = _parser().parse_args(arguments)
    try:
        return _demo(live=options.live)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="activitysmith-track", description="Long-running jobs on your Lock Screen.")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser(
        "demo",
        help="real work under tracking, on a simulated phone",
        description="Hash and compress Python's own standard library under tracking. Without --live everything goes "
        "to a simulator on this machine: no account and no phone are needed.",
    )
    demo.add_argument(
        "--live", action="store_true", help="send it to the real service, with the key from ACTIVITYSMITH_API_KEY"
    )
    return parser


def _demo(*, live: bool) -> int:
    if live and not os.environ.get("ACTIVITYSMITH_API_KEY"):
        print("--live needs an API key in ACTIVITYSMITH_API_KEY", file=sys.stderr)
        return 2
    from ._demo import run_live, run_simulated

    if live:
        return run_live()
    try:
        return run_simulated()
    except ImportError as missing:
        print(
            f'{missing}\nThe demo needs the simulator: pip install "activitysmith-track[simulator]"', file=sys.stderr
        )
        return 2
