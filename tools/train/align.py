# SPDX-License-Identifier: MIT
"""S1: the Q-Former learns which text belongs to which clip (TRAINING_EVAL A.3 in the published form).

Three losses of weight one over 32 queries and a caption: contrastive (mean over queries), matching of true pairs against one hard
negative of each side, and captioning by the Q-Former itself behind [DEC]. The heads are dropped afterwards.
"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from train.encoder import to_pixels
from world.describe import describe
from world.render import render
from world.scene import sample_scene, sample_times

D_SHARED = 96


class AlignHeads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.vision, self.text, self.match = nn.Linear(d, D_SHARED), nn.Linear(d, D_SHARED), nn.Linear(2 * d, 2)
        self.speak = nn.Linear(d, d)
        self.temperature = nn.Parameter(torch.tensor(0.07))


def pad(lists):
    n = max(map(len, lists))
    return torch.tensor([x + [0] * (n - len(x)) for x in lists]), torch.tensor([[1] * len(x) + [0] * (n - len(x)) for x in lists]).bool()


def batch(rng, bert, seeds):
    frames, captions = [], []
    for seed in seeds:
        s = sample_scene(int(seed), 'train')
        frames.append(render(s, sample_times(s.n_frames), 224, 224))
        captions.append(bert.encode(describe(s, rng)[0], 128))
    return to_pixels(np.stack(frames), rng), captions


def loss(net, heads, rng, bert, pixels, captions):
    q = net.qformer
    b, n = len(pixels), net.query_tokens.shape[1]
    with torch.no_grad():
        vision = net.vision_layernorm(net.vision_encoder(pixels))
    query = net.query_tokens.expand(b, -1, -1)
    ids, there = pad(captions)
    # contrastive: each side on its own
    seen = q(query, vision)
    told = q(query[:, :0], None, ids, there[:, None, None])
    v, t = F.normalize(heads.vision(seen), dim=-1), F.normalize(heads.text(told[:, 0]), dim=-1)
    s = torch.einsum('bqd,cd->bc', v, t) / n / heads.temperature.clamp(0.001, 0.5)
    same = torch.tensor([[float(x == y) for y in captions] for x in captions])
    y = same / same.sum(1, keepdim=True)
    contrast = 0.5 * (F.cross_entropy(s, y) + F.cross_entropy(s.t(), y))
    # matching: true pairs, a wrong clip for each text, a wrong text for each clip
    with torch.no_grad():
        w = (s.softmax(1) + 1e-4) * (1 - same) + 1e-9
        other_text, other_clip = torch.multinomial(w, 1)[:, 0], torch.multinomial((s.t().softmax(1) + 1e-4) * (1 - same) + 1e-9, 1)[:, 0]
    clip = torch.cat([torch.arange(b), torch.arange(b), other_clip])
    word = torch.cat([torch.arange(b), other_text, torch.arange(b)])
    mask = torch.cat([torch.ones(3 * b, n, dtype=torch.bool), there[word]], 1)[:, None, None]
    joint = q(query[:1].expand(3 * b, -1, -1), vision[clip], ids[word], mask)
    logits = heads.match(torch.cat([joint[:, :n].mean(1), joint[:, n]], -1))
    truth = torch.cat([torch.ones(b), torch.zeros(2 * b)]).long()
    matching = F.cross_entropy(logits, truth)
    # captioning: text sees queries and earlier text, queries do not see text
    start = ids.clone()
    start[:, 0] = bert.vocab['[DEC]']
    l = ids.shape[1]
    see = torch.zeros(n + l, n + l, dtype=torch.bool)
    see[:, :n] = True
    see[n:, n:] = torch.ones(l, l, dtype=torch.bool).tril()
    spoken = q(query, vision, start, see[None, None])[:, n:-1]
    scores = heads.speak(spoken) @ q.bert.embeddings.word_embeddings.weight.t()
    caption = F.cross_entropy(scores[there[:, 1:]], ids[:, 1:][there[:, 1:]])
    with torch.no_grad():
        parts = dict(contrast=float(contrast), matching=float(matching), caption=float(caption),
                     acc_match=float((logits.argmax(1) == truth).float().mean()), acc_contrast=float((s.argmax(1) == torch.arange(b)).float().mean()))
    return contrast + matching + caption, parts
