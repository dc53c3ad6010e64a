"""What must never be seen in a simulated world: on the phone, on the wire, on the disk."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NoReturn

from internals import name_in_leases, options_of
from world import KEY, SECRET, URL, Heir, Process, Violation, World

from activitysmith_track.delivery.account import SLOTS

if TYPE_CHECKING:
    from world_jobs import Run

    from activitysmith_track.client.requests import Request

MANY = re.compile(r"failed (\d+) times")
COLORS = {"green": "done", "red": "failed", "gray": "stopped"}
SOON = 10.5  # seconds after which a card says how its job ended, once the service answers
HEARING = 0.5  # seconds in which a watchdog has surely heard of what was said
REPAIRED = 15.0  # seconds after which a card is right again that something late has touched
BUSY = 40  # requests of a process in a minute, after which a card may have to wait for the account's rate
GIVEN_BACK = (
    20.0  # seconds after which a run has its card again that an older one has taken, once the service answers
)
MOST_ASKED = 45  # requests of one process about one stream within a minute
OLD = "old"  # the run of what was owed before all of this
LEASE = 185.0  # seconds after which what a killed process had is anybody's


class Judge:
    """Looks at all that the service carries out, and at the phone when it must be right again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs: dict[int, Run] = {}
        self.notes: Counter[str] = Counter()
        self.was_rough = world.conditions.faults > 0 or world.conditions.latency > 0
        self._outages, self._out_since, self._healed_at = 0, 0.0, float("-inf")
        self._lasted = 0.0  # the longest time of trouble, in seconds
        self._ends: Counter[int] = Counter()  # those that took effect, by run
        self._pushes: Counter[int] = Counter()
        self._told: Counter[int] = Counter()  # the failures of which they tell, of this run and others of its name
        self._spent: set[str] = set()  # cards whose budget a process had spent that is gone
        self._taken_over: set[str] = set()  # cards of other runs, whose age nobody knows
        self._touched: dict[str | None, float] = {}  # when a stray of a dead process came last, by stream keys
        self._changed_at: dict[str, float] = {}  # when cards were ended for fresh ones, by their stream keys
        self._strays: set[int] = set()  # runs with such a request
        self._unanswered: Counter[tuple[int, str]] = Counter()  # states on their way, by their process and path
        self._overtaken: set[int] = set()  # runs whose end was sent while a state of theirs was on its way
        self._was_full = False
        self._hits: dict[int, Run] = {}  # the older run that has last taken a run's card
        self.hidden: set[str | None] = set()  # stream keys that are paused, or were refused once
        self._asked: dict[tuple[int, str], deque[float]] = {}  # when a process asked for a stream
        self.told: dict[object, Process] = {}  # pushes, by who has been told that they have arrived
        self.old: set[int] = set()  # what processes that were gone before all of this owe
        self.late_at: dict[int, float] = {}  # when a request of a run was carried out that had been given up

    def wrong(self, what: str, **details: object) -> NoReturn:
        """Say what must not be."""
        raise Violation(f"{what}: " + ", ".join(f"{name}={value}" for name, value in details.items()))

    # -- outages

    def outage(self, kind: str, seconds: float) -> None:
        """Let the service be out of reach for a time."""
        world = self.world
        self.heal()
        world.outage, self.was_rough = kind, True
        if world.now - self._healed_at > 60.0 and not world.conditions.faults:
            self._out_since = world.now  # else it is still the same trouble
        self._outages += 1
        this = self._outages

        def is_over() -> None:
            if self._outages == this:
                self.heal()

        world.at(world.now + seconds, is_over)

    def heal(self) -> None:
        """Let the service be reached again."""
        if self.world.outage is not None:
            self._healed_at = self.world.now
            self._lasted = max(self._lasted, self._healed_at - self._out_since)
        self.world.outage = None

    @property
    def soon(self) -> float:
        """The seconds after which a card says how its job ended: after a long outage, a tenth of that more."""
        return SOON + (min(62.0, self._lasted / 8) if self._lasted > 50.0 else 0.0)

    # -- on the wire

    def sends(self, process: Process, request: Request[Any]) -> None:
        """Look at a request on its way out."""
        sent, now = process.sent, self.world.now
        number = dict(request.body or {}).get("metadata", {}).get("run")
        run = self.runs.get(number)
        is_own = number != OLD and (run is None or run.process is process or isinstance(process, Heir))
        process.spoken.append((now, is_own))
        if request.method == "PUT":
            self._unanswered[process.number, request.path] += 1
        elif run is not None and self._unanswered[process.number, request.path]:
            self._overtaken.add(run.number)
        # It is decided when a request goes, and leaves some calls of a slow disk later, one after the other.
        if not is_own and process.dispatcher.ledger.owes_own and now > process.leaves_at + 3.5:
            self.wrong("a debt ahead of what a process has to say when it leaves", process=process.number)
        if request.method == "POST" and run is not None and self.told.get(_words(request)) is process:
            self.wrong("a push goes again that has arrived", run=number, process=process.number)
        sent.append(now)
        self._goes_round(process, request)
        while sent[0] <= now - 55.0:
            sent.popleft()
        if len(sent) > 60 and not process.dispatcher.departure.draining:
            self.wrong("above the account's rate", requests=len(sent), process=process.number)

    def _goes_round(self, process: Process, request: Request[Any]) -> None:
        """See to it that nothing is sent again and again."""
        asked = self._asked.setdefault((process.number, request.path), deque())
        asked.append(self.world.now)
        while asked[0] <= self.world.now - 60.0:
            asked.popleft()
        if len(asked) > MOST_ASKED and request.method != "POST":
            self.wrong("round and round", process=process.number, path=request.path)

    def hears(self, process: Process, request: Request[Any]) -> None:
        """Note that a process has had its answer."""
        if request.method == "PUT":
            self._unanswered[process.number, request.path] -= 1
        if request.method == "POST":
            self.told[_words(request)] = process

    def carry_out(
        self, process: Process, request: Request[Any], *, is_late: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """Have the service carry a request out, and look at what that did.

        Args:
            process: who sent it.
            request: what is sent.
            is_late: True where that process has given it up by now.
        """
        service = self.world.service
        content = b"" if request.body is None else json.dumps(request.body).encode()
        key = request.path.rpartition("/")[2]
        before = service.cards.get(key) if "stream" in request.path else None
        was = before.metadata.get("run") if before is not None else None
        status, answer = service.handle(request.method, request.path, f"Bearer {KEY}", content)
        if self.world.trace is not None:
            self._trace(process, request, status)
        self.has_no_secret(content.decode(), "a body")
        if status == 429:
            self._was_full = True
        elif status == 400 and not self._finds_no_countdown(request, before):
            self.wrong("a bad request", why=service.requests[-1].why)
        if status == 200:
            self._look(process, request, answer, was, is_late=is_late)
        return status, answer

    def _finds_no_countdown(self, request: Request[Any], card: Any) -> bool:
        """Tell whether this would change a countdown that is not there: it takes a duration to begin one."""
        state = dict(request.body or {}).get("content_state", {})
        is_there = card is not None and not card.ended and card.state.get("type") == "timer"
        return state.get("type") == "timer" and "duration_seconds" not in state and not is_there

    def _trace(self, process: Process, request: Request[Any], status: int) -> None:
        body: Any = request.body or {}
        state = body.get("content_state") or body
        shown = " ".join(
            str(state[name]) for name in ("title", "percentage", "current_step", "color", "subtitle") if name in state
        )
        gone = " (dead)" if process.dead else ""
        run = body.get("metadata", {}).get("run")
        why = self.world.service.requests[-1].why
        self.world.log(f"p{process.number}{gone} {request.method} {request.path} run {run} [{shown}] {status} {why}")

    def _look(
        self, process: Process, request: Request[Any], answer: dict[str, Any], was: Any, *, is_late: bool
    ) -> None:
        service, body = self.world.service, dict(request.body or {})
        key = request.path.rpartition("/")[2]
        if body.get("metadata", {}).get("run") == OLD:
            self.old.discard(body["metadata"]["number"])
            return
        if answer.get("operation") == "paused":
            return
        run = self.runs.get(body.get("metadata", {}).get("run"))
        state = body.get("content_state", {})
        if run is None:
            if request.method == "DELETE" and state.get("auto_dismiss_seconds") == 0:
                self.notes["a card was changed for a fresh one"] += 1
                self._changed_at[key] = self.world.now
                return
            self.wrong("nobody's request", path=request.path)
        if request.method == "POST":
            self.hear_push(run, body)
            return
        card = service.cards[key]
        if was in self.runs and was != run.number:
            self._taken_over.add(card.activity_id)
        if was in self.runs and was != run.number and self.runs[was].process is not run.process:
            self._spent.add(card.activity_id)  # nobody knows how many updates it has had
        if (
            service.requests[-1].verdict == "over budget" or card.over_budget
        ) and card.activity_id not in self._spent:
            self.wrong("over budget", key=key, updates=card.updates, age=self.world.now - card.started_at)
        self._takes_away(run, process, request, was)
        if is_late:  # what it shows may have been true; it must be right again soon
            self.notes["a late request"] += 1
            self.late_at[run.number] = self.world.now
            if process.dead:
                self._strays.add(run.number)
                self._touched[run.key] = self.world.now
            elif self.world.kind_of_outbox == "none" and was in self.runs and self.runs[was].process is not process:
                self._touched[run.key] = self.world.now  # nothing tells one process of the other
        elif request.method == "PUT":
            self._shown(run, process, state)
        elif answer.get("ignored") is None:
            self._ended(run, process, state, was)

    def _shown(self, run: Run, process: Process, state: dict[str, Any]) -> None:
        percentage, color = state.get("percentage"), state.get("color")
        if process.dead:
            self.notes["a stray update"] += 1
            self._strays.add(run.number)
            self._touched[run.key] = self.world.now
            return
        if run.kind is None and color in COLORS:
            self.wrong("a running job looks ended", run=run.number)
        if percentage is None:
            return
        if percentage >= 100 and run.kind != "done":
            self.wrong("100 % before the end", run=run.number)
        if not run.falls:
            run.look() if run.kind is None else None
            if percentage > run.most:
                self.wrong("ahead of the job", run=run.number, shown=percentage, true=run.most)
            if run.kind is None and run.shown is not None and percentage < run.shown:
                self.wrong("a percentage that goes back", run=run.number, shown=run.shown, now=percentage)
        run.shown = percentage

    def _ended(self, run: Run, process: Process, state: dict[str, Any], was: Any) -> None:
        killed = run.process.killed and (run.kind is None or run.ended > run.process.gone_at - HEARING)
        if run.kind is None and not killed:
            self.wrong("ended while it runs", run=run.number)
        shown = COLORS.get(state.get("color"), "done" if "color" not in state else "?")
        if run.handle.type != "stats" and shown != run.kind and not (killed and shown == "failed"):
            self.wrong("a false end", run=run.number, shown=shown, true=run.kind)
        other = self.runs.get(was)
        is_up = other is not None and (other.kind is None or other.keeps_card)
        if other is not None and is_up and other is not run and other.began >= run.ended:
            if process.dead:
                self._touched[run.key] = self.world.now
                self.notes["a stray end"] += 1
            elif self.world.kind_of_outbox == "none":  # where nothing tells one process of the other
                self._touched[run.key] = self.world.now
            elif not (other.process.killed or self.world.jumped) and run.process.gone_at < other.began - REPAIRED:
                self.wrong("an older run ends a newer run's card", older=run.number, newer=was)  # no lease seems over
        self._ends[run.number] += 1

    def _takes_away(self, run: Run, process: Process, request: Request[Any], was: Any) -> None:
        """See to it that a newer run has its card again which an older run has ended, or shown its own end on.

        The older one's process may live, and not know of the newer one; or its watchdog may have sent that before the
        newer run began, or could be told of it.
        """
        newer = self.runs.get(was)
        says_the_end = (
            request.method == "DELETE" or dict(request.body or {}).get("content_state", {}).get("color") in COLORS
        )
        if newer is None or newer is run or run.kind is None or newer.began < run.ended:
            return
        if self.world.kind_of_outbox == "none":  # where nothing tells one process of the other
            self._touched[run.key] = self.world.now
        elif says_the_end and not process.dead and newer.kind is None:
            self._is_given_back(run, newer)

    def _is_given_back(self, older: Run, newer: Run) -> None:
        self.notes["a card that was given back"] += 1
        hit = self.world.now
        self._hits[newer.number] = older

        def look() -> None:
            world = self.world
            if (
                newer.kind is not None
                or newer.process.dead
                or world.jumped
                or self._was_full
                or newer.key in self.hidden
            ):
                return
            if self._is_overtaken(newer):
                return
            rate_at = self._rate_opens_at(newer.process)
            trouble = max(hit, self._healed_at, world.silent_until, world.late_until, rate_at)
            wait = GIVEN_BACK + self.soon - SOON
            if self._is_in_trouble or world.now < trouble + wait:
                world.at(max(world.now, trouble) + wait, look)
                return
            card = world.service.cards[str(newer.key)]
            shown = self.runs.get(card.metadata.get("run"))
            if (shown is newer and not card.ended) or (shown is not None and shown.began > newer.began):
                return
            self.wrong("an older run has taken a newer run's card for good", older=older.number, newer=newer.number)

        self.world.at(hit + GIVEN_BACK, look)

    def _rate_opens_at(self, process: Process) -> float:
        """Return when a card may go that waits for the account's rate; 0 where a process has not sent much."""
        busy = [sent for sent in process.sent if sent > self.world.now - 60.0]
        return busy[0] + 60.0 if len(busy) > BUSY else 0.0

    @property
    def _is_in_trouble(self) -> bool:
        """True while something is wrong with the network."""
        return bool(self.world.outage or self.world.conditions.faults or self.world.conditions.latency)

    def hear_push(self, run: Run, body: dict[str, Any]) -> None:
        """Count a push, which must be true."""
        self._pushes[run.number] += 1
        title = body["title"]
        many = MANY.search(title)
        self._told[run.number] = max(self._told[run.number], int(many[1]) if many else 1)
        if "stands still" in title:
            return
        if run.is_taken_over and not run.process.killed:
            self.wrong("pushed although an outer block took it over", run=run.number)
        if "failed" not in title or not (run.kind == "failed" or run.is_late or run.process.killed):
            self.wrong("a false push", run=run.number, kind=run.kind, title=title)

    # -- on the disk

    def has_left(self, process: Process) -> None:
        """See to it that a process that left in order keeps a lease on nothing, but for what may not come twice."""
        owner = name_in_leases(process.dispatcher.persistence)
        for row in self.world.shelf.rows:
            if row.owner == owner and (row.entry.at_least_once or row.entry.kind != "push"):
                self.wrong("a process that has left keeps a lease", process=process.number, entry=row.entry.id)

    def has_no_secret(self, text: str, where: str) -> None:
        """See to it that what is sent or kept names neither the key nor a password."""
        if KEY in text or SECRET in text:
            self.wrong("a secret", where=where, text=text)

    def look_at_the_disk(self) -> None:
        """What is left in the outbox belongs to the account."""
        for row in self.world.shelf.rows:
            if row.entry.base_url != URL:
                self.wrong("an entry of nobody", entry=row.entry.id)

    # -- on the phone, while jobs run

    def look_along(self) -> None:
        """Judge the phone where nothing is wrong with the network, and has not been for a while."""
        world = self.world
        if self._is_in_trouble:
            return
        healthy = max(self._healed_at, world.silent_until)
        for run in self.runs.values():
            process = run.process
            if process.dead or not run.has_card or self._is_busy(process):
                continue
            cards = [card for card in world.service.activities.values() if card.metadata.get("run") == run.number]
            if run.kind is None:
                self._is_current(run, cards, max(healthy, run.changed_at))
            elif world.now > max(run.ended, healthy) + self.soon + 1.0 and not self._was_succeeded(process):
                self._has_ended(run, cards, max(run.ended, healthy))

    def _is_busy(self, process: Process) -> bool:
        """Tell whether a process has had more to say of its own lately than may be said at once."""
        own = [when for when, is_own in process.spoken if is_own and when > self.world.now - 75.0]
        return len(own) > 45

    def _is_current(self, run: Run, cards: list[Any], since: float) -> None:
        """Judge the card of a job that stands still: in ten minutes it has had an update, or is over its budget."""
        if run.handle.type != "progress" or self.world.now < since + 600.0 or run.key in self.hidden:
            return
        for card in cards:
            is_known = card.activity_id not in self._spent | self._taken_over
            is_known = is_known and not card.over_budget and card.updates < 12
            if not card.ended and is_known:
                shown, true = card.state.get("percentage"), run.handle.percentage
                if shown != true:
                    self.wrong("an old percentage stays", run=run.number, shown=shown, true=true)

    def _has_ended(self, run: Run, cards: list[Any], since: float) -> None:
        """Judge what is to be seen and heard of a job that is over."""
        if any(not card.ended for card in cards) and run.number not in self._strays and not run.keeps_card:
            self.wrong("runs on the screen too long", run=run.number, kind=run.kind, since=since)
        since = max(since, run.failed_at)
        if run.owes_push and not self.is_told(run) and self.world.now > since + self.soon + 3.0:
            self.wrong("rings too late", run=run.number, since=since)

    # -- on the phone, when it must be right again

    def look_at_the_phone(self, *, debts: bool = False, after_leases: bool = False) -> None:
        """Judge the phone, some seconds after the service answers again.

        Args:
            debts: True where what processes owed that are gone has had its time too: it goes last.
            after_leases: True where what killed processes had is anybody's by now.
        """
        cards: dict[Any, list[Any]] = {}
        for card in self.world.service.activities.values():
            cards.setdefault(card.metadata.get("run"), []).append(card)
        newest = {run.key: run for run in self.runs.values() if run.has_card}
        if after_leases or (debts and not any(process.killed for process in self.world.processes)):
            self._judge_alarms()
        for run in self.runs.values():
            if (
                (debts or not (run.process.dead or self._is_busy(run.process) or self._was_succeeded(run.process)))
                and self._is_safe(run.process)
                and (after_leases or not self._has_killed_heirs(run.process))
            ):
                self._judge_push(run)
                if run.has_card:
                    self._judge_card(run, cards.get(run.number, []), newest[run.key] is run)

    def _is_safe(self, process: Process) -> bool:
        """Tell whether what a process owes survives it."""
        if process.killed:
            return process.was_guarded and not self._outlasted_the_watchdog
        return not (process.left_debts and self.world.kind_of_outbox == "none")

    @property
    def _outlasted_the_watchdog(self) -> bool:
        """True after an outage longer than the hour for which a watchdog tries, where nothing is kept on disk."""
        return self.world.kind_of_outbox == "none" and self._lasted > 3_500.0

    def _has_killed_heirs(self, process: Process) -> bool:
        """Tell whether a program was killed later, which may have had its debts under a lease."""
        killed = [each for each in self.world.processes if each.killed]  # to which a lease that runs may seem over
        through_at = min(process.gone_at, process.lives_on_at, process.leaves_at)
        return any(each.gone_at >= through_at or self.world.jumped for each in killed)

    def _was_succeeded(self, process: Process) -> bool:
        """Tell whether what a process owed that lives on may have been taken over by one that is gone by now."""
        gone = [each for each in self.world.processes if each.left_debts and each.gone_at >= process.lives_on_at]
        return bool(gone) or self._has_killed_heirs(process)

    def _is_followed(self, run: Run) -> bool:
        """Tell whether a newer run of the same key goes on."""
        newer = [each for each in self.runs.values() if each.key == run.key and each.number > run.number]
        return any(each.kind is None and not each.process.dead for each in newer)

    def _was_taken_over(self, run: Run) -> bool:
        """Tell whether a newer run has had the card, which was killed with nobody left to end it."""
        newer = [each for each in self.runs.values() if each.key == run.key and each.number > run.number]
        return any(each.process.killed and not self._is_safe(each.process) for each in newer)

    @property
    def _is_quiet(self) -> bool:
        """True where nothing ever went wrong with the network."""
        return not self.was_rough

    def _was_heard(self, run: Run) -> bool:
        """Tell whether the watchdog of a killed process has surely heard of how a block was."""
        process = run.process
        if process.watchdog is None or (run.kind is not None and run.ended < process.watchdog.stands_at):
            return False
        return max(run.began, run.ended, run.failed_at) < process.gone_at - HEARING

    def _judge_alarms(self) -> None:
        """Whoever was killed under a watchdog has somebody hear of it."""
        for process in self.world.processes:
            runs = [each for each in self.runs.values() if each.process is process and each.has_card]
            killed = [each for each in runs if each.kind is None and each.began < process.gone_at - HEARING]
            if (
                self._is_safe(process)
                and process.was_guarded
                and killed
                and not any(self._pushes[each.number] for each in runs)
            ):
                self.wrong("killed, and nobody heard of it", process=process.number)

    def _judge_push(self, run: Run) -> None:
        if run.process.killed and not self._was_heard(run):
            return
        if run.owes_push and not self.is_told(run):
            self.wrong("a failure that nobody heard of", run=run.number)
        if (
            self._is_quiet
            and not run.process.killed
            and self._pushes[run.number] > 1
            and "stall_after" not in options_of(run.handle)
        ):
            self.wrong("pushed twice", run=run.number)

    def is_told(self, run: Run) -> bool:
        """Tell whether a failure has rung, or is counted in the push of another one of its name that has."""
        if self._pushes[run.number]:
            return True
        same = [each for each in self.runs.values() if (each.process, each.name) == (run.process, run.name)]
        counted = sum(max(0, self._told[each.number] - 1) for each in same)
        return counted >= sum(each.owes_push and not self._pushes[each.number] for each in same)

    def _was_crowded(self, run: Run) -> bool:
        """Tell whether a short block found all slots of its process taken, once it could be shown."""
        own = [each for each in self.runs.values() if each.process is run.process and each.has_card]
        until = max(run.ended, self._healed_at) + self.soon if self.was_rough else run.ended
        beside = [each for each in own if each.began <= until and (not each.ended or each.ended > run.began - 15.0)]
        return len(beside) > SLOTS

    def _is_overtaken(self, run: Run) -> bool:
        """Tell whether a stray request of a dead process has come since a moment before a block began.

        One that is killed without a watchdog right after its request cannot look after it either.
        """
        hit = self._hits.get(run.number)
        if hit is not None and hit.process.killed and not hit.process.was_guarded:
            return True
        return self._touched.get(run.key, -REPAIRED) > run.began - REPAIRED

    def _judge_card(self, run: Run, cards: list[Any], is_newest: bool) -> None:
        world = self.world
        if run.process.killed and not self._was_heard(run):
            return
        if run.kind is None and run.process.killed:
            if any(not card.ended for card in cards) and not self._is_overtaken(run):
                self.wrong("killed, and still running on the screen", run=run.number)
            return
        if run.kind is None:
            others = [each for each in self.runs.values() if each.has_card and each.kind is None]
            own = [each for each in others if each.process is run.process]
            crowded = (
                len(own) > SLOTS or len([each for each in others if not each.process.dead]) > world.conditions.slots
            )
            if run.process.dead or self._was_full or crowded or (self._is_overtaken(run) or run.key in self.hidden):
                return
            if self._rate_opens_at(run.process) > world.now:
                return
            if cards and cards[-1].activity_id in self._taken_over and cards[-1].ended_by != "request":
                return
            began = max(run.began, self._changed_at.get(run.key or "", 0.0))
            if world.now - began > 12.0 and all(card.ended for card in cards):
                self.wrong("runs, and is not on the screen", run=run.number, cards=len(cards))
            return
        for card in cards:
            # An older run's end waits as long as a job goes on whose card was refused, and may be there all the same.
            waits = run.key in self.hidden and self._is_followed(run)
            waits = waits or self._was_taken_over(run)
            if not card.ended and run.number not in self._strays and not run.keeps_card and not waits:
                self.wrong("still running on the screen", run=run.number, kind=run.kind)
        # The others were changed for fresh ones.
        cards = [card for card in cards if not card.ended or card.dismiss_after]
        if not is_newest or (self._is_overtaken(run) or run.key in self.hidden):
            return  # a newer run has the card, or there is none
        is_optional = run.kind == "stopped" or run.is_delayed or self._was_full or run.process.left_debts
        is_optional = is_optional or run.process.killed or self._was_crowded(run)
        # The last state of a countdown that stays up begins none: it takes a duration, and there is nothing left.
        is_optional = is_optional or (run.handle.type == "timer" and run.keeps_card)
        is_optional = is_optional or self.world.jumped  # a lease seems to have run out, and another one takes the end
        if not cards and not is_optional:
            self.wrong("never shown", run=run.number, kind=run.kind)
        if cards and cards[-1].ended_by == "request" and COLORS.get(cards[-1].color, run.kind) != run.kind:
            self.wrong("ended in another colour", run=run.number, kind=run.kind, color=cards[-1].color)
        # An end that overtook its card's start goes once more. Where the card has ended by then, that may have been
        # an older run's end, of which a watched process cannot know, so that the card appears with its own once more.
        is_in_doubt = run.number in self._overtaken and run.process.is_watched
        if self._is_quiet and self._ends[run.number] > 1 and not is_in_doubt:
            self.wrong("ended twice", run=run.number)


def _words(request: Request[Any]) -> tuple[object, ...]:
    """Return what a push says, without how late it is."""
    body = dict(request.body or {})
    message = str(body.get("message")).partition("(happened")[0].strip()
    return body.get("metadata", {}).get("run"), body.get("title"), message
