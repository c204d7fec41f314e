# SPDX-License-Identifier: MIT
"""What each stage trains, on what, and with which loss. (recipe.json has the numbers, docs/TRAINING.md the reasons)"""
import contextlib
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import reference
from train import align, binding, chatting, encoder, feed, loop, quick
from train.deliver import load_into
from train.samples import TYPES, Maker

DEVICE_MEMORY = 16 << 30  # bytes of a GPU for the pools of a stage
VALIDATION_SEED = 99
SHIFTED = (1,)  # blocks of the video transformer that begin by looking at the frames before and after


def config(recipe, vocab):
    """config.json of the model, in the release's form with the extension keys."""
    m = recipe['model']
    with open(os.path.join(vocab, 'vocab.txt'), encoding='utf-8') as f:
        wordpieces = sum(1 for _ in f)
    with open(os.path.join(vocab, 'tokenizer.json'), encoding='utf-8') as f:
        pieces = len(json.load(f)['model']['vocab'])
    vision = dict(name='internvideo2-1B', encoder_embed_dim=m['vision_encoder']['d_model'], img_size=224, num_frames=8, origin_num_frames=4,
                  tubelet_size=1, sep_image_video_pos_embed=True, vit_add_ln=True, x_vis_only=True, x_vis_return_idx=-2, **m['vision_encoder'])
    qformer = dict(model_type='bert', hidden_act='gelu', max_position_embeddings=128, layer_norm_eps=1e-12, pad_token_id=0, type_vocab_size=2,
                   encoder_width=vision['d_model'], cross_attention_freq=2, vocab_size=wordpieces, **m['qformer_config'])
    llm = dict(model_type='mistral', vocab_size=pieces, rms_norm_eps=1e-5, hidden_act='silu', bos_token_id=1, eos_token_id=2,
               tie_word_embeddings=False, sliding_window=None, **m['llm_config'])
    return dict(_name_or_path='ivchat-small-hd-f16', model_cls='InternVideo2_VideoChat2', architectures=['InternVideo2_VideoChat2'], model_config=dict(
        bridge=dict(name='qformer', num_query_token=32, extra_num_query_token=64), llm=dict(
            name='mistral_7b', pretrained_llm_path='ivchat-small', lora_r=m['lora_r'], lora_alpha=m['lora_alpha'], lora_dropout=0.0, use_lora=True),
        vision_encoder=vision, qformer_config=qformer, llm_config=llm), torch_dtype='bfloat16')


