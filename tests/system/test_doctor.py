"""humcli-webhook doctor: a setup in order, and each fault by itself."""

import contextlib
import grp
import http.server
import json
import os
import pwd
import re
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from harness import web_server_setups
from harness.failover import PgBouncer
from harness.postgres import wait_until
from harness.responder import SECRET, event
from harness.responder_database import WRITER
from harness.webserver import free_port

FINE, WARNING, FAILURE, USAGE = 0, 1, 2, 64


class Doctor:
    """Runs doctor with its own folder of settings and secrets."""

    def __init__(self, paths, folder, conninfo):
        self.program = str(paths.stage / "bin/humcli-webhook")
        self.folder = folder
        self.secrets = folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.secret = self.secrets / "main"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.spool = folder / "spool"
        self.log = folder / "log"
        self.web = folder / "web.conf"
        self.web.touch()
        self.settings = {"DATABASE": conninfo, "SECRET_DIR": self.secrets, "SPOOL": self.spool,
                         "LOG": self.log}
        self.config = folder / "humcli-webhook.conf"
        self.owner = None   # of the settings
        self.environment = {}

    def run(self, *arguments):
        self.config.write_text("".join(f"HUMCLI_WEBHOOK_{key}={value}\n"
                                       for key, value in self.settings.items()))
        self.config.chmod(0o600)
        if self.owner:
            os.chown(self.config, *self.owner)
        kept = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        done = subprocess.run([self.program, "doctor", *map(str, arguments)], timeout=60,
                              capture_output=True, text=True, check=False,
                              env={**kept, **self.environment,
                                   "HUMCLI_WEBHOOK_CONFIG": str(self.config)})
        print(done.stdout, done.stderr)
        assert SECRET not in done.stdout + done.stderr
        return done

    def __call__(self, *arguments):
        """Runs doctor; returns the lines by topic, and the exit code."""
        done = self.run("--web-config", self.web, *arguments)
        lines = re.findall(r"^(ok|warn|FAIL|skip) +(\S+(?: \S+)?)  +(.*)$", done.stdout, re.M)
        # each fault has a remedy in the line below it
        faults = [line for line in lines if line[0] != "ok"]
        assert len(re.findall(r"^ +-> \S", done.stdout, re.M)) == len(faults)
        # and the part of the page that explains its topic
        assert re.findall(r"^ +see doc/trouble\.md#(.*)$", done.stdout, re.M) == \
            [topic.replace(" ", "-") for mark, topic, _ in lines if mark in ("warn", "FAIL")]
        return lines, done.returncode

    def faults(self, *arguments):
        lines, code = self(*arguments)
        return {topic: text for mark, topic, text in lines if mark in ("warn", "FAIL")}, code


@pytest.fixture
def doctor(paths, tmp_path, database):
    return Doctor(paths, tmp_path, database.dsn())


def test_all_is_well(doctor):
    lines, code = doctor()
    assert code == FINE
    topics = {topic for _, topic, _ in lines}
    assert {"settings", "secrets", "spool", "log", "web server", "database", "encoding",
            "durability", "schema", "grants", "notify", "version", "silence"} <= topics
    assert ("ok", "secrets", f"main, {len(SECRET)} bytes") in lines


def test_json(doctor):
    doctor.secret.chmod(0o644)
    done = doctor.run("--json", "--web-config", doctor.web)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == FAILURE
    assert all(set(one) == {"severity", "check", "text", "fix", "see"} for one in found)
    assert {one["severity"] for one in found} == {"ok", "failure", "skipped"}
    assert [one["fix"] is None for one in found] == [one["severity"] == "ok" for one in found]
    [secrets] = [one for one in found if one["check"] == "secrets"]
    assert "chmod" in secrets["text"]
    assert secrets["see"] == "doc/trouble.md#secrets"
    assert doctor.run("--json", "--nagios").returncode == USAGE


