# SPDX-License-Identifier: MIT
"""What the queries hold of one object, learnt beside the answers: heads of training that read the Q-Former's rows where the language
model gets them, so that all that belongs to one object lies in one row and looking it up is one step of attention.

Queries FIRST.. come in groups of as many as a scene may have objects; each row of a group tells of one object, or that there is none:
shape, colour, texture, size, place, first action, and in a sequence what it does as the first, second and third event. Which row tells
of which object is free: the loss is that of the best of all orders, for each group on its own (as in DETR, Carion and others, 2020;
with four objects the 24 orders are tried, so nothing waits for the device). The heads are dropped afterwards.

In HD the global view is the one that tells: tiles hold parts of objects.
"""
import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F

from train.samples import OBJECTS, PLACES

FIRST, GROUPS = 32, 8  # of the queries that connection adds
ORDERS = {}


class Heads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.tell = nn.Linear(d, 1 + len(PLACES) + sum(n for _, n, _ in OBJECTS))


def orders(n, device):
    if device not in ORDERS:  # made once: making it waits for the device
        ORDERS[device] = torch.tensor(list(itertools.permutations(range(n))), device=device)
    return ORDERS[device]


def costs(told, objects):
    """told f32 [B, groups, rows, outputs], objects [B, n, fields] (-1 unknown; no first field, no object) -> cost [B, groups, rows, n] of
    each row telling of each object, and for every field whether it is right"""
    there, places = objects[:, :, 0] >= 0, len(PLACES)
    total = torch.where(there[:, None, None], F.softplus(-told[..., :1]), F.softplus(told[..., :1]))
    right, at = [], 1 + places
    for k, (_, n, weight) in enumerate(OBJECTS):
        score = told[..., at:at + n].log_softmax(-1)
        truth = objects[:, None, None, :, k]
        miss = -score.gather(-1, truth.clamp(min=0).expand(*score.shape[:3], -1))
        total = total + weight * torch.where(truth >= 0, miss, 0.0)
        right.append((score.argmax(-1, keepdim=True) == truth) | (truth < 0))
        at += n
    far = (told[..., None, 1:1 + places].sigmoid() - objects[:, None, None, :, -places:] / 100).abs().sum(-1)
    return total + torch.where(there[:, None, None], 5 * far, 0.0), torch.stack(right, -1)


def loss(heads, rows, objects):
    """rows [B, queries, d] of one view -> loss per object, {name: value}, the row [B, GROUPS, n] among these queries that tells of each object"""
    n = objects.shape[1]
    mine = rows[:, FIRST:FIRST + GROUPS * n].float()
    cost, right = costs(heads.tell(heads.norm(mine)).float().unflatten(1, (GROUPS, n)), objects)
    order = orders(n, rows.device)
    best, which = cost[:, :, torch.arange(n, device=rows.device), order].sum(-1).min(-1)
    there = (objects[:, :, 0] >= 0).float()
    with torch.no_grad():
        row = order.argsort(1)[which]  # of each object, in its group
        hit = right.gather(2, row[:, :, None, :, None].expand(-1, -1, 1, -1, right.shape[-1]))[:, :, 0]
        share = lambda x: (x * there[:, None]).sum() / (there.sum() * GROUPS).clamp(min=1)
        values = {'bound_' + name: share(hit[..., k].float()) for k, (name, _, _) in enumerate(OBJECTS)}
        values['bound'] = share(hit.all(-1).float())
        at = FIRST + n * torch.arange(GROUPS, device=rows.device)[:, None] + row
    return best.sum() / GROUPS / there.sum().clamp(min=1), values, at
