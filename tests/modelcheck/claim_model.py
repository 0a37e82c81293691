"""An exhaustive model check of claims: the core's own tables, under everything that a network may do.

    python tests/modelcheck/claim_model.py --claimants 3 --replicas 4 --lies 1

What is explored is what runs: `ballot.ask`, `claimant.advance`, `claimant.count`, `claim_rules.quorum`. Around them
stands a network that is the worst one: what was sent once may arrive at any later time, any number of times, in any
order, or never. So loss, delay, duplication and reordering are in every run; a replica that crashes and comes back
with what it had on disk is one at which nothing arrives for a while, and so is in every run too (`--forgetful` brings
it back without its disk, and finds the fault that this is). A claimant that crashes is one that is `ENDED` without
having given back its votes; one that was away too long may still establish its room. Leases and receipts lapse at any
time (a vote's, while its claimant relies on it, only with `--skewed`); lying replicas say and sign anything.

Checked in every state: no two rooms have receipts of a quorum; no two claimants at once are told to create. From every
state (or each so many): if from here on the network is kind, every claimant that has not ended comes to a room.

Replicas are alike: states that differ only by their names are one state (symmetry); so are those that differ in what a
claimant might yet hear when it no longer listens. A state is the claimants and a sorted tuple of the replicas, each of
which is interned as a number.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from mediadht.core.ballot import FREE, Ask, Ballot, Seat, Verdict, ask, claim_ask, room_ask
from mediadht.core.claim_rules import Standing, canonical, quorum
from mediadht.core.claimant import Action, Heard, Outcome, Phase, advance, count, count_receipts

__all__ = ["Column", "Configuration", "Model", "Violation"]

_LISTENING = (Phase.ASKING, Phase.PEEKING)
_FINAL = (Phase.CERTIFIED, Phase.MOVED, Phase.JOINED, Phase.ENDED)
_KIND_ROUNDS_MAX = 60


class Violation(AssertionError):
    """A state that must not be, with the way that leads to it."""


@dataclass(frozen=True)
class Configuration:
    """What is explored. Of `replicas`, `lies` lie."""

    claimants: int = 2
    replicas: int = 4
    lies: int = 0
    epochs: int = 1
    """How often a claimant may claim anew after it gave its votes back."""
    quorum: int | None = None
    """Another one than the rules say, to see what it is good for."""
    forgetful: bool = False
    """One replica may forget its promises, once."""
    skewed: bool = False
    """A vote may lapse while its claimant still relies on it; then only receipts are exclusive."""
    expiry: bool = False
    """Receipts may expire, and with them what the replica promised."""
    deadlines: bool = True
    """Claimants may be given up, crash, or be out of time, and make their rooms all the same."""
    kind_every: int = 1
    """Whether all ends well is tried from one in so many states."""
    states_max: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One replica, and what it has said."""

    ballot: Ballot = FREE
    epoch: int = 0
    """Of the claim that it voted for."""
    receipts: frozenset[int] = frozenset()
    """Whose rooms it has signed for, unexpired."""
    certified: bool = False
    """Whether it holds the certificate of the room that it is bound to."""
    said: tuple[frozenset[Heard], ...] = ()
    """To each claimant, in its present sweep."""
    has_forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Claimant:
    """One claimant, and what it has sent so far."""

    phase: Phase = Phase.ASKING
    epoch: int = 0
    released: int = -1
    """The last epoch that was given back."""
    room: bool = False
    proved: bool = False
    relies: bool = False
    """Whether it was told to create and its lease is not over."""
    may_certify: bool = True


State = tuple[tuple[int, ...], tuple[int, ...]]
"""The claimants and the replicas, each by number."""