def test_what_is_not_checked_is_skipped(doctor):
    doctor.settings["LOG"] = "stderr"
    lines, code = doctor()
    assert code == FINE
    assert {topic for mark, topic, _ in lines if mark == "skip"} == {"log", "socket"}
    assert "2 skipped" in doctor.run("--web-config", doctor.web).stdout.splitlines()[-1]
    done = doctor.run("--web-config", "/nowhere/*")
    assert re.search("^skip +web server +no configuration was found$", done.stdout, re.M)


def test_for_monitoring(doctor):
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert (done.returncode, done.stdout) == (FINE, "HUMCLI OK - all is well\n")
    doctor.secret.chmod(0o644)
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert done.returncode == FAILURE
    assert done.stdout.startswith("HUMCLI CRITICAL - secrets: ") and done.stdout.count("\n") == 1


# ---- settings, secrets, paths


def test_bad_settings(doctor):
    doctor.settings.update(THREADS="many", COLOUR="red")
    faults, code = doctor.faults()
    assert code == FAILURE and set(faults) == {"settings"}


def test_no_secret(doctor):
    doctor.secret.unlink()
    faults, code = doctor.faults()
    assert code == FAILURE and "secrets" in faults


def test_short_secret(doctor):
    doctor.secret.write_text("tiny")
    faults, code = doctor.faults()
    assert (faults, code) == ({"secrets": "main, 4 bytes"}, WARNING)


@pytest.mark.parametrize("key", ["SECRET_DIR", "SPOOL", "LOG"])
def test_in_the_document_root(doctor, key):
    root = doctor.folder / "public_html"
    root.mkdir()
    old = doctor.settings[key]
    doctor.settings[key] = root / old.name
    if old.exists():
        old.rename(doctor.settings[key])
    faults, code = doctor.faults()
    assert code == FAILURE and key in faults["place"]


@pytest.mark.parametrize("name, faulty", [
    ("main~", True), ("main.bak", True), ("#main#", True), ("main.dpkg-old", True),
    (".main.swp", True), ("main.2026", False), (".main", False)])
def test_a_backup_among_the_secrets(doctor, name, faulty):
    """An editor's copy is one more secret that is accepted."""
    copy = doctor.secrets / name
    copy.write_text(SECRET)
    copy.chmod(0o600)
    faults, code = doctor.faults()
    assert (set(faults), code) == (({"secrets"}, WARNING) if faulty else (set(), FINE))
    assert not faulty or name in faults["secrets"]


