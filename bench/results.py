"""Turns the measurements of run.sh into Markdown."""
import os
import statistics
import subprocess
import sys

times_file, sizes_file, server = sys.argv[1:]
times, rss = {}, {}
for line in open(times_file):
    name, seconds, kb = line.split()
    times.setdefault(name, []).append(float(seconds))
    rss[name] = max(rss.get(name, 0), int(kb))
sizes = dict(line.split() for line in open(sizes_file))
memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
go = subprocess.check_output(["go", "env", "GOVERSION"], text=True).strip()


def median(name):
    return statistics.median(times[name])


def limit(value, bound):
    return f"{value:.2f} | {bound} | {'yes' if value <= bound else 'NO'}"


print("# Results\n")
print("Made by `make bench`: every row of one run, one server, alternating.\n")
print(f"Machine: {os.cpu_count()} cores, {memory:.0f} GiB of memory; PostgreSQL {server} with a restore's settings, {go}.\n")
print("| what | seconds, median | least | most | runs | peak RSS, MiB |\n|---|---|---|---|---|---|")
for name, t in times.items():
    own = f"{rss[name] / 1024:.0f}" if name.startswith("escrowctl") else ""
    print(f"| {name} | {median(name):.1f} | {min(t):.1f} | {max(t):.1f} | {len(t)} | {own} |")
print("\n| ratio | measured | limit | within |\n|---|---|---|---|")
for a, b, bound in (("backup", "script-backup", 0.45), ("verify", "gzip-t", 0.6), ("restore", "script-restore", 0.8), ("dr-test", "script-dr-test", 0.5)):
    print(f"| escrowctl {a} / {b} | {limit(median('escrowctl-' + a) / median(b), bound)} |")
print(f"| size of the file / gzip -6's | {limit(int(sizes['escrowctl']) / int(sizes['script']), 1.0)} |")
for name in ("escrowctl-backup", "escrowctl-backup-5GB"):
    if name in rss:
        print(f"| peak RSS of {name}, MiB | {limit(rss[name] / 1024, 150)} |")
print("\n`escrowctl restore` verifies the backup first; that is in its time.\n")
print("The recovery tests run in containers of one image: script-dr-test with the server's default settings, `gunzip -c`, psql and three queries;")
print("`escrowctl dr-test` with the settings of a server that nobody keeps, every table counted. Both from the start of the container to its removal.")
