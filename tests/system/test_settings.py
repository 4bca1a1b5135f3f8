"""Settings and secrets, tried by running the program: the accepted and the
refused values, and the messages."""

import functools
import json
import os
import pty
import re
import stat
import subprocess
import tempfile
import time

import pytest

from harness.responder import (CGI, SECRET, FastCGI, as_test_user, chown_to_test_user,
                               event, eventually, task_of)

RECEIVED = b'{"received":true}'


@pytest.fixture
def program(paths, store):
    """A responder with valid settings, which a test changes."""
    with CGI(paths.responder, store.conninfo) as it:
        yield it


def run(program, *arguments, **streams):
    """Runs the program; returns the exit code and the text of all outputs."""
    process = program.spawn(*arguments, stdout=subprocess.PIPE,
                            **{"stdin": subprocess.DEVNULL, **streams})
    with process.stdout:
        said = process.stdout.read().decode()
    code = process.wait(10)
    return code, said + program.read(program.stderr_file) + program.log()


def check_config(program):
    return run(program, "--check-config")


def refused(program, *texts):
    code, said = check_config(program)
    assert code == 78, said
    for text in texts:
        assert text in said
    return said


def accepted(program):
    code, said = check_config(program)
    assert code == 0, said
    return said


def in_file(program, text, mode=0o600):
    """Makes text the settings file. The environment has only the file's
    path."""
    path = program.write("settings.conf", text, mode)
    program.settings = {"CONFIG": path}
    return path


def lines(program, **changes):
    """Returns the settings as lines of a file."""
    settings = {k: v for k, v in program.settings.items() if k != "CONFIG"}
    settings.update(changes)
    return "".join(f"HUMCLI_WEBHOOK_{k}={v}\n" for k, v in settings.items()
                   if v is not None)


@pytest.mark.parametrize("database, shown", [
    ("host=db.example port=5433 dbname=events user=u password=hidden",
     "host=db.example port=5433 dbname=events user=u ("),
    ("postgresql://u:hidden@10.0.0.7/events", "host=10.0.0.7 port=5432 dbname=events user=u (")])
def test_check_config_shows_the_database(program, database, shown):
    program.settings["DATABASE"] = database
    said = accepted(program)
    assert "database: " + shown in said and "hidden" not in said, said


# Values.

@pytest.mark.parametrize("key, value", [
    ("MAX_BODY", "64"), ("MAX_BODY", "64KB"), ("MAX_BODY", "64K"),
    ("MAX_BODY", "1.5KiB"), ("MAX_BODY", "-1KiB"), ("MAX_BODY", "KiB"),
    ("MAX_BODY", "0x10KiB"), ("MAX_BODY", "64KiBB"), ("MAX_BODY", "64s"),
    ("MAX_BODY", "99999999999999999999GiB"), ("MAX_BODY", "17179869184GiB"),
    ("DEADLINE", "3"), ("DEADLINE", "3sec"), ("DEADLINE", "199ms"),
    ("DEADLINE", "10.1s"), ("DEADLINE", "11s"), ("DEADLINE", "-1s"),
    ("DEADLINE", "1,5s"), ("DEADLINE", "s"), ("DEADLINE", ".s"),
    ("DEADLINE", "1e0s"), ("DEADLINE", "0s"), ("DEADLINE", "1m"),
    ("DEADLINE", "3KiB"), ("DEADLINE", "nans"), ("DEADLINE", "1s1s"),
    ("DEADLINE", "99999999999999999999s"),
    ("REDELIVERY_WINDOW", "10"), ("REDELIVERY_WINDOW", "-10min"),
    ("REDELIVERY_WINDOW", "10m"), ("IDLE_DISCONNECT", "60"),
    ("SPOOL_MAX", "256MB"), ("SPOOL_MAX", "1.5GiB"),
    ("THREADS", "0"), ("THREADS", "-1"), ("THREADS", "1.5"),
    ("THREADS", "many"), ("THREADS", "64s"), ("THREADS", "99999999999"),
    ("IN_FLIGHT", "0"), ("IN_FLIGHT", "65537"),
    ("BATCH", "0"), ("BATCH", "-5"), ("BATCH", "0x10"),
    ("LOG_LEVEL", "verbose"), ("LOG_LEVEL", "7"),
    ("LOG_FORMAT", "xml"), ("LOG_FORMAT", "")])