NOBODY = pwd.getpwnam("nobody")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def nobodys(paths, database):
    """A Doctor whose files are nobody's, in a folder that nobody can reach."""
    with tempfile.TemporaryDirectory(prefix="humcli-doctor-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        it = Doctor(paths, Path(folder), database.dsn())
        it.owner = NOBODY.pw_uid, NOBODY.pw_gid
        it.log.touch()
        for path in (it.secrets, it.secret, it.log):
            os.chown(path, *it.owner)
        yield it


@ROOT
@pytest.mark.parametrize("what", ["config", "secret", "log"])
def test_a_file_that_the_receivers_user_may_not_read(nobodys, what):
    """The fix names the group and the mode."""
    path = getattr(nobodys, what)
    nobodys.settings["SPOOL"] = ""
    if what == "config":
        nobodys.owner = 0, 0
    else:
        os.chown(path, 0, 0)
        path.chmod(0o600)
    done = nobodys.run("--web-config", nobodys.web, "--user", "nobody")
    assert done.returncode == (WARNING if what == "log" else FAILURE)
    group = grp.getgrgid(NOBODY.pw_gid).gr_name
    assert "Permission denied" in done.stdout
    assert f"-> as root: chgrp {group} {path} && chmod g+r {path}\n" in done.stdout


@ROOT
def test_a_file_of_another_group_keeps_it(nobodys):
    """A new group would take the file from the receiver, which reads it as a
    member of the old one."""
    nobodys.settings["SPOOL"] = ""
    os.chown(nobodys.secret, 0, grp.getgrnam("www-data").gr_gid)
    nobodys.secret.chmod(0o640)
    done = nobodys.run("--web-config", nobodys.web, "--user", "nobody")
    assert done.returncode == FAILURE
    assert "-> as root: usermod -a -G www-data nobody\n" in done.stdout


# ---- spool and log


def spool_fault(lines):
    [text] = [text for mark, topic, text in lines if (mark, topic) == ("FAIL", "spool")]
    return text


@ROOT
def test_a_spool_that_the_receiver_cannot_create(nobodys):
    """As in /var/spool, which is root's. The fix helps."""
    lines, code = nobodys("--user", "nobody")
    assert code == FAILURE
    assert spool_fault(lines) == f"{nobodys.spool} can't be used: can't create it: Permission denied"
    fix = re.search("-> as root: (install .*)", nobodys.run("--user", "nobody").stdout)[1]
    subprocess.run(fix, shell=True, check=True)
    lines, _ = nobodys("--user", "nobody")
    assert ("ok", "spool", "no event waits in it") in lines


@pytest.mark.parametrize("parent", ["", "above/higher"])
def test_a_spool_that_the_receiver_can_create(parent, doctor):
    doctor.spool = doctor.settings["SPOOL"] = doctor.folder / parent / "spool"
    before = set(doctor.folder.iterdir())
    lines, code = doctor()
    assert code == FINE and set(doctor.folder.iterdir()) - before <= {doctor.config}
    assert ("ok", "spool",
            f"{doctor.spool} does not exist yet; the receiver can create it") in lines


@ROOT
@pytest.mark.parametrize("options, said", [
    ("ro", "Read-only file system"), ("size=4k,nr_inodes=1", "No space left on device")])
def test_a_spool_on_a_file_system_that_does_not_write(nobodys, options, said):
    """access(2) says nothing of that to root, nor of a full disk to anybody."""
    nobodys.spool.mkdir(mode=0o700)
    nobodys.run()
    script = (f"mount -t tmpfs -o {options},mode=700,uid={NOBODY.pw_uid} none {nobodys.spool}"
              ' && exec "$@"')
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", nobodys.program, "doctor", "--user",
         "nobody"], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HUMCLI_WEBHOOK_CONFIG": str(nobodys.config)})
    assert f"can't be used: can't write a file: {said}" in done.stdout


@ROOT
def test_a_spool_of_another_user(nobodys):
    nobodys.spool.mkdir(mode=0o700)
    lines, code = nobodys("--user", "nobody")
    assert code == FAILURE and spool_fault(lines) == f"{nobodys.spool} belongs to root"


def spooled(doctor, folder, name, age=0):
    path = doctor.spool / folder
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    doctor.spool.chmod(0o700)
    (path / name).write_text("x")
    stamp = os.stat(path / name).st_mtime - age
    os.utime(path / name, (stamp, stamp))


def test_something_waits(doctor):
    spooled(doctor, "new", "a" * 64)
    faults, code = doctor.faults()
    assert code == WARNING and faults["spool"].startswith("1 event waits in it")


def test_something_waits_for_long(doctor):
    spooled(doctor, "new", "a" * 64, age=3600)
    faults, code = doctor.faults()
    assert code == FAILURE and "for 360" in faults["spool"]


def test_something_failed(doctor):
    spooled(doctor, "failed", "a" * 64)
    faults, code = doctor.faults()
    assert (faults, code) == ({"spool": "1 file was moved to failed/"}, WARNING)


def test_the_spool_is_open_to_others(doctor):
    spooled(doctor, "failed", ".hidden")
    doctor.spool.chmod(0o755)
    faults, code = doctor.faults()
    assert code == FAILURE and "open to others (755)" in faults["spool"]


def test_no_spool(doctor):
    doctor.settings["SPOOL"] = ""
    faults, code = doctor.faults()
    assert (faults, code) == ({"spool": "no spool is set"}, WARNING)


REFUSED = 'time=x level=warning pid=1 outcome=unauthorized http=401 why="no match" ms=0\n'
TAKEN = 'time=x level=info pid=1 outcome=recorded http=200 task_id=a ms=3\n'