def initialise(model, seed):
    """Truncated normals; LayerScale one, LoRA B zero (the published extra queries begin at zero too; behind a LayerNorm of eps 1e-12 that explodes)."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith('ls1') or name.endswith('ls2') or 'norm' in name.lower():
            continue
        if p.ndim == 1 or 'lora_B' in name:
            torch.nn.init.zeros_(p)
        elif 'patch_embed' in name:
            torch.nn.init.trunc_normal_(p, std=(1.0 / p[0].numel()) ** 0.5)
        elif 'lora_A' in name or name.startswith('lm.') and 'embed' not in name:
            torch.nn.init.trunc_normal_(p, std=0.7 * p.shape[-1] ** -0.5)
        else:
            torch.nn.init.trunc_normal_(p, std=0.02 if p.ndim != 2 or 'embed' in name else 0.7 * p.shape[-1] ** -0.5)
    with torch.no_grad():
        code(model.vision_encoder)


def waves(n, frequencies):
    """[n, 2 * len(frequencies)]: sine and cosine of each frequency (radians a step) at 0..n-1, in pairs."""
    at = torch.arange(n, device='cpu')[:, None] * frequencies
    return torch.stack([at.sin(), at.cos()], -1).flatten(1)


def code(vit):
    """Places and attention of the video transformer begin with what it would have to find out slowly. The first half of the width holds
    rows and columns as smooth waves, the last quarter the frame, in waves of the whole band, so that frames are told apart sharply. What
    comes before the last block of SHIFTED leaves that quarter alone at first; those blocks look with one head at the next frame and with
    the other at the one before, about their own cell. Other blocks look at what is near and similar."""
    d, g = vit.cls_token.shape[2], 224 // vit.patch
    n = d // 8  # frequencies
    one = torch.arange(n, device='cpu')
    line, when = 1.6 * waves(g, 2.0 * 0.1 ** (one / n)), waves((vit.pos_embed.shape[1] - 1) // (g * g), torch.pi * (one + 0.5) / n)
    place = torch.zeros(len(when), g, g, d, device='cpu')
    place[..., :2 * n] += line[:, None]
    place[..., 2 * n:4 * n] += line
    vit.img_pos_embed[0, 1:] += place[0].reshape(-1, d)
    place[..., d - 2 * n:] += when[:, None, None]
    vit.pos_embed[0, 1:] += place.reshape(-1, d)
    for block in vit.blocks:
        mimic(block, d, block.attn.n_head)
    vit.patch_embed.proj.weight[d - 2 * n:] = 0
    for block in list(vit.blocks)[:max(SHIFTED)]:
        block.attn.proj.weight[d - 2 * n:] = 0
        block.mlp.fc2.weight[d - 2 * n:] = 0
    for i in SHIFTED:
        shift(vit.blocks[i], d, n, vit.blocks[i].attn.n_head)


def shift(block, d, n, n_head):
    """Queries and keys read the places alone; the queries' frame is turned by one step, onwards in even heads, backwards in odd ones."""
    w, frequency = d // n_head, torch.pi * (torch.arange(n, device='cpu') + 0.5) / n
    spread = lambda have, want: torch.linspace(0, have - 1, want, device='cpu').round().long()
    in_time, in_space = min(n, w // 4), (w - 2 * min(n, w // 4)) // 4  # pairs of a head: of the frame, of each line
    weight = block.attn.qkv.weight
    weight[:2 * d] = 0.02 * torch.randn(2 * d, d, device='cpu')
    block.attn.q_norm.weight.fill_(1.5)
    for h in range(n_head):
        row = h * w
        for f in spread(n, in_time).tolist():
            at, angle = d - 2 * n + 2 * f, frequency[f] * (1 - h % 2 * 2)
            turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
            weight[row:row + 2, at:at + 2] += turn
            weight[d + row:d + row + 2, at:at + 2] += torch.eye(2, device='cpu')
            row += 2
        for first in (0, 2 * n):
            for f in spread(n, in_space).tolist():
                at = first + 2 * f
                for part in (0, d):
                    weight[part + row:part + row + 2, at:at + 2] += 0.7 * torch.eye(2, device='cpu')
                row += 2


def mimic(block, d, n_head):
    """Attention begins as if trained: queries and keys alike, so that tokens look at what is near and similar (Trockman and Kolter,
    "Mimetic Initialization of Self-Attention Layers", 2023): Wq' Wk = 0.7 I + noise, Wproj Wv = -0.4 I + noise."""
    noise = lambda: torch.randn(d, d, device='cpu') * d ** -0.5
    one = torch.eye(d, device='cpu')
    qkv, w = block.attn.qkv.weight, d // n_head
    for h in range(n_head):
        u, s, v = torch.linalg.svd(0.7 * one + 0.7 * noise())
        qkv[h * w:(h + 1) * w] = u[:, :w].t() * s[:w, None].sqrt()
        qkv[d + h * w:d + (h + 1) * w] = v[:w] * s[:w, None].sqrt()
    u, s, v = torch.linalg.svd(0.4 * noise() - 0.4 * one)
    qkv[2 * d:] = v * s[:, None].sqrt()
    block.attn.proj.weight.copy_(u * s.sqrt())


def build(recipe, vocab):
    """The whole model and the heads that training needs, on the CPU."""
    net = reference.VideoChat(config(recipe, vocab))
    initialise(net, recipe['seed'])
    net.see_heads = encoder.Heads(net.vit_size['d_model'])
    net.align_heads = align.Heads(net.qformer_size['d_model'])
    net.bind_heads = binding.Heads(net.llm_size['d_model'])
    return net


def set_lora(net, on):
    for m in net.modules():
        if isinstance(m, reference.LoraLinear):
            m.scale = net.llm_size['lora_alpha'] / net.llm_size['lora_r'] if on else 0.0


def learns(kind, r):
    """Which parameters a stage of this recipe trains, by name. "base": the language model's own weights beside LoRA."""
    lora, dropped = r.get('lora'), ('project_down', 'see_heads', 'align_heads') + (() if kind == 'bind' or r.get('bind') else ('bind_heads',))
    dropped += () if r.get('vision', True) else ('vision_',)
    if kind == 'encoder':
        return lambda name: name.startswith(('vision_encoder', 'vision_layernorm', 'see_heads'))
    if kind == 'reader':
        return lambda name: name.startswith('lm.') and (lora or 'lora_' not in name)
    if kind == 'align':
        return lambda name: name.startswith(('qformer', 'query_tokens', 'align_heads'))
    if kind == 'bind':
        return lambda name: not name.startswith(dropped + ('lm.',))
    return lambda name: lora and (r.get('base') or 'lora_' in name) if name.startswith('lm.') else not name.startswith(dropped)


def recipe_of(recipe, stage, device, smoke=False):
    """A stage's numbers: its own, those for a GPU over them, and for a smoke test two steps of tiny batches."""
    r = dict(recipe['stages'][stage])
    over = r.pop('gpu', {})
    if device == 'cuda':
        r.update({k: v for k, v in over.items() if k != 'batch'})
        r['channels'] = {k: dict(c, batch=over.get('batch', {}).get(k, c['batch'])) for k, c in r['channels'].items()}
    if smoke:
        r.update(steps=2 * len(set(r['turns'])), log_seconds=0.0)
        r['channels'] = {k: dict(c, batch=2) for k, c in r['channels'].items()}
        r['turns'] = sorted(set(r['turns']))
    for c in r['channels'].values():
        c.setdefault('replay', r.get('replay', 1))
        c.setdefault('rows', r.get('rows', 1))
    return r


class Trainer:
    """Runs stages on one net. workers: a pool of sample makers, or None to make samples between the steps."""

    def __init__(self, recipe, vocab, device, place, workers=None, delivery=None, amp=None, rank=0, smoke=False):
        self.recipe, self.vocab, self.device, self.place = recipe, vocab, torch.device(device), place
        self.workers, self.delivery, self.amp, self.rank, self.smoke = workers, delivery, amp, rank, smoke
        self.net = build(recipe, vocab)
        self.finished, self.state, self.score = [], None, None

    def begin(self, resume=None, names=()):
        """Takes the weights of an earlier training, or of this one when it was interrupted, and moves to the device. names: the stages that
        this one is to run, which an earlier one may have run, too."""
        state = self.place.load()
        if state is not None:
            load_into(self.net, state['net'])
            self.finished, self.state = state['finished'], state
        elif resume is not None:
            load_into(self.net, resume[0])
            self.finished = [n for n in resume[1] if n not in names]
        self.net.to(self.device)
        quick.layers(self.net)

    def source(self, r, kind, order):
        seed = (self.recipe['seed'], order, self.rank)
        if self.workers is None and self.device.type == 'cpu' and r.get('kept') and not r.get('vision', True):
            return feed.Kept(kind, r['channels'], self.vocab, seed, self.device, self.look, r['kept'])
        if self.workers is None:
            return feed.Inline(kind, r['channels'], self.vocab, seed, self.device)
        memory = DEVICE_MEMORY if self.device.type == 'cuda' else 256 << 20
        return feed.Streamed(self.workers, kind, r['channels'], r['turns'], self.vocab, seed, self.device, memory)

    def look(self, batch, rng):
        """What the video transformer makes of a batch's clips."""
        with self.amp() if self.amp else contextlib.nullcontext():
            return chatting.features(self.net, batch, rng, False)

    def step(self, kind, r, batch, rng, noisy=True):
        """-> loss, {name: tensor}, and for answers right and kind [B,MOST]"""
        if kind == 'encoder':
            return (*encoder.loss(self.net, batch, rng, noisy), None, None)
        if kind == 'align':
            return (*align.loss(self.net, batch, rng, self.dec, noisy), None, None)
        if kind == 'bind':
            return (*chatting.bind(self.net, batch, rng, r.get('vision', True) and noisy, noisy), None, None)
        return chatting.loss(self.net, batch, rng, r.get('vision', True) and noisy, noisy, r)

    def run(self, stage, budget=None):
        """-> False when it was told to stop"""
        r, kind = recipe_of(self.recipe, stage, self.device.type, self.smoke), self.recipe['stages'][stage]['kind']
        began, order, net = time.time(), list(self.recipe['stages']).index(stage), self.net
        set_lora(net, bool(r.get('lora')))
        if kind == 'align':
            self.dec = net.qformer_size['n_vocab'] - 1
        source = self.source(r, kind, order)
        checks = self.checks(r, kind)
        trainable = [(n, p) for n, p in net.named_parameters() if learns(kind, r)(n)]
        went_on, self.state = (self.state if self.state is not None and self.state['stage'] == stage else None), None

        def step_of(step):
            batch = source.batch(r['turns'][step % len(r['turns'])], step)
            rng = np.random.default_rng([self.recipe['seed'], order, step, self.rank, 7])
            return self.step(kind, r, batch, rng)[:2]

        def checked(over):
            text, score = self.check(r, kind, checks)
            text = '%-10s %s%s' % (stage, 'end, ' if over else '', text)
            self.place.say(text)
            if over and self.place.rank == 0:
                self.place.say('%s took %.1f s, %.1f of them waiting for samples' % (stage, time.time() - began, source.waited))
            if self.delivery:
                self.delivery.note(text)
                self.delivery.hand_over(net, self.finished + [stage] * over, (r['channels']['clip'].get('views', 1), score) if r.get('lora') and kind == 'chatting' else None)

        try:
            done = loop.run(stage, r, net, trainable, step_of, self.place, None if budget is None else budget - (time.time() - began), went_on,
                            checked if self.rank == 0 else None, self.amp, self.finished)
        finally:
            source.close()
        if done:
            self.finished = self.finished + [stage]
        if self.device.type == 'cuda':
            del source
            torch.cuda.empty_cache()
        return done

    def checks(self, r, kind, clips=None):
        """Validation batches: what the stage sees, from scenes of the val split, without noise, instructions, empty questions and swapped words."""
        if self.rank:
            return []
        n, out = clips or (2 if self.smoke else r.get('checked', 96)), []
        for i, (name, c) in enumerate(sorted(r['channels'].items())):
            if name not in r.get('checking', r['channels']):
                continue
            maker = Maker(kind, dict(c, instructed=0.0, lonely=0.0, swapped=0.0, rows=1), self.vocab, 'val')
            rng, size = np.random.default_rng([VALIDATION_SEED, i]), min(n, 8 if maker.hd else 32)
            for _ in range(-(-n // size)):
                out.append((name, maker.n_frame in (0, 8), feed.fixed(maker, *maker.chunk(rng, size), self.device)))
        return out

    def check(self, r, kind, checks):
        """-> text, share of right answers (of pictures and longer clips not) or None"""
        by_name, hit, all_ = {}, np.zeros(len(TYPES)), np.zeros(len(TYPES))
        with torch.no_grad():
            for name, counts, batch in checks:
                rng = np.random.default_rng(VALIDATION_SEED)
                if self.amp:
                    with self.amp():
                        _, values, right, kinds = self.step(kind, r, batch, rng, False)
                else:
                    _, values, right, kinds = self.step(kind, r, batch, rng, False)
                by_name.setdefault(name, loop.Sums()).add(values)
                if right is not None and counts:
                    k, ok = kinds.cpu().numpy(), right.cpu().numpy()
                    all_ += np.bincount(k[k >= 0], minlength=len(TYPES))
                    hit += np.bincount(k[ok & (k >= 0)], minlength=len(TYPES))
        text = '; '.join('%s: %s' % (name, ', '.join('%s %.3f' % x for x in sorted(s.read().items()))) for name, s in by_name.items())
        if not all_.sum():
            return text, None
        score = hit.sum() / all_.sum()
        return text + '; answers right %.4f of %d: ' % (score, all_.sum()) + ', '.join(
            '%s %.3f' % (TYPES[i], hit[i] / all_[i]) for i in range(len(TYPES)) if all_[i]), float(score)


def validate(trainer, stage, clips=240):
    """Share of right answers by type on the val split (each id the best one given the right ones before it)."""
    r = recipe_of(trainer.recipe, stage, 'cpu')
    set_lora(trainer.net, bool(r.get('lora')))
    trainer.dec = trainer.net.qformer_size['n_vocab'] - 1
    return trainer.check(r, r['kind'], trainer.checks(r, r['kind'], clips))