def test_bad_value(program, key, value):
    """A bad value is refused. The message names the variable, or file and
    line."""
    program.settings[key] = value
    refused(program, f"HUMCLI_WEBHOOK_{key}")
    text = lines(program, **{key: None})
    path = in_file(program, f"# settings\n{text}HUMCLI_WEBHOOK_{key}={value}\n")
    os.truncate(program.stderr_file, 0)
    said = refused(program, key)
    line = text.count("\n") + 2
    assert re.search(re.escape(path) + rf"\D+{line}\b", said), said


@pytest.mark.parametrize("key, value", [
    ("MAX_BODY", "1KiB"), ("MAX_BODY", "65536B"), ("MAX_BODY", "1MiB"),
    ("DEADLINE", "200ms"), ("DEADLINE", "1.5s"), ("DEADLINE", "10s"),
    ("DEADLINE", "0.1min"), ("DEADLINE", "0.001h"),
    ("DEADLINE", "1500.5ms"), ("REDELIVERY_WINDOW", "10min"),
    ("REDELIVERY_WINDOW", "0.5h"), ("IDLE_DISCONNECT", "1min"),
    ("SPOOL_MAX", "1GiB"), ("THREADS", "1"), ("THREADS", "64"),
    ("BATCH", "1"), ("BATCH", "256"), ("LOG_LEVEL", "error"),
    ("LOG_LEVEL", "warning"), ("LOG_LEVEL", "info"), ("LOG_LEVEL", "debug"),
    ("LOG", "stderr"), ("SPOOL", "")])
def test_good_value(program, key, value):
    program.settings[key] = value
    accepted(program)
    in_file(program, lines(program))
    accepted(program)


@pytest.mark.parametrize("key", [
    "NONSENSE", "max_body", "MAX_BODYS", "SECRETS", "_DEADLINE"])
def test_unknown_key(program, key):
    program.settings[key] = "1"
    refused(program, f"HUMCLI_WEBHOOK_{key}")
    text = lines(program, **{key: None})
    path = in_file(program, f"{text}\nHUMCLI_WEBHOOK_{key}=1\n")
    os.truncate(program.stderr_file, 0)
    said = refused(program, key)
    line = text.count("\n") + 2
    assert re.search(re.escape(path) + rf"\D+{line}\b", said), said


@pytest.mark.parametrize("line", [
    "nonsense", "[section]", "MAX_BODY=1KiB", "export HUMCLI_WEBHOOK_BATCH=1",
    "HUMCLI_WEBHOOK_BATCH", "HUMCLI_WEBHOOK_BATCH: 1", "=1",
    "HUMCLI_WEBHOOK_BATCH=\"1\"", "HUMCLI_WEBHOOK_BATCH='1'",
    "PGHOST=x", "include other.conf"])
def test_bad_line(program, line):
    """Quotes, sections and unknown names are refused."""
    path = in_file(program, f"\n{line}\n{lines(program)}")
    said = refused(program)
    assert re.search(re.escape(path) + r"\D+2\b", said), said


def test_all_errors_at_once(program):
    """The errors of the environment, the file and the secrets are reported
    together."""
    open_secret = program.write("open", "whsec_open", 0o666)
    program.settings.update(DEADLINE="3", THREADS="none", NONSENSE="1",
                            SECRET_FILE=open_secret)
    program.settings["CONFIG"] = path = program.write(
        "settings.conf", "HUMCLI_WEBHOOK_MAX_BODY=1\n\nfoo\n"
        "HUMCLI_WEBHOOK_OTHER=1\nHUMCLI_WEBHOOK_BATCH=0\n")
    said = refused(program, "HUMCLI_WEBHOOK_DEADLINE",
                   "HUMCLI_WEBHOOK_THREADS", "HUMCLI_WEBHOOK_NONSENSE",
                   "MAX_BODY", "OTHER", "BATCH")
    for line in (1, 3, 4, 5):
        assert re.search(re.escape(path) + rf"\D+{line}\b", said), said


