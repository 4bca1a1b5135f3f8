"""The verb secret: adds, lists and removes the files of SECRET_DIR."""

import json
import os
import re
import stat

import pytest

from harness.responder import FastCGI, chown_to_test_user, event, eventually

OK, NEGATIVE, USAGE, CANT_CREATE, CONFIG = 0, 1, 64, 73, 78
TEXT = "whsec_[0-9a-f]{64}"


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def folder(cli):
    """An empty SECRET_DIR."""
    path = cli.folder / "secrets"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def secret(cli, folder):
    """Returns a function that runs the verb on the folder."""
    def run(*arguments, **settings):
        return cli("secret", *arguments, **{"SECRET_DIR": folder, **settings})
    return run


def test_add_list_remove(secret, folder):
    done = secret("add", "agent-7", "--url", "https://agent.example/humcli/")
    assert (done.returncode, done.err) == (OK, "")
    text = (folder / "agent-7").read_text()
    assert re.fullmatch(TEXT, text) and mode(folder / "agent-7") == 0o600
    assert '"callback_url": "https://agent.example/humcli/agent-7"' in done.out
    assert f'"callback_secret": "{text}"' in done.out
    added = json.loads(secret("add", "b", "--url", "https://agent.example/humcli?a=1",
                              "--json").out)
    assert added == {"name": "b", "file": str(folder / "b"),
                     "callback_url": "https://agent.example/humcli/b?a=1",
                     "callback_secret": (folder / "b").read_text()}
    listed = secret("list", "--json")
    assert not re.search(TEXT, listed.out + secret("list").out)
    first, second = map(json.loads, listed.out.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("changed"))
    assert first.pop("owner") and first.pop("group")
    assert first == {"name": "agent-7", "accepted": True, "problem": None, "in_path": True,
                     "file": str(folder / "agent-7"), "mode": "0600"}
    assert second["name"] == "b"
    done = secret("remove", "b")
    assert (done.returncode, done.err) == (OK, "")
    assert f"removed: {folder / 'b'}\n" in done.out and os.listdir(folder) == ["agent-7"]
    done = secret("remove", "agent-7")
    assert (done.returncode, done.out) == (NEGATIVE, "") and "--force" in done.err
    assert secret("remove", "--force", "agent-7").returncode == OK
    assert os.listdir(folder) == []


def test_add_takes_what_a_path_can_carry(secret, folder):
    for name in ("", ".a", "a/b", "../a", "a b", "a\n", "ä", "health", "a" * 65):
        done = secret("add", name)
        assert (done.returncode, done.out) == (USAGE, ""), name
        assert "can't be a secret's name" in done.err
    assert os.listdir(folder) == []
    for name in ("a" * 64, "0", "-a", "A_b-c.d"):
        assert secret("add", "--", name).returncode == OK


def test_add_replaces_nothing(cli, secret, folder):
    (folder / "a").write_text("whsec_old")
    for _ in range(2):
        done = secret("add", "a")
        assert (done.returncode, done.out) == (CANT_CREATE, "")
        assert "the secret 'a' exists already" in done.err
    assert (folder / "a").read_text() == "whsec_old" and os.listdir(folder) == ["a"]
    assert secret("add", "default", SECRET="x").returncode == CANT_CREATE
    single = cli.secret_file("single", b"whsec_s")
    assert secret("add", "single", SECRET_FILE=single).returncode == CANT_CREATE


def test_no_folder(cli, secret, folder):
    done = secret("add", "a", SECRET_DIR="")
    assert done.returncode == CONFIG and "SECRET_DIR is not set" in done.err
    done = secret("add", "a", SECRET_DIR=folder / "none")
    assert done.returncode == CONFIG and "init makes it" in done.err
    done = secret("add", "a", "--url", "http://agent.example/")
    assert done.returncode == USAGE and "https://" in done.err


def test_list_tells_what_the_receiver_refuses(secret, folder):
    for name, text, bits in (("good", "whsec_x", 0o600), ("open", "whsec_x", 0o666),
                             ("empty", "", 0o600), (".hidden", "x", 0o600)):
        (folder / name).write_text(text)
        (folder / name).chmod(bits)
    (folder / "a folder").mkdir()
    (folder / "gone").symlink_to("nowhere")
    listed = {one["name"]: one for one in
              map(json.loads, secret("list", "--json", SECRET="whsec_s").out.splitlines())}
    assert list(listed) == ["default", "empty", "gone", "good", "open"]
    assert [name for name, one in listed.items() if one["accepted"]] == ["default", "good"]
    assert listed["default"]["file"] is None
    assert "fix: chmod" in listed["open"]["problem"] and listed["open"]["mode"] == "0666"
    assert listed["empty"]["problem"] == "an empty secret"
    assert listed["gone"]["problem"] == "No such file or directory"
    table = secret("list").out
    assert re.search("^open +no +holds a secret and others can write it; fix: ", table, re.M)


def test_remove_names_what_it_can_not(cli, secret, folder):
    (folder / "a").write_text("whsec_a")
    (folder / "a").chmod(0o600)
    (folder / "b").write_text("")
    for name in ("c", "../secrets/a", "."):
        done = secret("remove", name)
        assert (done.returncode, done.out) == (NEGATIVE, "")
        assert f"no secret is named '{name}'; there are: a, b" in done.err
    # the last that the receiver accepts
    assert secret("remove", "a").returncode == NEGATIVE
    assert secret("remove", "b").returncode == OK
    single = cli.secret_file("single", b"whsec_s")
    done = secret("remove", "single", SECRET_FILE=single)
    assert done.returncode == NEGATIVE and "HUMCLI_WEBHOOK_SECRET_FILE" in done.err
    assert secret("remove", "a", SECRET_FILE=single).returncode == OK


def test_a_running_receiver(cli, paths, store):
    """An added secret is accepted within a second, a removed one refused."""
    with FastCGI(paths.responder, store.conninfo) as it:
        settings = {"SECRET_DIR": it.secret_dir}
        done = cli("secret", "add", "agent", "--json", **settings)
        chown_to_test_user(os.path.join(it.secret_dir, "agent"))
        text = json.loads(done.out)["callback_secret"]
        by_name = {"PATH_INFO": "/agent"}
        eventually(lambda: it.post(event(), text, changes=by_name).status == 200)
        assert cli("secret", "remove", "agent", **settings).returncode == OK
        eventually(lambda: it.post(event(), text, changes=by_name).status == 401)
