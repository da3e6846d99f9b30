"""Runs a contender and appends what it took to a file of results.

CPU is that of the whole machine, so that the server's and the containers' are
in it; the client's is the command's own with its children. Peak RSS is that of
its largest process."""
import json
import os
import resource
import subprocess
import sys
import time

name, results = sys.argv[1:]
contender = "bench/contenders.sh"


def busy():
    user, nice, system, _, _, irq, softirq, *_ = map(int, open("/proc/stat").readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def size(path):
    if os.path.isdir(path):
        return sum(entry.stat().st_size for entry in os.scandir(path))
    return os.path.getsize(path) if path else 0


before, start = busy(), time.monotonic()
code = subprocess.call([contender, name], stdout=subprocess.DEVNULL)
took, cpu = time.monotonic() - start, busy() - before
if code != 0:
    sys.exit(f"{name}: exit {code}")
own = resource.getrusage(resource.RUSAGE_CHILDREN)
written = size(subprocess.check_output([contender, "output", name], text=True).strip())
with open(results, "a") as out:
    print(name, f"{took:.2f} {cpu:.2f} {own.ru_utime + own.ru_stime:.2f}", own.ru_maxrss, written, file=out)
    if name == "escrowctl-dr-test":
        stages = json.load(open(os.environ["FILES"] + "/dr-test.json"))["stages"]
        print("dr-test-loading", f"{stages['load_seconds'] + stages['index_seconds']:.2f} 0 0 0 0", file=out)
print(f"  {name}: {took:.2f} s, {cpu:.2f} s of CPU", file=sys.stderr)