def test_all_secret_errors_at_once(program):
    """Each invalid secret file is named, with the chmod that fixes it."""
    for name, mode in (("one", 0o644), ("two", 0o620)):
        program.add_secret(name, "whsec_" + name, mode)
    program.add_secret("three", "")
    del program.secrets["three"]
    said = refused(program)
    for name in ("one", "two", "three"):
        assert os.path.join(program.secret_dir, name) in said
    assert said.count("chmod") == 2


# The file.

def test_file_format(program, store):
    text = lines(program).splitlines()
    text = "\n".join(["# a comment", "   # another", "", "  \t ",
                      f"  {text[0]}  ", *(f"\t{line}\t" for line in text[1:])])
    assert not text.endswith("\n")
    in_file(program, text)
    body = event()
    assert program.post(body).body == RECEIVED
    assert store.query("SELECT secret_name FROM humcli.events"
                       " WHERE task_id = %s", task_of(body)) == [("main",)]


def test_hash_and_equals_in_a_value(program):
    """A value may have # and =, because a secret may have them."""
    secret = "whsec_a#b = \"c\" 'd' \\e $f"
    in_file(program, lines(program, SECRET_DIR=None, SECRET=secret))
    assert program.post(event(), secret).body == RECEIVED


def test_environment_wins(program):
    program.settings["CONFIG"] = program.write(
        "settings.conf", "HUMCLI_WEBHOOK_MAX_BODY=1KiB\n"
        "HUMCLI_WEBHOOK_DATABASE=host=/nonexistent\n")
    body = event(x="x" * 1500)
    assert program.post(body).status == 413
    program.settings["MAX_BODY"] = "2KiB"
    assert program.post(body).body == RECEIVED


def test_named_file_that_is_missing(program):
    program.settings["CONFIG"] = program.folder + "/none.conf"
    refused(program, program.folder + "/none.conf")


def test_named_file_that_is_none(program):
    program.settings["CONFIG"] = program.folder
    refused(program, program.folder)


def test_named_file_that_can_not_be_read(program):
    path = in_file(program, lines(program))
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    else:
        os.chmod(path, 0)
    refused(program, path)


@pytest.mark.parametrize("line", [
    "HUMCLI_WEBHOOK_SECRET=whsec_in_the_file",
    "HUMCLI_WEBHOOK_DATABASE=host=x password=geheim",
    "HUMCLI_WEBHOOK_DATABASE=postgresql://me:geheim@x/db",
    "HUMCLI_WEBHOOK_DATABASE=postgresql://x/db?password=geheim"])
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_file_with_a_secret_that_others_can_read(program, line, mode):
    text = lines(program, **{line.partition("=")[0][15:]: None})
    path = in_file(program, text + line + "\n", mode)
    said = refused(program, path)
    assert "geheim" not in said and "whsec_in_the_file" not in said
    fix(said, path)
    accepted(program)


def test_file_without_a_secret_may_be_read(program):
    in_file(program, lines(program), 0o644)
    accepted(program)


def fix(said, path):
    """Runs the command that the error message names."""
    found = re.search(rf"chmod (\S+) {re.escape(path)}", said)
    assert found, said
    subprocess.run(["chmod", found[1], path], check=True)


# Secret files.

@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o660, 0o666,
                                  0o777, 0o606, 0o645])
@pytest.mark.parametrize("key", ["SECRET_DIR", "SECRET_FILE"])
def test_secret_file_that_others_can_read(program, key, mode):
    program.add_secret("open", "whsec_open", mode)
    path = os.path.join(program.secret_dir, "open")
    if key == "SECRET_FILE":
        program.settings.update(SECRET_DIR=None, SECRET_FILE=path)
    said = refused(program, path)
    fix(said, path)
    accepted(program)