@pytest.mark.parametrize("log, code", [
    (REFUSED * 30, WARNING), (TAKEN + REFUSED * 9, FINE), (REFUSED * 30 + TAKEN, FINE),
    (TAKEN * 5000 + REFUSED * 12, WARNING)])
def test_refusals_in_a_row(doctor, log, code):
    doctor.log.write_text(log)
    faults, got = doctor.faults()
    assert got == code and set(faults) == ({"log"} if code else set())


def test_what_the_responder_logs(paths, database, tmp_path):
    """doctor counts failures by the log lines that the responder writes."""
    setup = web_server_setups.make("lighttpd-cgi", paths, database.dsn())
    with contextlib.closing(setup):
        for _ in range(12):
            assert setup.server.https.post(event(), ["0" * 64]).status == 401
        it = Doctor(paths, tmp_path, database.dsn())
        wait_until(lambda: setup.responder_log().count("http=401") == 12, "the log")
        it.log.write_text(setup.responder_log())
        assert set(it.faults()[0]) == {"log"}
        assert setup.server.https.post(event(
            status="CANCELLED", previous_status="PENDING")).status == 200
        wait_until(lambda: "http=200" in setup.responder_log(), "the log")
        it.log.write_text(setup.responder_log())
        assert it.faults() == ({}, FINE)


# ---- the database


def test_no_server(doctor):
    doctor.settings["DATABASE"] = f"host=127.0.0.1 port={free_port()} dbname=x"
    faults, code = doctor.faults()
    assert code == FAILURE and "refused" in faults["database"]


@pytest.mark.parametrize("words, said, fix", [
    ("host=/nowhere dbname=x", "No such file or directory", "no server listens on that socket"),
    ("host=nowhere.invalid dbname=x", "nowhere.invalid", "correct host="),
    ("{dsn} user=stranger", 'role "stranger" does not exist', "humcli-webhook init for the receiver's own"),
    ("{server} dbname=nowhere", 'database "nowhere" does not exist', "init creates the database"),
    ("{dsn} colour=red", "colour", "write it as key=value pairs")])
def test_a_fix_for_each_way_not_to_connect(doctor, cluster, database, words, said, fix):
    server = f"host={cluster.folder} port={cluster.port} user=postgres"
    doctor.settings["DATABASE"] = words.format(dsn=database.dsn(), server=server)
    done = doctor.run("--web-config", doctor.web)
    assert done.returncode == FAILURE
    text, remedy = re.search(r"^FAIL +database +(.*)\n +-> (.*)$", done.stdout, re.M).groups()
    assert said in text and fix in remedy
    assert "level=" not in done.stderr      # it is said once


def test_it_connects_as_the_responder_does(doctor, cluster, database):
    """The first of two servers is down, and a service file names both."""
    service = doctor.folder / "service.conf"
    service.write_text(f"[both]\nhost=127.0.0.1,{cluster.folder}\n"
                       f"port={free_port()},{cluster.port}\ndbname={database.name}\nuser=postgres\n")
    doctor.settings["DATABASE"] = f"service=both servicefile={service}"
    lines, code = doctor()
    if code == FAILURE:     # libpq before 18 knows the variable only
        doctor.settings["DATABASE"] = "service=both"
        doctor.environment["PGSERVICEFILE"] = str(service)
        lines, code = doctor()
    assert code == FINE
    [text] = [text for _, topic, text in lines if topic == "database"]
    assert re.fullmatch(f"{database.name} as postgres at {cluster.folder}, port {cluster.port},"
                        r" in \d+ ms", text)


def test_not_a_connection_string(doctor):
    doctor.settings["DATABASE"] = "host=localhost password 'x"
    faults, code = doctor.faults()
    assert code == FAILURE and faults["database"] == "the connection string can't be parsed"


def test_no_schema(doctor, cluster):
    name = cluster.create_database()
    doctor.settings["DATABASE"] = cluster.dsn(name)
    try:
        faults, code = doctor.faults()
    finally:
        cluster.drop_database(name)
    assert code == FAILURE and {"schema", "grants"} <= set(faults)


