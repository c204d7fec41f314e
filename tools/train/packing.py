# SPDX-License-Identifier: MIT
"""Conversations -> ids, positions, masks and labels.

One row of a batch is one video (or one text about it) with several conversations behind it. They share the prefix, do not see each
other, and each begins at the position behind the prefix, so one pass trains what the model will see in several chats:

    prefix                                                  conversations
    <s>_[INST]_<Video> V </Video> ... [/INST]               _[INST]_q_[/INST]_a</s>     _[INST]_q_[/INST]a</s>_[INST]_q_[/INST]_a</s>

Only the last answer of a conversation and its </s> are labelled. An answer is learnt as the model will generate it, with a
leading blank; inside a history it stands as chat() encodes it again, without (SPEC 7.6).
"""
import numpy as np
import torch

import reference_text as text

EOS = 2


class Encoder:
    def __init__(self, tokenizer, n_query):
        self.tokenizer, self.n_query = tokenizer, n_query

    def media_prefix(self, n_clip, image=False, instruction=None):
        """Ids up to the [/INST] of the media block, -1 at visual rows."""
        s = text.conversation('hd', n_clip, '', image=image, instruction=instruction)
        return text.prompt_ids(self.tokenizer, s[:s.index('[/INST]') + len('[/INST]')], self.n_query)

    def text_prefix(self, s):
        return self.tokenizer.encode('[INST] %s[/INST]' % s)

    def conversations(self, item):
        """[(ids, number of labelled ids at the end)]: one for each turn."""
        raw, out, history = self.tokenizer.encode_raw, [], []
        begun = item.get('answer_prefix') or ''
        for turn in item['turns']:
            ask = history + raw(' [INST] %s [/INST]%s' % (turn['q'], begun))
            answer = raw(turn['a'] if begun else text.BLANK + turn['a']) + [EOS]
            out.append((ask + answer, len(answer)))
            history = ask + raw(turn['a']) + [EOS]
        return out

    def alone(self, q, a):
        """A question without any media: the user turn only."""
        ask = self.tokenizer.encode('[INST] %s [/INST]' % q)
        answer = self.tokenizer.encode_raw(text.BLANK + a) + [EOS]
        return ask + answer, len(answer)


class Packed:
    """Tensors of a batch: ids [B,L] (-1 visual, 0 padding), pos [B,L], mask [B,1,L,L], rows and labels of what is learnt."""

    def __init__(self, rows, prefix_weight=0.0):
        """rows: [(prefix ids, [(ids, n labelled)])]."""
        length = max(len(p) + sum(len(c) for c, _ in cs) for p, cs in rows)
        b, self.n = len(rows), 0
        ids, pos = np.zeros((b, length), np.int64), np.zeros((b, length), np.int64)
        part = np.full((b, length), -1, np.int64)
        at, label, weight, whose = [], [], [], []
        for r, (prefix, cs) in enumerate(rows):
            n = len(prefix)
            ids[r, :n], pos[r, :n], part[r, :n] = prefix, np.arange(n), 0
            if prefix_weight:
                at += [r * length + i for i in range(n - 1)]
                label += list(prefix[1:])
                weight += [prefix_weight] * (n - 1)
                whose += [-1] * (n - 1)
            for k, (c, labelled) in enumerate(cs):
                m = n + len(c)
                ids[r, n:m], pos[r, n:m], part[r, n:m] = c, len(prefix) + np.arange(len(c)), k + 1
                at += [r * length + i for i in range(m - labelled - 1, m - 1)]
                label += list(c[-labelled:])
                weight += [1.0] * labelled
                whose += [self.n] * labelled
                self.n += 1
                n = m
        self.ids, self.pos = torch.from_numpy(ids), torch.from_numpy(pos)
        p = torch.from_numpy(part)
        see = (p[:, :, None] == p[:, None]) | (p[:, None] == 0)
        see &= torch.ones(length, length, dtype=torch.bool).tril()
        see |= torch.eye(length, dtype=torch.bool)  # padding sees itself, so that no row is empty
        self.mask = see[:, None]
        self.at, self.label, self.weight, self.whose = (torch.tensor(x) for x in (at, label, weight, whose))

    def loss(self, lm, visual=None):
        """visual: rows [n,d] for the -1 positions in order. -> mean weighted cross entropy, {shares of right ids and answers}."""
        h = lm.embed(self.ids.clamp(min=0))
        if visual is not None:
            h = h.clone()
            h[self.ids < 0] = visual.reshape(-1, visual.shape[-1])
        h = lm(h, self.pos, self.mask)
        s = lm.head(h.reshape(-1, h.shape[-1])[self.at])
        ce = torch.nn.functional.cross_entropy(s, self.label, reduction='none')
        full = self.weight == 1
        with torch.no_grad():
            wrong = (s.argmax(-1) != self.label)[full]
            self.right = torch.ones(self.n, dtype=torch.bool)  # of each conversation: every labelled id is the best one
            self.right[self.whose[full][wrong]] = False
        return (ce * self.weight).sum() / self.weight.sum(), dict(ce=float(ce.detach()[full].mean()), token=1 - float(wrong.float().mean()),
                                                                  answer=float(self.right.float().mean()))
