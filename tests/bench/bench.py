"""Runs the parts of the benchmark; tests/bench/run starts it. See README.md."""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "system"))

import contenders  # noqa: E402
import load  # noqa: E402
import record_cost  # noqa: E402
import report  # noqa: E402
from contenders import FORMS, NULL, OTHERS, OURS, PHP_CONNECTS, RECOMMENDED  # noqa: E402
from database import DISKS, BenchDatabase  # noqa: E402
from harness.responder import chown_to_test_user  # noqa: E402

# Each part, and about how many seconds it takes by default. The last ones run only by
# --only.
PARTS = {"sweep": 180, "throughput": 360, "tls": 190, "latency": 150, "cold": 35, "memory": 20,
         "set-ups": 185, "big": 200, "recording": 45, "instructions": 30,
         "first-events": 35, "duplicates": 110, "listeners": 35}
NOT_BY_DEFAULT = ("first-events", "duplicates", "listeners")


class Paths:
    """The paths of the programs that tests/bench/run has built."""

    def __init__(self, work, stage="stage"):
        self.work = pathlib.Path(work)
        self.stage = self.work / stage / "usr/local"
        self.node = self.work / "node"
        self.go = self.work / "go-pgx"
        self.steady = self.work / "build/tests/bench/steady"
        self.slow_disk = self.work / "build/tests/bench/slow_disk.so"
        self.install_sql = TESTS.parent / "sql/install.sql"

    @property
    def responder(self):
        return self.stage / "libexec/humcli-webhook/humcli-webhook.fcgi"

    @property
    def recording_nothing(self):
        """The paths with the responder that records nothing."""
        return Paths(self.work, "stage-null")

    def under(self, command):
        """The paths with a responder that another program starts."""
        stage = tempfile.mkdtemp(prefix="stage-", dir=self.work)
        os.chmod(stage, 0o755)
        shutil.copytree(self.stage.parents[1], stage, dirs_exist_ok=True)
        it = Paths(self.work, stage)
        it.responder.write_text(f'#!/bin/sh\nexec {command} {self.responder} "$@"\n',
                                encoding="ascii")
        return it


class Plan:
    """The numbers of rounds, connections and requests, and the times."""

    def __init__(self, options):
        short = options.short
        self.rounds = options.rounds or (1 if short else 3)
        self.seconds = options.seconds or (1 if short else 3)
        self.disks = DISKS[1:] if short else DISKS
        self.connections = (8,) if short else (64, 256)
        self.sweep_seconds = 1 if short else 2
        self.forms = 1 if short else None
        # events per second, and the seconds for each rate
        rates = {10: 10, 200: 5, 1000: 3}
        self.rates = {200: 1} if short else {
            rate: rates[rate] for rate in options.rates or (1000,)}
        self.cold_starts = 1 if short else 3
        self.rows = 20000 if short else 10_000_000
        self.tasks = 640 if short else 3200
        self.names = options.contenders or (RECOMMENDED, *OTHERS, NULL)
        # As shipped, the other web servers answer with TLS only.
        self.names = [name for name in self.names
                      if name not in OURS or name.startswith("lighttpd-")]
        self.set_ups = options.contenders or (*OURS, PHP_CONNECTS, NULL)
        self.parts = options.only or (
            ("sweep", "tls", "latency", "recording") if short
            else [part for part in PARTS if part not in NOT_BY_DEFAULT])
        self.warm_up = not short
        self.requests_a_second = 20000

    def of(self, names):
        return [name for name in names if name in self.names]

    def estimate(self):
        """Returns about how many minutes are left after the build."""
        fixed = ("sweep", "cold", "memory", "big", "instructions")
        share = self.rounds * (self.seconds + 1) / 12
        return sum(PARTS[part] * (1 if part in fixed else share) for part in self.parts) / 60


class ProcessorMeter:
    """The processor time of each part while a load runs. The load's processes
    are children of this one."""

    def __init__(self, contender, database):
        self.roots = {**contender.roots, "postgresql": database.cluster.server.pid,
                      "load": os.getpid()}
        self.before = self.times()

    def times(self):
        load_ = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {name: load_.ru_utime + load_.ru_stime if name == "load"
                else contenders.processor_time(root) for name, root in self.roots.items()}

    def read(self, events):
        """Returns microseconds an event by part."""
        after = self.times()
        return {f"cpu {name}": (after[name] - self.before[name]) * 1e6 / max(events, 1)
                for name in self.roots}