def test_a_role_that_may_nothing(doctor, database):
    database.execute("CREATE ROLE doctor_nobody LOGIN")
    try:
        doctor.settings["DATABASE"] = database.dsn("doctor_nobody")
        faults, code = doctor.faults()
    finally:
        database.execute("DROP ROLE doctor_nobody")
    assert code == FAILURE and faults["schema"] == "doctor_nobody may not use humcli"


def test_the_writer_may_record_and_not_read(doctor, store, database):
    doctor.settings["DATABASE"] = database.dsn(WRITER)
    lines, code = doctor()
    assert code == FINE
    if os.geteuid() == 0:   # then postgres reads them
        assert "version" in {topic for _, topic, _ in lines}
    else:
        assert ("skip", "events", f"{WRITER} may only record") in lines
    lines, code = doctor("--reader", database.dsn())
    assert code == FINE and "version" in {topic for _, topic, _ in lines}


def test_sql_ascii(doctor, cluster, paths):
    name = cluster.create_database(encoding="SQL_ASCII")
    try:
        doctor.settings["DATABASE"] = cluster.dsn(name)
        faults, code = doctor.faults()
        assert code == FAILURE and faults["encoding"] == "SQL_ASCII"
    finally:
        cluster.drop_database(name)


def test_an_older_schema(doctor, database):
    database.execute("UPDATE humcli.schema_version SET version = version + 100")
    faults, code = doctor.faults()
    assert code == FAILURE and set(faults) == {"version"}


def test_a_pooler_in_transaction_mode(doctor, cluster, database):
    pooler = PgBouncer(cluster, "postgres")
    try:
        doctor.settings["DATABASE"] = (f"host=127.0.0.1 port={pooler.port} dbname={database.name}"
                                       " user=postgres")
        faults, code = doctor.faults()
    finally:
        pooler.close()
    assert code == WARNING and "does not arrive" in faults["notify"]


# ---- faults that the events show


def record(database, status, previous, occurred, task="task_x"):
    database.execute(
        "SELECT * FROM humcli.record_batch(ARRAY['task.status_changed'], ARRAY['{task}'],"
        f" ARRAY['{status}'], ARRAY['{previous}'], ARRAY[{occurred}]::timestamptz[],"
        " ARRAY[now()], ARRAY['main'], ARRAY[repeat('0', 64)], ARRAY['{}']::json[],"
        " interval '10 min', false)")


def test_silence(doctor, database):
    record(database, "ESTIMATE_PENDING", "PENDING", "now() - interval '2 d'")
    faults, code = doctor.faults()
    assert code == WARNING and faults["silence"].startswith("1 task is open")
    record(database, "CANCELLED", "ESTIMATE_PENDING", "now() - interval '1 d'")
    assert doctor.faults() == ({}, FINE)


def test_tasks_of_tests_are_left_out(doctor, database):
    """Our own trials are neither silent, nor have they gaps."""
    for task in ("task_test_x", "task_testx"):
        record(database, "SUBMITTED", "IN_PROGRESS", "now() - interval '2 d'", task)
    database.execute("SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['no JSON'], ARRAY['main'],"
                     " ARRAY[repeat('0', 64)], ARRAY['{\"task_id\":\"task_test_x\"'::bytea])")
    faults, code = doctor.faults()
    assert code == WARNING and set(faults) == {"silence", "gaps"}
    assert faults["silence"].startswith("1 task is open") and faults["gaps"].startswith("1 gap ")


def test_a_subscription_that_is_behind(doctor, database):
    database.execute("SELECT humcli.subscribe('slow', 'beginning')")
    record(database, "CANCELLED", "PENDING", "now()")
    assert doctor.faults() == ({}, FINE)
    database.execute("UPDATE humcli.events SET recorded_at = now() - interval '1 h'")
    faults, code = doctor.faults()
    assert code == WARNING and "for slow" in faults["pending"]