class Model:
    """The states of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.needed = configuration.quorum or quorum(configuration.replicas)
        self.honest = configuration.replicas - configuration.lies
        self._columns: list[Column] = []
        self._numbers: dict[Column, int] = {}
        self._column_steps: dict[tuple[int, object], int] = {}
        self.told_create = 0
        self.kind_runs = 0
        self._said_sets: dict[frozenset[Heard], int] = {}
        self._end_well: set[State] = set()
        self._claimants: list[Claimant] = []
        self._claimant_numbers: dict[Claimant, int] = {}
        self._moves: dict[tuple[tuple[int, ...], int, int, bool], list[tuple[tuple[object, ...], int]]] = {}
        self._found: dict[tuple[int, int, tuple[int, ...]], list[tuple[Outcome, int]]] = {}
        self._results: dict[tuple[int, str], int] = {}
        self._signed: list[frozenset[int]] = []
        self._said_numbers: list[tuple[int, ...]] = []

    # --- Columns -------------------------------------------------------------------------------------------------

    def number(self, column: Column) -> int:
        """The number of this column."""
        found = self._numbers.get(column)
        if found is None:
            found = self._numbers[column] = len(self._columns)
            self._columns.append(column)
            self._signed.append(column.receipts)
            self._said_numbers.append(tuple(self._said_number(said) for said in column.said))
        return found

    def _claimant_number(self, claimant: Claimant) -> int:
        found = self._claimant_numbers.get(claimant)
        if found is None:
            found = self._claimant_numbers[claimant] = len(self._claimants)
            self._claimants.append(claimant)
        return found

    def claimants(self, state: State) -> tuple[Claimant, ...]:
        """The claimants of a state."""
        return tuple(self._claimants[number] for number in state[0])

    def column(self, number: int) -> Column:
        """The column of this number."""
        return self._columns[number]

    def _step(self, number: int, event: tuple[object, ...]) -> int:
        """The column after an event, by number."""
        found = self._column_steps.get((number, event))
        if found is None:
            found = self.number(self._after(self._columns[number], event))
            self._column_steps[number, event] = found
        return found

    def _after(self, column: Column, event: tuple[object, ...]) -> Column:
        match event:
            case ("claim", int(i), int(epoch), bool(listens)):
                return self._claimed(column, i, epoch, listens=listens)
            case ("release", int(i), int(epoch), bool(listens)):
                of, ballot = claim_ask(column.ballot, name(i), is_release=True), column.ballot
                if not (of is Ask.RELEASE_SAME and column.epoch > epoch):  # else older than the claim that it holds
                    ballot, _ = ask(ballot, of)
                column = replace(column, ballot=ballot, epoch=0 if ballot.seat is not Seat.VOTED else column.epoch)
                return self._shown(column, i, granted=False) if listens else column
            case ("room", int(i), bool(proved)):
                return self._room(column, i, proved=proved)
            case ("lapse",):
                bound = column.ballot.seat is Seat.BOUND
                ballot, _ = ask(column.ballot, Ask.LAPSE)
                said = column.said
                if not bound and not self.configuration.skewed:
                    # The claimant counts its lease from before it asked: it has dropped this vote by now.
                    holder = number_of(column.ballot.holder)
                    said = tuple(
                        frozenset(h for h in heard if not h.granted) if n == holder else heard
                        for n, heard in enumerate(said)
                    )
                receipts = frozenset[int]() if bound else column.receipts
                return replace(column, ballot=ballot, epoch=0, receipts=receipts, certified=False, said=said)
            case ("forget",):
                return replace(column, ballot=FREE, epoch=0, certified=False, has_forgotten=True)
            case ("deaf", int(i)):
                said = tuple(frozenset[Heard]() if n == i else heard for n, heard in enumerate(column.said))
                return replace(column, said=said)
        raise AssertionError(event)

    def _claimed(self, column: Column, i: int, epoch: int, *, listens: bool) -> Column:
        of = claim_ask(column.ballot, name(i), is_release=False)
        ballot, verdict = ask(column.ballot, of, claimant=name(i))
        granted = verdict is Verdict.GRANTED
        column = replace(column, ballot=ballot, epoch=max(epoch, column.epoch) if granted else column.epoch)
        return self._shown(column, i, granted=granted) if listens else column

    def _shown(self, column: Column, i: int, *, granted: bool) -> Column:
        """What is said to a claimant: its vote, and what else is held."""
        ballot = column.ballot
        holder = ballot.holder if ballot.seat is Seat.VOTED and ballot.holder != name(i) else None
        shown = frozenset({ballot.holder}) if ballot.seat is Seat.BOUND else frozenset[bytes]()
        heard = Heard(granted, holder, shown, certified=bool(shown) and column.certified)
        said = tuple(heard_ | {heard} if n == i else heard_ for n, heard_ in enumerate(column.said))
        return replace(column, said=said)

    def _room(self, column: Column, i: int, *, proved: bool) -> Column:
        moves = proved and not (
            column.ballot.seat is Seat.BOUND
            and column.certified
            and column.ballot.holder != name(i)
            and column.ballot.holder < name(i)
        )
        ballot, verdict = ask(
            column.ballot,
            room_ask(column.ballot, name(i), name(i), is_proved=moves),
            claimant=name(i),
            digest=name(i),
        )
        if verdict is not Verdict.GRANTED:
            return column
        same = column.ballot.seat is Seat.BOUND and column.ballot.holder == name(i)
        return replace(
            column,
            ballot=ballot,
            epoch=0,
            receipts=column.receipts | {i},
            certified=moves or (same and column.certified),
        )

    # --- States --------------------------------------------------------------------------------------------------

    def start(self) -> State:
        """Everybody has just asked, and nothing has arrived."""
        config = self.configuration
        column = self.number(Column(said=(frozenset[Heard](),) * config.claimants))
        return (self._claimant_number(Claimant()),) * config.claimants, (column,) * self.honest

    def steps(self, state: State) -> Iterator[tuple[object, State]]:
        """What may happen next, by name."""
        numbers, columns = state
        proofs = sum(
            1 << i
            for i, number in enumerate(numbers)
            if self._claimants[number].proved and self.receipts(columns, i) >= self.needed
        )
        may_forget = self.configuration.forgetful and not any(self._columns[n].has_forgotten for n in columns)
        for place, number in enumerate(columns):
            if place and columns[place - 1] == number:
                continue  # the same happens to its twin
            rest = columns[:place] + columns[place + 1 :]
            for event, changed in self._moves_of(numbers, number, proofs, may_forget):
                yield (place, event), (numbers, tuple(sorted((*rest, changed))))
        for i, number in enumerate(numbers):
            for outcome, changed in self._advances(i, number, columns):
                deaf = tuple(sorted([self._step(column, ("deaf", i)) for column in columns]))
                yield (f"claimant {i}", outcome.value), ((*numbers[:i], changed, *numbers[i + 1 :]), deaf)

    def _moves_of(
        self, numbers: tuple[int, ...], column: int, proofs: int, may_forget: bool
    ) -> list[tuple[tuple[object, ...], int]]:
        mark = (numbers, column, proofs, may_forget)
        found = self._moves.get(mark)
        if found is None:
            claimants = tuple(self._claimants[number] for number in numbers)
            events = self._events(claimants, self._columns[column], proofs, may_forget)
            by_result = {self._step(column, event): event for event in events}
            found = self._moves[mark] = [(event, to) for to, event in by_result.items() if to != column]
        return found

    def _advances(self, i: int, number: int, columns: tuple[int, ...]) -> list[tuple[Outcome, int]]:
        """What may come out for a claimant, and what becomes of it; a crash is its deadline without a release."""
        claimant = self._claimants[number]
        what: tuple[int, ...] = ()
        if claimant.phase in _LISTENING:
            what = tuple(sorted([self._said_numbers[n][i] for n in columns]))
        elif claimant.phase is Phase.ESTABLISHING:
            what = columns
        mark = (i, number, what)
        found = self._found.get(mark)
        if found is None:
            outcomes = self._outcomes(claimant, i, columns)
            results = {self._claimant_number(self._after_outcome(claimant, outcome)): outcome for outcome in outcomes}
            if claimant.phase in (*_LISTENING, Phase.HOLDING) and self.configuration.deadlines:
                ended = replace(claimant, phase=Phase.ENDED, relies=False)
                results.setdefault(self._claimant_number(ended), Outcome.DEADLINE)
            found = self._found[mark] = [(outcome, to) for to, outcome in results.items()]
        return found

    def _events(
        self, claimants: tuple[Claimant, ...], column: Column, proofs: int, may_forget: bool
    ) -> Iterator[tuple[object, ...]]:
        config = self.configuration
        for i, claimant in enumerate(claimants):
            for epoch in range(claimant.epoch + 1):
                yield ("claim", i, epoch, claimant.phase is Phase.ASKING and epoch == claimant.epoch)
            for epoch in range(claimant.released + 1):
                yield ("release", i, epoch, claimant.phase is Phase.PEEKING and epoch == claimant.epoch)
            if claimant.room:
                yield ("room", i, False)
            if proofs >> i & 1:
                yield ("room", i, True)
        if column.ballot.seat is Seat.VOTED:
            holder = claimants[number_of(column.ballot.holder)]
            if config.skewed or not holder.relies or holder.epoch != column.epoch:
                yield ("lapse",)
        elif (
            column.ballot.seat is Seat.BOUND
            and config.expiry
            and not claimants[number_of(column.ballot.holder)].relies  # a receipt outlives a lease
        ):
            yield ("lapse",)
        if may_forget:
            yield ("forget",)

    def _outcomes(self, claimant: Claimant, i: int, columns: tuple[int, ...]) -> set[Outcome]:
        """What may come out for this claimant, whatever of what was said to it has arrived."""
        late = self.configuration.deadlines
        match claimant.phase:
            case Phase.ASKING | Phase.PEEKING:
                options = tuple(sorted(self._said_numbers[n][i] for n in columns))
                found = set(self._counted(claimant.phase, i, options))
                if claimant.phase is Phase.PEEKING and claimant.epoch >= self.configuration.epochs:
                    found.discard(Outcome.FREE)  # it may not claim again in this configuration
                return found
            case Phase.RETRYING | Phase.FOLLOWING:
                return {Outcome.TIMER}
            case Phase.HOLDING:
                return {Outcome.MADE, Outcome.LEASE_OVER} if late else {Outcome.MADE}
            case Phase.ESTABLISHING:
                return self._established(columns, i)
            case Phase.ENDED if late and not claimant.room:
                return {Outcome.MADE}
            case Phase.PROVISIONAL:
                return {Outcome.MADE}
        return set()

    def _said_number(self, said: frozenset[Heard]) -> int:
        number = self._said_sets.setdefault(said, len(self._said_sets))
        return number

    @cache  # noqa: B019 - a model lives as long as its process
    def _counted(self, phase: Phase, i: int, options: tuple[int, ...]) -> frozenset[Outcome]:
        sets = {number: said for said, number in self._said_sets.items()}
        choices: list[list[Heard | None]] = [[None, *sets[number]] for number in options]
        choices += [[None, *self._anything(i)] for _ in range(self.configuration.lies)]
        found: set[Outcome] = set()
        seen: set[frozenset[tuple[Heard | None, int]]] = set()
        for chosen in itertools.product(*choices):
            tally: dict[Heard | None, int] = {}
            for said in chosen:
                tally[said] = tally.get(said, 0) + 1
            mark = frozenset(tally.items())
            if mark in seen:
                continue
            seen.add(mark)
            heard = {n: said for n, said in enumerate(chosen) if said is not None}
            for is_over in (False, True):
                outcome = count(phase, name(i), heard, self.configuration.replicas, is_over=is_over)
                if outcome is not None:
                    found.add(outcome)
        return frozenset(found)

    def _anything(self, i: int) -> list[Heard]:
        """What a liar may say."""
        others = [name(n) for n in range(self.configuration.claimants) if n != i]
        return [
            Heard(True),
            Heard(False),
            *(Heard(False, other) for other in others),
            *(Heard(False, None, frozenset({other})) for other in others),
        ]

    def _established(self, columns: tuple[int, ...], i: int) -> set[Outcome]:
        config, found = self.configuration, {Outcome.SHORT}
        held = [self._columns[number] for number in columns]
        if self.receipts(columns, i) >= self.needed:
            found.add(Outcome.QUORUM)
        for column in held:
            if column.ballot.seat is Seat.BOUND and column.ballot.holder != name(i):
                other = column.ballot.holder
                best = canonical(
                    0,
                    [Standing(name(i), text(name(i)), False), Standing(other, text(other), column.certified)],
                )
                found.add(count_receipts(0, best, name(i), config.replicas))
        return found

    def _after_outcome(self, claimant: Claimant, outcome: Outcome) -> Claimant:
        phase, action = advance(claimant.phase, outcome)
        changed = replace(claimant, phase=phase)
        match action:
            case Action.ASK if claimant.phase is Phase.PEEKING:
                changed = replace(changed, epoch=claimant.epoch + 1)
            case Action.TELL_CREATE:
                changed = replace(changed, relies=True)
            case Action.RELEASE_AND_POLL | Action.TELL_JOIN | Action.RELEASE | Action.TELL_LAPSED | Action.GIVE_UP:
                changed = replace(changed, released=claimant.epoch, relies=False)
            case Action.ESTABLISH:
                changed = replace(changed, room=True)
            case Action.TELL_CERTIFIED:
                changed = replace(changed, proved=True, relies=False)
            case Action.TELL_PROVISIONAL | Action.TELL_MOVED:
                changed = replace(changed, relies=False)
        return changed

    def _advanced(self, state: State, i: int, outcome: Outcome) -> State:
        numbers, columns = state
        changed = self._results.get((numbers[i], outcome.value))
        if changed is None:
            changed = self._claimant_number(self._after_outcome(self._claimants[numbers[i]], outcome))
            self._results[numbers[i], outcome.value] = changed
        return self._deaf(((*numbers[:i], changed, *numbers[i + 1 :]), columns), i)

    def _deaf(self, state: State, i: int) -> State:
        """What was said to a claimant in a sweep that is over counts no more."""
        claimants, columns = state
        return claimants, tuple(sorted(self._step(number, ("deaf", i)) for number in columns))

    # --- What must hold ------------------------------------------------------------------------------------------

    def receipts(self, columns: tuple[int, ...], i: int) -> int:
        """How many receipts there are for the room of claimant `i`: liars sign for everybody."""
        return sum(i in self._signed[number] for number in columns) + self.configuration.lies

    def check(self, state: State) -> None:
        """Raises Violation."""
        claimants, columns = self.claimants(state), state[1]
        rooms = [i for i, c in enumerate(claimants) if c.room and self.receipts(columns, i) >= self.needed]
        if len(rooms) > 1:
            raise Violation(f"two rooms have a quorum of receipts: {rooms}")
        relying = [i for i, c in enumerate(claimants) if c.relies]
        self.told_create += bool(relying)
        if len(relying) > 1 and not self.configuration.skewed:
            raise Violation(f"two are told to create at once: {relying}")

    def check_kind(self, state: State) -> None:
        """Raises Violation unless every claimant comes to a room once everything arrives and nothing more fails."""
        self.kind_runs += 1
        passed: list[State] = []
        for _ in range(_KIND_ROUNDS_MAX):
            if state in self._end_well or all(c.phase in _FINAL for c in self.claimants(state)):
                self._end_well.update(passed)
                return
            passed.append(state)
            for i in range(self.configuration.claimants):
                state = self._kind_turn(state, i)
            state = self._kind_lapses(state)
        phases = [claimant.phase.value for claimant in self.claimants(state)]
        raise Violation(f"no end: {phases}, {[self._columns[n] for n in state[1]]}")

    def _kind_turn(self, state: State, i: int) -> State:
        claimant = self._claimants[state[0][i]]
        match claimant.phase:
            case Phase.ASKING | Phase.PEEKING:
                state = self._deaf(state, i)
                state = self._all(
                    state, ("claim" if claimant.phase is Phase.ASKING else "release", i, claimant.epoch, True)
                )
                heard = {place: next(iter(self._columns[n].said[i])) for place, n in enumerate(state[1])}
                outcome = count(claimant.phase, name(i), heard, self.configuration.replicas, is_over=True)
            case Phase.RETRYING | Phase.FOLLOWING:
                outcome = Outcome.TIMER
            case Phase.HOLDING | Phase.PROVISIONAL:
                outcome = Outcome.MADE
            case Phase.ESTABLISHING:
                state = self._all(state, ("room", i, False))
                outcomes = self._established(state[1], i) - {Outcome.SHORT}
                outcome = next(iter(sorted(outcomes, key=lambda o: o is not Outcome.QUORUM)), Outcome.SHORT)
            case Phase.CERTIFIED:
                return self._all(state, ("room", i, True))
            case _:
                return state
        assert outcome is not None
        state = self._advanced(state, i, outcome)
        after = self._claimants[state[0][i]]
        if after.released > claimant.released:
            state = self._all(state, ("release", i, after.released, False))
        if after.proved:
            state = self._all(state, ("room", i, True))
        return state

    def _kind_lapses(self, state: State) -> State:
        """Votes and receipts of those that ended without a certificate lapse, in their time."""
        claimants, columns = self.claimants(state), state[1]
        lapsed: list[int] = []
        for number in columns:
            ballot = self._columns[number].ballot
            holder = None if ballot.seat is Seat.FREE else number_of(ballot.holder)
            is_over = (
                holder is not None
                and claimants[holder].phase in _FINAL
                and not (ballot.seat is Seat.BOUND and claimants[holder].phase is Phase.CERTIFIED)
            )
            lapsed.append(self._step(number, ("lapse",)) if is_over else number)
        return state[0], tuple(sorted(lapsed))

    def _all(self, state: State, event: tuple[object, ...]) -> State:
        return state[0], tuple(sorted(self._step(number, event) for number in state[1]))

    # --- Exploring -----------------------------------------------------------------------------------------------

    def explore(self, progress: bool = False) -> int:
        """Visit every state, breadth first. Returns how many there are; raises Violation with the shortest way."""
        start = self.start()
        came_from: dict[State, tuple[State, object] | None] = {start: None}
        queue = deque([start])
        began_s, done = time.monotonic(), 0
        while queue:
            state = queue.popleft()
            try:
                self.check(state)
                if done % self.configuration.kind_every == 0 and not self.configuration.lies:
                    self.check_kind(state)
            except Violation as found:
                raise Violation(f"{found}\n" + "\n".join(self._way(state, came_from))) from found
            for what, after in self.steps(state):
                if after not in came_from:
                    came_from[after] = (state, what)
                    queue.append(after)
            done += 1
            if progress and done % 20_000 == 0:
                spent_s = time.monotonic() - began_s
                print(f"{done:,} states, {len(queue):,} waiting, {done / spent_s:,.0f} a second", file=sys.stderr)
            if self.configuration.states_max is not None and done >= self.configuration.states_max:
                break
        return done

    def _way(self, state: State, came_from: dict[State, tuple[State, object] | None]) -> list[str]:
        way: list[str] = []
        step = came_from[state]
        while step is not None:
            way.append(str(step[1]))
            step = came_from[step[0]]
        return way[::-1]


def name(i: int) -> bytes:
    """Claimant `i`, its rank and its room: the lower, the better."""
    return bytes([i + 1])


def number_of(holder: bytes) -> int:
    """The claimant of this name."""
    return holder[0] - 1


def text(holder: bytes) -> str:
    """A server's name whose rank at key 0 stands to the others' as the claimants' do."""
    return _TEXTS[holder[0] - 1]


