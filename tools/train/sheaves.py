# SPDX-License-Identifier: MIT
"""The language model over packed rows (packing.py) on CPUs, without what their mask hides.

A row of n ids has n * n scores, of which a conversation needs those of the prefix and its own: about one in four. So conversations are taken
apart again and bundled by length; a sheaf of them is attended in one product, behind the keys of the prefix that each belongs to.
Everything else of a layer works on ids, wherever they lie:

    ids        all prefixes [B, P], then each sheaf [n, L]; padding at the ends
    scores     of a sheaf  [n, n_kv, group * L, P + L]

Plain products in bfloat16 are twice as fast here as PyTorch's fused attention, backwards too.
"""
import numpy as np
import torch
import torch.nn.functional as F

import reference
from train.quick import feed_forward, whole

SHEAVES = 4
POINTER, CHOOSER = 2, 3  # the layers that look objects up, and options


def astray(share, wanted, places):
    """Cost of attention that looks elsewhere: -log of what lies where it should. share [n, heads, L, P] of some keys, wanted bool [n, L]:
    is something to be looked up there, places bool [n, L, P]: where these keys tell of it. -> sum, number of looks"""
    there = (share * places[:, None]).sum(-1, dtype=torch.float32)
    return -((there + 1e-4).log() * wanted[:, None]).sum(), wanted.sum() * share.shape[1]


class Sheaves:
    """Where the ids of packed rows go. part [B, L] as pack() writes it (numpy)."""

    def __init__(self, part, count=SHEAVES):
        n_row = len(part)
        begins = (part == 0).sum(1)
        self.n_prefix = max(1, int(begins.max()))
        at = [np.where(np.arange(self.n_prefix) < begins[:, None], np.arange(self.n_prefix) + part.shape[1] * np.arange(n_row)[:, None], -1)]
        conversations = []
        for b, row in enumerate(part):
            edges = np.flatnonzero(np.diff(row, prepend=-2, append=-2))
            conversations += [(e - s, b, s) for s, e in zip(edges[:-1], edges[1:]) if row[s] > 0]
        conversations.sort()
        self.bundles = []
        for some in np.array_split(np.array(conversations, dtype=np.int64).reshape(-1, 3), max(1, min(count, len(conversations)))):
            if not len(some):
                continue
            n, row, start = some.T
            reach = np.arange(n.max())
            at.append(np.where(reach < n[:, None], start[:, None] + reach + part.shape[1] * row[:, None], -1))
            self.bundles.append((len(some), int(n.max()), torch.from_numpy(row.copy()), begins[row]))
        flat = np.concatenate([x.reshape(-1) for x in at])
        self.at = torch.from_numpy(np.maximum(flat, 0))
        self.there = torch.from_numpy(flat >= 0)
        self.n_row = n_row
        self.asked, self.costs = {}, {}  # by layer

    def bundled(self, x):
        """x [B, L] -> [n, L] of each bundle, -1 where nothing is"""
        end, x = self.n_row * self.n_prefix, torch.where(self.there, x.flatten()[self.at], -1)
        for n, length, row, _ in self.bundles:
            yield x[end:end + n * length].view(n, length), row
            end += n * length

    def point(self, layer, about, places):
        """From now on one head of each key head in a layer is asked to look at what an answer tells of. about [B, L]: index of the
        object or -1. places bool [B, n, P]: where the prefix tells of each."""
        keys = slice(0, self.n_prefix)
        self.asked[layer] = [(subject >= 0, places[row[:, None], subject.clamp(min=0)], keys) for subject, row in self.bundled(about)]

    def choose(self, layer, choice, option):
        """The same for the letter of an answer, which is to look at the line of the right option. choice, option [B, L]: index or -1"""
        keys = slice(self.n_prefix, None)
        self.asked[layer] = [(right >= 0, right[:, :, None] == lines[:, None], keys)
                             for (right, _), (lines, _) in zip(self.bundled(choice), self.bundled(option))]

    def strayed(self, layer):
        """Mean cost of astray() over all that a layer was asked for."""
        costs = self.costs.get(layer)
        if not costs:  # no conversation at all
            return torch.zeros(())
        return sum(c for c, _ in costs) / sum(n for _, n in costs).clamp(min=1)

    def masks(self, group, dtype):
        """Of the prefixes, and of each sheaf: 0 what may be seen, else -inf."""
        down = lambda seen: torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float('-inf'))
        p = self.n_prefix
        out = [down(torch.ones(p, p, dtype=torch.bool).tril()).repeat(group, 1)]
        for n, length, _, begins in self.bundles:
            own = torch.ones(length, length, dtype=torch.bool).tril().repeat(group, 1)
            shorter = bool((begins < p).any())
            own = own[None].expand(n if shorter else 1, -1, -1)
            seen = torch.arange(p) < torch.from_numpy(begins)[:, None] if shorter else torch.ones(1, p, dtype=torch.bool)
            out.append(down(torch.cat([seen[:, None].expand(-1, group * length, -1), own], 2))[:, None])
        return out

    def attend(self, q, k, v, masks, layer=None):
        """q [N, n_kv, group, d], k and v [N, n_kv, d], scaled already -> [N, n_kv * group * d]. layer: the number of this one"""
        n_kv, group, d = q.shape[1:]
        p, end = self.n_prefix, self.n_row * self.n_prefix
        asks = lambda n, m, here: q[here].view(n, m, n_kv, group, d).permute(0, 2, 3, 1, 4).reshape(n, n_kv, group * m, d)
        keys = lambda t, n, m, here: t[here].view(n, m, n_kv, d).transpose(1, 2)
        back = lambda y, n, m: y.view(n, n_kv, group, m, d).permute(0, 3, 1, 2, 4).reshape(n * m, n_kv * group * d)
        here = slice(0, end)
        kp, vp = (keys(t, self.n_row, p, here).contiguous() for t in (k, v))
        out = [back(F.softmax(asks(self.n_row, p, here) @ kp.transpose(-2, -1) + masks[0], -1) @ vp, self.n_row, p)]
        for which, ((n, length, row, _), mask) in enumerate(zip(self.bundles, masks[1:])):
            here = slice(end, end + n * length)
            ks, vs = (torch.cat([prefix.index_select(0, row), keys(t, n, length, here)], 2) for prefix, t in ((kp, k), (vp, v)))
            share = F.softmax(asks(n, length, here) @ ks.transpose(-2, -1) + mask, -1)
            if layer in self.asked:
                wanted, places, looked_at = self.asked[layer][which]
                seen = share.view(n, n_kv, group, length, -1)[:, :, 0, :, looked_at]
                self.costs.setdefault(layer, []).append(astray(seen, wanted, places))
            out.append(back(share @ vs, n, length))
            end = here.stop
        return torch.cat(out)