class Bench:
    def __init__(self, paths, plan, results):
        self.paths = paths
        self.plan = plan
        self.results = results
        self.random = random.Random(1)
        self.best = {disk: {} for disk in DISKS}    # forms that the sweep found

    def requests(self, tag, count, bodies=load.lives):
        path = self.paths.work / "requests" / tag
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            load.write_requests(path, bodies(tag), count)
        return str(path)

    def slice(self, round_, bodies=load.lives):
        return self.requests(f"{bodies.__name__}{round_}",
                             self.plan.seconds * self.plan.requests_a_second, bodies)

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    def start(self, name, database, tls=False):
        return contenders.start(name, self.paths, database, tls,
                                self.best[database.disk].get(name))

    @contextlib.contextmanager
    def fleet(self, disk, names, tls=False):
        """Starts all contenders and warms them up."""
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(contextlib.closing(BenchDatabase(self.paths, disk)))
            fleet = {}
            for name in names:
                fleet[name] = stack.enter_context(
                    contextlib.closing(self.start(name, database, tls)))
                self.warm(fleet[name])
            yield database, fleet

    def warm(self, contender):
        if self.plan.warm_up:
            load.wrk(contender, self.requests("warm", 20000), 8, 1, again=True)

    def shuffled(self, names):
        names = list(names)
        self.random.shuffle(names)
        return names

    def measure(self, part, database, contender, name, run, exact=False, duplicates=False,
                empty=True, **facts):
        """Does one run and counts its rows. run: returns an Outcome."""
        if empty:
            database.empty()
        before = database.count(contender.table, contender.settled)
        meter = ProcessorMeter(contender, database)
        outcome = run()
        facts.update(meter.read(outcome.ok))
        rows = database.count(contender.table, contender.settled) - before
        # wrk does not count the requests in flight at its end.
        most = outcome.ok + (0 if exact else facts["connections"])
        if duplicates or name == NULL:
            void = rows != 0 or outcome.ok == 0
        else:
            void = not 0 < outcome.ok <= rows <= most
        self.results.add(part=part, disk=database.disk, contender=name, rows=rows,
                         outcome=outcome, void=void, **facts)
        if void:
            self.say(f"VOID: {name}: {outcome.ok} times 200, {rows} rows\n"
                     f"{contender.logs()[-2000:]}")
        return outcome

    # The parts of the benchmark.

    def sweep(self):
        """Finds the strongest form of each of the others, on each disk, at 64
        connections."""
        for disk in self.plan.disks:
            with contextlib.closing(BenchDatabase(self.paths, disk)) as database:
                for name in self.plan.of(OTHERS):
                    self.say(f"sweep, {disk}, {name}")
                    for form in FORMS[name][:self.plan.forms]:
                        self.try_form(database, name, form)
                    self.best[disk][name] = max(
                        FORMS[name][:self.plan.forms],
                        key=lambda form, name=name: self.results.median(
                            "per_second", part="sweep", disk=database.disk, contender=name,
                            form=contenders.describe(form)) or 0)

    def try_form(self, database, name, form):
        with contextlib.closing(contenders.start(name, self.paths, database,
                                                 form=form)) as contender:
            self.warm(contender)
            self.measure("sweep", database, contender, name,
                         lambda: load.wrk(contender, self.slice(0), 64,
                                          self.plan.sweep_seconds),
                         connections=64, round=0, form=contenders.describe(form))

    def throughput(self):
        self.all_at_once("throughput", self.plan.names, self.plan.connections)

    def tls(self):
        """Measures the throughput with TLS."""
        self.all_at_once("tls", self.plan.names, self.plan.connections[:1], tls=True)

    def set_ups(self):
        """Measures the throughput of all set-ups as shipped, with TLS."""
        self.all_at_once("set-ups", self.plan.set_ups, self.plan.connections[:1],
                         self.plan.disks[:1], tls=True)

    def all_at_once(self, part, names, connections, disks=None, tls=False):
        for disk in disks or self.plan.disks:
            with self.fleet(disk, names, tls) as (database, fleet):
                for round_ in range(self.plan.rounds):
                    for count in connections:
                        self.say(f"{part}, {disk}, round {round_ + 1}, {count} connections")
                        for name in self.shuffled(fleet):
                            self.run_wrk(part, database, fleet[name], name, round_, count)

    def run_wrk(self, part, database, contender, name, round_, connections=None, bodies=None,
                **how):
        connections = connections or self.plan.connections[0]
        requests = self.slice(round_, bodies or load.lives)
        self.measure(part, database, contender, name,
                     lambda: load.wrk(contender, requests, connections, self.plan.seconds),
                     connections=connections, round=round_, **how)

    def latency(self):
        names = [name for name in self.plan.names if name != NULL]
        for disk in self.plan.disks:
            with self.fleet(disk, names) as (database, fleet):
                for round_ in range(self.plan.rounds):
                    for rate, seconds in self.plan.rates.items():
                        self.say(f"latency, {disk}, round {round_ + 1}, {rate} events/s")
                        self.steady(database, fleet, round_, rate, seconds)

    def steady(self, database, fleet, round_, rate, seconds):
        count = rate * seconds
        requests = self.requests(f"steady{rate}_{round_}", count)
        for name in self.shuffled(fleet):
            contender = fleet[name]
            self.measure("latency", database, contender, name,
                         lambda c=contender: load.steady(self.paths.steady, c, requests,
                                                         count, rate),
                         exact=True, rate=rate, round=round_)

    def cold(self):
        """Measures the first request after the start, on a new connection."""
        with contextlib.closing(BenchDatabase(self.paths, DISKS[0])) as database:
            for round_ in range(self.plan.cold_starts):
                self.say(f"cold, round {round_ + 1}")
                for name in self.shuffled(name for name in self.plan.names if name != NULL):
                    with contextlib.closing(self.start(name, database)) as contender:
                        requests = self.requests(f"cold{round_}", 1)
                        self.measure("cold", database, contender, name,
                                     lambda c=contender: load.steady(
                                         self.paths.steady, c, requests, 1, 1, fresh=True),
                                     exact=True, round=round_)

    def first_events(self):
        """Measures events of new tasks, so that the rule reads no earlier
        events."""
        names = self.plan.of((RECOMMENDED, NULL))
        with self.fleet(DISKS[0], names) as (database, fleet):
            for round_ in range(self.plan.rounds):
                for name in self.shuffled(fleet):
                    self.run_wrk("first events", database, fleet[name], name, round_,
                                 bodies=load.first_events)

    def duplicates(self):
        """Measures events that were recorded before."""
        names = self.plan.of((RECOMMENDED, *OTHERS))
        connections = self.plan.connections[0]
        few = self.requests("duplicates", 2000)
        with self.fleet(DISKS[0], names) as (database, fleet):
            for round_ in range(self.plan.rounds):
                self.say(f"duplicates, round {round_ + 1}")
                for name in self.shuffled(fleet):
                    contender = fleet[name]
                    database.empty()
                    load.steady(self.paths.steady, contender, few, 2000, 1000)
                    self.measure("duplicates", database, contender, name,
                                 lambda c=contender: load.wrk(
                                     c, few, connections, self.plan.seconds, again=True),
                                 duplicates=True, empty=False, connections=connections,
                                 round=round_)

    def listeners(self):
        """Measures with 100 sessions that LISTEN and do nothing else."""
        names = self.plan.of((RECOMMENDED,))
        with self.fleet(DISKS[0], names) as (database, fleet):
            for round_ in range(self.plan.rounds):
                self.say(f"listeners, round {round_ + 1}")
                for name in fleet:
                    self.run_wrk("without listeners", database, fleet[name], name, round_)
                    with contextlib.ExitStack() as stack:
                        for _ in range(100):
                            connection = stack.enter_context(
                                contextlib.closing(database.connect()))
                            connection.cursor().execute("LISTEN humcli_events")
                        self.run_wrk("100 listeners", database, fleet[name], name, round_)

    def memory(self):
        """Measures the memory of all processes except PostgreSQL's, idle after
        the warm-up."""
        with self.fleet(DISKS[0], self.plan.names) as (_, fleet):
            self.say("memory")
            for name, contender in fleet.items():
                self.results.note("memory, MiB", name,
                                  contenders.memory(contender.roots.values()))

    def recording(self):
        """Measures PostgreSQL's processor time beside a plain INSERT."""
        self.say("recording")
        for row in record_cost.rounds(self.plan.rounds, self.plan.tasks, 32):
            self.results.add_recording(*row)

    def big(self):
        """Measures on a large table that was empty when the responder's plans
        were made."""
        names = self.plan.of((RECOMMENDED,))
        with self.fleet(DISKS[0], names) as (database, fleet):
            for round_ in range(self.plan.rounds):
                for name in fleet:
                    self.run_wrk("empty table", database, fleet[name], name, round_)
            self.say(f"filling the table with {self.plan.rows} rows")
            database.empty()
            fill(database, self.plan.rows)
            for round_ in range(self.plan.rounds):
                self.say(f"big table, round {round_ + 1}")
                for name in fleet:
                    self.run_wrk("full table", database, fleet[name], name,
                                 self.plan.rounds + round_, empty=False)

    def instructions(self):
        """Counts the responder's instructions in user space, by callgrind."""
        self.say("instructions")
        with contextlib.closing(BenchDatabase(self.paths, DISKS[0])) as database:
            for name, paths in ((RECOMMENDED, self.paths), (NULL, self.paths.recording_nothing)):
                few, many = (self.count_instructions(name, paths, database, count)
                             for count in (200, 1200))
                self.results.note("instructions a request", name, (many - few) / 1000)

    def count_instructions(self, name, paths, database, count):
        out = self.paths.work / f"callgrind-{name}-{count}"
        out.touch()
        chown_to_test_user(out)
        with contextlib.closing(contenders.Setup(
                name, paths.under(f"valgrind -q --tool=callgrind --callgrind-out-file={out}"),
                database, tls=False)) as contender:
            database.empty()
            load.steady(self.paths.steady, contender,
                        self.requests(f"instructions{count}", count), count, 200)
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])


