# SPDX-License-Identifier: MIT
"""S1: the Q-Former learns which text belongs to which clip (TRAINING_EVAL A.3 in the published form).

Three losses of weight one over 32 queries and a caption: contrastive (mean over queries), matching of true pairs against one hard
negative of each side, and captioning by the Q-Former itself behind [DEC]. The heads are dropped afterwards.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from train.feed import pixels

D_SHARED = 96


class Heads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.vision, self.text, self.match = nn.Linear(d, D_SHARED), nn.Linear(d, D_SHARED), nn.Linear(2 * d, 2)
        self.speak = nn.Linear(d, d)
        self.temperature = nn.Parameter(torch.full((), 0.07, device='cpu'))


def loss(net, batch, rng, dec, noisy=True):
    """dec: id of [DEC]. -> loss, {name: value} as tensors"""
    q, heads = net.qformer, net.align_heads
    x = pixels(batch.frames, rng if noisy else None)
    b, n, device = len(x), net.query_tokens.shape[1], x.device
    l = batch.longest('n_text')
    ids, there = batch['text'][:, :l], torch.arange(l, device=device) < batch['n_text'][:, None]
    with torch.no_grad():
        vision = net.vision_layernorm(net.vision_encoder(x))
    query = net.query_tokens.expand(b, -1, -1)
    # contrastive: each side on its own
    seen = q(query, vision)
    told = q(query[:, :0], None, ids, there[:, None, None])
    v, t = F.normalize(heads.vision(seen).float(), dim=-1), F.normalize(heads.text(told[:, 0]).float(), dim=-1)
    s = torch.einsum('bqd,cd->bc', v, t).float() / n / heads.temperature.clamp(0.001, 0.5)
    same = (ids[:, None] == ids).all(-1).float()
    y = same / same.sum(1, keepdim=True)
    contrast = 0.5 * (F.cross_entropy(s, y) + F.cross_entropy(s.t(), y))
    # matching: true pairs, a wrong clip for each text, a wrong text for each clip
    with torch.no_grad():
        other_text, other_clip = (torch.multinomial((a.softmax(1) + 1e-4) * (1 - same) + 1e-9, 1)[:, 0] for a in (s, s.t()))
    own = torch.arange(b, device=device)
    clip, word = torch.cat([own, own, other_clip]), torch.cat([own, other_text, own])
    mask = torch.cat([torch.ones(3 * b, n, dtype=torch.bool, device=device), there[word]], 1)[:, None, None]
    joint = q(query[:1].expand(3 * b, -1, -1), vision[clip], ids[word], mask)
    logits = heads.match(torch.cat([joint[:, :n].mean(1), joint[:, n]], -1)).float()
    truth = (torch.arange(3 * b, device=device) < b).long()
    matching = F.cross_entropy(logits, truth)
    # captioning: text sees queries and earlier text, queries do not see text
    start = torch.cat([torch.full_like(ids[:, :1], dec), ids[:, 1:]], 1)
    see = torch.zeros(n + l, n + l, dtype=torch.bool, device=device)
    see[:, :n] = True
    see[n:, n:] = torch.ones(l, l, dtype=torch.bool, device=device).tril()
    spoken = q(query, vision, start, see[None, None])[:, n:-1]
    scores = (heads.speak(spoken) @ q.bert.embeddings.word_embeddings.weight.t()).float()
    caption = F.cross_entropy(scores.flatten(0, 1), torch.where(there, ids, -100)[:, 1:].flatten(), ignore_index=-100)
    parts = dict(contrast=contrast, matching=matching, caption=caption, acc_match=(logits.argmax(1) == truth).float().mean(),
                 acc_contrast=(s.argmax(1) == own).float().mean(), loss=contrast + matching + caption)
    return parts['loss'], {k: x.detach() for k, x in parts.items()}
