"""Each POST is answered in time, whatever state PostgreSQL is in. The time is
measured at the client through lighttpd, through Apache, and by plain CGI."""

import contextlib
import http.client
import os
import re
import signal
import threading
import time

import psycopg2
import pytest

from harness import web_server_setups
from harness.black_hole import BlackHole, PrivateNetwork, ServiceInside
from harness.postgres import Cluster, Database, wait_until
from harness.responder import CGI, chown_to_test_user, event, sign, task_of
from harness.responder_database import LOCAL_WRITER, WRITER, ResponderDatabase
from harness.spool import Spool
from harness.web_server_setups import SETUPS

DEADLINE = 1.5
GRACE = 0.5
BACK = 3            # seconds after the database is available again
PER_SECOND = 25     # posts of each client: few, so that the client itself is not late
QUICK = 0.5         # seconds, a third of DEADLINE: the median while the breaker is open
KINDS = {b'{"received":true}': "recorded",
         b'{"received":true,"duplicate":true}': "duplicate",
         b'{"received":true,"spooled":true}': "spooled"}
SERVERS = ("lighttpd-socket", "apache-proxy_fcgi")
FILLER = "test_filler"


@pytest.fixture(scope="module", name="cluster")
def _cluster():
    """A Cluster that no other test uses."""
    server = Cluster(["max_connections = 20"])
    yield server
    server.remove()


@pytest.fixture(scope="module", name="store")
def _store(cluster, paths):
    name = cluster.create_database()
    Database(cluster, name).psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    it = ResponderDatabase(cluster, name, paths.source / "sql")
    it.query(f"CREATE ROLE {FILLER} LOGIN")
    yield it
    it.connection.close()


# ---- clients


class Answer:
    def __init__(self, body, start, seconds, kind):
        self.body = body
        self.start = start
        self.seconds = seconds
        self.kind = kind

    @property
    def end(self):
        return self.start + self.seconds


class Client(threading.Thread):
    """Posts one event after the other, at most PER_SECOND, until close()."""

    def __init__(self):
        super().__init__()
        self.answers = []
        self.over = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.over.wait(1 / PER_SECOND):
                self.answers.append(self.post(event()))
        except BaseException as error:
            self.failure = error

    def post(self, body):
        """Posts a body; returns the Answer."""
        raise NotImplementedError

    def close(self):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure


class WebClient(Client):
    """A client that keeps its TLS connection."""

    def __init__(self, server):
        super().__init__()
        self.url = server.https.url
        self.connection = server.https.connect()

    def post(self, body):
        try:
            return self._post(body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # The server may close a kept connection at any time.
            self.connection.close()
            return self._post(body)

    def _post(self, body):
        start = time.monotonic()
        self.connection.request("POST", self.url, body, {
            "Content-Type": "application/json", "X-Signature": sign(body)})
        answer = self.connection.getresponse()
        text = answer.read()
        return Answer(body, start, time.monotonic() - start,
                      KINDS.get(text, f"{answer.status}"))

    def close(self):
        super().close()
        self.connection.close()


class CgiClient(Client):
    def __init__(self, responder):
        super().__init__()
        self.responder = responder

    def post(self, body):
        start = time.monotonic()
        answer = self.responder.post(body)
        # The process drains after its answer, so wait only for the answer.
        return Answer(body, start, answer.seconds, KINDS.get(answer.body, f"{answer.status}"))


# ---- receivers


class Site:
    """A receiver with its own spool and its clients."""

    clients = 2
    enough = 20     # answers that each client needs to judge a state

    def __init__(self, make, conninfo):
        self.spool = Spool()
        try:
            self.make(make, conninfo)
        except BaseException:
            self.spool.__exit__()
            raise

    def make(self, make, conninfo):
        self.setup = make(conninfo, SPOOL=self.spool.path, DEADLINE=f"{DEADLINE}s")
        self.name = self.setup.name

    def client(self):
        return WebClient(self.setup.server)

    @property
    def pid(self):
        return self.setup.service.process.pid

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def log(self):
        return self.setup.logs()

    def close(self):
        self.setup.close()
        self.spool.__exit__()


class CgiSite(Site):
    """Plain CGI without a web server, which could delay requests."""

    clients = 1
    enough = 2
    name = "cgi"

    def make(self, make, conninfo):
        self.setup = make(conninfo, SPOOL=self.spool.path, DEADLINE=f"{DEADLINE}s")

    def client(self):
        return CgiClient(self.setup)

    def threads(self):
        return 0

    def log(self):
        return self.setup.log()


def web_maker(paths, name, service=None):
    """Returns a function that makes a Site. service: makes the Service, instead
    of web_server_setups.Socket."""
    def make(conninfo, **settings):
        setup, kind, sample = SETUPS[name]
        if service is not None:
            setup = type("Inside", (setup,), {"run_service": staticmethod(service)})
        it = setup(paths, conninfo, kind, sample, **settings)
        it.name = name
        return it
    return make


def cgi_maker(paths):
    return lambda conninfo, **settings: CGI(paths.responder, conninfo, **settings)


@contextlib.contextmanager
def sites(paths, conninfo, cgi=True, service=None):
    with contextlib.ExitStack() as stack:
        them = []
        for name in SERVERS:
            them.append(Site(web_maker(paths, name, service), conninfo))
            stack.callback(them[-1].close)
        if cgi:
            them.append(CgiSite(cgi_maker(paths), conninfo))
            stack.callback(them[-1].close)
        yield them


@pytest.fixture(scope="module", name="direct")
def _direct(paths, store):
    """The sites for all states of PostgreSQL itself."""
    with sites(paths, store.conninfo) as them:
        yield them


# ---- the outage


class Watch:
    """Posts to all sites through an outage, and judges the answers."""

    def __init__(self, them, store):
        self.sites = them
        self.store = store
        self.clients = [(site, site.client()) for site in them for _ in range(site.clients)]
        self.began = self.back = None

    def __enter__(self):
        for _, client in self.clients:
            client.start()
        try:
            self.wait_kind("recorded", 0)
            self.backends = self.count_backends()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind, *_):
        for _, client in self.clients:
            client.over.set()
        for _, client in self.clients:
            if kind is None:
                client.close()
            else:
                client.join()
        if kind is not None:
            for site in self.sites:
                print(site.name, site.log()[-5000:])

    def count_backends(self):
        """Returns the number of backends of the responders."""
        return self.store.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name"
                                  " = 'humcli-webhook' AND datname = current_database()")[0][0]

    def wait_kind(self, kind, since, limit=15.0):
        """Waits until each client has enough answers of a kind to events that
        it sent after `since`."""
        def come(site, client):
            return client.failure or site.enough <= sum(
                a.kind == kind and a.start > since for a in list(client.answers))

        wait_until(lambda: all(come(*one) for one in self.clients),
                   f"enough {kind} at each client", limit)

    def begin(self):
        self.began = time.monotonic()

    def end(self):
        """Notes that the database is available again."""
        self.back = time.monotonic()

    def check_in_time(self):
        answers = [a for _, client in self.clients for a in client.answers]
        late = [(a.seconds, a.kind) for a in answers if a.seconds > DEADLINE + GRACE]
        assert not late
        assert {a.kind for a in answers} <= {"recorded", "spooled"}, \
            {a.kind for a in answers}
        return answers

    def check_breaker(self):
        """Checks that the breaker made the median of the answers quick."""
        for site in self.sites:
            if site.clients < 2:
                continue
            spooled = [a for own, client in self.clients if own is site
                       for a in client.answers if a.kind == "spooled" and a.start < self.back]
            assert len(spooled) >= 20
            seconds = sorted(a.seconds for a in spooled)
            assert seconds[len(seconds) // 2] < QUICK, seconds

    def check_used_again(self):
        for site, client in self.clients:
            first = next(a for a in client.answers if a.start > self.began
                         and a.end > self.back and a.kind == "recorded")
            assert first.end - self.back < BACK, (site.name, first.end - self.back)

    def check_nothing_stuck(self):
        for site in self.sites:
            # main, log, writer, drainer; one for each client, and the leader
            assert site.threads() <= 4 + site.clients + 1, site.name
        wait_until(lambda: self.count_backends() <= self.backends,
                   f"no more than {self.backends} backends")

    def check_recorded_once(self):
        for site in self.sites:
            wait_until(lambda site=site: not site.spool.waiting, "the spool to be empty",
                       limit=15)
            assert not site.spool.failed
        sent = sorted(a.body for _, client in self.clients for a in client.answers)
        rows = self.store.execute(
            "SELECT payload::text FROM humcli.events WHERE task_id IN ("
            + ",".join(f"'{task_of(body)}'" for body in sent) + ")")
        assert sorted(text.encode() for text, in rows) == sent

    def summary(self):
        for site in self.sites:
            answers = [a for own, client in self.clients if own is site for a in client.answers]
            spooled = sorted(a.seconds for a in answers if a.kind == "spooled") or [0]
            again = [a.end for a in answers if a.kind == "recorded" and a.end > self.back]
            print(f"{site.name}: {len(answers)} answers, slowest"
                  f" {max(a.seconds for a in answers):.3f} s, {len(spooled)} spooled, median"
                  f" {spooled[len(spooled) // 2]:.3f} s, used again after"
                  f" {min(again, default=0) - self.back:.3f} s")


def outage(them, store, state, kind="spooled"):
    """
    Checks all sites through an outage. state: makes a context manager, in which
    the database is unavailable. kind: the answers in the meantime.
    """
    with Watch(them, store) as watch:
        with state():
            watch.begin()
            # Without a breaker, each request would take a deadline.
            watch.wait_kind(kind, watch.began)
            wait_until(lambda: time.monotonic() > watch.began + 2 * DEADLINE, "two deadlines")
        watch.end()
        watch.wait_kind("recorded", watch.back)
    watch.summary()
    watch.check_in_time()
    if kind == "spooled":
        watch.check_breaker()
        watch.check_used_again()
    watch.check_recorded_once()
    watch.check_nothing_stuck()


# ---- the states


@contextlib.contextmanager
def stopped(store):
    store.cluster.stop()
    try:
        yield
    finally:
        store.cluster.start()


@contextlib.contextmanager
def refusing(store):
    """The server runs and refuses connections to this database."""
    store.cluster.execute(f"ALTER DATABASE {store.name} ALLOW_CONNECTIONS false")
    store.cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          f" WHERE datname = '{store.name}'")
    try:
        yield
    finally:
        store.cluster.execute(f"ALTER DATABASE {store.name} ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def full(store):
    """The server says 'too many connections': other clients have all of
    them."""
    fillers = []

    def fill():
        try:
            while True:
                fillers.append(psycopg2.connect(store.dsn(FILLER)))
        except psycopg2.OperationalError as error:
            assert "remaining connection slots" in str(error), error

    # One connection for all queries, because each that ends would make room.
    with contextlib.closing(store.cluster.connect()) as connection, \
            connection.cursor() as cursor:
        def is_full():
            """Takes the receivers' connections, too, as they become free.
            Returns true if the receivers have none."""
            cursor.execute("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                           f" WHERE usename = '{WRITER}'")
            until = time.monotonic() + 1
            while time.monotonic() < until:
                fill()      # takes the connections that become free
                cursor.execute("SELECT 1 FROM pg_stat_activity"
                               f" WHERE usename = '{WRITER}'")
                if cursor.fetchall():
                    return False
            return True

        try:
            fill()
            wait_until(is_full, "all connections to be taken")
            yield
        finally:
            for one in fillers:
                one.close()


@contextlib.contextmanager
def frozen(store):
    """Stops the postmaster and its child processes by SIGSTOP."""
    postmaster = store.cluster.server.pid
    held = [postmaster]
    os.kill(postmaster, signal.SIGSTOP)
    with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as file:
        held += map(int, file.read().split())
    for pid in held[1:]:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def setting(store, name, value):
    """Changes a setting of the whole server, as an edit of its file would."""
    with contextlib.closing(store.cluster.connect()) as connection, \
            connection.cursor() as cursor:
        cursor.execute(f"ALTER SYSTEM SET {name} = {value}")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            # This connection is older than the change and can still write.
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER SYSTEM RESET {name}")
            cursor.execute("SELECT pg_reload_conf()")


def synchronous(store):
    """Each commit waits for a missing standby."""
    return setting(store, "synchronous_standby_names", "gone")


def read_only(store):
    """The server becomes read-only; connections stay open."""
    return setting(store, "default_transaction_read_only", "on")


@contextlib.contextmanager
def recovering(store):
    """The server starts again as a standby, and is promoted in the end."""
    store.cluster.stop()
    path = os.path.join(store.cluster.data, "standby.signal")
    with open(path, "w", encoding="ascii"):
        pass
    chown_to_test_user(path)
    store.cluster.start()
    assert store.cluster.execute("SELECT pg_is_in_recovery()") == [(True,)]
    try:
        yield
    finally:
        assert store.cluster.execute("SELECT pg_promote()") == [(True,)]


@contextlib.contextmanager
def locked(store):
    """A table is locked, as by ALTER TABLE or by a backup that hangs."""
    with contextlib.closing(store.connect()) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE humcli.events IN ACCESS EXCLUSIVE MODE")
        yield


STATES = [stopped, refusing, full, frozen, synchronous, recovering, read_only, locked]


@pytest.mark.parametrize("state", STATES, ids=[state.__name__ for state in STATES])
def test_state(state, direct, store):
    outage(direct, store, lambda: state(store))


def test_notifying_commit_of_another_stuck(paths, store):
    """Events are recorded and answered while another application's notifying
    commit hangs."""
    store.connection = store.connect()      # the server may have been restarted
    with sites(paths, store.dsn(LOCAL_WRITER)) as them:
        outage(them, store, store.notify_lock, kind="recorded")


def test_backlog_full(paths, store):
    """PostgreSQL accepts no connection, and the kernel drops new ones."""
    with BlackHole(store.socket) as hole, sites(paths, hole.conninfo(store.login)) as them:
        with contextlib.ExitStack() as stack:
            watch = Watch(them, store)
            # The outage begins with the test, so there is nothing to compare.
            for _, client in watch.clients:
                client.start()
            stack.push(watch.__exit__)
            watch.backends = watch.count_backends() + len(SERVERS)
            watch.begin()
            watch.wait_kind("spooled", watch.began)
            hole.start_answering()
            watch.end()
            watch.wait_kind("recorded", watch.back)
        watch.summary()
        watch.check_in_time()
        watch.check_breaker()
        watch.check_used_again()
        watch.check_recorded_once()
        watch.check_nothing_stuck()


def test_packets_dropped(paths, store):
    """Packets of open connections and of new ones are dropped."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    with PrivateNetwork(store.socket) as network:
        @contextlib.contextmanager
        def dropping():
            network.drop()
            try:
                yield
            finally:
                network.pass_on()

        with sites(paths, network.conninfo(store.login), cgi=False,
                   service=lambda *args: ServiceInside(network, *args)) as them:
            outage(them, store, dropping)


# ---- plain CGI and mod_fcgid


def test_cgi_breaker(paths, store):
    """
    Processes share the breaker's state, because each process that tries the
    database leaves a backend that waits until the lock ends.
    """
    with Spool() as spool, CGI(paths.responder, store.conninfo, SPOOL=spool.path,
                               DEADLINE=f"{DEADLINE}s") as cgi:
        cgi.assert_serving()
        with locked(store):
            answers = []
            began = time.monotonic()
            while time.monotonic() < began + 5 or len(answers) < 15:
                answers.append(cgi.post(event()))
            took = time.monotonic() - began
            seconds = sorted(a.seconds for a in answers)
            assert {KINDS[a.body] for a in answers} == {"spooled"}
            assert seconds[-1] < DEADLINE + GRACE
            assert seconds[len(seconds) // 2] < QUICK
            [(left,)] = store.execute("SELECT count(*) FROM pg_stat_activity"
                                      f" WHERE usename = '{WRITER}' AND wait_event_type = 'Lock'")
            # A process tries the database every 2 s.
            assert left <= 2 + took / 2
        back = time.monotonic()
        wait_until(lambda: KINDS[cgi.post(event()).body] == "recorded", "it to be used again",
                   limit=BACK)
        assert time.monotonic() - back < BACK
        wait_until(lambda: cgi.post(event()).status == 200 and not spool.waiting,
                   "the spool to be drained")
        assert not spool.failed


@pytest.mark.parametrize("state", [stopped, frozen], ids=["stopped", "frozen"])
def test_mod_fcgid(state, paths, store):
    """The time counts from the receipt of the request, as in the responder's
    log."""
    with Spool() as spool:
        setup = web_server_setups.make("apache-fcgid", paths, store.conninfo, SPOOL=spool.path)
        try:
            post = setup.server.https.post
            assert KINDS[post(event()).body] == "recorded"
            with state(store):
                bodies = [event() for _ in range(10)]
                for body in bodies:
                    assert KINDS[post(body).body] == "spooled"
            wait_until(lambda: KINDS[post(event()).body] == "recorded", "it to be used again",
                       limit=BACK)
            lines = [line for line in setup.responder_log().splitlines()
                     if "outcome=spooled" in line]
            assert len(lines) >= len(bodies)
            took = [int(re.search(r" ms=(\d+)", line)[1]) for line in lines]
            # The sample's deadline is shorter, because mod_fcgid may delay a
            # request.
            assert max(took) < 1500 + 1000 * GRACE and sorted(took)[len(took) // 2] < 1000 * QUICK
            wait_until(lambda: not spool.waiting, "the spool to be drained")
        finally:
            print(setup.logs()[-5000:])
            setup.close()