@pytest.mark.parametrize("kind", [FastCGI, CGI])
def test_secret_file_beside_others(kind, program, paths, store):
    """An invalid one, just uploaded, must not refuse the events of all others."""
    program.add_secret("open", "whsec_open", 0o644)
    path = os.path.join(program.secret_dir, "open")
    with kind(paths.responder, store.conninfo, SECRET_DIR=program.secret_dir) as it:
        assert it.post(event()).body == RECEIVED, it.log()
        assert it.post(event(), "whsec_open").status == 401
        fix(it.log(), path)
        assert eventually(lambda: it.post(event(), "whsec_open").body == RECEIVED)


def test_folder_of_secrets_that_others_can_write(program):
    os.chmod(program.secret_dir, 0o703)
    assert program.post(event()).status == 503
    refused(program, f"chmod o-w {program.secret_dir}")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o700])
def test_secret_file_that_is_private(program, mode):
    program.add_secret("fine", "whsec_fine", mode)
    assert program.post(event(), "whsec_fine").body == RECEIVED


def test_on_tmpfs_it_is_a_warning(program):
    """On tmpfs, where Docker and systemd put secrets, a wide mode is a
    warning."""
    if "tmpfs" not in subprocess.run(
            ["stat", "-f", "-c", "%T", "/dev/shm"], check=True,
            capture_output=True, text=True).stdout:
        pytest.skip("/dev/shm is no tmpfs")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "hook")
        with open(path, "w", encoding="ascii") as file:
            file.write("whsec_docker")
        os.chmod(path, 0o644)
        program.settings.update(SECRET_DIR=folder)
        program.secrets = {"hook": "whsec_docker"}
        assert program.post(event(), "whsec_docker").body == RECEIVED
        assert re.search(r"level=warning.*" + re.escape(path), program.log())


@pytest.mark.parametrize("content, secret", [
    ("whsec_x", "whsec_x"), ("whsec_x\n", "whsec_x"),
    ("whsec_x\r\n", "whsec_x"), ("whsec_x\n\n", "whsec_x\n"),
    (" whsec_x ", " whsec_x "), ("whsec_\u00fc\u4e16", "whsec_\u00fc\u4e16"),
    ("#whsec", "#whsec"), ("x" * 1000, "x" * 1000), ("\n\n", "\n"),
    ("a\nb", "a\nb"), ("whsec_\0x", "whsec_\0x")])
def test_secret_file_content(program, content, secret):
    """One line end is removed; the other bytes are the key."""
    program.add_secret("form", content)
    del program.secrets["form"]     # too short to search for in the log
    assert program.post(event(), secret).body == RECEIVED
    assert program.post(event(), secret + "\n").status == 401
    if secret != secret.strip():
        assert program.post(event(), secret.strip()).status == 401


@pytest.mark.parametrize("content", ["", "\n", "\r\n"])
def test_empty_secret(program, content):
    program.add_secret("empty", content)
    del program.secrets["empty"]
    refused(program, os.path.join(program.secret_dir, "empty"))


def test_empty_secret_in_the_environment(program):
    program.settings.update(SECRET_DIR=None, SECRET="")
    refused(program)


def test_no_secret_at_all(program):
    program.settings.update(SECRET_DIR=None)
    refused(program)


def test_folder_without_secrets(program):
    program.remove_secret("main")
    program.add_secret(".hidden", "whsec_hidden")
    refused(program, program.secret_dir)


def test_folder_of_secrets_that_is_missing(program):
    program.settings["SECRET_DIR"] += "/none"
    refused(program, program.secret_dir + "/none")


def test_names_of_secrets(program, store):
    """All secrets are tried, and the row has the name of the right one."""
    program.add_secret("whsec-2026_03.a", "whsec_b")
    program.add_secret(".hidden", "whsec_hidden")
    program.settings.update(
        SECRET="whsec_c", SECRET_FILE=program.write("single", "whsec_d\n"))
    for secret, name in ((SECRET, "main"), ("whsec_b", "whsec-2026_03.a"),
                         ("whsec_c", "default"), ("whsec_d", "single")):
        body = event()
        assert program.post(body, secret).body == RECEIVED
        assert store.query("SELECT secret_name FROM humcli.events"
                           " WHERE task_id = %s", task_of(body)) == [(name,)]
    assert program.post(event(), "whsec_hidden").status == 401


