"""Sends states, ends and pushes to the service, and keeps ends and pushes until they have arrived.

The rooms, from the outermost:

- `dispatcher`: what the rest of the library calls. Its parts: `accounts`, `open_activities`, `ledger` (what is owed),
  `turns` (who is woken), `echoes` (one failure, one push), `departure` (how it leaves).
- States of a card: `activity` (the latest state, and when it goes), `screen` (what the card shows, and what may go
  next), `certainty`, `lost_starts`, `update_queue` (which card first), `update_request`, `landing` (what follows an
  answer); `run` and `succession` (older and newer runs of one name).
- Ends and pushes: `messages` (what is sent, and its copies), `deliveries` (when, and what follows a failure);
  `end_message`, `end_delivery`, `push_delivery`; `recovery` (what earlier processes owed).
- Runs of one name in several processes: `older_ends`, `held_ends`, `newer_card`, `aftermath`, `unanswered`.
- Limits: `account` (rate, slots, outages).
- Copies: `persistence`, `leases`, `guard` (what the watchdog is told), `outbox_place`, `outbox`, `outbox_tables`,
  `outbox_file`, `entries`; `watchdog`, the process beside the job.
- Leaving: `shutdown` leads, `departure` for one dispatcher, `parting` for what is left; `signals`, `interpreter`.
- Below all: `runtime`, `scheduler`, `transport`, `state`, `bodies`.

Where threads meet
==================

What tasks know (`Run`, `Activity`, `Landing`, `Aftermath`, `EndDelivery`, `PushDelivery`, `Message`, `Account`,
`Unanswered`, `UpdateQueue`, `Agenda`, `WorkerPool.busy`) is touched by the scheduler's thread alone, except for the
things below. "One step" means that no other thread and no signal handler can come in between: an attribute is read or
set, or a `dict`, `list`, `set` or `deque` is called once, or a value is set without a call in between. The names in
brackets are tests of `tests/test_seams.py`, unless their file is named.

The user's threads among themselves, signal handlers and the sampling thread included:

- `default_tracker()`, `Accounts.of()`, `Departure.signals`, `OutboxPlace.outbox`: the first thread makes them;
  `setdefault` or a lock decides which that is. [first_use, two_threads_look_for_the_outbox;
  test_shutdown: there_is_one_default_tracker]
- `Layers`: a state follows the newest one by `setdefault`. [test_layers: threads_that_change_at_once]
- `Progress._count`, `Handle._custom`, `._transitions`, `Metrics._readings`: changed in one step, from the value
  of that moment. `Steps._course`: a plan follows the newest one by `setdefault`. [counts, readings, steps,
  two_threads_show_something]
- `Display._inner`: inner blocks add and remove themselves, the scheduler reads a copy. [inner_blocks]
- `Block._first`, the outcome: the first `setdefault` counts. `Activity.end_delivery`: the first one under the lock
  of `OpenActivities` (`takes`), which sets `.began_at` before it; a worker reads them the other way round. If a
  block is ended by one thread while another opens it, one of them ends the card: the opening thread sets
  `Display.card` and then reads `_first`, the ending one sets `_first` and then reads that.
  [a_block_ends_once, another_thread_ends_a_block, another_thread_reads_a_handle]
- `Account.activities`, `OpenActivities._open`, `.refuses`, the neighbours of a `Succession`: changed by `add` in
  the user's threads and by `remove` in the scheduler's, under the lock of `OpenActivities`. [the_same_key_at_once]
- `Override._entered`, `context.left_loops`, `Runtime._warned`, `OutboxFile._told`, `OutboxPlace.directory`,
  `Account.recovery`: changed in one step each, iterated over as copies; a thread that comes late does the
  same once more. [test_layers; test_configuration: one_override_in_several_threads]
- `Signals._tracked`: under a lock; the handlers take none. [signals_count_what_is_tracked; test_signals]

The user's threads and the scheduler's:

- `Agenda._inbox`: anybody puts in, the scheduler's thread takes out; see `Inbox`. [put_into_an_inbox; test_inbox]
- `Activity.attention`, `Handle._resting`: the scheduler first listens and then compares with its last look; a user's
  thread first changes the handle and then reads these. So at least one of the two sees what the other did.
  [a_reading_changes, a_step_begins]
- What a handle shows: `snapshot()` takes the digest of the state first, so that a change meanwhile is sent with it or
  noticed as a new one. Values that belong together are replaced in one step. [a_reading_changes, inner_blocks]
- `Ledger._owed`, `_debts`: a task is put in before it is woken, and taken out when it has nothing left to do
  (`task_done`). A task that another thread puts in again at that moment is taken out when it runs, or by `hand_in`
  when its card has appeared. Whoever iterates over these, `OpenActivities`, `Echoes` or `Accounts` does so over a
  copy. [a_card_appears, an_end_is_replaced, what_is_settled_is_done,
  what_is_looked_through_while_it_grows]
- `Ledger._waiters`: whoever waits puts its inbox in before it looks at `_owed`; `task_done` empties `_owed` before
  it wakes. What tells whether an end is awaited (`EndMessage.repeats_at`, `Past.only_confirms`) is set before, too.
  [something_is_settled, flush_hears_of_everything]
- `Ledger.lost`: counted by the scheduler's thread, taken by `flush` in one step. [flush_hears_of_everything]
- `PushDelivery.failure` and its message's stage: an outer block's thread withdraws the push, the scheduler's sends
  it or entrusts it to the watchdog; both hold `Echoes.taking_over`. [a_push_is_taken_over]
- `Scheduler._thread`: one thread at a time starts it, runs tasks in its place where none can be started (`drain`),
  or waits until that is over (`join`): `_starting`. Where the start of a thread is interrupted, `_serving` says
  which one serves. [a_scheduler_starts_once, a_scheduler_is_stopped, one_thread_at_a_time_runs_tasks]

The scheduler's and the workers':

- `Job.result`, `.error`: written by the worker, read when the job has come back through the inbox; `done` and
  `WorkerPool.busy` are the scheduler's. `EndMessage.last_attempt` is the worker's while the attempt is in
  flight. [workers_report_each_job_once; test_threads]
- `Message.copy_owner`, `.entry`, `.has_arrived`: set in one step by the worker, the scheduler, the exit, or an
  outer block's thread. Two of them may have a copy made at the same time; it has the same id (`Message.id`), which
  outbox and `Guard._entrusted` keep once. [test_keeping]
- `HttpTransport._connections`: made by one worker at a time, closed by any thread at any moment; a request that meets
  closed ones is tried again. [connections_are_closed_while_they_are_made; test_shutdown: a_client_that_was_closed]

Closing, signals and the exit:

- `Dispatcher.close` and whoever waits or hands in meanwhile: the waiters are woken after everything has begun anew,
  and what came after `part` is delivered by the fresh threads. `epoch` tells which activities are older.
  [a_flush_that_begins_while_the_dispatcher_closes, a_push_that_comes_while_the_threads_stop, a_tracker_closes;
  test_threads]
- `end_open` and the block's own thread: `end_open` takes the lock of `OpenActivities` to see what is open, and hands
  in an end that the block's thread has made but not handed in yet.
  [a_tracker_closes, a_tracker_closes_while_a_block_opens]
- `Shutdown._exit_thread`: a card that another thread opens beside the exit appears with its end alone
  (`stays_here`). After a signal has waited, it ends what was opened meanwhile.
  [a_block_that_a_thread_opens_beside_the_exit, what_is_opened_while_a_signal_ends_the_rest]
- `Shutdown._turn`: one thread at a time leaves, and a later one waits for it even if its own time is over.
  [threads_that_come_after_the_exit_and_its_time]
- `Departure.draining`, `_deadline`, `_left`, `_parted`: set in one step by who closes or leaves, read by all.
  [test_shutdown]
- `Dispatcher.is_dropped`: set by the thread that lets go of the tracker, before it wakes the `Retirement`; each
  `task_done` wakes that again. [test_shutdown: a_tracker_that_is_dropped_delivers_what_it_owes]
- `Shutdown._dispatchers`: iterated over as a copy of its weak references.
  [dispatchers_come_and_go_while_the_exit_looks]
- `Leases.is_closed`, `.ids`, `.left`, `Guard._in_outbox`: under `Leases.leaving`, which the exit takes too, so that
  no lease is taken after the exit has given all of them back. [a_lease_is_not_taken_while_the_process_leaves]
- The gates and fork locks of `_fork`: imports, clients and SQLite against forks and the exit. [test_forks;
  test_shutdown: who_waits_at_a_gate_holds_no_lock, a_gate_is_shut_when_everybody_has_left]

The watchdog's thread and the disk:

- `Watchdog._inbox`: any thread puts in. `Companion.line`, `.live` are its thread's; the others read one attribute, or
  a copy. `Watchdog._accounts`, `._thread`: under a lock. [a_watchdog_is_told_and_asked_at_once; test_watchdog]
- `Outbox`: one thread of a process at a time (`_fork.storing`). [one_thread_at_a_time_uses_the_outbox]
"""
