# SPDX-License-Identifier: MIT
"""Trains the small model that ships with ivchat, stage by stage (docs/TRAINING.md).

    python tools/train_small.py STAGE [STAGE ...]      stages in the order of tools/train/recipe.json; resumes where it was stopped

State lies in scratch/train (ignored by git): state-STAGE.pt and log.jsonl. A stage begins from the stages named in its
"from" list. Two processes are started, one for each of two cores.
"""
import json
import os
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
FOLDER = os.environ.get('IVCHAT_TRAIN_STATE', os.path.join(HERE, '..', 'scratch', 'train'))
RANKS = 2


def work(rank, names):
    import torch
    import torch.distributed as dist
    from train import stages
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=RANKS)
    with open(os.path.join(HERE, 'train', 'recipe.json')) as f:
        recipe = json.load(f)
    for name in names:
        stages.run(name, recipe, FOLDER, rank)
    dist.destroy_process_group()


def main():
    names = sys.argv[1:]
    if not names or names[0].startswith('-'):
        sys.exit(__doc__)
    if 'RANK' in os.environ:
        return work(int(os.environ['RANK']), names)
    os.makedirs(FOLDER, exist_ok=True)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = dict(os.environ, MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(RANKS), OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1',
               # large buffers come and go every step: keep them instead of giving the pages back
               GLIBC_TUNABLES='glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1')
    ranks = [subprocess.Popen([sys.executable, os.path.abspath(__file__)] + names, env=dict(env, RANK=str(r))) for r in range(RANKS)]
    try:
        failed = max(abs(p.wait()) for p in ranks)
    finally:
        for p in ranks:
            p.kill()
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
