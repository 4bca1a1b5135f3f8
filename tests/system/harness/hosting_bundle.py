"""The archive for hosts without a shell, and the steps of its INSTALL.txt."""

import os
import subprocess


def pack(paths, folder):
    """Makes the archive in an empty folder; returns its path."""
    done = subprocess.run(
        [paths.source / "scripts/hosting-bundle", str(paths.stage)[:-len("/usr/local")],
         "/usr/local", "0"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, = folder.iterdir()
    return file


def cron_lines(paths):
    """Returns the lines of INSTALL.txt that are commands."""
    text = subprocess.run(["awk", "-f", "hosting/install-txt.awk", "doc/shared-hosting.md"],
                          cwd=paths.source, check=True, capture_output=True, text=True).stdout
    return [line.strip() for line in text.splitlines()
            if line.strip().startswith("$HOME/.humcli-webhook/bin/")]


def cron_line(paths, verb):
    return next(line for line in cron_lines(paths) if f" {verb} " in line)


def edit_settings(home, database):
    """Does step 3: copies the sample and edits the copy. Returns its path."""
    hidden = os.path.join(home, ".humcli-webhook")
    with open(os.path.join(hidden, "humcli-webhook.conf.sample"), encoding="ascii") as file:
        text = file.read()
    line = "DATABASE=host=localhost dbname=CHANGE user=CHANGE password='CHANGE'"
    assert text.count(line) == 1
    path = os.path.join(hidden, "humcli-webhook.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(text.replace(line, f"DATABASE={database.dsn(tcp=True)}"))
    os.chmod(path, 0o600)
    return path
