# SPDX-License-Identifier: MIT
"""Trains the small model that ships with ivchat, stage by stage (docs/TRAINING.md).

    python tools/train_small.py                                  every stage of tools/train/recipe.json, in its order
    python tools/train_small.py STAGE [STAGE ...]                 these
    python tools/train_small.py val:STAGE                         validates what has been trained

On a GPU one process trains and every other core makes samples; on CPUs two processes train, with one core each. State lies in
scratch/train (ignored by git): state.pt and log.jsonl; the same command goes on where it was stopped. With --out, what has been
learnt is handed over there every 20 seconds (or "save_seconds" of a stage) (tools/train/deliver.py lists the files).
"""
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time

BEGAN = time.time()
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # before numpy; processes that make samples have one core each
SCRATCH = os.path.join(HERE, '..', 'scratch')
RESERVE = 8.0  # seconds at the end for handing over
SLOT = 21 << 20


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0], formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog=__doc__.split('\n', maxsplit=2)[2])
    p.add_argument('stages', nargs='*', metavar='STAGE')
    p.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    p.add_argument('--minutes', type=float, help='end by then; the time is shared out as recipe.json says')
    p.add_argument('--workers', type=int, help='processes that make samples (GPU: all cores but one; CPU: none, samples are made between steps)')
    p.add_argument('--ranks', type=int, help='processes that train (CPU: 2)')
    p.add_argument('--state', default=os.path.join(SCRATCH, 'train'), metavar='DIR', help='default scratch/train')
    p.add_argument('--vocab', default=os.path.join(SCRATCH, 'vocab'), metavar='DIR', help='default scratch/vocab')
    p.add_argument('--out', metavar='DIR', help='hand over here')
    p.add_argument('--resume', metavar='DIR', help="begin with the weights that an earlier run handed over here, or with a snapshot's")
    p.add_argument('--recipe', default=os.path.join(HERE, 'train', 'recipe.json'), metavar='FILE')
    p.add_argument('--smoke', action='store_true', help='two steps of each stage with tiny batches, samples from two workers')
    return p.parse_args()


class Stop:
    """Set by SIGTERM or SIGINT: the step under way is finished, state is written, results are handed over."""

    def __init__(self):
        self.set = False
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, self.told)

    def told(self, *_):
        self.set = True

    def __call__(self):
        return self.set


def shares(recipe, names, finished, seconds):
    """Seconds for the first of the stages that are left, when `seconds` are left for all of them."""
    left = [n for n in names if n not in finished]
    weight = {n: recipe['stages'][n].get('share', 1.0) for n in left}
    return seconds * weight[left[0]] / sum(weight.values())


def train(o, names, recipe, rank, workers, stop):
    import torch
    from train import deliver, feed, loop, quick, stages
    device = o.device
    amp = None
    if device == 'cuda':
        torch.set_float32_matmul_precision('high')
        torch.backends.cuda.enable_cudnn_sdp(False)  # plans anew for every length
        if workers:
            feed.page_lock(workers)
    if device == 'cuda' or o.smoke or bf16_on_cpu():
        amp = lambda: torch.autocast(device, dtype=torch.bfloat16)
    quick.norms()
    if amp and device == 'cpu':
        quick.attention_on_cpus()
    resume = deliver.read_resume(o.resume) if o.resume else None
    place = loop.Place(o.state, rank, stop, lambda text: print(text, flush=True) if rank == 0 else None)
    delivery = deliver.Delivery(o.out, o.vocab, os.path.join(o.state, 'log.jsonl')) if o.out and rank == 0 else None
    trainer = stages.Trainer(recipe, o.vocab, device, place, workers, delivery, amp, rank, o.smoke)
    trainer.begin(resume, names)
    if rank == 0:
        print('%s, torch %s, %s weights, %d workers, begun after %.1f s' % (
            torch.cuda.get_device_name() if device == 'cuda' else device, torch.__version__,
            format(sum(p.numel() for p in trainer.net.parameters()), ','), len(workers.links) if workers else 0, time.time() - BEGAN), flush=True)
    end = BEGAN + 60 * o.minutes - RESERVE if o.minutes else None
    done = list(trainer.finished)
    for name in names:
        if name.startswith('val:'):
            if rank == 0:
                print(stages.validate(trainer, name[4:])[0])
        elif name not in done:
            if not trainer.run(name, shares(recipe, names, done, end - time.time()) if end else None):
                print('%s: stopped' % name, file=sys.stderr)
                break
            done.append(name)
    return 0


def bf16_on_cpu():
    """Does this processor multiply pairs of bf16?"""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as f:
            flags = f.read()
        return 'avx512_bf16' in flags or 'amx_bf16' in flags
    except OSError:
        return False


def work(o, names, recipe):
    """One of several processes on CPUs."""
    import torch
    import torch.distributed as dist
    rank, cores, stop = int(os.environ['RANK']), sorted(os.sched_getaffinity(0)), Stop()
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    ranks = int(os.environ['WORLD_SIZE'])
    if ranks > 1:
        dist.init_process_group('gloo', rank=rank, world_size=ranks)
    try:
        return train(o, names, recipe, rank, None, stop)
    finally:
        if ranks > 1:
            dist.destroy_process_group()


def launch(n):
    """Starts this program n times, each with one thread; each knows its rank."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = dict(os.environ, MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(n), OMP_NUM_THREADS='1',
               # large buffers come and go every step: keep them instead of giving the pages back
               GLIBC_TUNABLES='glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1')
    ranks = [subprocess.Popen([sys.executable, os.path.abspath(__file__)] + sys.argv[1:], env=dict(env, RANK=str(r))) for r in range(n)]
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: [p.terminate() for p in ranks])
    try:
        while all(p.poll() is None for p in ranks):
            time.sleep(0.2)
        if all(p.poll() in (None, 0) for p in ranks):
            return max(abs(p.wait()) for p in ranks)
        return 1
    finally:
        for p in ranks:
            p.kill()


def on_cuda():
    """Asked in a process of its own: workers are forked before this one may touch the device."""
    ask = 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)'
    return subprocess.run([sys.executable, '-c', ask], check=False).returncode == 0


def main():
    o = arguments()
    with open(o.recipe, encoding='utf-8') as f:
        recipe = json.load(f)
    names = o.stages or list(recipe['stages'])
    unknown = [n for n in names if n.replace('val:', '', 1) not in recipe['stages']]
    if unknown:
        sys.exit('train_small: no stage "%s"; there are %s' % (unknown[0], ', '.join(recipe['stages'])))
    for name in ('tokenizer.json', 'tokenizer.model', 'tokenizer_config.json', 'vocab.txt'):
        if not os.path.exists(os.path.join(o.vocab, name)):
            sys.exit('train_small: %s has no %s; python -m train.vocab makes it' % (o.vocab, name))
    if o.device == 'auto':
        o.device = 'cuda' if not o.smoke and on_cuda() else 'cpu'
    os.makedirs(o.state, exist_ok=True)
    if 'RANK' in os.environ:
        return work(o, names, recipe)
    n_worker = o.workers if o.workers is not None else 2 if o.smoke else len(os.sched_getaffinity(0)) - 1 if o.device == 'cuda' else 0
    n_rank = o.ranks or (2 if o.device == 'cpu' and not n_worker else 1)
    if o.device == 'cpu' and not n_worker:
        return launch(n_rank)
    workers = None
    if n_worker:
        from train.workers import Workers
        workers = Workers(n_worker, SLOT, o.vocab)
    try:
        return train(o, names, recipe, 0, workers, Stop())
    finally:
        if workers:
            workers.close()


if __name__ == '__main__':
    sys.exit(main())
