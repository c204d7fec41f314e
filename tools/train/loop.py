# SPDX-License-Identifier: MIT
"""The loop of one stage: a schedule that ends when the steps or the time are used up, state kept for going on.

On a GPU one process; on CPUs a few processes of one thread each that average their gradients: operators of a small model are too
short to be shared by threads. Nothing in a step waits for the device; values are summed there and read when they are logged.

Learning rate (IV2-Chat's form): base * t / W in the warm-up, times ((1 + r) + (1 - r) cos(pi p)) / 2 with r = 0.05. p is the larger of the
share of the steps done and the share of the time used, so that every stage comes to its end, whatever the machine does in that time.
"""
import json
import math
import os
import time

import torch
import torch.distributed as dist

from train.optimise import Optimisers

FLOOR = 0.05
SAVE_EVERY = 20.0  # seconds, unless a recipe says otherwise


def lr_factor(step, p, warmup):
    return min(1.0, (step + 1) / warmup) * 0.5 * ((1 + FLOOR) + (1 - FLOOR) * math.cos(math.pi * min(1.0, p)))


def share(used, budget):
    """Of the seconds a stage has; where none are left, one step ends it."""
    return 0.0 if budget is None else used / budget if budget > 0 else 1.0


class Averager:
    """One all-reduce for all gradients of a step, for which of them there are (what no process has one for rests, as it would in one), and
    for what the processes must agree on: progress, and whether one is to stop."""

    def __init__(self, params):
        self.params = params
        self.flat = torch.zeros(sum(p.numel() for p in params) + len(params) + 2, device=params[0].device)

    def __call__(self, progress, stop):
        at = 0
        for p in self.params:
            view = self.flat[at:at + p.numel()]
            if p.grad is None:
                view.zero_()
            else:
                view.copy_(p.grad.reshape(-1))
            at += p.numel()
        self.flat[at:] = torch.tensor([float(p.grad is not None) for p in self.params] + [progress, float(stop)])
        dist.all_reduce(self.flat)
        self.flat /= dist.get_world_size()
        *there, progress, stop = self.flat[at:].tolist()
        at = 0
        for p, known in zip(self.params, there):
            p.grad = self.flat[at:at + p.numel()].view_as(p) if known else None
            at += p.numel()
        return progress, stop > 0


class Sums:
    """Means of named values since they were last read, summed where the values are."""

    def __init__(self):
        self.by_kind = {}

    def add(self, values):
        names = tuple(sorted(values))
        x = torch.stack([values[k].float() for k in names])
        total, n = self.by_kind.get(names, (0.0, 0))
        self.by_kind[names] = total + x, n + 1

    def read(self):
        mean = {}
        for names, (total, n) in self.by_kind.items():
            for k, v in zip(names, total.tolist()):
                a, m = mean.get(k, (0.0, 0))
                mean[k] = a + v, m + n
        self.by_kind = {}
        return {k: round(v / n, 4) for k, (v, n) in mean.items()}


class Place:
    """Where a stage's state, log and results go. Only the first process writes. saved() and validated() are called every SAVE_EVERY
    seconds and at the end."""

    def __init__(self, folder, rank, stop, say=print):
        self.folder, self.rank, self.stop, self.say = folder, rank, stop, say
        self.state_file = os.path.join(folder, 'state.pt')

    def log(self, line):
        if self.rank == 0:
            text = json.dumps(line)
            self.say(text)
            with open(os.path.join(self.folder, 'log.jsonl'), 'a', encoding='utf-8') as f:
                f.write(text + '\n')

    def load(self):
        if os.path.exists(self.state_file):
            return torch.load(self.state_file, map_location='cpu', weights_only=True)
        return None

    def save(self, **state):
        if self.rank == 0:
            torch.save(state, self.state_file + '.tmp')
            os.replace(self.state_file + '.tmp', self.state_file)


def run(stage, recipe, net, trainable, step_of, place, budget=None, state=None, checked=None, amp=None, finished=()):
    """Trains the named parameters `trainable` for recipe["steps"] steps or `budget` seconds. step_of(step) -> loss, {name: tensor}.
    checked(over) validates and hands results over. amp: a function that gives the autocast context. -> False when it was stopped."""
    steps = recipe['steps']
    params = [p for _, p in trainable]
    device = params[0].device
    for p in net.parameters():
        p.requires_grad_(False)
    for p in params:
        p.requires_grad_(True)
    optimiser = Optimisers(trainable, recipe, device.type == 'cuda')
    first, before = 0, 0.0
    if state is not None:
        optimiser.load_state_dict(state['optimiser'])
        first, before = state['step'], state['seconds']
    average = Averager(params) if dist.is_available() and dist.is_initialized() else None
    warmup, began = recipe.get('warmup', max(20, min(200, steps // 20))), time.time()
    saved = logged = began
    sums, steps_logged, step, over, stop = Sums(), first, first, first >= steps, False
    used = lambda: before + time.time() - began
    progress = max(first / steps, share(used(), budget))

    def keep():
        place.save(net=net.state_dict(), optimiser=optimiser.state_dict(), stage=stage, step=step, seconds=used(), finished=list(finished))

    while not over:
        optimiser.rate(lr_factor(step, progress, warmup))
        optimiser.zero_grad()
        if amp is None:
            loss, values = step_of(step)
        else:
            with amp():
                loss, values = step_of(step)
        loss.backward()
        step += 1
        progress, stop = max(step / steps, share(used(), budget)), place.stop()
        if average:
            progress, stop = average(progress, stop)
        norm = torch.nn.utils.clip_grad_norm_(params, recipe.get('clip', 1.0))
        optimiser.step(norm)
        sums.add(dict(values, norm=norm.detach()))
        over = progress >= 1 or stop
        now = time.time()
        if over or now - logged > recipe.get('log_seconds', 5.0):
            line = dict(stage=stage, step=step, of=steps, progress=round(min(1.0, progress), 3), seconds=round(used(), 1), **sums.read())
            line['ms'] = round(1000 * (time.time() - logged) / max(1, step - steps_logged), 1)
            place.log(line)
            if not math.isfinite(line['loss']):
                raise FloatingPointError('%s: loss is %s at step %d' % (stage, line['loss'], step))
            logged, steps_logged = time.time(), step
        if over or now - saved > recipe.get('save_seconds', SAVE_EVERY):
            keep()
            if checked:
                checked(over)
            saved = time.time()
    return not stop
