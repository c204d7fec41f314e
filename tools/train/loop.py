# SPDX-License-Identifier: MIT
"""The loop of one stage: two processes with one thread each, gradients averaged, AdamW, state kept for resuming.

One thread a process: operators of a small model are too short to be shared by threads. Each rank draws its samples from
(stage, step, rank), so a stage that was stopped goes on with the very samples it would have seen.

Learning rate (IV2-Chat's form): base * t / W in the warm-up, then base * ((1 + r) + (1 - r) cos(pi p)) / 2 with r = 0.05.
"""
import json
import math
import os
import time

import torch
import torch.distributed as dist

FLOOR = 0.05


def lr_factor(step, steps, warmup):
    if step < warmup:
        return (step + 1) / warmup
    p = (step - warmup) / max(1, steps - warmup)
    return 0.5 * ((1 + FLOOR) + (1 - FLOOR) * math.cos(math.pi * p))


def groups(named, lr):
    """Optimiser groups by module: {"": base, "vision_encoder": ..., "lm": ...}; vectors are not decayed."""
    out = {}
    for name, p in named:
        rate = next((v for k, v in lr.items() if k and name.startswith(k)), lr[''])
        out.setdefault((rate, p.ndim > 1), []).append(p)
    return [dict(params=ps, lr=rate, base=rate, weight_decay=0.02 if decay else 0.0) for (rate, decay), ps in sorted(out.items())]


class Averager:
    """One all-reduce for all gradients of a step."""

    def __init__(self, params):
        self.params = params
        self.flat = torch.zeros(sum(p.numel() for p in params))

    def __call__(self):
        at = 0
        for p in self.params:
            view = self.flat[at:at + p.numel()]
            if p.grad is None:
                view.zero_()
            else:
                view.copy_(p.grad.reshape(-1))
            at += p.numel()
        dist.all_reduce(self.flat)
        self.flat /= dist.get_world_size()
        at = 0
        for p in self.params:
            p.grad = self.flat[at:at + p.numel()].view_as(p)
            at += p.numel()


def run(stage, recipe, net, trainable, loss_of, folder, rank):
    """Trains the named parameters `trainable` of net for recipe["steps"] steps; loss_of(step, micro) -> loss, {name: value}."""
    steps, micro = recipe['steps'], recipe.get('micro', 1)
    params = [p for _, p in trainable]
    for p in net.parameters():
        p.requires_grad_(False)
    for p in params:
        p.requires_grad_(True)
    optimiser = torch.optim.AdamW(groups(trainable, recipe['lr']), betas=(0.9, recipe.get('beta2', 0.98)), eps=1e-8)
    state_file = os.path.join(folder, 'state-%s.pt' % stage)
    first = 0
    if os.path.exists(state_file):
        state = torch.load(state_file, map_location='cpu', weights_only=True)
        net.load_state_dict(state['net'])
        optimiser.load_state_dict(state['optimiser'])
        for g, fresh in zip(optimiser.param_groups, groups(trainable, recipe['lr'])):
            g['base'] = fresh['base']  # the recipe may have changed
        first = state['step']
    average = Averager(params)
    log = open(os.path.join(folder, 'log.jsonl'), 'a', buffering=1) if rank == 0 else None
    saved = began = time.time()
    sums, count = {}, {}
    for step in range(first, steps):
        factor = lr_factor(step, steps, recipe.get('warmup', max(20, steps // 20)))
        for g in optimiser.param_groups:
            g['lr'] = g['base'] * factor
        optimiser.zero_grad(set_to_none=True)
        for m in range(micro):
            loss, parts = loss_of(step, m)
            (loss / micro).backward()
            for k, v in dict(parts, loss=float(loss.detach())).items():
                sums[k], count[k] = sums.get(k, 0.0) + v, count.get(k, 0) + 1
        average()
        norm = float(torch.nn.utils.clip_grad_norm_(params, recipe.get('clip', 1.0)))
        if math.isfinite(norm):
            optimiser.step()
        every = recipe.get('log_every', 20)
        if rank == 0 and (step % every == every - 1 or step == steps - 1):
            line = dict(stage=stage, step=step + 1, of=steps, seconds=round(time.time() - began, 1), norm=round(norm, 3),
                        **{k: round(v / count[k], 4) for k, v in sums.items()})
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + '\n')
            sums, count = {}, {}
        if rank == 0 and (time.time() - saved > 30 or step == steps - 1):
            torch.save(dict(net=net.state_dict(), optimiser=optimiser.state_dict(), step=step + 1), state_file + '.tmp')
            os.replace(state_file + '.tmp', state_file)
            saved = time.time()
    dist.barrier()