def halves(w, d):
    """Rows of heads [n * d, in] in the order of RoPE's halves: [2, n, d / 2, in]"""
    return w.view(-1, 2, d // 2, w.shape[1]).transpose(0, 1)


def layer(m, h, cos, sin, sheaves, masks, number):
    """cos, sin [N, (n_head + n_kv) * d_head / 2]: the same for every head, so that RoPE works on whole rows"""
    c, a = m.c, m.self_attn
    n_q, n_kv, d = c['n_head'], c['n_kv'], c['d_head']
    q, k = halves(whole(a.q_proj) * d ** -0.5, d), halves(whole(a.k_proj), d)
    y = F.linear(m.input_layernorm(h), torch.cat([torch.cat([q, k], 1).reshape(-1, h.shape[1]), whole(a.v_proj)]))
    with torch.autocast(h.device.type, enabled=False):
        w = (n_q + n_kv) * d // 2
        left, right, v = y.split([w, w, n_kv * d], 1)
        left, right = left * cos - right * sin, right * cos + left * sin
        heads = torch.stack([left.view(len(h), -1, d // 2), right.view(len(h), -1, d // 2)], 2).view(len(h), n_q + n_kv, d)
        y = sheaves.attend(heads[:, :n_q].view(len(h), n_kv, -1, d), heads[:, n_q:], v.view(len(h), n_kv, d), masks, number)
    h = h + F.linear(y, whole(a.o_proj))
    return feed_forward(m, h)


def sheaved(lm, h, pos, sheaves):
    """h [N, d], pos [N] of the ids of sheaves.at -> normed rows [N, d]"""
    cos, sin = (t.repeat(1, lm.c['n_head'] + lm.c['n_kv']) for t in reference.rope_table(pos, lm.c['d_head'], lm.c['theta'], h.dtype))
    masks = sheaves.masks(lm.c['n_head'] // lm.c['n_kv'], h.dtype)
    for i, m in enumerate(lm.body.layers):
        h = layer(m, h, cos, sin, sheaves, masks, i)
    return lm.body.norm(h)
