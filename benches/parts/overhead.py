"""What the gateway costs beside nginx: processor time per request, both in front of the same trivial server."""

import os
import re
import shutil
import subprocess

from parts.figures import CannotMeasure, progress
from parts.node import running, settings
from parts.process import accepts, cpu_s, free_port, held_to, started, wait_for

PATHS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
CONNECTIONS = 64
ANSWER = "x" * 100

# One worker, and connections that are kept: nginx at its best on one core.
CONFIG = """daemon off;
worker_processes 1;
pid {place}/{name}.pid;
error_log {place}/{name}.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  {inside}
}}
"""
# The replica learns its port when it starts.
REPLICA = 'server {{ listen 127.0.0.1:@PORT@; location / {{ return 200 "{answer}"; }} }}'
START_REPLICA = """cd {place} && sed "s/@PORT@/$PORT/" replica.conf >replica-now.conf &&
exec taskset -c {cores} {nginx} -p {place} -c {place}/replica-now.conf
"""
PROXY = """upstream replica {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://replica; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
SERVICE = """
[service.trivial]
queue = 1024
[service.trivial.local]
runtime = "process"
command = ["sh", "{place}/replica.sh"]
ready = "tcp"
max_replicas = 1
concurrency = {connections}
[service.trivial.scaling]
policy = "threshold"
metric = "utilisation"
threshold = 0.80
band = 0.10
scale_factor = 1
interval = "1m"
min_replicas = 1
"""


def missing():
    """The programs that this needs and that are not installed."""
    return [name for name in ("nginx", "wrk") if shutil.which(name, path=PATHS) is None]


def cores():
    """The core of whoever is measured, so that both have one thread, and the cores of everybody else."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, others or [first]


def measure(program, place, seconds, rounds):
    """For `nginx` and `gateway` a list with each round's (microseconds of processor per request, requests a second)."""
    nginx = shutil.which("nginx", path=PATHS)
    # nginx's worker is not root and still looks at its folder.
    place.chmod(0o755)
    _write(place, "replica", REPLICA.format(answer=ANSWER))
    core, others = cores()
    on = ",".join(map(str, others))
    (place / "replica.sh").write_text(START_REPLICA.format(place=place, nginx=nginx, cores=on))
    service = SERVICE.format(place=place, connections=CONNECTIONS)
    with running(program, place / "node", settings(place / "state") + service, [core]) as node:
        node.wait_ready()
        port = free_port()
        _write(place, "proxy", PROXY.format(port=port, upstream=_replica_port(place)))
        command = [nginx, "-p", place, "-c", place / "proxy.conf"]
        with started(command, place / "proxy.out", preexec_fn=held_to([core])) as proxy:
            wait_for("nginx listens", lambda: accepts(port), proxy)
            sides = {
                "nginx": (lambda: cpu_s(proxy.pid), f"http://127.0.0.1:{port}/"),
                # The node's own time alone: the replica is below it in the process tree.
                "gateway": (lambda: cpu_s(node.pid, whole_tree=False), _gateway(node)),
            }
            return _rounds(sides, seconds, rounds, others)


def _write(place, name, inside):
    (place / f"{name}.conf").write_text(CONFIG.format(place=place, name=name, inside=inside))


def _replica_port(place):
    return int(re.search(r"listen 127\.0\.0\.1:(\d+)", (place / "replica-now.conf").read_text())[1])


def _gateway(node):
    return f"http://{node.addresses['gateway']}/services/trivial/"


def _rounds(sides, seconds, rounds, others):
    """In turns, so that a busy minute of the machine meets both."""
    found = {name: [] for name in sides}
    for number in range(rounds):
        for name, (used_s, url) in sides.items():
            progress(f"overhead, round {number + 1} of {rounds}: {name} for {seconds} s")
            before = used_s()
            answered = _load(url, seconds, others)
            found[name].append(((used_s() - before) / answered * 1e6, answered / seconds))
    return found


def _load(url, seconds, others):
    """How many requests were answered with 2xx or 3xx; any other answer is an error."""
    command = [shutil.which("wrk", path=PATHS), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    options = {"capture_output": True, "text": True, "timeout": seconds + 30, "preexec_fn": held_to(others)}
    text = subprocess.run(command, **options).stdout
    answered = re.search(r"(\d+) requests in", text)
    if not answered or int(answered[1]) == 0 or "Non-2xx" in text or "Socket errors" in text:
        raise CannotMeasure(f"wrk against {url}:\n{text.strip()}")
    return int(answered[1])