def _ranked_names(total: int) -> list[str]:
    from mediadht.core.claim_rules import rank

    return sorted((f"s{n}.org" for n in range(total)), key=lambda server: rank(0, server))


_TEXTS = _ranked_names(8)


def main() -> None:
    """Explore one configuration and print what was found."""
    parser = argparse.ArgumentParser(description="Explore every state of a small network of claimants and replicas.")
    for field, default in (("claimants", 2), ("replicas", 4), ("lies", 0), ("epochs", 1), ("kind-every", 1)):
        parser.add_argument(f"--{field}", type=int, default=default)
    parser.add_argument("--quorum", type=int)
    parser.add_argument("--states-max", type=int)
    for field in ("forgetful", "skewed", "expiry", "no-deadlines"):
        parser.add_argument(f"--{field}", action="store_true")
    given = vars(parser.parse_args())
    given["deadlines"] = not given.pop("no_deadlines")
    model = Model(Configuration(**given))
    began_s = time.monotonic()
    try:
        states = model.explore(progress=True)
    except Violation as found:
        print(found)
        sys.exit(1)
    cut = given["states_max"] is not None and states >= given["states_max"]
    print(
        f"{states:,} states{' (cut)' if cut else ''}, {len(model._columns):,} kinds of replica, "
        f"{model.kind_runs:,} kind endings, {time.monotonic() - began_s:.0f} s: nothing found"
    )


if __name__ == "__main__":
    main()
