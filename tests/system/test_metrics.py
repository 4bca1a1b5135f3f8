"""metrics: what monitoring reads, held to the parsers of Prometheus."""

import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from harness.record_calls import Delivery, at, record

OK, UNAVAILABLE, CANT_CREATE, CONFIG = 0, 69, 73, 78


@pytest.fixture
def metrics(cli, database):
    """Returns a function that runs metrics on the database."""
    def run(*arguments, **settings):
        return cli("metrics", *arguments, **{"DATABASE": database.dsn(), "SPOOL": "", **settings})
    return run


def samples(text):
    """Returns the samples by name and label. Both parsers read the same; each
    family is a gauge with a help text, and its unit is the end of its name."""
    found = {}
    families = list(openmetrics.text_string_to_metric_families(text))
    for family in families:
        assert family.type == "gauge" and len(family.documentation) > 5, family
        assert re.fullmatch("humcli_[a-z_]+", family.name)
        unit = re.search("_(bytes|seconds)$", family.name)
        assert family.unit == (unit[1] if unit else "")
        for sample in family.samples:
            assert len(sample.labels) < 2
            found[sample.name, *sample.labels.values()] = sample.value
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            assert found[sample.name, *sample.labels.values()] == sample.value
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                              capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return found


def test_open_tasks_at_equal_times(metrics, database):
    """The events of one moment are read in the order of humcli.tasks."""
    connection = database.connect()
    record(connection, [
        Delivery("ended", "VERIFIED", "SUBMITTED"), Delivery("ended", "COMPLETED", "VERIFIED"),
        Delivery("open", "COMPLETED", "VERIFIED"), Delivery("open", "DISPUTED", "COMPLETED")])
    connection.close()
    assert [(task, open_) for task, open_ in database.execute(
        "SELECT task_id, terminal IS NOT TRUE FROM humcli.tasks ORDER BY task_id")] \
        == [("ended", False), ("open", True)]
    assert samples(metrics().out)["humcli_open_tasks",] == 1


def test_families(metrics, database, tmp_path):
    connection = database.connect()
    record(connection, [
        Delivery("t1", "A"), Delivery("t1", "A", occurred_at=at(1)),
        Delivery("t2", 'odd"\\\n', "X"), Delivery("task_test_1", "A", "X", at(3)),
        Delivery("ended", "A"), Delivery("ended", "COMPLETED", "A", at(9)),
        # A task can go on, and can have events of another type.
        Delivery("again", "COMPLETED"), Delivery("again", "A", "COMPLETED", at(9)),
        Delivery("typed", "A", None, at(5)),
        Delivery("typed", "CANCELLED", None, at(9), event="another.type")])
    connection.close()
    database.execute("INSERT INTO humcli.quarantine (received_at, reason, secret_name, signature,"
                     " body) VALUES (now(), 'r', 'main', 'aa', 'x')")
    database.execute("SELECT humcli.subscribe('s', 'beginning')")
    database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts)"
                     " SELECT 's', min(id), 3 FROM humcli.events")
    spool = tmp_path / "spool"
    for name in ("", "tmp", "new", "failed"):
        (spool / name).mkdir(mode=0o700)
    (spool / "failed" / ("0" * 64)).write_bytes(b"12345")
    done = metrics(SPOOL=spool)
    assert (done.returncode, done.err) == (OK, "")
    found = samples(done.out)
    newest = found.pop(("humcli_last_event_timestamp_seconds",))
    oldest = found.pop(("humcli_subscription_oldest_timestamp_seconds", "s"))
    assert 0 <= newest - oldest < 60
    assert {key: value for key, value in found.items()
            if key[0] != "humcli_build_info"} == {
        ("humcli_up",): 1, ("humcli_events", "A"): 5, ("humcli_events", 'odd"\\\n'): 1,
        ("humcli_events", "COMPLETED"): 2, ("humcli_events", "CANCELLED"): 1,
        ("humcli_repeats",): 1, ("humcli_quarantined",): 1, ("humcli_gaps",): 1,
        ("humcli_open_tasks",): 3, ("humcli_subscription_pending", "s"): 9,
        ("humcli_dead_letters", "s"): 1, ("humcli_reconcile_repaired_events",): 0,
        ("humcli_spool_files", "new"): 0,
        ("humcli_spool_files", "failed"): 1, ("humcli_spool_bytes", "new"): 0,
        ("humcli_spool_bytes", "failed"): 5}
    # The view of the tasks counts the same.
    assert database.execute("SELECT count(*) FROM humcli.tasks WHERE terminal IS NOT TRUE"
                            " AND task_id NOT LIKE 'task\\_test\\_%'") == [(3,)]


def test_output(metrics, tmp_path):
    file = tmp_path / "humcli.prom"
    file.write_text("old")
    done = metrics("--output", file)
    assert (done.returncode, done.out, done.err) == (OK, "", "")
    assert samples(file.read_text())["humcli_up",] == 1
    assert file.stat().st_mode & 0o777 == 0o644
    assert metrics("--output", tmp_path / "none" / "x").returncode == CANT_CREATE


def test_no_events(metrics):
    found = samples(metrics().out)
    assert found["humcli_open_tasks",] == 0
    assert ("humcli_last_event_timestamp_seconds",) not in found


@pytest.mark.parametrize("settings, code", [({"DATABASE": "host=/nowhere"}, UNAVAILABLE),
                                            ({"DEADLINE": "a while"}, CONFIG)])
def test_without_a_database(metrics, tmp_path, settings, code):
    file = tmp_path / "humcli.prom"
    for arguments in ([], ["--output", file]):
        done = metrics(*arguments, **settings)
        assert done.returncode == code
        found = samples(done.out or file.read_text())
        assert found["humcli_up",] == 0 and len(found) == 2
    assert [each.name for each in tmp_path.iterdir() if "prom" in each.name] == ["humcli.prom"]


def test_alert_rules(metrics, paths):
    """Each rule is about a metric that there is."""
    file = paths.source / "examples/humcli-webhook.rules.yml"
    source = (paths.source / "src/cli/verbs/metrics.c").read_text()
    known = set(re.findall(r'\{ "(humcli_\w+)",', source))
    assert {key[0] for key in samples(metrics().out)} <= known
    rules = [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        names = set(re.findall(r"\bhumcli_\w+", rule["expr"]))
        assert names <= known and (names or "node_textfile_mtime_seconds" in rule["expr"]), rule
        assert rule["annotations"]["summary"].endswith("."), rule
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "rules", file], check=True, capture_output=True)
