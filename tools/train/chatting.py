# SPDX-License-Identifier: MIT
"""The language model answers: about scenes told in words (the base language model, which stands for the pretrained one that the
published scheme begins with), then S2 to S5 about clips, from their visual rows.

"views" is what the model sees of a frame: 1 = one squashed view, 3 = the two tiles and the global view of the HD transform, from the
clip's own size. In HD only one view of each clip, drawn at random, sends gradients into the video transformer; the others are encoded
without, which halves the work. A batch's rows are cut to the longest one; which set of questions of a clip is used is drawn anew.
"""
import torch
import torch.nn.functional as F

from train import binding
from train.feed import pixels, views
from train.packing import FIELDS, MOST
from train.samples import TYPES
from train.sheaves import CHOOSER, POINTER, Sheaves, astray, sheaved

PREFIX_WEIGHT = 0.3  # of a told scene's own ids, beside one for answers
TABLES = {}


class Rows:
    """Rows of a batch: ids [B,L] (-1 visual, 0 padding), pos, part, label [B,L], kind [B,MOST] (packing.pack())."""

    def __init__(self, batch, rng):
        n_row = batch.maker.layout.at['ids'][2][0]
        self.length = -(-batch.longest('n') // 8) * 8
        pick = torch.from_numpy(rng.integers(n_row, size=len(batch))).to(batch.records.device, non_blocking=True)
        which = lambda name: batch[name].gather(1, pick.view(-1, 1, 1).expand(-1, 1, batch.maker.layout.at[name][2][1]))[:, 0]
        self.ids, self.pos, self.part, self.label, self.about, self.option, self.choice = (which(k)[:, :self.length] for k, _ in FIELDS)
        self.strayed = {}
        self.kind, self.sheaved = which('kind'), self.ids.device.type == 'cpu'

    def mask(self):
        """[B,1,L,L]: the prefix and one's own conversation, up to oneself. Behind the end, part -1 sees itself."""
        p, l = self.part, self.length
        see = (p[:, :, None] == p[:, None]) | (p[:, None] == 0)
        return (see & torch.ones(l, l, dtype=torch.bool, device=p.device).tril())[:, None]

    def weights(self, answer, recipe):
        """[B,L]. "prefix": of a told scene's own ids. "evened": an answer of n ids weighs n ** (1 - evened). "boost": of types of questions."""
        own, evened, boost = self.part.clamp(min=0), recipe.get('evened', 0.0), recipe.get('boost', {})
        each = torch.ones(len(own), MOST + 1, device=own.device)
        if evened:
            each = torch.zeros_like(each).scatter_add_(1, own, answer.float()).clamp(min=1) ** -evened
        if boost:
            key = (own.device, *sorted(boost.items()))
            if key not in TABLES:  # made once: making it waits for the device
                TABLES[key] = torch.tensor([boost.get(t, 1.0) for t in TYPES] + [1.0], device=own.device)
            each[:, 1:] *= TABLES[key][self.kind]  # kind -1, none: the last
        each[:, 0] = recipe.get('prefix', PREFIX_WEIGHT)
        return each.gather(1, own)

    def embedded(self, lm, visual, at=None):
        """Rows of the ids at these flat places (all of them in order) [n, d]. visual: rows [B, n, d] for the -1 positions in order."""
        pick = (lambda x: x.flatten()) if at is None else lambda x: x.flatten()[at]
        ids = pick(self.ids)
        h = lm.embed(ids.clamp(min=0))
        if visual is not None:
            n = visual.shape[1]
            which = ((self.ids < 0).cumsum(1) - 1).clamp(0, n - 1) + n * torch.arange(len(visual), device=ids.device)[:, None]
            seen = visual.flatten(0, 1).to(h.dtype).index_select(0, pick(which))
            h = torch.where((ids < 0)[:, None], seen, h)
        # short rows between layers
        return h.to(torch.bfloat16) if torch.is_autocast_enabled(h.device.type) else h

    def pointed(self, tells, n_visual, n_prefix):
        """Where in the prefix each object is told of: bool [B, n, n_prefix], from tells [B, groups, n] among the n_visual rows."""
        b, _, n = tells.shape
        there = F.pad(self.ids[:, :n_prefix], (0, max(0, n_visual - n_prefix))) < 0  # wide enough where no row has media
        at = there.int().argsort(dim=1, descending=True, stable=True)[:, :n_visual]
        out = torch.zeros(b, n, there.shape[1], dtype=torch.bool, device=there.device)
        out.scatter_(2, at.gather(1, tells.flatten(1)).unflatten(1, (-1, n)).transpose(1, 2), True)
        return (out & there[:, None])[..., :n_prefix]

    def watched(self, name, wanted, places, see):
        """What a layer shows its queries and keys to, where no sheaves are made: leaves the cost in self.strayed."""
        def watch(q, k):
            scores = q @ k.transpose(-2, -1)
            scores = scores.masked_fill(~see, float('-inf')) if see.dtype == torch.bool else scores + see
            cost, n = astray(F.softmax(scores, -1), wanted, places)
            self.strayed[name] = cost / n.clamp(min=1)
        return watch

    def scored(self, lm, visual, tells=None, choosing=False):
        """-> scores [n, n_vocab], flat places [n] (None: all of them): on CPUs of what is labelled only. tells: as in pointed(). With tells
        self.strayed["point"], with choosing self.strayed["choose"] is the cost of attention that looks elsewhere."""
        layers = {k: i for k, i, on in (('point', POINTER, tells is not None), ('choose', CHOOSER, choosing)) if on}
        if self.sheaved:
            sheaves = Sheaves(self.part.numpy())
            if tells is not None:
                sheaves.point(POINTER, self.about, self.pointed(tells, visual.shape[1], sheaves.n_prefix))
            if choosing:
                sheaves.choose(CHOOSER, self.choice, self.option)
            h = sheaved(lm, self.embedded(lm, visual, sheaves.at), self.pos.flatten()[sheaves.at], sheaves)
            self.strayed = {k: sheaves.strayed(i) for k, i in layers.items()}
            learnt = torch.nonzero((self.label.flatten()[sheaves.at] >= 0) & sheaves.there)[:, 0]
            return lm.head(h.index_select(0, learnt)), sheaves.at[learnt]
        h, see = self.embedded(lm, visual).unflatten(0, self.ids.shape), self.mask()
        if h.dtype == torch.bfloat16:  # a mask that no layer has to convert
            see = torch.zeros_like(see, dtype=h.dtype).masked_fill_(~see, float('-inf'))
        if tells is not None:
            places = self.pointed(tells, visual.shape[1], self.length).gather(1, self.about.clamp(min=0)[..., None].expand(-1, -1, self.length))
            lm.body.layers[POINTER].watch = self.watched('point', self.about >= 0, places, see)
        if choosing:
            lm.body.layers[CHOOSER].watch = self.watched('choose', self.choice >= 0, self.choice[:, :, None] == self.option[:, None], see)
        try:
            return lm.head(lm(h, self.pos, see)).flatten(0, 1), None
        finally:
            for i in layers.values():
                lm.body.layers[i].watch = None

    def loss(self, lm, visual=None, recipe=(), tells=None):
        """recipe: the stage's, with the weights of ids (see weights()), and of attention that looks elsewhere. visual: as in embedded().
        -> mean weighted cross entropy, {name: value}, right [B,MOST]: every labelled id of the conversation is the best one."""
        recipe = dict(recipe)
        s, at = self.scored(lm, visual, tells, bool(recipe.get('choose')))
        pick = (lambda x: x.flatten()) if at is None else lambda x: x.flatten()[at]
        answers = (self.label >= 0) & (self.part > 0)
        label, own, answer, weight = (pick(x) for x in (self.label, self.part.clamp(min=0), answers, self.weights(answers, recipe)))
        ce = F.cross_entropy(s, torch.where(label < 0, -100, label), ignore_index=-100, reduction='none')
        weight = weight * (label >= 0)
        wrong = answer & (s.argmax(-1) != label)
        # labels of a conversation lie in its own part, but for the first, which the last id of the question predicts: same part
        row = pick(torch.arange(len(self.ids), device=s.device)[:, None].expand_as(self.ids))
        bad = torch.zeros(len(self.ids) * (MOST + 1), device=s.device).scatter_add_(0, row * (MOST + 1) + own, wrong.float())
        asked = self.kind >= 0
        right = asked & (bad.unflatten(0, (-1, MOST + 1))[:, 1:] == 0)
        n = answer.sum().clamp(min=1)
        total = (ce * weight).sum() / weight.sum().clamp(min=1)
        values = dict(loss=total, ce=(ce * answer).sum() / n, token=1 - wrong.sum() / n, answer=right.sum() / asked.sum().clamp(min=1))
        for name, cost in self.strayed.items():
            total, values['astray_' + name] = total + recipe[name] * cost, cost
        return total, {k: x.detach() for k, x in values.items()}, right


def features(net, batch, rng, learn, noisy=True):
    """What the Q-Former looks at: [B, views, S, d_vision]. learn: gradients reach the video transformer."""
    if batch.features is not None:
        return batch.features if torch.is_autocast_enabled(batch.features.device.type) else batch.features.float()
    x = views(batch.frames) if batch.maker.hd else pixels(batch.frames, rng if noisy else None)[:, None]
    b, n = x.shape[:2]
    flat = x.flatten(0, 1)
    if not learn:
        with torch.no_grad():
            v = net.vision_layernorm(net.vision_encoder(flat))
    elif n == 1:
        v = net.vision_layernorm(net.vision_encoder(flat))
    else:
        learnt = torch.from_numpy(rng.integers(n, size=b)).to(x.device, non_blocking=True) + torch.arange(b, device=x.device) * n
        # in this order: autocast keeps weights as it first casts them, and those cast without gradients would get none
        mine = net.vision_encoder(flat.index_select(0, learnt))
        with torch.no_grad():
            v = net.vision_encoder(flat)
        v = net.vision_layernorm(v.index_copy(0, learnt, mine.to(v.dtype)))
    return v.unflatten(0, (b, n))


def visual(net, batch, rng, learn, noisy=True):
    """-> rows [B, n_view * n_query, d_llm]. learn: gradients reach the video transformer."""
    v = features(net, batch, rng, learn, noisy)
    (b, n), v = v.shape[:2], v.flatten(0, 1)
    l, query = batch.longest('n_text'), net.queries(b * n)
    ids = mask = None
    if l:
        ids = batch['text'][:, :l].repeat_interleave(n, 0)
        there = (torch.arange(l, device=v.device) < batch['n_text'][:, None]).repeat_interleave(n, 0)
        mask = torch.cat([torch.ones(b * n, query.shape[1], dtype=torch.bool, device=v.device), there], 1)[:, None, None]
    rows = net.project_up(net.qformer(query, v, ids, mask)[:, :query.shape[1]])
    return rows.reshape(b, -1, rows.shape[-1])


def bound(net, rows, batch):
    """What the queries of the clip as a whole, the global view, which is the last, tell of its objects (binding.py). -> loss,
    {name: value}, the queries that tell of each object"""
    return binding.loss(net.bind_heads, rows[:, -net.queries(1).shape[1]:], batch['objects'])


def bind(net, batch, rng, learn, noisy=True):
    """The stage without a language model. -> loss, {name: value}"""
    total, values, _ = bound(net, visual(net, batch, rng, learn, noisy), batch)
    return total, dict(values, loss=total.detach())


def loss(net, batch, rng, learn, noisy=True, recipe=()):
    """-> loss, {name: value}, right [B,MOST], kind [B,MOST]. "bind" in the recipe: weight of what the queries tell of
    objects, for clips. "point", with it: weight of attention that looks elsewhere than at the object that an answer tells of. "choose": the
    same for the right option."""
    rows, weight, told, tells = Rows(batch, rng), dict(recipe).get('bind'), None, None
    seen = visual(net, batch, rng, learn, noisy) if batch.maker.n_frame else None
    if weight and seen is not None and not batch.maker.image:
        told, more, tells = bound(net, seen, batch)
        tells = tells + seen.shape[1] - net.queries(1).shape[1] if dict(recipe).get('point') else None
    total, values, right = rows.loss(net.lm, seen, recipe, tells)
    if told is not None:
        total = total + weight * told
        values = dict(values, loss=total.detach(), bind=told.detach(), bound=more['bound'])
    return total, values, right, rows.kind
