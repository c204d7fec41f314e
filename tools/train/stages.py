# SPDX-License-Identifier: MIT
"""What each stage trains, on what, and with which loss. (recipe.json has the numbers, docs/TRAINING.md the reasons)"""
import os

import numpy as np
import torch

import reference
import reference_text as text
from train import encoder, loop


def config(recipe):
    """config.json of the model, in the release's form with the extension keys."""
    m = recipe['model']
    vision = dict(name='internvideo2-1B', encoder_embed_dim=m['vision_encoder']['d_model'], img_size=224, num_frames=8, origin_num_frames=4,
                  tubelet_size=1, sep_image_video_pos_embed=True, vit_add_ln=True, x_vis_only=True, x_vis_return_idx=-2, **m['vision_encoder'])
    qformer = dict(model_type='bert', hidden_act='gelu', max_position_embeddings=128, layer_norm_eps=1e-12, pad_token_id=0, type_vocab_size=2,
                   encoder_width=vision['d_model'], cross_attention_freq=2, vocab_size=m.get('qformer_vocab', 1000), **m['qformer_config'])
    llm = dict(model_type='mistral', vocab_size=m.get('llm_vocab', 1024), rms_norm_eps=1e-5, hidden_act='silu', bos_token_id=1, eos_token_id=2,
               tie_word_embeddings=False, sliding_window=None, **m['llm_config'])
    return dict(_name_or_path='ivchat-small-hd', model_cls='InternVideo2_VideoChat2', architectures=['InternVideo2_VideoChat2'], model_config=dict(
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
        vit = model.vision_encoder
        d, g = vit.cls_token.shape[2], 224 // vit.patch
        # space and time begin as sums of smooth waves, so that neighbours are near from the start
        for block in vit.blocks:
            mimic(block, d, block.attn.n_head)
        wave = lambda n: torch.stack([f(torch.arange(n)[:, None] * (10.0 ** (-torch.arange(d // 8) / (d / 8)))) for f in (torch.sin, torch.cos)], -1).flatten(1)
        space = torch.cat([wave(g)[:, None].expand(g, g, -1), wave(g)[None].expand(g, g, -1)], -1).reshape(g * g, -1)
        pad = lambda x: torch.nn.functional.pad(x, (0, d - x.shape[1]))
        vit.img_pos_embed[0, 1:] += pad(space)
        t0 = (vit.pos_embed.shape[1] - 1) // (g * g)
        time = torch.nn.functional.pad(wave(t0), (d // 2, 0))
        vit.pos_embed[0, 1:] += (pad(space)[None] + pad(time)[:, None]).reshape(-1, d)


def mimic(block, d, n_head):
    """Attention begins as if trained: queries and keys alike, so that tokens look at what is near and similar (Trockman and Kolter,
    "Mimetic Initialization of Self-Attention Layers", 2023): Wq' Wk = 0.7 I + noise, Wproj Wv = -0.4 I + noise."""
    noise = lambda: torch.randn(d, d) * d ** -0.5
    qkv, w = block.attn.qkv.weight, d // n_head
    for h in range(n_head):
        u, s, v = torch.linalg.svd(0.7 * torch.eye(d) + 0.7 * noise())
        qkv[h * w:(h + 1) * w] = u[:, :w].t() * s[:w, None].sqrt()
        qkv[d + h * w:d + (h + 1) * w] = v[:w] * s[:w, None].sqrt()
    u, s, v = torch.linalg.svd(0.4 * noise() - 0.4 * torch.eye(d))
    qkv[2 * d:] = v * s[:, None].sqrt()
    block.attn.proj.weight.copy_(u * s.sqrt())


def build(recipe):
    model = reference.VideoChat(config(recipe))
    initialise(model, recipe['seed'])
    return model


def load_stage(net, folder, stage):
    """Takes over what both have in common; shapes must agree."""
    state = torch.load(os.path.join(folder, 'state-%s.pt' % stage), map_location='cpu', weights_only=True)['net']
    own = net.state_dict()
    net.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def rng_of(recipe, stage, step, rank, micro=0):
    order = list(recipe['stages']).index(stage)
    return np.random.default_rng([recipe['seed'], order, step, rank, micro])


def run_encoder(stage, recipe, folder, rank):
    r = recipe['stages'][stage]
    net = build(recipe)
    net.heads = encoder.Heads(net.vit_size['d_model'])
    for part in ('lm', 'qformer', 'project_up', 'project_down'):  # not part of this stage's state
        setattr(net, part, torch.nn.Identity())
    for earlier in r.get('from', []):
        load_stage(net, folder, earlier)
    if r.get('begins_video') and not os.path.exists(os.path.join(folder, 'state-%s.pt' % stage)):
        with torch.no_grad():  # the video table begins as the image table, frame by frame
            vit = net.vision_encoder
            n, t = vit.n_patch, (vit.pos_embed.shape[1] - 1) // vit.n_patch
            fresh = build(recipe).vision_encoder
            step = vit.img_pos_embed - fresh.img_pos_embed
            vit.pos_embed[:, 1:] = fresh.pos_embed[:, 1:] + step[:, 1:].repeat(1, t, 1)
            vit.pos_embed[:, :1] = vit.img_pos_embed[:, :1]

    def loss_of(step, micro):
        rng = rng_of(recipe, stage, step, rank, micro)
        image = r['n_frame'] == 1 or r.get('image_every') and step % r['image_every'] == 0
        size = r['batch'] if not image or r['n_frame'] == 1 else r.get('images', 16)
        made = encoder.batch(rng, rng.integers(1 << 40, size=size), 1 if image else r['n_frame'], r.get('crowds', 0.0) if image else 0.0)
        return encoder.loss(net, net.heads, *made, r['n_frame'] == 3 and not image)

    trainable = [(n, p) for n, p in net.named_parameters() if n.startswith(('vision_encoder', 'vision_layernorm', 'heads'))]
    loop.run(stage, r, net, trainable, loss_of, folder, rank)


def texts(folder, net=None):
    """Tokenizers of the vocabulary folder beside the state."""
    from train.packing import Encoder
    vocab = os.path.join(folder, '..', 'vocab')
    return Encoder(text.BpeTokenizer(os.path.join(vocab, 'tokenizer.json')), 96), text.BertTokenizer(os.path.join(vocab, 'vocab.txt'))


def run_reader(stage, recipe, folder, rank):
    from train import reader
    r = recipe['stages'][stage]
    net = build(recipe)
    for part in ('vision_encoder', 'vision_layernorm', 'qformer', 'project_up', 'project_down'):
        setattr(net, part, torch.nn.Identity())
    encode, _ = texts(folder)
    set_lora(net, False)

    def loss_of(step, micro):
        rng = rng_of(recipe, stage, step, rank, micro)
        return reader.batch(encode, rng, rng.integers(1 << 40, size=r['batch']), r['questions']).loss(net.lm)

    trainable = [(n, p) for n, p in net.named_parameters() if n.startswith('lm.') and 'lora_' not in n]
    loop.run(stage, r, net, trainable, loss_of, folder, rank)


def run_align(stage, recipe, folder, rank):
    from train import align
    r = recipe['stages'][stage]
    net = build(recipe)
    net.heads = align.AlignHeads(net.qformer_size['d_model'])
    net.lm = torch.nn.Identity()
    _, bert = texts(folder)
    for earlier in r['from']:
        load_stage(net, folder, earlier)

    def loss_of(step, micro):
        rng = rng_of(recipe, stage, step, rank, micro)
        return align.loss(net, net.heads, rng, bert, *align.batch(rng, bert, rng.integers(1 << 40, size=r['batch'])))

    trainable = [(n, p) for n, p in net.named_parameters() if n.startswith(('qformer', 'query_tokens', 'heads'))]
    loop.run(stage, r, net, trainable, loss_of, folder, rank)


def run_chatting(stage, recipe, folder, rank):
    from train import chatting
    r = recipe['stages'][stage]
    net = build(recipe)
    for earlier in r['from']:
        load_stage(net, folder, earlier)
    set_lora(net, r['lora'])
    encode, bert = texts(folder)

    def loss_of(step, micro):
        rng = rng_of(recipe, stage, step, rank, micro)
        image = bool(r.get('image_every')) and step % r['image_every'] == 1
        seeds = rng.integers(1 << 40, size=r['batch'] * (r.get('images', 3) if image else 1))
        return chatting.loss(net, chatting.Batch(encode, bert, rng, seeds, r, image), r.get('vision', True), rng)

    def learns(name):
        if name.startswith('lm.'):
            return r['lora'] and 'lora_' in name
        return not name.startswith('project_down') and (r.get('vision', True) or not name.startswith('vision_'))

    loop.run(stage, r, net, [(n, p) for n, p in net.named_parameters() if learns(n)], loss_of, folder, rank)


def validate(stage, recipe, folder, rank, clips=240):
    """Share of right answers by type on the val split (each id the best one given the right ones before it)."""
    from train import chatting
    r = dict(recipe['stages'][stage], instructed=0.0, lonely=0.0)
    net = build(recipe)
    load_stage(net, folder, stage)
    set_lora(net, r['lora'])
    encode, bert = texts(folder)
    hit, all_ = {}, {}
    for n in range(rank, clips // 8, 2):
        rng = np.random.default_rng([99, n])
        b = chatting.Batch(encode, bert, rng, range(n * 8, n * 8 + 8), r, False, 'val')
        with torch.no_grad():
            chatting.loss(net, b, False, rng)
        for kind, ok in zip(b.kinds, b.packed.right.tolist()):
            hit[kind], all_[kind] = hit.get(kind, 0) + ok, all_.get(kind, 0) + 1
    print('rank %d, %d answers: all %.3f; ' % (rank, sum(all_.values()), sum(hit.values()) / sum(all_.values())) + ', '.join(
        '%s %.3f' % (k, hit[k] / all_[k]) for k in sorted(all_)), flush=True)


def set_lora(net, on):
    for m in net.modules():
        if isinstance(m, reference.LoraLinear):
            m.scale = net.llm_size['lora_alpha'] / net.llm_size['lora_r'] if on else 0.0


def run(stage, recipe, folder, rank):
    if stage.startswith('val:'):
        return validate(stage[4:], recipe, folder, rank)
    kind = recipe['stages'][stage]['kind']
    {'encoder': run_encoder, 'reader': run_reader, 'align': run_align, 'chatting': run_chatting}[kind](stage, recipe, folder, rank)
