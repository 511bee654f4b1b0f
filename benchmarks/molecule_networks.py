"""Seconds and memory of one training step of the molecule networks, on two cores.

    python benchmarks/molecule_networks.py

GIN (width 128, 4 layers) over 450 drugs: at most 0.5 s. GVP over 131 drugs, three layers: at most 3 s and 2 GiB with
128 scalars and 64 vectors an atom, at most 0.5 s with 64 and 16. The straightforward way to write a message is measured
beside them. Every network runs in a process of its own, which reports its peak memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

STEPS = 5
"""Each is timed; the fastest counts, as others may use the machine."""
BUDGET_MIB = 2048
CASES = (
    ("GIN (128), 450 drugs", ("gin", 450), 0.5, None),
    ("GVP (64, 16), 131 drugs", ("gvp", 131, 64, 16), 0.5, None),
    ("GVP (128, 64), 131 drugs", ("gvp", 131, 128, 64), 3.0, BUDGET_MIB),
    ("GIN (128), all drugs", ("gin", 0), None, None),
    ("GVP (128, 64), 131 drugs, plain messages", ("plain", 131, 128, 64), None, None),
)
"""What, arguments of :func:`measure`, budgets in seconds and MiB."""


def peak() -> float:
    """Largest resident size of this process, MiB; getrusage would count the parent's at the fork."""
    with open("/proc/self/status", encoding="ascii") as lines:
        status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) / 1024


def measure(what: str, n: int, *sizes: int) -> dict[str, float]:
    """Time forward, backward and update over ``n`` drugs, evenly picked; 0: all."""
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.chem.conformers import conformers
    from medrec.chem.geometry import batch_geometric
    from medrec.chem.graphs import batch_graphs
    from medrec.knowledge.drugs import drugs
    from medrec.nn.gin import GIN
    from medrec.nn.gvp import GVPEncoder, Message

    import torch  # isort: skip

    smiles = sorted(set(drugs()["smiles"]) - {""})
    smiles = [smiles[len(smiles) * i // n] for i in range(n)] if n else smiles
    graphs = batch_graphs(smiles) if what == "gin" else batch_geometric([c for c in conformers(smiles) if c.found])
    if what == "plain":
        Message.forward = Message.plain
    network = (GIN if what == "gin" else GVPEncoder)(*sizes)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    before, seconds, busy = peak(), [], []
    for _ in range(STEPS):
        start, work = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        network(graphs).square().mean().backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - work)
    return {
        "seconds": min(seconds),
        "busy": min(busy),
        "peak": peak(),
        "before": before,
        "atoms": graphs.num_nodes,
        "edges": graphs.num_edges,
        "threads": torch.get_num_threads(),
    }


def main() -> int:
    missed = False
    for name, arguments, seconds, mib in CASES:
        out = subprocess.run(
            [sys.executable, __file__, json.dumps(arguments)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found = json.loads(out.splitlines()[-1])
        missed |= (seconds is not None and found["seconds"] > seconds) or (mib is not None and found["peak"] > mib)
        budget = ", ".join([f"{seconds} s"] * (seconds is not None) + [f"{mib} MiB"] * (mib is not None))
        size = f"{found['atoms']} atoms, {found['edges']} edges, {found['threads']} threads"
        memory = f"peak {found['peak']:.0f} MiB, {found['before']:.0f} before the first step"
        took = f"{found['seconds']:.2f} s a step ({found['busy']:.2f} s of processor time)"
        print(f"{name} ({size}): {took}, {memory}", end="")
        print(f" (budget {budget})" if budget else "", flush=True)
    return int(missed)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        sys.exit(main())