def test_ten_thousand_secrets(paths, store):
    """A new secret counts within a second. Meanwhile the requests that name a
    secret are answered as with one secret."""
    secrets = {f"task-{n:05}": f"whsec_{n:032}" for n in range(10_000)}
    with FastCGI(paths.responder, store.conninfo, secrets=secrets) as it:
        times = []
        for n in range(10):
            secret = f"whsec_of_a_new_task_{n}"
            it.add_secret(f"new-{n}", secret)
            start = time.monotonic()
            while True:
                answer = it.post(event(), secret, changes={"PATH_INFO": f"/new-{n}"})
                if answer.status == 200:
                    break
                assert time.monotonic() - start < 2
                answer = it.post(event(), secrets["task-05000"],
                                 changes={"PATH_INFO": "/task-05000"})
                assert answer.body == RECEIVED
                times.append(answer.seconds)
        assert it.post(event(), secrets["task-09999"]).body == RECEIVED
        times.sort()
        print(f"median {times[len(times) // 2]:.3f} s, most {times[-1]:.3f} s")
        assert times[len(times) * 9 // 10] < 0.5


def test_credentials_directory(program):
    """The folder of systemd's LoadCredential is the default of SECRET_DIR."""
    program.more_environment["CREDENTIALS_DIRECTORY"] = program.secret_dir
    program.settings["SECRET_DIR"] = None
    assert program.post(event()).body == RECEIVED


# The home of the user.

@pytest.fixture
def home(paths, store):
    """An account on shared hosting. Its settings are found by getpwuid(),
    and the environment has only the variables of nss_wrapper, which gives
    the home."""
    with CGI(paths.responder, store.conninfo) as it:
        user = as_test_user()
        uid = user.get("user", os.getuid())
        gid = user.get("group", os.getgid())
        it.home = os.path.join(it.folder, "home")
        it.own = os.path.join(it.home, ".humcli-webhook")
        for path in (it.home, it.own):
            os.mkdir(path, 0o700)
            chown_to_test_user(path)
        os.rename(it.secret_dir, os.path.join(it.own, "secrets"))
        os.rename(it.write("conf", f"HUMCLI_WEBHOOK_DATABASE={store.conninfo}"
                           "\nHUMCLI_WEBHOOK_SPOOL=\n"),
                  os.path.join(it.own, "humcli-webhook.conf"))
        it.log_file = os.path.join(it.own, "log")
        it.settings = {}
        asan = os.environ.get("ASAN_OPTIONS", "")
        it.more_environment = {
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": it.write(
                "passwd", f"me:x:{uid}:{gid}::{it.home}:/bin/false\n", 0o644),
            "NSS_WRAPPER_GROUP": it.write("group", f"me:x:{gid}:\n", 0o644),
            # The sanitizer would refuse a library that is loaded before its
            # own.
            "ASAN_OPTIONS": asan + ":verify_asan_link_order=0"}
        yield it


def test_home_by_cgi(home, store):
    body = event()
    assert home.post(body).body == RECEIVED
    assert store.query("SELECT secret_name FROM humcli.events"
                       " WHERE task_id = %s", task_of(body)) == [("main",)]
    assert eventually(lambda: task_of(body) in home.log())
    assert stat.S_IMODE(os.stat(home.log_file).st_mode) == 0o600
    assert home.read(home.stderr_file) == ""


def test_home_by_fastcgi(home, paths):
    with FastCGI(paths.responder, None,
                 environment=home.environment()) as it:
        body = event()
        assert it.post(body).body == RECEIVED
        assert eventually(lambda: task_of(body) in home.log())


@pytest.mark.parametrize("text, said", [
    ("HUMCLI_WEBHOOK_NONSENSE=1\n", "HUMCLI_WEBHOOK_NONSENSE is not a known"),
    ("HUMCLI_WEBHOOK_THREADS=none\n", "HUMCLI_WEBHOOK_THREADS must be"),
    ("HUMCLI_WEBHOOK_SECRET_DIR=/none\n", "/none: No such file"),
    (None, "/.humcli-webhook/humcli-webhook.conf does not exist; create it")])
