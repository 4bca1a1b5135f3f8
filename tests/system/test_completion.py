"""The completion of the command line, in the shells themselves."""

import os
import re
import shutil
import subprocess

import pty
import pytest

from harness.postgres import wait_until

STATUSES = {"PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED",
            "COMPLETED", "MANUAL_REVIEW", "DISPUTED", "CANCELLED"}
ZSH = pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")


@pytest.fixture
def complete(paths, tmp_path):
    """Returns a function that completes the last word of a line in bash, as
    readline calls it."""
    script = paths.stage / "share/bash-completion/completions/humcli-webhook"
    for name in ("event.json", "secret"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()

    def run(*words):
        done = subprocess.run(
            ["bash", "--norc", "-c", f'. "{script}"; complete -p humcli-webhook;'
             ' COMP_WORDS=(humcli-webhook "$@"); COMP_CWORD=$#;'
             ' _humcli_webhook; printf "%s\\n" "${COMPREPLY[@]}"', "bash", *words],
            capture_output=True, text=True, timeout=20, check=True, cwd=tmp_path)
        declared, *replies = done.stdout.splitlines()
        assert declared == "complete -F _humcli_webhook humcli-webhook" and done.stderr == ""
        return {each for each in replies if each}
    return run


def verbs(cli):
    return set(re.findall(r"^  ([a-z]+) ", cli("--help").out, re.M))


def test_bash_completes_verbs(cli, complete):
    assert complete("") == verbs(cli) | {"help"}
    assert complete("ta") == {"task", "tasks"}
    assert complete("--") == {"--help", "--version"}
    assert complete("help", "eve") == {"events"}
    assert complete("help", "events", "") == complete("nothing", "") == set()


def test_bash_completes_every_option_of_every_verb(cli, complete):
    """The options are those of --help."""
    for verb in verbs(cli):
        told = set(re.findall("^  (--[a-z-]+)", cli(verb, "--help").out, re.M))
        assert complete(verb, "--") == told | {"--help"}, verb
    assert complete("events", "--s") == {"--since", "--status", "--secret"}


def test_bash_completes_subcommands(complete):
    assert complete("spool", "") == {"list", "drain", "retry-failed"}
    assert complete("secret", "r") == {"remove"}
    assert complete("secret", "add", "") == set()
    assert complete("secret", "add", "-") == {"--url", "--json", "--help"}
    assert complete("dead", "--pool", "list", "redrive", "--") == \
        {"--pool", "--json", "--wide", "--help"}
    assert complete("spool", "drain", "-") == {"--help"}


def test_bash_completes_values(complete):
    assert complete("events", "--status", "") == STATUSES
    assert complete("events", "--status", "=") == STATUSES
    assert complete("events", "--status", "=", "SUB") == {"SUBMITTED"}
    assert complete("events", "--status", "SUBMITTED,D") == {"SUBMITTED,DISPUTED"}
    assert complete("wait", "--for", "C") == {"COMPLETED", "CANCELLED"}
    assert complete("listen", "--from", "") == {"now", "beginning"}
    assert complete("send", "--lifecycle", "re") == {"rejected-estimate"}
    assert complete("events", "--task", "") == set()


def test_bash_completes_files(complete):
    assert complete("sign", "") == {"event.json", "secret", "folder"}
    assert complete("sign", "--secret-file", "s") == {"secret"}
    assert complete("sign", "--s") == {"--secret-file", "--secret-name"}
    assert complete("probe", "--vectors", "") == {"folder"}
    assert complete("events", "") >= {"--task", "--json"}


def test_the_installed_scripts_are_those_that_the_program_prints(cli, paths):
    for shell, path in (("bash", "bash-completion/completions/humcli-webhook"),
                        ("zsh", "zsh/site-functions/_humcli-webhook")):
        done = cli("completion", shell)
        assert done.returncode == 0 and done.err == ""
        assert (paths.stage / "share" / path).read_text() == done.out
    assert cli("completion", "fish").returncode == 64
    assert cli("completion").returncode == 64


@ZSH
def test_zsh_completes(cli, paths, tmp_path):
    """Types into a real zsh on a terminal."""
    folder = paths.stage / "share/zsh/site-functions"
    (tmp_path / ".zshrc").write_text(
        f"PS1='> '; unsetopt beep; setopt nolistbeep nopromptsp\nfpath=({folder} $fpath)\n"
        f"path=({paths.stage}/bin $path)\nautoload -U compinit; compinit -u -D\n")
    master, slave = pty.openpty()
    # pylint: disable-next=consider-using-with
    shell = subprocess.Popen(["zsh", "-i"], stdin=slave, stdout=slave, stderr=slave,
                             cwd=tmp_path, start_new_session=True,
                             env={"PATH": os.environ["PATH"], "ZDOTDIR": str(tmp_path),
                                  "HOME": str(tmp_path), "TERM": "dumb"})
    os.close(slave)
    seen = b""

    def read(text):
        nonlocal seen
        os.set_blocking(master, False)

        def found():
            nonlocal seen
            try:
                seen += os.read(master, 65536)
            except BlockingIOError:
                pass
            return text in seen
        wait_until(found, f"{text!r} in {seen!r}")
        seen = b""
    try:
        read(b"> ")
        for typed, shown in ((b"humcli-webhook subs\t", b"subscriptions"),
                             (b"humcli-webhook events --sta\t", b"--status"),
                             (b"humcli-webhook events --status DISP\t", b"DISPUTED"),
                             (b"humcli-webhook spool retr\t", b"retry-failed"),
                             (b"humcli-webhook listen --from beg\t", b"beginning")):
            os.write(master, typed)
            read(shown)
            os.write(master, b"\x15\n")
            read(b"> ")
    finally:
        shell.kill()
        shell.wait()
        os.close(master)
