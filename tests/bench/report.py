"""The results: each run as a line of CSV, the medians as tables, and a
chart."""

import collections
import csv
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time

import contenders
from database import DISKS

OURS = contenders.RECOMMENDED
CPU = ("web server", "receiver", "postgresql", "load")
FIELDS = ("part", "disk", "contender", "form", "connections", "rate", "round", "ok", "others",
          "broken", "rows", "void", "seconds", "per_second", "p50", "p99", "p999", "max",
          *(f"cpu {name}" for name in CPU))
# Ratios of OURS to the other, at 64 connections without TLS: as it is, 2 ms more.
AIMS = {"go-pgx": (4.5, 22), "php-fpm": (4.5, 22), "fastify": (5, 22), "flask": (7, 22),
        contenders.NULL: (0.65, 0.45)}


class Results:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.runs = []
        self.notes = collections.defaultdict(dict)
        self.recordings = collections.defaultdict(list)
        self.machine = describe_machine()

    @property
    def void(self):
        return any(run["void"] for run in self.runs)

    def add(self, outcome, **facts):
        self.runs.append({
            **dict.fromkeys(FIELDS, ""), **facts, "ok": outcome.ok, "others": outcome.others,
            "broken": outcome.broken, "seconds": f"{outcome.seconds:.3f}",
            "per_second": outcome.ok / outcome.seconds, **outcome.micros})

    def add_recording(self, case, insert, record, notify):
        self.recordings[case].append((insert, record, notify))

    def note(self, what, name, value):
        self.notes[what][name] = value

    def write(self):
        text = "\n\n".join(["# Results of the benchmark", self.machine, *self.tables()]) + "\n"
        print("\n" + text)
        with open(os.path.join(self.folder, "results.csv"), "w", encoding="ascii",
                  newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            for run in self.runs:
                writer.writerow({**run, "per_second": f"{run['per_second']:.1f}"})
        for name, content in (("results.md", text), ("chart.svg", self.chart())):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(content)
        print(f"{self.folder}: results.csv results.md chart.svg")

    # Medians of the valid runs.

    def select(self, **facts):
        return [run for run in self.runs
                if not run["void"] and all(run[key] == value for key, value in facts.items())]

    def median(self, field, **facts):
        values = [run[field] for run in self.select(**facts)]
        return statistics.median(values) if values else None

    def values(self, field, **facts):
        """Returns the values of a field, in order of appearance."""
        return list(dict.fromkeys(run[field] for run in self.select(**facts)))

    def range(self, field, form=lambda value: number(value), **facts):
        """Returns the text of the median, the smallest and the largest value."""
        values = [run[field] for run in self.select(**facts)]
        if not values:
            return "-"
        text = form(statistics.median(values))
        return text if len(values) == 1 else (
            f"{text} ({form(min(values))} – {form(max(values))})")

    def ratio(self, part, disk, name, connections):
        """Returns OURS divided by the other; None if one of them is missing."""
        facts = {"part": part, "disk": disk, "connections": connections}
        ours = self.median("per_second", **facts, contender=OURS)
        value = self.median("per_second", **facts, contender=name)
        return ours / value if ours and value else None

    def tables(self):
        """Yields the sections, each with its command."""
        if self.select(part="throughput", connections=64):
            yield section("Aims", "throughput", self.aims_table())
        if self.select(part="sweep"):
            yield section("The strongest form of each of the others", "sweep",
                          self.sweep_table())
        for part, title in (("throughput", "Events a second, without TLS"),
                            ("tls", "Events a second, with TLS"),
                            ("set-ups", "Events a second of all set-ups, with TLS")):
            for disk in DISKS:
                if self.select(part=part, disk=disk):
                    yield section(f"{title}, disk {disk}", part,
                                  self.throughput_table(part, disk))
        for disk in DISKS:
            if self.select(part="throughput", disk=disk):
                yield section(f"Processor time in µs an event, disk {disk}", "throughput",
                              self.processor_table(disk))
        for disk in DISKS:
            if self.select(part="latency", disk=disk):
                yield section("Latency in ms at a steady rate, without TLS, "
                              f"disk {disk}", "latency", self.latency_table(disk))
        if self.select(part="cold"):
            yield section("The first request after the start, in ms", "cold",
                          self.cold_table())
        others = [part for part in self.values("part")
                  if part not in ("sweep", "latency", "cold", "throughput", "tls", "set-ups")]
        if others:
            yield section("Other loads, 64 connections, disk as it is",
                          "first-events,duplicates,listeners,big", self.others_table(others))
        if self.recordings:
            yield section("PostgreSQL's processor time in µs an event, beside a plain INSERT",
                          "recording", self.recordings_table())
        for what, values in self.notes.items():
            yield section(what[0].upper() + what[1:], what.split()[0].rstrip(","), table(
                ["", ""], [[name, number(value)] for name, value in values.items()]))
        void = sum(run["void"] for run in self.runs)
        yield f"{len(self.runs)} runs, {void} of them void."

    def aims_table(self):
        rows = []
        for name, aims in AIMS.items():
            cells = [name]
            for disk, aim in zip(DISKS, aims):
                cells += [f"{aim} ×", times(self.ratio("throughput", disk, name, 64))]
            rows.append(cells)
        return table(["64 connections, against", *(
            cell for disk in DISKS for cell in (f"{disk}: aim", "result"))], rows)

    def sweep_table(self):
        rows = []
        for name in self.values("contender", part="sweep"):
            best = {disk: max((run["per_second"] for run in self.select(
                part="sweep", disk=disk, contender=name)), default=0) for disk in DISKS}
            for form in self.values("form", part="sweep", contender=name):
                cells = [name, form]
                for disk in DISKS:
                    value = self.median("per_second", part="sweep", disk=disk, contender=name,
                                        form=form)
                    text = number(value)
                    cells.append(f"**{text}**" if value == best[disk] else text)
                rows.append(cells)
        return table(["", "form", *DISKS], rows)

    def throughput_table(self, part, disk):
        facts = {"part": part, "disk": disk}
        connections = sorted(self.values("connections", **facts))
        rows = []
        for name in self.values("contender", **facts):
            cells = [name]
            for count in connections:
                it = {**facts, "contender": name, "connections": count}
                refused = sum(run["others"] + run["broken"] for run in self.select(**it))
                cells += [self.range("per_second", **it)
                          + (f", {refused} not 200" if refused else ""),
                          times(self.ratio(part, disk, name, count))]
            rows.append((self.median("per_second", **facts, contender=name), cells))
        rows.sort(key=lambda row: row[0], reverse=True)
        return table(["", *(cell for count in connections for cell in (
            f"{count} connections", f"{OURS} has"))], [cells for _, cells in rows])

    def processor_table(self, disk):
        connections = min(self.values("connections", part="throughput", disk=disk))
        facts = {"part": "throughput", "disk": disk, "connections": connections}
        rows = []
        for name in self.values("contender", **facts):
            cells = [name]
            busy = 0
            for cpu in CPU:
                values = [run[f"cpu {cpu}"] for run in self.select(**facts, contender=name)
                          if run[f"cpu {cpu}"] != ""]
                value = statistics.median(values) if values else None
                busy += value or 0
                cells.append(number(value, 0))
            rate = self.median("per_second", **facts, contender=name)
            cells.append(f"{max(0, 1 - busy * rate / 1e6 / contenders.CORES):.0%}")
            rows.append(cells)
        return table([f"{connections} connections", *CPU, "idle and others"], rows)

    def latency_table(self, disk):
        rates = sorted(self.values("rate", part="latency", disk=disk))
        rows = []
        for name in self.values("contender", part="latency", disk=disk):
            cells = [name]
            for rate in rates:
                facts = {"part": "latency", "disk": disk, "contender": name, "rate": rate}
                refused = sum(run["others"] + run["broken"] for run in self.select(**facts))
                cells += [millis(self.median("p50", **facts)),
                          self.range("p99", millis, **facts),
                          millis(self.median("p999", **facts))
                          + (f", {refused} not 200" if refused else "")]
            rows.append(cells)
        return table(["", *(f"{what} at {rate} events/s" for rate in rates
                            for what in ("p50", "p99", "p99.9"))], rows)

    def cold_table(self):
        return table(["", "median (min – max)"], [
            [name, self.range("max", millis, part="cold", contender=name)]
            for name in self.values("contender", part="cold")])

    def others_table(self, parts):
        rows = []
        for part in parts:
            for name in self.values("contender", part=part):
                facts = {"part": part, "contender": name}
                rows.append([part, name, self.range("per_second", **facts),
                             millis(self.median("p50", **facts)),
                             millis(self.median("p99", **facts))])
        return table(["", "", "events/s", "p50 ms", "p99 ms"], rows)

    def recordings_table(self):
        rows = []
        for case, measured in self.recordings.items():
            ratios = [(record + notify) / insert for insert, record, notify in measured]
            rows.append([case, *(number(statistics.median(values), 1)
                                 for values in zip(*measured)),
                         f"{statistics.median(ratios):.2f} × "
                         f"({min(ratios):.2f} – {max(ratios):.2f})"])
        return table(["batches of 32", "plain INSERT", "record", "notify",
                      "record and notify to INSERT"], rows)

    def chart(self):
        """Returns a bar chart of events per second on both disks, and of p99 at
        the highest rate."""
        panels = []
        for disk in DISKS:
            facts = {"part": "throughput", "disk": disk}
            connections = sorted(self.values("connections", **facts))
            if connections:
                middle = connections[0]
                panels.append((f"Events a second, {middle} connections, disk {disk}", [
                    (name, self.median("per_second", **facts, contender=name,
                                       connections=middle))
                    for name in self.values("contender", **facts)]))
        for disk in DISKS:
            rates = self.values("rate", part="latency", disk=disk)
            if rates:
                panels.append((f"p99 in ms at {max(rates)} events a second, disk {disk}", [
                    (name, self.median("p99", part="latency", disk=disk, contender=name,
                                       rate=max(rates)) / 1000)
                    for name in self.values("contender", part="latency", disk=disk)]))
        return svg([(title, sorted((bar for bar in bars if bar[1] is not None),
                                   key=lambda bar: bar[1])) for title, bars in panels])


def number(value, digits=None):
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if value >= 100 else 1
    return f"{value:,.{digits}f}"


def times(value):
    return "-" if value is None else f"{value:.2f} ×" if value < 2 else f"{value:.1f} ×"


def section(title, parts, text):
    return f"### {title}\n\n    tests/bench/run --only {parts}\n\n{text}"


def millis(micros):
    return "-" if micros is None else number(micros / 1000, 1 if micros < 100000 else 0)


def table(head, rows):
    """Returns a Markdown table with aligned columns."""
    rows = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
             for row in rows]
    lines.insert(1, "| " + " | ".join("-" * max(width, 3) for width in widths) + " |")
    return "\n".join(lines)