def test_a_pool_that_gave_up(doctor, database, paths):
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / "sql/pool.sql"))
    database.execute("SELECT humcli.subscribe('pool', 'beginning')")
    database.execute("SELECT humcli.pool('pool', max_attempts => 1)")
    record(database, "CANCELLED", "PENDING", "now()")
    assert doctor.faults() == ({}, FINE)
    assert database.execute("SELECT humcli.fail('pool', c.id, c.claim_no, 'no') FROM"
                            " humcli.claim('pool', 'worker') c") == [("dead",)]
    assert doctor.faults() == ({"dead": "1 event is a dead letter"}, WARNING)
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert done.returncode == WARNING
    assert done.stdout == "HUMCLI WARNING - dead: 1 event is a dead letter\n"
    # the remedy that doctor prints works
    database.execute("SELECT humcli.redrive('pool')")
    assert doctor.faults() == ({}, FINE)


@pytest.mark.usefixtures("store")     # makes the role
def test_a_sequence_that_is_behind(doctor, database):
    record(database, "CANCELLED", "PENDING", "now()")
    database.execute("SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), 1, false)")
    assert doctor.faults() == ({"sequences": "behind their tables: events.id"}, WARNING)
    # a role that may only record learns of it, too; by TCP root helps nothing
    doctor.settings["DATABASE"] = database.dsn(WRITER, tcp=True)
    assert doctor.faults() == ({"sequences": "behind their tables: events.id"}, WARNING)
    # what it says helps
    database.execute("SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), max(id)) FROM humcli.events")
    assert doctor.faults() == ({}, FINE)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("where", ["DATABASE {database}", "ROLE test_writer IN DATABASE {database}"])
def test_a_read_only_default_of_the_role(where, doctor, database):
    """Recording asks for READ WRITE, so that it does no harm."""
    doctor.settings["DATABASE"] = database.dsn(WRITER)
    database.execute(f"ALTER {where.format(database=database.name)} SET default_transaction_read_only = on")
    assert doctor.faults() == ({}, FINE)


def test_a_table_that_a_crash_empties(doctor, database):
    database.execute("ALTER TABLE humcli.events SET UNLOGGED")
    assert doctor.faults() == ({"tables": "not logged: events"}, FAILURE)
    database.execute("ALTER TABLE humcli.events SET LOGGED")
    assert doctor.faults() == ({}, FINE)


def test_quarantine(doctor, database):
    database.execute("SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['no JSON'], ARRAY['main'],"
                     " ARRAY[repeat('0', 64)], ARRAY['x'::bytea])")
    faults, code = doctor.faults()
    assert code == WARNING and faults["quarantine"].startswith("1 signed body")


# ---- the web server's limits


@pytest.mark.parametrize("line", [
    "LimitRequestBody 1000", "\tFcgidMaxRequestLen 60000", "server.max-request-size = 32",
    "FcgidIOTimeout 2", "ProxyTimeout 3", "server.stream-request-body = 1",
    "SetInputFilter DEFLATE", "\tclient_max_body_size 63k;", "client_max_body_size 1000;",
    "fastcgi_read_timeout 3s;", "fastcgi_read_timeout 4500ms;", "fastcgi_request_buffering off;",
    "\t\t\tmax_size 64KB", "max_size 1000", "read_timeout 1s500ms"])
def test_a_limit_that_is_too_low(doctor, line):
    doctor.web.write_text(f"# {line}\n{line}\n")
    faults, code = doctor.faults()
    assert code == WARNING and set(faults) == {"web server"}
    assert ":2: " in faults["web server"]


@pytest.mark.parametrize("line", [
    "client_max_body_size 64k;", "client_max_body_size 0;", "client_max_body_size 10M;",
    "client_max_body_size $size;", "fastcgi_read_timeout 1m;", "fastcgi_read_timeout 5;",
    "fastcgi_request_buffering on;", "max_size 64KiB", "max_size 1MB", "max_size {$SIZE}",
    "max_size 1.5MB", "read_timeout 1m30s", "read_timeout 5000ms", "ProxyTimeout 60"])
