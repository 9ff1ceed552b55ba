"""Providers of our own: a Docker Engine and an sshd, and the same server started there by hand."""

import contextlib
import dataclasses
import getpass
import http.client
import json
import os
import shutil
import subprocess
import time
import typing

from parts.figures import CannotMeasure
from parts.process import accepts, free_port, started, tail, wait_for

SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin"
PATIENCE_S = 120
# Much shorter than what is measured.
LOOK_S = 0.002
# The last of the subnets for benchmarks (RFC 2544), of which tests take the first.
BRIDGE, BRIDGE_ADDRESS = "tgbench0", "198.19.255.193/26"


@dataclasses.dataclass
class Provider:
    """Where instances go; false where it cannot be had, which `why` tells."""

    settings: str = ""
    environment: dict = dataclasses.field(default_factory=dict)
    start_by_hand: typing.Callable = None
    by_hand: str = ""
    why: str = ""

    def __bool__(self):
        return not self.why


def check_launch(binary, config, environment):
    """Seconds from the intent to ready of one instance, which is ended again."""
    command = [binary, "adapter", "check", "cloud", "-c", config, "--launch", "--json"]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    if done.returncode != 0:
        raise CannotMeasure(f"adapter check --launch failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)["launch"]["ready_s"]


def until_answered(port):
    """Until the model at the port answers that it is ready."""

    def ready():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        return False

    wait_for("the server answers", ready, deadline_s=PATIENCE_S, every_s=LOOK_S)


def call(command, environment):
    """Runs a command to its end and gives its output."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


@contextlib.contextmanager
def bridge():
    """A network bridge of the daemon's own: nothing of this machine's network is changed."""
    call(["ip", "link", "add", BRIDGE, "address", "02:00:00:13:ff:c1", "type", "bridge"], {})
    try:
        call(["ip", "addr", "add", BRIDGE_ADDRESS, "dev", BRIDGE], {})
        call(["ip", "link", "set", BRIDGE, "up"], {})
        yield
    finally:
        call(["ip", "link", "del", BRIDGE], {})


@contextlib.contextmanager
def docker(_binary, place):
    """A daemon on a private socket."""
    program = shutil.which("dockerd", path=SBIN)
    if program is None or os.geteuid() != 0:
        yield Provider(why="dockerd is not installed, or this is not root (Debian: apt-get install docker.io)")
        return
    socket = f"unix://{place}/docker.sock"
    command = [program, "--data-root", place / "data", "--exec-root", place / "exec", "-H", socket]
    command += ["--bridge", BRIDGE, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    environment = {"DOCKER_HOST": socket}
    with bridge(), started([*command, "--pidfile", place / "docker.pid"], place / "dockerd.log") as daemon:
        answers = lambda: subprocess.run(["docker", "version"], capture_output=True, env={**os.environ, **environment})
        try:
            wait_for("dockerd answers", lambda: answers().returncode == 0, daemon, PATIENCE_S, 0.1)
        except CannotMeasure as error:
            yield Provider(why=f"{error}: {tail(place / 'dockerd.log')}")
            return

        def by_hand():
            image = call(["docker", "images", "--quiet", "tidegate-own"], environment).splitlines()[0]
            # The image's entrypoint is the program.
            serve = ["wrap", "--service", "digits", "--listen", "0.0.0.0:9000", "--"]
            serve += ["tidegate", "model", "serve", "builtin:digits", "--port", "{port}"]
            began = time.monotonic()
            name = call(["docker", "run", "--detach", "--publish", "127.0.0.1::9000", image, *serve], environment)
            port = int(call(["docker", "port", name, "9000/tcp"], environment).rpartition(":")[2])
            until_answered(port)
            taken = time.monotonic() - began
            call(["docker", "rm", "--force", name], environment)
            return taken

        note = "docker run of the same image and command until it is ready"
        yield Provider('kind = "docker"\n', environment, by_hand, note)


@contextlib.contextmanager
def ssh(binary, place):
    """An sshd on a loopback port with keys of its own."""
    program = shutil.which("sshd", path=SBIN)
    if program is None or shutil.which("ssh") is None:
        yield Provider(why="OpenSSH is not installed (Debian: apt-get install openssh-server openssh-client)")
        return
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    for key in ("host", "key"):
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)], {})
    (place / "authorized").write_text((place / "key.pub").read_text())
    port = free_port()
    (place / "known").write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    (place / "sshd.conf").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {place}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {place}/authorized\nSetEnv HOME={place}\n"
    )
    with started([program, "-D", "-e", "-f", place / "sshd.conf"], place / "sshd.log") as daemon:
        wait_for("sshd listens", lambda: accepts(port), daemon)
        client = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", str(place / "key")]
        client += ["-o", f"UserKnownHostsFile={place}/known", "-p", str(port), f"{getpass.getuser()}@127.0.0.1"]

        def by_hand():
            there = free_port()
            began = time.monotonic()
            serve = f"exec {binary} model serve builtin:digits --port {there} --watch-stdin"
            with subprocess.Popen([*client, serve], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
                until_answered(there)
                taken = time.monotonic() - began
                server.stdin.close()
            return taken

        settings = (
            f'kind = "ssh"\nhost = "127.0.0.1"\nport = {port}\nkey = "{place}/key"\nknown_hosts = "{place}/known"\n'
            f'directory = "{place}/far"\n'
        )
        yield Provider(settings, {}, by_hand, "ssh of the same server until it is ready")
