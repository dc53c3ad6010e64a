"""A process beside the job that speaks for it when it no longer can: killed, crashed, out of memory.

The job's side is `supervisor` with its `line`, the process's is `process`, which knows a `crash_state` and leaves the
rest to a `successor`. `protocol` is what the two say to each other.
"""