def test_a_limit_that_is_high_enough(doctor, line):
    doctor.web.write_text(f"{line}\n")
    assert doctor.faults() == ({}, FINE)


def test_the_shipped_limits_are_fine(doctor, paths):
    for pattern in ("apache/*", "lighttpd/*", "nginx/*", "caddy/*"):
        done = doctor.run("--web-config", paths.stage / "share/humcli-webhook" / pattern)
        assert done.returncode == FINE
        assert re.search(r"web server +no limit in [2-9] files", done.stdout)


# ---- a receiver by its URL


@pytest.fixture
def shop(paths, database, tmp_path):
    setup = web_server_setups.make("lighttpd-socket", paths, database.dsn())
    with contextlib.closing(setup):
        it = Doctor(paths, tmp_path, database.dsn())
        it.url = f"https://localhost:{setup.server.tls_port}/humcli"
        it.plain = f"http://localhost:{setup.server.plain_port}/humcli"
        it.certificate = setup.server.certificate
        yield it


def test_a_receiver(shop, database):
    for _ in range(2):
        # the test's certificate is valid for a day
        faults, code = shop.faults("--cacert", shop.certificate, "--http", shop.plain, shop.url)
        assert code == WARNING and set(faults) == {"tls"}
        assert re.fullmatch("the certificate is valid for [01] more days?", faults["tls"])
    assert database.execute("SELECT task_id FROM humcli.events") == [
        ("task_test_humcli_webhook_doctor",)]
    # doctor's own request leaves no open task and no gap
    assert shop.faults()[1] == FINE


def test_a_certificate_that_nobody_trusts(shop):
    faults, code = shop.faults(shop.url)
    assert code == FAILURE and set(faults) == {"tls"} and "certificate" in faults["tls"]


def test_another_secret(shop):
    shop.secret.write_text("whsec_of_somebody_else")
    faults, code = shop.faults("--cacert", shop.certificate, shop.url)
    assert code == FAILURE and "Invalid signature" in faults["signed"]


class Plain(http.server.BaseHTTPRequestHandler):
    """A server without TLS that gives the same answer to all requests."""

    status = 401

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        if self.status == 301:
            self.send_header("Location", "https://agent.example/")
        self.end_headers()


# A receiver that answers 401 has read the event and would accept a valid one.
@pytest.mark.parametrize("status, mark", [(401, "FAIL"), (200, "FAIL"), (301, "warn"),
                                          (403, "ok")])
def test_plain_http(shop, status, mark):
    with web_server(type("Handler", (Plain,), {"status": status})) as port:
        lines, _ = shop("--cacert", shop.certificate, "--http",
                        f"http://127.0.0.1:{port}/humcli", shop.url)
    found, = [line for line in lines if line[1] == "plain http"]
    assert found[0] == mark and str(status) in found[2]


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that answers a POST with a page."""

    answer = 200, ""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1].encode())


@contextlib.contextmanager
def web_server(handler, certificate=None):
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Switch(http.server.BaseHTTPRequestHandler):
    """A dead man's switch: counts its calls."""

    protocol_version = "HTTP/1.1"
    status = 200
    calls = 0

    def log_message(self, *_):
        pass

    def do_POST(self):
        type(self).calls += 1
        assert self.headers["Content-Length"] == "0"
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_dead_mans_switch(doctor):
    """It is called if all is well, and only then."""
    kind = type("Kind", (Switch,), {})
    with web_server(kind) as port:
        def run():
            return doctor.run("--web-config", doctor.web,
                              "--ping", f"http://127.0.0.1:{port}/uuid")

        assert (run().returncode, kind.calls) == (FINE, 1)
        kind.status = 500
        done = run()
        assert (done.returncode, kind.calls) == (69, 2)
        assert "the answer is 500" in done.stderr
        doctor.secret.chmod(0o644)
        assert (run().returncode, kind.calls) == (FAILURE, 2)


