"""The primary dies and its synchronous standby takes over, with and without
PgBouncer. Each event that was answered 200 is once on the new primary."""

import os

import pytest

from harness.failover import Pair, PgBouncer
from harness.kill_load import WRITER, Site
from harness.postgres import Database, wait_until
from harness.responder import event

SPOOLED = b'{"received":true,"spooled":true}'


class Failover(Site):
    """A Site whose settings name both servers, or their PgBouncers."""

    def __init__(self, paths, seed, pooled=False, **settings):
        self.entries = []
        self.pair = Pair()
        self.pooled = pooled
        super().__init__(paths, self.pair.primary, seed, **settings)

    def hosts(self):
        self.entries = [PgBouncer(each, WRITER) if self.pooled else each
                      for each in self.pair.clusters()]
        return "host=127.0.0.1,127.0.0.1 port=" + ",".join(str(each.port) for each in self.entries)

    def wait_replayed(self):
        """Waits until the standby has all changes of the primary."""
        wait_until(lambda: self.pair.primary.execute(
            "SELECT pg_current_wal_lsn() = replay_lsn FROM pg_stat_replication") == [(True,)],
            "the standby to have all")

    def fail_over(self):
        self.pair.primary.kill()
        self.pair.standby.promote()

    def wait_recorded(self, load):
        recorded = load.kinds["recorded"]
        wait_until(lambda: load.kinds["recorded"] > recorded, "the new primary to record",
                   # A pooler whose server died can keep a transaction without
                   # an answer. The responder closes it after 30 s.
                   limit=45)

    @property
    def promoted(self):
        return Database(self.pair.standby, self.database.name)

    def logs(self):
        return super().logs()[-10000:] + "".join(
            f"-- PostgreSQL\n{each.log[-3000:]}" for each in self.pair.clusters())

    def close(self):
        try:
            super().close()
        finally:
            if self.pooled:
                for each in self.entries:
                    each.close()
            self.pair.close()


@pytest.fixture(params=[False, True], ids=["direct", "pgbouncer"])
def site(request, paths, rng):
    with Failover(paths, rng.random(), request.param, DEADLINE="1s") as it:
        yield it
        print(it.logs())    # shown with a test that failed


def rows(database, body):
    return database.execute("SELECT count(*) FROM humcli.events"
                            f" WHERE payload::text = '{body.decode()}'")[0][0]


def test_failover_under_load(site):
    """All events are answered 200 during the failover."""
    with site.load() as load:
        load.wait_sent(site.random.randrange(100, 500))
        site.fail_over()
        load.wait_received(site.random.randrange(300, 600))
        site.wait_recorded(load)
    ledger = site.ledger(load, site.promoted)
    print(ledger)
    ledger.check(may_fail=False)


def test_failover_while_commits_wait(site):
    """The standby was stopped when the primary died. Events that waited in
    COMMIT are not on the standby; they are answered and spooled."""
    with site.load() as load:
        load.wait_sent(site.random.randrange(100, 300))
        site.pair.standby.stop("immediate")
        wait_until(lambda: load.kinds["spooled"] > 20, "the spool to take over")
        site.pair.primary.kill()
        site.pair.standby.start()
        site.pair.standby.promote()
        site.wait_recorded(load)
    ledger = site.ledger(load, site.promoted)
    print(ledger)
    ledger.check(may_fail=False)


def held_back(site, body):
    """Makes an event that is visible on the primary and not on the standby,
    because the restart ended its wait. It was answered as spooled."""
    site.wait_replayed()
    site.pair.standby.stop("immediate")
    answer = site.server.https.post(body)
    assert (answer.status, answer.body) == (200, SPOOLED)
    site.pair.primary.restart("immediate")
    wait_until(lambda: rows(site.database, body) == 1, "the event on the primary")


def waiting(site):
    """Returns true if the responder's commit waits for the standby."""
    return site.pair.primary.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        f" AND usename = '{WRITER}'")


def take_over(site, body):
    site.pair.primary.kill()
    site.pair.standby.start()
    assert rows(site.promoted, body) == 0
    site.pair.standby.promote()
    wait_until(lambda: rows(site.promoted, body) == 1, "the event on the new primary", limit=30)
    wait_until(lambda: not site.spooled(), "the spool to be empty")


def test_spooled_until_the_standby_has_it(site):
    """A spooled file stays until the standby has the event, though draining
    already finds a duplicate on the primary."""
    body = event()
    held_back(site, body)
    # The breaker of a new process is closed.
    assert site.service.stop() == 0
    site.service.start()
    wait_until(lambda: waiting(site) or not site.spooled(), "the responder to drain")
    assert site.spooled() == 1
    take_over(site, body)


def test_duplicate_until_the_standby_has_it(site):
    """A repeated delivery is not answered as a duplicate until the standby has
    the event, because a 200 promises that."""
    body = event()
    held_back(site, body)
    assert site.service.stop() == 0
    os.unlink(os.path.join(site.folder("new"), *os.listdir(site.folder("new"))))
    site.service.start()
    answer = site.server.https.post(body)
    assert (answer.status, answer.body) == (200, SPOOLED)
    take_over(site, body)
