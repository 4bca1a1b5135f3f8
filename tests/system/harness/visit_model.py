"""
A model of the rule of visits, by another algorithm than humcli.record_batch(). The
model keeps all deliveries of a task and event type. After each new delivery it
computes all visits again. If a visit has no event, its earliest delivery
becomes the event.
"""

from collections import defaultdict
from typing import NamedTuple, Optional


class Verdict(NamedTuple):
    """The result of one delivery."""

    outcome: str
    visit: frozenset    # keys of the events whose id may be returned
    promoted: Optional[tuple]


def order(delivery):
    """Returns the sort key of a delivery in its history."""
    return (delivery.occurred_at, delivery.status.encode())


class Model:
    """The expected rows of humcli.events and humcli.repeats."""

    def __init__(self, window):
        self.window = window
        self.histories = defaultdict(dict)
        self.events = {}
        self.retired = {}
        self.late = {}

    def retire(self, task):
        """Forgets a task's deliveries except the last, which counts as an
        event."""
        known = [d for key in list(self.histories) if key[0] == task
                 for d in self.histories.pop(key).values()]
        for delivery in known:
            self.events.pop(delivery.key, None)
        last = max(known, key=lambda d: (*order(d), d.event.encode()))
        self.retired[task] = last
        self.histories[task, last.event][last.key] = last

    def is_event(self, delivery):
        """Returns true if this delivery is the event of its visit."""
        return delivery.key in self.events or self.retired.get(delivery.task_id) == delivery

    def visits(self, history):
        """Splits a history into visits: runs of one (status, previous_status)
        in which no step is longer than the window."""
        visits = []
        for delivery in sorted(history.values(), key=order):
            last = visits[-1][-1] if visits else None
            if (last and last.status == delivery.status
                    and last.previous_status == delivery.previous_status
                    and delivery.occurred_at - last.occurred_at <= self.window):
                visits[-1].append(delivery)
            else:
                visits.append([delivery])
        return visits

    def deliver(self, delivery):
        """Adds a delivery; returns the expected Verdict."""
        retired = self.retired.get(delivery.task_id)
        if retired and order(delivery) <= order(retired):
            self.late.setdefault(delivery.key, delivery)
            return Verdict("duplicate", frozenset([None]), None)
        history = self.histories[delivery.task_id, delivery.event]
        known = delivery.key in history
        if not known:
            history[delivery.key] = delivery
        made = []
        for visit in self.visits(history):
            if not any(map(self.is_event, visit)):
                self.events[visit[0].key] = visit[0]
                made.append(visit[0].key)
            if any(d.key == delivery.key for d in visit):
                mine = frozenset(d.key for d in visit if self.is_event(d))
        recorded = delivery.key in made
        others = [key for key in made if key != delivery.key]
        assert len(others) <= recorded, "a promotion has a new event as its cause, and is the only one"
        return Verdict("duplicate" if known else "recorded" if recorded else "repeat",
                       frozenset([delivery.key]) if delivery.key in self.events else mine,
                       others[0] if others else None)

    @property
    def repeats(self):
        """The expected rows of humcli.repeats, by key."""
        return {key: d for history in self.histories.values()
                for key, d in history.items() if not self.is_event(d)}
