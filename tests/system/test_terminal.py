"""What a terminal shows and a pipe does not get: colours and progress."""

import re

import pytest

from harness.record_calls import Delivery, at, record
from harness.terminal import run_at_terminal

OK = 0
RED = r"\x1b\[31m([^\x1b]*)\x1b\[0m"


@pytest.fixture
def show(cli, database):
    """Returns a function that runs a verb on a terminal."""
    def run(*arguments, **others):
        return run_at_terminal(cli, *arguments, **{
            "DATABASE": database.dsn(), "SPOOL": "", **others})
    return run


@pytest.fixture
def holes(database):
    """A task with a gap, and a dead letter."""
    connection = database.connect()
    [first, _] = record(connection, [Delivery("t", "SUBMITTED", "IN_PROGRESS"),
                                     Delivery("t", "DISPUTED", "MANUAL_REVIEW", at(60))])
    connection.close()
    database.execute("SELECT humcli.subscribe('p')")
    database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts, error)"
                     f" VALUES ('p', {first.id}, 3, 'no disk')")


def test_what_is_wrong_is_red(show, cli, database, holes):  # pylint: disable=unused-argument
    for verb, red in ((["gaps"], ["MANUAL_REVIEW", "IN_PROGRESS"]),
                      (["dead", "list"], ["no disk"]), (["subscriptions"], ["1"])):
        code, shown, _ = show(*verb, environment={"TERM": "xterm"})
        assert code == OK and re.findall(RED, shown) == red, (verb, shown)
        plain = cli(*verb, DATABASE=database.dsn(), SPOOL="").out
        assert re.sub(RED, r"\1", shown).replace("\r\n", "\n") == plain
        for environment in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
            assert show(*verb, environment=environment)[1].replace("\r\n", "\n") == plain
        assert "\x1b" not in cli(*verb, DATABASE=database.dsn(), SPOOL="",
                                 environment={"TERM": "xterm"}).out
        assert re.findall(RED, show(*verb, environment={"TERM": "xterm", "NO_COLOR": ""})[1]) == red
