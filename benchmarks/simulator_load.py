"""Load the simulator: 200 requests a second for 30 s beside 50 event-stream subscribers; its memory and its answers.

Run it with `python benchmarks/simulator_load.py [--rate 200] [--seconds 30] [--subscribers 50]`. The simulator runs
in a process of its own; the exit status is 1 when a request failed or the memory grew without bound.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

ALLOWED_GROWTH = 64 * 1024  # KiB: the history's cap of 32 MiB, and as much again for the allocator
BODY = {"content_state": {"title": "load", "type": "progress", "percentage": 0, "subtitle": "x" * 200}}


class Load:
    """What was sent, and how it was answered."""

    def __init__(self, base: str, key: str, rate: int, seconds: float) -> None:
        self.base, self.rate, self.seconds = base, rate, seconds
        self.headers = {"Authorization": f"Bearer {key}"}
        self.latencies: list[float] = []
        self.failures: list[str] = []
        self.frames = 0

    async def one(self, client: httpx.AsyncClient, number: int) -> None:
        """Send one update, to one of four streams."""
        state = {**BODY["content_state"], "percentage": number % 100}
        began = time.perf_counter()
        try:
            answer = await client.put(
                f"{self.base}api/live-activity/stream/load-{number % 4}", json={"content_state": state}
            )
            if answer.status_code != 200:
                self.failures.append(f"{answer.status_code} {answer.text[:80]}")
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
        self.latencies.append(time.perf_counter() - began)

    async def subscribe(self, ready: asyncio.Event) -> None:
        """Read the event stream until cancelled."""
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("GET", f"{self.base}simulator/events") as answer,
        ):
            async for line in answer.aiter_lines():
                ready.set()
                self.frames += line.startswith("event:")

    async def run(self, subscribers: int) -> None:
        """Keep the rate for the whole time, whatever the answers take."""
        ready = [asyncio.Event() for _ in range(subscribers)]
        readers = [asyncio.create_task(self.subscribe(each)) for each in ready]
        for each in ready:
            await asyncio.wait_for(each.wait(), 30)
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(headers=self.headers, timeout=30, limits=limits) as client:
            began, tasks = time.perf_counter(), []
            for number in range(int(self.rate * self.seconds)):
                await asyncio.sleep(max(0.0, began + number / self.rate - time.perf_counter()))
                tasks.append(asyncio.create_task(self.one(client, number)))
            await asyncio.gather(*tasks)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def resident(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def main() -> int:
    """Run the load and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--subscribers", type=int, default=50)
    options = parser.parse_args()
    command = [sys.executable, "-m", "activitysmith_track", "simulator", "--port", "0"]
    command += ["--requests-per-minute", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            told = [server.stdout.readline() for _ in range(6)]
            base = next(line.split()[2] for line in told if line.startswith("Lock Screen"))
            key = next(line.partition("API_KEY=")[2].strip() for line in told if "API_KEY=" in line)
            return report(server.pid, Load(base, key, options.rate, options.seconds), options.subscribers)
        finally:
            server.terminate()


def report(pid: int, load: Load, subscribers: int) -> int:
    """Warm up, run the load twice, and compare the memory after each."""
    warm = Load(load.base, "", load.rate, min(5.0, load.seconds))
    warm.headers = load.headers
    asyncio.run(warm.run(subscribers))
    before, began = resident(pid), time.perf_counter()
    asyncio.run(load.run(subscribers))
    took, after = time.perf_counter() - began, resident(pid)
    alive = httpx.get(f"{load.base}simulator/state", timeout=5).status_code
    ordered = sorted(load.latencies)
    print(f"requests            {len(ordered)} in {took:.1f} s, {len(load.failures)} failed")
    print(f"event-stream frames {load.frames} to {subscribers} subscribers")
    print(f"latency             median {statistics.median(ordered) * 1e3:.1f} ms, ", end="")
    print(f"99th percentile {ordered[int(len(ordered) * 0.99)] * 1e3:.0f} ms, worst {ordered[-1] * 1e3:.0f} ms")
    print(f"resident memory     {before // 1024} MiB before, {after // 1024} MiB after; answers {alive} at the end")
    for failure in sorted(set(load.failures))[:5]:
        print("failed:", failure)
    return int(bool(load.failures) or alive != 200 or after - before > ALLOWED_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
