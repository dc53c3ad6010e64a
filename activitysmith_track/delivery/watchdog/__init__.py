"""A process beside the job that speaks for it when it no longer can: killed, crashed, out of memory.

The job's side is the `supervisor`; its thread keeps a `companion`, which is that process as the job sees it, and
feeds it over a `line`. The process's side is `process`, which keeps a `job_record` of what it is told; when the job
is gone, a `successor` delivers what that comes to. `protocol` is what the two sides say to each other, and `pids`
tells whether a process is gone.
"""
