"""A SLURM of one node, this machine, for as long as a test needs it.

Made of Debian's packages ``slurm-wlm`` and ``munge``, which are installed where they are missing and the user may.
The jobs' own commands read ``/etc/slurm/slurm.conf``, so that the file has to stand there; a machine that has a
``slurm.conf`` already is somebody's cluster and is left alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = Path("/etc/slurm/slurm.conf")
MARK = "# Written by tests/workflow/slurm.py and removed by it."
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
LOOKS = 150
"""How often the daemons are looked at while they come up."""


class NoSlurmError(Exception):
    """Why there can be no SLURM here, in words."""


@contextmanager
def node(folder: Path) -> Iterator[None]:
    """A node for one test at a time; others, in other processes, wait. See :func:`_node`."""
    with open(Path(tempfile.gettempdir()) / "slurm-of-the-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _node(folder):
            yield


@contextmanager
def _node(folder: Path) -> Iterator[None]:
    """A running node with four processors, in name, and one thing that calls itself a GPU; stopped in the end.

    Args:
        folder: for keys, states and logs.

    Raises:
        NoSlurmError: SLURM cannot be installed or does not come up.
    """
    _check()
    host = socket.gethostname().split(".")[0]
    socket_file = folder / "munge.socket"
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    folder.chmod(0o755)
    gpu = CONF.with_name("gres.conf")
    control, daemon = _free_ports(2)
    CONF.write_text(f"""{MARK}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={control}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={socket_file}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=1
MinJobAge=300
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
""")
    gpu.write_text(f"{MARK}\nName=gpu File=/dev/null\n")
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    started: list[subprocess.Popen] = []
    try:
        munge = [f"--key-file={key}", f"--socket={socket_file}", f"--pid-file={folder}/munged.pid"]
        munge += [f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"]
        started.append(_start(folder, "munged", "--foreground", "--force", *munge))
        _wait(folder, "munged", socket_file.exists)
        started.append(_start(folder, "slurmctld", "-D", "-c"))
        started.append(_start(folder, "slurmd", "-D", "-c", "-N", host))
        _wait(folder, "slurmd", lambda: _words("sinfo", "--noheader", "--format=%T").startswith(("idle", "mix")))
        yield
    finally:
        if len(started) == 3:
            _words("scancel", "--user=root")
            _looked(lambda: not _words("squeue", "--noheader"))
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for file in (CONF, gpu):
            if file.exists() and file.read_text().startswith(MARK):
                file.unlink()


def _check() -> None:
    if CONF.exists() and not CONF.read_text().startswith(MARK):
        raise NoSlurmError(f"this machine has its own {CONF}, which the test would have to replace")
    if os.geteuid() != 0:
        raise NoSlurmError("a SLURM node is started by root only")
    if not all(map(shutil.which, PROGRAMS)):
        if not shutil.which("apt-get"):
            raise NoSlurmError("SLURM is not installed, and there is no apt-get to install it")
        # The daemons are started here; the packages' own services stay off.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            done = subprocess.run(["apt-get", "-qq", *words], env=quiet, capture_output=True, text=True)
            if done.returncode:
                raise NoSlurmError(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        raise NoSlurmError(f"SLURM has no {', '.join(missing)} here")
    CONF.parent.mkdir(exist_ok=True)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(folder: Path, program: str, *words: str) -> subprocess.Popen:
    with open(folder / f"{program}.out", "w") as log:
        return subprocess.Popen([program, *words], stdout=log, stderr=log, start_new_session=True)


def _wait(folder: Path, program: str, ready) -> None:
    if not _looked(ready):
        raise NoSlurmError(f"{program} did not come up: {(folder / f'{program}.out').read_text()[-500:]}")


def _looked(ready) -> bool:
    """Whether it became true; looks are counted and no clock is read, as each takes longer on a busy machine."""
    for _ in range(LOOKS):
        if ready():
            return True
        time.sleep(0.2)
    return False


def _words(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
