"""Takes the measurements that model.py models; model.sh sets the scene.

modelrun.py dump FILE | restore FILE appends rows "kind key=value ..."."""
import glob
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

WORK, FILES, RUNS = os.environ["WORK"], os.environ["FILES"], int(os.environ["RUNS"])
S3PORT = int(os.environ["S3PORT"])
HZ = os.sysconf("SC_CLK_TCK")


def busy():
    user, nice, system, _, _, irq, softirq, *_ = map(int, open("/proc/stat").readline().split()[1:])
    return (user + nice + system + irq + softirq) / HZ


def timed(argv, env=None, stdin=None, stdout=subprocess.DEVNULL):
    """Runs a command: its seconds, the machine's CPU seconds and its own."""
    before, own, start = busy(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(argv, env={**os.environ, **(env or {})}, stdin=stdin, stdout=stdout, check=True)
    took, cpu, now = time.monotonic() - start, busy() - before, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": took, "cpu": cpu, "client": now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime}


def row(kind, **fields):
    text = " ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in fields.items())
    with open(sys.argv[2], "a") as out:
        print(kind, text, file=out)
    print(f"  {kind} {text}", file=sys.stderr)


class Limiter:
    """Passes connections on to the bucket, all together at a rate in MB/s."""

    def __init__(self, rate):
        self.rate, self.lock, self.free = rate * 1e6, threading.Lock(), 0.0
        self.server = socket.create_server(("127.0.0.1", S3PORT + 1))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            bucket = socket.create_connection(("127.0.0.1", S3PORT))
            for a, b, limited in ((client, bucket, True), (bucket, client, False)):
                threading.Thread(target=self.copy, args=(a, b, limited), daemon=True).start()

    def copy(self, a, b, limited):
        try:
            while data := a.recv(1 << 17):
                if limited:
                    with self.lock:
                        self.free = max(self.free, time.monotonic()) + len(data) / self.rate
                        wait = self.free - time.monotonic()
                    time.sleep(max(0, wait))
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def url(db):
    return f"postgres://postgres:{os.environ['PGPASSWORD']}@{os.environ['PGHOST']}:5432/{db}?sslmode=disable"


def backup(db, cores, rate, level, jobs=0):
    for path in [os.environ["BACKUP_DIR"], *glob.glob(WORK + "/s3/bench-bucket/*")]:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.isfile(path):
            os.remove(path)
    env = {"DATABASE_URL": url(db), "GOMAXPROCS": str(cores), "ESCROWCTL_BACKUP_LEVEL": str(level), "ESCROWCTL_BACKUP_JOBS": str(jobs)}
    limiter = Limiter(rate) if rate else None
    if limiter:
        env["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{S3PORT + 1}"
    try:
        took = timed(["bin/escrowctl", "-q", "backup"], env)
    finally:
        if limiter:
            limiter.close()
    manifest = json.load(open(glob.glob(os.environ["BACKUP_DIR"] + "/*.json")[0]))
    return {**took, "sql": manifest["sql_bytes"], "bytes": manifest["size_bytes"]}


def server_cores(n):
    subprocess.run(["docker", "update", "--cpus", str(n), os.environ["SOURCE"]], stdout=subprocess.DEVNULL, check=True)
    row("server", cores=n)


def dump():
    """Backups with cores and bandwidth limited: server, GOMAXPROCS, MB/s, level."""
    for run in range(RUNS):
        for server, cases in ((2, [(2, 0, 3), (1, 0, 3), (2, 0, 9), (1, 0, 9), (2, 10, 3), (2, 25, 3), (2, 50, 3)]), (1, [(1, 0, 3), (2, 0, 3), (1, 0, 9), (2, 25, 3)])):
            server_cores(server)
            row("floor", server=server, **timed(["pg_dump", "src"]))
            for cores, rate, level in cases:
                row("backup", server=server, cores=cores, rate=rate, level=level, **backup("src", cores, rate, level))
        server_cores(2)
        row("tiny", **backup("tiny", 2, 0, 3))
    for jobs in (1, 2, 4, 8, 16):
        took = backup_rss(jobs)
        row("memory", jobs=jobs, rss=took)
    backup("src", 2, 0, 3)  # for the restores


def backup_rss(jobs):
    """Peak RSS in KB of a backup that compresses on so many goroutines."""
    code = "import resource, subprocess; subprocess.run(['bin/escrowctl', '-q', 'backup'], check=True, stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    shutil.rmtree(os.environ["BACKUP_DIR"], ignore_errors=True)
    env = {**os.environ, "DATABASE_URL": url("src"), "ESCROWCTL_BACKUP_JOBS": str(jobs), "GOMAXPROCS": str(jobs), "S3_BUCKET": ""}
    return int(subprocess.check_output(["python3", "-c", code], env=env))


def psql(db, sql):
    return subprocess.check_output(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", db, "-c", sql], text=True).strip()


def sql_text():
    name = glob.glob(os.environ["BACKUP_DIR"] + "/*.sql.gz")[0]
    return subprocess.check_output(["gunzip", "-c", name], text=True)


def tasks():
    """Times each table's COPY and each statement behind it, one at a time."""
    text = sql_text()
    first, last = text.index("\nCOPY "), text.rindex("\n\\.\n") + 4
    pre, data, post = text[:first], text[first:last], text[last:]
    strip = lambda s: re.sub(r"(?m)^\\(un)?restrict .*$", "", s)
    subprocess.run(["createdb", "tasks"], check=True)
    subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "tasks"], input=strip(pre), text=True, stdout=subprocess.DEVNULL, check=True)
    blocks = {}
    for m in re.finditer(r"COPY (\S+) (\(.*?\)) FROM stdin;\n(.*?)\\\.\n", data, re.S):
        blocks.setdefault(m[1], [m[2], []])[1].append(m[3])
    for table, (columns, rows) in blocks.items():
        path = FILES + "/rows"
        with open(path, "w") as out:
            out.writelines(rows)
        for way, before, option in (("wal", "", ""), ("fresh", f"TRUNCATE ONLY {table};", "WITH (FREEZE)")):
            with open(FILES + "/copy.sql", "w") as out:
                out.write(f"BEGIN; {before}\n\\copy {table} {columns} FROM '{path}' {option}\nCOMMIT;\n")
            took = timed(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", FILES + "/copy.sql", "tasks"])
            row("copy", table=table, way=way, sql=os.path.getsize(path), server=took["cpu"] - took["client"], **took)
    env = {"PGOPTIONS": "-c max_parallel_maintenance_workers=0"}
    statements = [s for s in re.split(r";\n", re.sub(r"(?m)^--.*$", "", strip(post))) if s.strip()]
    for s in statements:
        s = s.strip()
        m = re.match(r"CREATE (?:UNIQUE )?INDEX \S+ ON (\S+)|ALTER TABLE ONLY (\S+)\s+ADD CONSTRAINT \S+ (PRIMARY|FOREIGN)", s)
        took = timed(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "tasks", "-c", s], env)
        if m:
            kind = "index" if m[1] else {"PRIMARY": "key", "FOREIGN": "foreign"}[m[3]]
            other = re.search(r"REFERENCES ([^ (]+)", s)
            row("build", table=m[1] or m[2], what=kind, other=other[1] if other else "-", server=took["cpu"] - took["client"], **took)
    subprocess.run(["dropdb", "tasks"], check=True)


def pg_restore(jobs):
    subprocess.run(["createdb", "target"], check=True)
    took = timed(["pg_restore", f"-j{jobs}", "-d", "target", FILES + "/fd"])
    subprocess.run(["dropdb", "target"], check=True)
    return took


def dr_test(jobs):
    with open(FILES + "/dr-test.json", "w") as out:
        took = timed(["bin/escrowctl", "-q", "--json", "dr-test", "latest", "--from", "local", "--engine", "docker", "--image", os.environ["IMAGE"], "--jobs", str(jobs)], stdout=out)
    stages = json.load(open(FILES + "/dr-test.json"))["stages"]
    return {**took, "load": stages["load_seconds"] + stages["index_seconds"], "start": stages["start_seconds"], "verify": stages["verify_seconds"]}


class SlowCores:
    """Gives each process that a PostgreSQL server in a container starts a cgroup of
    its own with a share of a core: many slow cores in place of few. Version 1 of
    cgroups only, and root."""
    ROOT = "/sys/fs/cgroup/cpu/escrowctl-bench"
    PERIOD = 20000  # microseconds: short, so that no lock is held for long by one that may not run

    def __init__(self, share):
        self.share, self.seen, self.stopped = share, set(), False
        os.makedirs(self.ROOT, exist_ok=True)
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    @classmethod
    def possible(cls):
        return os.geteuid() == 0 and os.path.exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")

    def watch(self):
        while not self.stopped:
            for pid in self.processes() - self.seen:
                self.seen.add(pid)
                try:
                    path = f"{self.ROOT}/{pid}"
                    os.makedirs(path, exist_ok=True)
                    for name, value in (("cpu.cfs_period_us", self.PERIOD), ("cpu.cfs_quota_us", int(self.PERIOD * self.share)), ("cgroup.procs", pid)):
                        with open(f"{path}/{name}", "w") as f:
                            f.write(str(value))
                except OSError:
                    pass  # it has ended
            time.sleep(0.005)

    def processes(self):
        """The servers' processes: those of the name whose parent has it too, within containers."""
        out = set()
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                text = open(path).read()
                parent = text.rpartition(")")[2].split()[1]
                if "(postgres)" in text and "(postgres)" in open(f"/proc/{parent}/stat").read() and "/docker/" in open(f"/proc/{parent}/cgroup").read():
                    out.add(int(path.split("/")[2]))
            except OSError:
                pass
        return out

    def close(self):
        self.stopped = True
        self.thread.join()
        for path in glob.glob(self.ROOT + "/*/"):
            for pid in open(path + "cgroup.procs").read().split():
                try:
                    with open("/sys/fs/cgroup/cpu/cgroup.procs", "w") as f:
                        f.write(pid)
                except OSError:
                    pass
            try:
                os.rmdir(path)
            except OSError:
                pass
        os.rmdir(self.ROOT)


def restore():
    os.environ.setdefault("PGUSER", "postgres")
    tasks()
    for run in range(max(RUNS - 1, 1)):
        for jobs in (1, 2, 4):
            row("pg_restore", jobs=jobs, **pg_restore(jobs))
            row("dr-test", jobs=jobs, **dr_test(jobs))
    if not SlowCores.possible():
        print("  no slow cores: they need root and version 1 of cgroups", file=sys.stderr)
        return
    share, cores = 0.2, 8
    for run in range(max(RUNS - 1, 1)):
        for kind, call in (("slow-pg_restore", lambda: pg_restore(4)), ("slow-dr-test", lambda: dr_test(cores))):
            slow = SlowCores(share)
            try:
                took = call()
            finally:
                slow.close()
            row(kind, cores=cores, share=share, **took)


{"dump": dump, "restore": restore}[sys.argv[1]]()