def test_home_log_of_faults(home, text, said):
    """The log in the home says why nothing works, also without a file."""
    path = os.path.join(home.own, "humcli-webhook.conf")
    os.unlink(path)
    if text:
        os.rename(home.write("conf", text), path)
    assert home.post(event()).status == 503
    assert said in home.log()


def test_home_file_mode_is_logged_there(home):
    path = os.path.join(home.own, "humcli-webhook.conf")
    with open(path, "a", encoding="ascii") as file:
        file.write("HUMCLI_WEBHOOK_SECRET=whsec_open\n")
    os.chmod(path, 0o644)
    assert home.post(event()).status == 503
    assert "chmod 0600" in home.log()


def test_user_without_an_entry(home, store):
    """The user database does not know the user: $HOME is the home."""
    home.more_environment["NSS_WRAPPER_PASSWD"] = home.write("passwd", "", 0o644)
    home.more_environment["HOME"] = home.home
    body = event()
    assert home.post(body).body == RECEIVED
    assert eventually(lambda: task_of(body) in home.log())


def test_variables_of_an_orchestrator(program):
    """Kubernetes adds these for a service called humcli-webhook."""
    program.settings.update({
        "SERVICE_HOST": "10.0.0.7", "SERVICE_PORT": "9000",
        "PORT": "tcp://10.0.0.7:9000", "PORT_9000_TCP": "tcp://10.0.0.7:9000",
        "PORT_9000_TCP_PROTO": "tcp", "PORT_9000_TCP_PORT": "9000",
        "PORT_9000_TCP_ADDR": "10.0.0.7"})
    accepted(program)
    program.settings["PORT"] = "9000"
    refused(program, "HUMCLI_WEBHOOK_PORT is not a known setting")


def test_byte_order_mark(program):
    in_file(program, "\ufeff" + lines(program, THREADS="none"))
    refused(program, "HUMCLI_WEBHOOK_THREADS must be")


def test_home_is_not_that_of_the_environment(home):
    other = os.path.join(home.folder, "other")
    os.rename(home.home, other)
    home.log_file = home.stderr_file
    home.more_environment["HOME"] = other
    assert home.post(event()).status == 503


def test_home_is_not_looked_at_where_a_file_is_named(home, store):
    home.settings["CONFIG"] = home.write(
        "named.conf", f"HUMCLI_WEBHOOK_DATABASE={store.conninfo}\n"
        "HUMCLI_WEBHOOK_SPOOL=\n")
    home.log_file = home.stderr_file
    assert home.post(event()).status == 503     # there is no secret


def test_home_file_that_others_can_read(home):
    path = os.path.join(home.own, "humcli-webhook.conf")
    with open(path, "a", encoding="ascii") as file:
        file.write("HUMCLI_WEBHOOK_SECRET=whsec_home\n")
    os.chmod(path, 0o644)
    home.secrets["home"] = "whsec_home"
    assert home.post(event()).status == 503
    fix(home.log() + home.read(home.stderr_file), path)
    assert home.post(event(), "whsec_home").body == RECEIVED


# The database and the log.

def test_database_by_libpqs_own_variables(program, store):
    program.settings["DATABASE"] = None
    program.more_environment.update(
        PGHOST=store.cluster.folder, PGPORT=str(store.cluster.port),
        PGDATABASE=store.name, PGUSER="test_writer")
    assert program.post(event()).body == RECEIVED


def test_database_by_uri(program, store):
    program.settings["DATABASE"] = (
        f"postgresql://test_writer@127.0.0.1:{store.cluster.port}/"
        f"{store.name}?connect_timeout=2")
    assert program.post(event()).body == RECEIVED


def test_log_goes_to_stderr(program):
    program.settings["LOG"] = None
    body = event()
    assert program.post(body).body == RECEIVED
    assert task_of(body) in program.read(program.stderr_file)
    assert program.log() == ""