def fill(database, rows):
    """Fills the table by a session for each core."""
    slices = [range(core * rows // contenders.CORES, (core + 1) * rows // contenders.CORES)
              for core in range(contenders.CORES)]
    with concurrent.futures.ThreadPoolExecutor(contenders.CORES) as pool:
        for _ in pool.map(lambda numbers: insert(database, numbers), slices):
            pass
    database.execute("VACUUM (ANALYZE) humcli.events")
    database.execute("CHECKPOINT")


def insert(database, numbers):
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, previous_status, occurred_at,"
        " received_at, first_of_status, secret_name, signature, payload)"
        " SELECT 'task.status_changed', 'task_' || md5((i / 6)::text),"
        " (ARRAY['ESTIMATE_PENDING', 'ACCEPTED', 'IN_PROGRESS', 'SUBMITTED', 'VERIFIED',"
        " 'COMPLETED'])[i % 6 + 1], 'PENDING', timestamptz '2025-01-01' + i * interval '1 s',"
        " now(), true, 'main', repeat('0', 64),"
        " json_build_object('task_id', md5(i::text), 'status', repeat('x', 100))"
        f" FROM generate_series({numbers.start}, {numbers.stop - 1}) AS i")


def parse():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    parser.add_argument("--short", action="store_true",
                        help="a second of the main parts, to see that it works")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="PART,...",
                        help="of: " + ", ".join(PARTS))
    parser.add_argument("--contenders", type=lambda text: text.split(","), metavar="NAME,...",
                        help="of: " + ", ".join((*OURS, *OTHERS, PHP_CONNECTS, NULL)))
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=int, help="of a run of wrk; default 3")
    parser.add_argument("--rates", type=lambda text: [int(rate) for rate in text.split(",")],
                        metavar="RATE,...",
                        help="events a second, of: 10, 200, 1000; default 1000")
    parser.add_argument("--output", default=".", help="the folder for the results")
    parser.add_argument("--from", dest="called_from", default=".", help=argparse.SUPPRESS)
    parser.add_argument("--work", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for given, known in ((options.only, PARTS), (options.rates, (10, 200, 1000)),
                         (options.contenders, (*OURS, *OTHERS, PHP_CONNECTS, NULL))):
        for name in given or ():
            if name not in known:
                parser.error(f"there is no {name}")
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse()
    plan = Plan(options)
    paths = Paths(options.work)
    plan.names = [name for name in plan.names if name != "go-pgx" or paths.go.exists()]
    for stage in (paths.stage, paths.recording_nothing.stage):
        contenders.allow_plain_http(stage)
    results = report.Results(os.path.join(options.called_from, options.output))
    bench = Bench(paths, plan, results)
    if not options.short:
        bench.say(f"This takes about {plan.estimate():.0f} minutes.")
    for part in plan.parts:
        getattr(bench, part.replace("-", "_"))()
    results.write()
    return 1 if results.void else 0


if __name__ == "__main__":
    sys.exit(main())