def svg(panels):
    width, label, bar, gap = 860, 190, 18, 6
    out, y = [], 10
    for title, bars in panels:
        y += 26
        out.append(f'<text x="10" y="{y}" font-weight="bold">{title}</text>')
        y += 10
        most = max((value for _, value in bars), default=0) or 1
        for name, value in bars:
            length = max(1, value / most * (width - label - 110))
            colour = "#c0392b" if name == OURS else (
                "#7f8c8d" if name in (*contenders.OTHERS, contenders.PHP_CONNECTS) else
                "#e6b0aa" if name in contenders.OURS else "#34495e")
            out.append(f'<text x="{label - 8}" y="{y + 13}" text-anchor="end">{name}</text>'
                       f'<rect x="{label}" y="{y}" width="{length:.1f}" height="{bar}"'
                       f' fill="{colour}"/>'
                       f'<text x="{label + length + 6:.1f}" y="{y + 13}">{number(value)}</text>')
            y += bar + gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}"'
            ' font-family="sans-serif" font-size="12">\n'
            f'<rect width="{width}" height="{y + 10}" fill="white"/>\n'
            + "\n".join(out) + "\n</svg>\n")


def first_line(*command):
    if not shutil.which(command[0]):
        return f"no {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def sync_micros():
    """Returns the time of fdatasync() after 8 KiB, on PostgreSQL's file
    system."""
    times = []
    with tempfile.TemporaryFile(dir="/tmp") as file:
        for _ in range(200):
            file.write(b"\0" * 8192)
            file.flush()
            start = time.monotonic()
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - start) * 1e6)
    return statistics.median(times)


def describe_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = ", ".join(re.sub(r" *[(\[].*|Copyright.*", "", line) for line in (
        "PostgreSQL " + first_line("pg_config", "--version").split()[1], first_line("/usr/sbin/lighttpd", "-v"),
        first_line("/usr/sbin/apache2", "-v").replace("Server version: ", ""),
        first_line("gunicorn", "--version"), first_line("php", "--version"),
        "Node.js " + first_line("node", "--version"), first_line("go", "version"),
        first_line("wrk", "--version")))
    return (f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, "
            f"{pages / 2 ** 30:.0f} GiB, Linux {platform.release()}; "
            f"fdatasync {sync_micros():.0f} µs; load {os.getloadavg()[0]:.2f} at the start.\n"
            f"{versions}.\nAll of it, load and database too, on this one machine.")