def test_log_file_is_private_and_appended_to(program):
    first, second = event(), event()
    for body in (first, second):
        assert program.post(body).body == RECEIVED
    assert stat.S_IMODE(os.stat(program.log_file).st_mode) == 0o600
    log = program.log()
    assert log.index(task_of(first)) < log.index(task_of(second))


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_under_any_umask(umask, program):
    """Else the next process could not use what the first one made."""
    spool = os.path.join(program.folder, "spool")
    program.settings.update(SPOOL=spool, DATABASE="host=/nowhere", DEADLINE="200ms")
    program.spawn = functools.partial(program.spawn, preexec_fn=lambda: os.umask(umask))
    for _ in range(2):
        assert program.post(event()).body == b'{"received":true,"spooled":true}'
    files = [os.path.join(spool, "new", name) for name in os.listdir(spool + "/new")]
    assert len(files) == 2
    for path in (program.log_file, *files):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for path in (spool, spool + "/new"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_log_line(program):
    """Each event is one line of the log, with outcome, status, task, secret,
    client and time."""
    body = event(status="DISPUTED")
    assert program.post(body).body == RECEIVED
    [line] = [line for line in program.log().splitlines()
              if task_of(body) in line]
    assert re.match(r"time=\S+ level=info ", line)
    for text in ("recorded", "DISPUTED", "main", "192.0.2.7"):
        assert text in line
    assert re.search(r"\bms=\d+", line)


def test_log_of_a_timestamp_that_differs(program):
    stamp = "2026-03-01T12:00:09.000Z"
    same, other = event(), event()
    program.post(same, changes={"HTTP_X_TIMESTAMP": "2026-03-01T12:00:00Z"})
    program.post(other, changes={"HTTP_X_TIMESTAMP": stamp})
    found = [line for line in program.log().splitlines() if stamp in line]
    assert len(found) == 1 and task_of(other) in found[0]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_log_of_a_request_id(program, form):
    """The web server's, else the header's; without either the field is absent."""
    program.settings["LOG_FORMAT"] = form
    bodies = [event() for _ in range(3)]
    program.post(bodies[0])
    program.post(bodies[1], changes={"HTTP_X_REQUEST_ID": 'a"b c\u202e' + "x" * 300})
    program.post(bodies[2], changes={"HTTP_X_REQUEST_ID": "forged", "REQUEST_ID": "0a1b"})
    lines = [next(line for line in program.log().splitlines() if task_of(body) in line)
             for body in bodies]
    shown = 'a"b?c???' + "x" * 120
    if form == "json":
        assert [json.loads(line).get("request_id") for line in lines] == [None, shown, "0a1b"]
    else:
        assert "request_id" not in lines[0] and lines[2].endswith(" request_id=0a1b")
        assert lines[1].endswith(' request_id="' + shown.replace('"', '\\"') + '"')


def test_log_level(program):
    program.settings["LOG_LEVEL"] = "error"
    assert program.post(event()).body == RECEIVED
    assert program.post(event(), "whsec_wrong").status == 401
    assert program.log() == ""


def test_log_that_can_not_be_opened(program):
    program.settings["LOG"] = "/no/such/folder/log"
    refused(program, "/no/such/folder/log")


# --check-config and the ways to start.

def test_check_config_says_what_it_found(program):
    program.settings["DATABASE"] += " password=geheim"
    said = accepted(program)
    assert "main" in said and program.settings["CONFIG"] in said
    # A web server may have truncated it.
    assert str(len(program.settings["DATABASE"])) in said
    assert "geheim" not in said and SECRET not in said


def test_check_config_needs_no_database(program):
    program.settings["DATABASE"] = "host=/nonexistent"
    accepted(program)


def test_started_on_a_terminal(program):
    """On a terminal the program prints how to start it."""
    ours, theirs = pty.openpty()
    try:
        code, said = run(program, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert code == 64
    assert "--listen" in said and "FastCGI" in said


@pytest.mark.parametrize("environment", [
    {}, {"GATEWAY_INTERFACE": "CGI/1.1"}, {"REQUEST_METHOD": "POST"}])
def test_started_with_neither_socket_nor_request(program, environment):
    program.more_environment.update(environment)
    code, said = run(program)
    assert code == 64 and "--listen" in said


@pytest.mark.parametrize("arguments", [
    ["--nonsense"], ["--listen"], ["what"], ["--check-config", "what"]])
def test_wrong_arguments(program, arguments):
    code, said = run(program, *arguments)
    assert code == 64 and "--listen" in said
