#!/usr/bin/env python3
"""Measures what perf analyze costs a server under load: 2,000 tables, 5,000
statements, pgbench with eight clients a core for a minute, never
waiting for the disk, and one analysis in the middle of it. Prints the figures of
docs/perf.md.

    bench/perf-cost.py [bin/escrowctl]
"""
import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
import time

PORT, SECONDS, TABLES = 5996, 60, 2000
program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "bin/escrowctl")
bin_dir = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
account = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
work = tempfile.mkdtemp()
env = dict(os.environ, PGHOST=work, PGPORT=str(PORT), PGUSER="postgres")


def tool(name, *args, **options):
    return subprocess.run([f"{bin_dir}/{name}", *args], check=True, env=env, user=account, cwd=work,
                          text=True, capture_output=True, **options).stdout


def cpu(pid, children=False):
    """CPU seconds of a process, with those of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15 if children else 13])) / os.sysconf("SC_CLK_TCK")


def server_cpu():
    """That of the whole server: its first process, and those that still run."""
    while True:
        try:
            alive = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            return cpu(postmaster, True) + sum(map(cpu, alive))
        except OSError:
            pass  # one has just ended


def backend():
    """The process of the analysis' session; PostgreSQL writes its name there."""
    for pid in pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
        try:
            if "many_tables" in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        except OSError:
            pass
    return None


def analyze():
    """Runs an analysis: its seconds, its peak memory in MiB, its backend's CPU."""
    start, spent, pid, peak = time.monotonic(), 0.0, None, 0
    run = subprocess.Popen([program, "-q", "perf", "analyze", "--skip", "api,containers,redis,disk"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work, env=dict(
        os.environ, ESCROWCTL_STATE_DIR=f"{work}/state", ESCROWCTL_REPORT_API_METRICS="off", ESCROWCTL_DUMP_VIA="host", HOME=work,
        DATABASE_URL=f"postgres://postgres@127.0.0.1:{PORT}/many_tables?sslmode=disable"))
    while run.poll() is None:
        pid = pid or backend()
        try:
            spent = max(spent, cpu(pid)) if pid else spent
            status = pathlib.Path(f"/proc/{run.pid}/status").read_text()
            peak = max([peak] + [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")])
        except OSError:
            pass  # it has just ended
        time.sleep(0.002)
    if run.returncode > 2:
        sys.exit(f"perf analyze: exit {run.returncode}")
    return time.monotonic() - start, peak, spent


try:
    os.chmod(work, 0o755)
    if account:
        os.chown(work, pwd.getpwnam(account).pw_uid, -1)
    tool("initdb", "-D", f"{work}/pg", "-A", "trust", "-U", "postgres")
    tool("pg_ctl", "-D", f"{work}/pg", "-w", "-l", f"{work}/log", "-o",
         f"-p {PORT} -k {work} -c listen_addresses=127.0.0.1 -c shared_preload_libraries=pg_stat_statements "
         "-c synchronous_commit=off -c pg_stat_statements.max=10000 -c pg_stat_statements.track=all -c update_process_title=on", "start")
    postmaster = int(pathlib.Path(f"{work}/pg/postmaster.pid").read_text().split()[0])
    tool("createdb", "many_tables")
    tool("createdb", "bench")
    tool("psql", "-qX", "-v", "ON_ERROR_STOP=1", "many_tables", input=f"""CREATE EXTENSION pg_stat_statements;
        DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, a int, b text)', i); END LOOP; END $$;
        DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format('SELECT 1 FROM t%s WHERE id = 1', i);
            EXECUTE format('SELECT 1 FROM t%s WHERE a = 1', i); EXECUTE format('SELECT 1 FROM t%s WHERE b = ''x''', i); END LOOP; END $$;""")
    tool("pgbench", "-i", "-q", "-s", "10", "bench")
    statements = tool("psql", "-XAt", "many_tables", "-c", "SELECT count(*) FROM pg_stat_statements").strip()
    for round in range(2):  # the second has a snapshot to compare with
        before, cores = server_cpu(), os.cpu_count()
        load = subprocess.Popen([f"{bin_dir}/pgbench", "-n", "-c", str(8 * cores), "-j", str(cores), "-T", str(SECONDS), "bench"], env=env, user=account, cwd=work,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        time.sleep(SECONDS / 2)
        took, peak, spent = analyze()
        tps = [line for line in load.communicate()[0].splitlines() if line.startswith("tps")]
        used = server_cpu() - before
        print(f"{TABLES} tables, {statements} statements, {cores} cores, {tps[0]}: {took:.2f} s, {peak:.0f} MiB; "
              f"its backend {spent:.2f} s of CPU, the server {used:.1f} s: {100 * spent / used:.2f} %", flush=True)
finally:
    subprocess.run([f"{bin_dir}/pg_ctl", "-D", f"{work}/pg", "-m", "immediate", "stop"], env=env, user=account, cwd="/", capture_output=True, check=False)
    shutil.rmtree(work, ignore_errors=True)
