"""A Ray cluster of two nodes on this machine, each with one core, until standard input ends; prints its address.

usage: python ray_nodes.py FOLDER
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

MEMORY = 80 * 2**20


def main(folder: str) -> None:
    """Start, say the address, wait, stop."""
    shared = {"num_cpus": 1, "object_store_memory": MEMORY, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args={**shared, "include_dashboard": False})
    try:
        cluster.add_node(**shared)
        print(f"address {cluster.address}", flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