PAGE = "<!DOCTYPE html>\n<html><head>\n<title>{}\n  page</title></head><body>\n<p>x</body></html>"


@pytest.mark.parametrize("status, body, said, fix", [
    (200, PAGE.format("Index"), "200, a page of the web server: Index page", "another page"),
    (200, '{"ok":true}', '200 {"ok":true}', "another program answers"),
    (404, PAGE.format("Not Found"), "404, a page of the web server: Not Found page",
     "AllowOverride"),
    (500, PAGE.format("Error"), "500, a page of the web server: Error page", "did not start"),
    (503, PAGE.format("Unavailable"), "503, a page of the web server: Unavailable page",
     "systemctl status"),
    (403, "<h1>Forbidden</h1>", "403, a page of the web server: Forbidden", "ModSecurity"),
    (503, '{"error":"Receiver is not configured; see its log"}',
     '503 {"error":"Receiver is not configured; see its log"}', "--check-config")])
def test_an_answer_that_is_not_the_receivers(doctor, status, body, said, fix):
    """One short line, and the fix of its row in doc/trouble.md."""
    with web_server(type("Handler", (Page,), {"answer": (status, body)})) as port:
        done = doctor.run("--web-config", doctor.web, f"http://127.0.0.1:{port}/humcli")
        nagios = doctor.run("--nagios", f"http://127.0.0.1:{port}/humcli").stdout
    text, remedy = re.search(r"^FAIL +signed +(.*)\n +-> (.*)$", done.stdout, re.M).groups()
    assert text == said and fix in remedy
    assert nagios.count("\n") == 1 and "\\x0a" not in nagios and said in nagios


CA = """
[ca]
default_ca = own
[own]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
"""


def make_certificate(folder, name, end):
    """Makes a self-signed certificate that ends at some time; returns its files."""
    for file, content in {"ca": CA, "index": "", "serial": "01\n"}.items():
        (folder / file).write_text(content)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-addext",
            f"subjectAltName=DNS:{name}", "-keyout", "key.pem", "-out", "request.pem")
    openssl("ca", "-batch", "-config", "ca", "-selfsign", "-keyfile", "key.pem", "-in",
            "request.pem", "-startdate", "20200101000000Z", "-enddate", end, "-notext", "-out",
            "certificate.pem")
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.parametrize("name, end, trusted, said, fix", [
    ("localhost", "20490101000000Z", False, "self-signed", "public authorities"),
    ("other.example", "20490101000000Z", True, "subject name", "for another name"),
    ("localhost", "20210101000000Z", True, "expired", "renew the certificate")])
def test_a_faulty_certificate(doctor, name, end, trusted, said, fix):
    """One fault, at the certificate; the rest is not checked."""
    certificate, key = make_certificate(doctor.folder, name, end)
    with web_server(type("Handler", (Page,), {}), (certificate, key)) as port:
        done = doctor.run("--web-config", doctor.web,
                          *(["--cacert", certificate] if trusted else []),
                          f"https://localhost:{port}/humcli")
    text, remedy = re.search(r"^FAIL +tls +(.*)\n +-> (.*)$", done.stdout, re.M).groups()
    assert said in text and fix in remedy and ("--cacert" in text) == (not trusted)
    assert re.findall(r"^(\S+) +(signed|forged) ", done.stdout, re.M) == [
        ("skip", "signed"), ("skip", "forged")]


def test_nobody_there(doctor):
    faults, code = doctor.faults(f"https://127.0.0.1:{free_port()}/")
    assert code == FAILURE and {"signed", "forged"} <= set(faults)


def test_wrong_use(doctor):
    done = doctor.run("--cacert", "x", "--insecure", "https://x/")
    assert done.returncode == USAGE and "not both" in done.stderr
    assert doctor.run("a", "b").returncode == USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_the_receivers_user(doctor):
    doctor.folder.chmod(0o755)
    lines, code = doctor("--user", "nobody")
    assert ("ok", "user", "checking as nobody") in lines
    assert code == FAILURE      # it can't read the settings
