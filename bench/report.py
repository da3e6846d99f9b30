"""Turns the results of run.sh into Markdown: report.py FILE..."""
import os
import statistics
import sys

# Wanted at a gigabyte: a figure, what of, and the most it may be.
WANTED = [
    ("escrowctl-backup", "script-backup", 0.38), ("escrowctl-backup", "floor", 2.0), ("escrowctl-backup", "pg_dump-Fd-j2", 0.5),
    ("escrowctl-verify", "gzip-t", 0.55), ("escrowctl-restore", "script-restore", 0.8),
    ("escrowctl-dr-test", "script-dr-test", 0.42), ("dr-test-loading", "pg_restore-j4-kept", 0.90),
]
# What each is measured against, as a ratio to escrowctl's.
KINDS = {
    "escrowctl-backup": ["floor", "copy", "script-backup", "pigz", "zstd", "pg_dump-Fc", "pg_dump-Fd-j2"],
    "escrowctl-verify": ["gzip-t"],
    "escrowctl-restore": ["script-restore", "pg_restore-j4"],
    "escrowctl-dr-test": ["script-dr-test"],
    "dr-test-loading": ["pg_restore-j4-kept"],
}
LIMIT_MIB = 150


def read(path):
    head, rows = [], {}
    for line in open(path):
        if line.startswith("#"):
            head.append(line[2:].strip())
            continue
        name, *figures = line.split()
        rows.setdefault(name, []).append([float(f) for f in figures])
    return head[0], rows


def median(rows, name, column=0):
    return statistics.median(r[column] for r in rows[name])


def table(rows):
    print("| what | seconds, median | least to most | runs | times escrowctl's | CPU seconds, all | of the client | peak RSS, MiB | MB written |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in rows.items():
        ours = next((k for k, v in KINDS.items() if name in v or name.startswith(k + "-")), None)
        ratio = f"{median(rows, name) / median(rows, ours):.2f}" if ours in rows else ""
        seconds = [r[0] for r in runs]
        rss = max(r[3] for r in runs) / 1024
        cells = [f"{median(rows, name):.1f}", f"{min(seconds):.1f} to {max(seconds):.1f}", len(runs), ratio,
                 *(f"{median(rows, name, c):.1f}" if rss else "" for c in (1, 2)),
                 f"{rss:.0f}" if rss else "", f"{median(rows, name, 4) / 1e6:.0f}" if median(rows, name, 4) else ""]
        print(f"| {name} |", " | ".join(map(str, cells)), "|")


def wanted(rows):
    print("\n| ratio | measured | wanted | within |\n|---|---|---|---|")
    for a, b, bound in WANTED:
        if a in rows and b in rows:
            ratio = median(rows, a) / median(rows, b)
            print(f"| {a} / {b} | {ratio:.2f} | {bound} | {'yes' if ratio <= bound else 'NO'} |")


def memory(rows):
    ours = {n: max(r[3] for r in runs) / 1024 for n, runs in rows.items() if n.startswith("escrowctl")}
    if ours:
        name = max(ours, key=ours.get)
        print(f"\nMost memory of escrowctl's: {ours[name]:.0f} MiB ({name}); wanted: at most {LIMIT_MIB}.")


print("# Results\n")
print(open(os.path.join(os.path.dirname(__file__), "about.md")).read().strip())
for path in sorted(sys.argv[1:], key=lambda p: ("platform" not in p, "dominant" not in p, p)):
    about, rows = read(path)
    shape, size = os.path.basename(path).removesuffix(".txt").split("-")
    print(f"\n## {shape}, {size} MB of SQL\n\n{about}\n")
    table(rows)
    if int(size) >= 1000:
        wanted(rows)
    memory(rows)
