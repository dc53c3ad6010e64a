"""An async loop: pages that arrive one after the other, and a block around them that counts rows."""

import asyncio
from collections.abc import AsyncIterator

from activitysmith_track import live_progress, track

PAGES = 5


async def pages() -> AsyncIterator[list[int]]:
    for number in range(PAGES):
        await asyncio.sleep(0.02)  # a server would take longer
        yield list(range(number * 100, number * 100 + 100))


async def main() -> None:
    rows = 0
    async for page in track(pages(), "Fetch pages", total=PAGES):
        rows += len(page)

    async with live_progress("Store rows", total=rows) as progress:
        for start in range(0, rows, 50):
            await asyncio.sleep(0.005)
            progress.advance(50)
            progress.update(subtitle=f"row {start + 50:,}")
    print(f"stored {rows} rows")


if __name__ == "__main__":
    asyncio.run(main())
