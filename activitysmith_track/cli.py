"""The command line: `python -m activitysmith_track demo`, `simulator` and `flush`, or `activitysmith-track ...`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ._endpoint import find_api_key
from ._interrupt import wait_for_interrupt
from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those after the program's name; `None` takes the process's own.

    Returns:
        The exit status: 0 when all went well, 1 when something was not delivered, 2 when something that is needed is
        missing.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except ImportError as missing:
        if "[simulator]" not in str(missing):
            raise
        print(missing, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="activitysmith-track", description="Long-running jobs on your Lock Screen.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_demo(commands)
    _add_simulator(commands)
    _add_flush(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: a checkout that is not installed has none."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from . import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="real work under tracking, on a simulated phone",
        description="Hash and compress Python's own standard library under tracking. Without --live everything goes "
        "to a simulator on this machine: no account and no phone are needed.",
    )
    demo.add_argument(
        "--live", action="store_true", help="send it to the real service, with the key from ACTIVITYSMITH_API_KEY"
    )
    demo.add_argument("--keep", action="store_true", help="leave the simulated Lock Screen up until Ctrl-C")
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    if options.live and not find_api_key(None):
        print("--live needs an API key in ACTIVITYSMITH_API_KEY", file=sys.stderr)
        return 2
    from ._demo import run_live, run_simulated

    return run_live() if options.live else run_simulated(keep=options.keep)


def _add_simulator(commands: Any) -> None:
    simulator = commands.add_parser(
        "simulator",
        help="the service and an iPhone's Lock Screen on this machine",
        description="Serve the ActivitySmith API and a Lock Screen on this machine until Ctrl-C. Everything that it "
        "can be told while it runs is listed at /simulator/.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = simulator.add_argument
    add("--host", default="127.0.0.1", help="address to listen at; others than loopback show it to the network")
    add("--port", type=int, default=8787, help="port to listen at; 0 for a free one")
    add("--allow-host", action="append", default=[], metavar="NAME", help="another name that a Host header may carry")
    add("--speed", type=float, default=1.0, help="simulated seconds in a second; 0 to move the clock by hand only")
    add("--slots", type=int, default=4, help="Live Activities at once")
    add("--end-oldest", action="store_true", help="with all slots taken, end the oldest instead of answering 429")
    add("--requests-per-minute", type=int, default=60, help="the account's rate")
    add("--metric-requests-per-minute", type=int, default=300, help="the rate of widgets' metrics")
    add("--metrics", type=_names, metavar="KEYS", help="the metrics that exist, comma-separated; all without it")
    add("--channels", type=_names, metavar="SLUGS", help="the channels that exist, comma-separated; all without it")
    add("--scope", type=_names, metavar="SLUGS", help="the channels that the key may reach, comma-separated")
    add("--billing", metavar="ERROR", help="answer 402 with trial_expired, trial_exhausted or another known error")
    add("--devices", type=int, default=1, help="phones that a request reaches")
    add("--deliver-webhooks", action="store_true", help="really call a webhook when its button is pressed")
    _add_device(simulator.add_argument_group("the phone").add_argument)
    simulator.set_defaults(run=_simulator)


def _add_device(add: Any) -> None:
    add("--free-updates", type=int, default=12, help="updates of a Live Activity that need no waiting")
    add("--seconds-per-update", type=float, default=120.0, help="average distance of those beyond them")
    add("--refill-seconds", type=float, default=3_600.0, help="how long a throttled one shows no updates")
    add("--cards", type=int, default=5, help="cards on the Lock Screen at most")
    add("--life-seconds", type=float, default=28_800.0, help="after which iOS ends a Live Activity")
    add("--stay-seconds", type=float, default=14_400.0, help="how long an ended one stays at most")
    add("--focus", action="store_true", help="the phone is in a Focus: only time-sensitive pushes ring")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _simulator(options: argparse.Namespace) -> int:
    from dataclasses import fields

    from .simulator import Device, Simulator

    same = ("host", "port", "speed", "slots", "requests_per_minute", "metric_requests_per_minute", "metrics")
    more = ("channels", "scope", "billing", "devices", "deliver_webhooks")
    given = {name: getattr(options, name) for name in same + more}
    try:
        simulator = Simulator(
            **given,
            allow_hosts=options.allow_host,
            when_full="end_oldest" if options.end_oldest else "refuse",
            device=Device(**{each.name: getattr(options, each.name) for each in fields(Device)}),
        )
        simulator.start()
    except (InvalidRequest, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    with simulator:
        print(f"Lock Screen: {simulator.url}   (commands: {simulator.url}simulator/)\n")
        print("Point your code at it:\n")
        print(f"  export ACTIVITYSMITH_BASE_URL={simulator.base_url}")
        print(f"  export ACTIVITYSMITH_API_KEY={simulator.api_key}\n", flush=True)
        wait_for_interrupt()
    return 0


def _add_flush(commands: Any) -> None:
    flush = commands.add_parser(
        "flush",
        help="deliver what earlier runs could not",
        description="Deliver the ends and pushes that earlier runs kept because the service could not be reached, "
        "with the key from ACTIVITYSMITH_API_KEY.",
    )
    flush.add_argument("--timeout", type=float, default=30.0, help="seconds to try at most")
    flush.add_argument("--outbox", metavar="DIR", help="where they were kept, as in configure(outbox=DIR)")
    flush.set_defaults(run=_flush)


def _flush(options: argparse.Namespace) -> int:
    from ._tracker import default_tracker
    from .settings import check_seconds

    tracker = default_tracker()
    try:
        with tracker.override(**({} if options.outbox is None else {"outbox": options.outbox})):
            if tracker.account() is None:
                print(
                    "nothing can be delivered: no usable API key in ACTIVITYSMITH_API_KEY, or the library is off",
                    file=sys.stderr,
                )
                return 2
            account, dispatcher = tracker.account(), tracker.dispatcher
            seconds = check_seconds("timeout", options.timeout)
            return 0 if dispatcher.flush(seconds, account, of_others=True) else 1
    except InvalidRequest as problem:
        print(problem, file=sys.stderr)
        return 2
