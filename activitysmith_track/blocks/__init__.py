"""What a user holds: counts, how a block ended, and the words for it. Nothing here does I/O.

The rooms, from the lowest:

- `values`, `key`: run-time data as texts and numbers that a phone can show; the stream's key.
- `outcome`: how a block ended, and what is said of it.
- `context`: the open blocks of a context (`contextvars`).
- `option_table`: what all kinds of blocks take, and how it is checked; `options` is the type of that.
- `wrap`: functions that run inside a block.
- `pushes`: what is pushed when a block ends.
- `stall`: notices a job that makes no progress.
- `display`: where a block is shown, on a card of its own or as a line on another one's.
- `states`: what a card shows, built from what its handle counts.
- `block`: a block whose end is told; `NotifyBlock`, which shows no card.
- `handle`: what all kinds of handles share.
- `progress`, `steps`, `timer`, `readings`: the kinds.
- `current`: the innermost handle of a context.
"""
