# SPDX-License-Identifier: MIT
"""InternVideo2-Chat in PyTorch: the graph that ivchat runs, once more, in the shortest form that can be read and trained.

    python tools/reference.py chat    -m MODEL --video FILE -p "..." [-p "..."]           answers, greedy
    python tools/reference.py dump    -m MODEL --video FILE -p "..." --out DIR            every stage as .npy
    python tools/reference.py answers -m MODEL --data DIR --out FILE.jsonl                the questions of a corpus
    python tools/reference.py check   -m MODEL --golden DIR                                the golden cases of this checkpoint

Parts (module names are the checkpoint's tensor names, so state_dict() and the safetensors files agree):

    vision_encoder    video transformer: patches, class token, positions, blocks with QK-RMSNorm and LayerScale
    vision_layernorm
    qformer           BERT with cross-attention in every second layer and two FFNs; query rows and instruction rows
    project_up        d_qformer -> d_llm
    lm                Mistral or InternLM2, each linear with an optional LoRA pair (not merged)

It reads and writes the release's layout (config.json with the extension keys, safetensors, tokenizer files). Dimensions come from
reference_sizes.py, pixels from reference_media.py, ids from reference_text.py, tokens from reference_search.py; turns are put together
in reference_chat.py, the verbs are in reference_run.py. Precision: f32, or bf16 with the rounding points of the released modules
(`model.to(torch.bfloat16)`; plain attention there, fused attention otherwise).

Easy to get wrong: the last of `depth` blocks is not built; q_norm and k_norm span all heads; RMSNorm multiplies by the weight after
rounding; queries get no position embedding; wqkv is grouped by key head; every text piece starts with BOS.
"""
import json
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reference_media as media  # noqa: F401  reference.media and reference.text serve whoever imports the twin
import reference_text as text
from reference_chat import Chat
from reference_search import process
from reference_sizes import sizes


class Tree(nn.Module):
    """A node that only gives its children a path in the checkpoint."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def attention(q, k, v, scale, mask=None, causal=False):
    """q [B,H,L,d], k and v [B,H,S,d] -> [B,H,L,d]. mask: True = may see. Rounds as the released modules in bf16."""
    if q.dtype == torch.float32 or torch.is_autocast_enabled(q.device.type):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    s = (q * scale) @ k.transpose(-2, -1)
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        s = s.masked_fill(~mask, float('-inf'))
    return F.softmax(s.float(), dim=-1).to(q.dtype) @ v


class RMSNorm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        f = x.float()
        return self.weight * (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


# ---------------------------------------------------------------- video transformer (SPEC 4)

class VitAttention(nn.Module):
    def __init__(self, d, n_head):
        super().__init__()
        self.n_head = n_head
        self.qkv, self.proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d)
        self.q_norm, self.k_norm = RMSNorm(d, 1e-6), RMSNorm(d, 1e-6)

    def forward(self, x):
        n, l, d = x.shape
        q, k, v = self.qkv(x).split(d, dim=-1)
        q, k, v = (t.reshape(n, l, self.n_head, -1).transpose(1, 2) for t in (self.q_norm(q), self.k_norm(k), v))
        y = attention(q, k, v, (d // self.n_head) ** -0.5)
        return self.proj(y.transpose(1, 2).reshape(n, l, d))


class VitBlock(nn.Module):
    def __init__(self, d, n_head, d_ffn):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(d, 1e-6), RMSNorm(d, 1e-6)
        self.attn = VitAttention(d, n_head)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.mlp = Tree(fc1=nn.Linear(d, d_ffn), fc2=nn.Linear(d_ffn, d))

    def forward(self, x):
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.patch, self.image = c['d_model'], c['patch'], c['image']
        self.n_patch = (self.image // self.patch) ** 2
        self.patch_embed = Tree(proj=nn.Conv3d(3, d, (1, self.patch, self.patch), (1, self.patch, self.patch)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + c['n_frame'] * self.n_patch, d))
        self.img_pos_embed = nn.Parameter(torch.zeros(1, 1 + self.n_patch, d))
        self.blocks = nn.ModuleList(VitBlock(d, c['n_head'], c['d_ffn']) for _ in range(c['n_layer']))

    def position(self, n_frame):
        """[1, 1 + n_frame * n_patch, d]: linear in time when the table was made for another number of frames (SPEC 4.1)."""
        if n_frame == 1:
            return self.img_pos_embed
        t0 = (self.pos_embed.shape[1] - 1) // self.n_patch
        if n_frame == t0:
            return self.pos_embed
        d = self.pos_embed.shape[2]
        grid = self.pos_embed[:, 1:].reshape(t0, self.n_patch * d).t()[None]
        grid = F.interpolate(grid, n_frame, mode='linear', align_corners=False)[0].t().reshape(1, -1, d)
        return torch.cat([self.pos_embed[:, :1], grid], 1)

    def embed(self, x):
        """x [N,T,3,image,image] -> [N, 1 + T * n_patch, d], class token first, before positions."""
        n, t, _, h, _ = x.shape
        g, p = h // self.patch, self.patch
        w = self.patch_embed.proj.weight
        x = x if torch.is_autocast_enabled(x.device.type) else x.to(w.dtype)
        x = x.reshape(n, t, 3, g, p, g, p).permute(0, 1, 3, 5, 2, 4, 6).reshape(n, t * g * g, 3 * p * p)
        x = F.linear(x, w.reshape(w.shape[0], -1), self.patch_embed.proj.bias)
        return torch.cat([self.cls_token.expand(n, -1, -1), x], 1)

    def forward(self, x, tap=None):
        h = self.embed(x)
        if tap:
            tap('vit_patch', h)
        h = h + self.position(x.shape[1])
        for i, block in enumerate(self.blocks):
            h = block(h)
            if tap:
                tap('vit_block_%d' % i, h)
        return h


# ---------------------------------------------------------------- Q-Former (SPEC 5)

class BertAttention(nn.Module):
    """Attention with its own output projection and post-LayerNorm, under the names of BERT."""

    def __init__(self, d, n_head, d_kv, eps):
        super().__init__()
        self.n_head = n_head
        self.self = Tree(query=nn.Linear(d, d), key=nn.Linear(d_kv, d), value=nn.Linear(d_kv, d))
        self.output = Tree(dense=nn.Linear(d, d), LayerNorm=nn.LayerNorm(d, eps))

    def forward(self, x, memory=None, mask=None):
        memory = x if memory is None else memory
        split = lambda t: t.reshape(t.shape[0], t.shape[1], self.n_head, -1).transpose(1, 2)
        q, k, v = split(self.self.query(x)), split(self.self.key(memory)), split(self.self.value(memory))
        y = attention(q, k, v, q.shape[-1] ** -0.5, mask)
        y = y.transpose(1, 2).reshape(x.shape)
        return self.output.LayerNorm(self.output.dense(y) + x)


class QformerLayer(nn.Module):
    def __init__(self, c, cross):
        super().__init__()
        d, f, eps = c['d_model'], c['d_ffn'], c['eps']
        self.attention = BertAttention(d, c['n_head'], d, eps)
        self.crossattention = BertAttention(d, c['n_head'], c['d_vision'], eps) if cross else None
        for tail in ('', '_query'):
            setattr(self, 'intermediate' + tail, Tree(dense=nn.Linear(d, f)))
            setattr(self, 'output' + tail, Tree(dense=nn.Linear(f, d), LayerNorm=nn.LayerNorm(d, eps)))

    def ffn(self, x, tail):
        out = getattr(self, 'output' + tail)
        return out.LayerNorm(out.dense(F.gelu(getattr(self, 'intermediate' + tail).dense(x))) + x)

    def forward(self, x, n_query, vision, mask=None):
        a = self.attention(x, mask=mask)
        q, t = a[:, :n_query], a[:, n_query:]
        if n_query:
            if self.crossattention is not None:
                q = self.crossattention(q, vision)
            q = self.ffn(q, '_query')
        return torch.cat([q, self.ffn(t, '')], 1) if t.shape[1] else q


class Qformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c['d_model']
        embeddings = Tree(word_embeddings=nn.Embedding(c['n_vocab'], d), position_embeddings=nn.Embedding(c['n_pos'], d),
                          LayerNorm=nn.LayerNorm(d, c['eps']))
        embeddings.register_buffer('position_ids', torch.arange(c['n_pos'])[None])
        layers = nn.ModuleList(QformerLayer(c, i % c['cross_every'] == 0) for i in range(c['n_layer']))
        self.bert = Tree(embeddings=embeddings, encoder=Tree(layer=layers))

    def forward(self, query, vision, ids=None, mask=None):
        """query [N,n,d] (n may be 0), vision [N,S,d_vision], ids [N,L] of an instruction -> rows [N, n + L, d]."""
        e = self.bert.embeddings
        x = query
        if ids is not None:
            words = e.word_embeddings(ids) + e.position_embeddings(e.position_ids[:, :ids.shape[1]])
            x = torch.cat([x, words], 1)
        x = e.LayerNorm(x)
        for layer in self.bert.encoder.layer:
            x = layer(x, query.shape[1], vision, mask)
        return x


# ---------------------------------------------------------------- language model (SPEC 7)

class LoraLinear(nn.Module):
    """y = x W^T + scale * (x A^T) B^T; the pair is absent when r is 0."""

    def __init__(self, d_in, d_out, r, alpha):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_out, d_in))
        self.scale, self.dropout = (alpha / r if r else 0.0), 0.0
        if r:
            self.lora_A = nn.ModuleDict({'default': nn.Linear(d_in, r, bias=False)})
            self.lora_B = nn.ModuleDict({'default': nn.Linear(r, d_out, bias=False)})

    def forward(self, x):
        y = F.linear(x, self.weight)
        if self.scale:
            z = F.dropout(x, self.dropout, self.training) if self.dropout else x
            y = y + self.lora_B['default'](self.lora_A['default'](z)) * self.scale
        return y


def rope_table(pos, d_head, theta, dtype):
    """pos [...] -> cos, sin [..., d_head / 2]; angles in f32, values in the model's precision."""
    inv = 1.0 / (theta ** (torch.arange(0, d_head, 2, device=pos.device).float() / d_head))
    angle = pos.float()[..., None] * inv
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rope(x, cos, sin):
    """x [B,L,H,d_head]; halves, not interleaved."""
    a, b = x.chunk(2, -1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class LlmLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, d, f = c, c['d_model'], c['d_ffn']
        n_q, n_kv = c['n_head'] * c['d_head'], c['n_kv'] * c['d_head']
        lora = lambda i, o: LoraLinear(i, o, c['lora_r'], c['lora_alpha'])
        if c['kind'] == 'internlm2':
            self.attention = Tree(wqkv=lora(d, n_q + 2 * n_kv), wo=lora(n_q, d))
            self.feed_forward = Tree(w1=lora(d, f), w2=lora(f, d), w3=lora(d, f))
            self.attention_norm, self.ffn_norm = RMSNorm(d, c['eps']), RMSNorm(d, c['eps'])
        else:
            self.self_attn = Tree(q_proj=lora(d, n_q), k_proj=lora(d, n_kv), v_proj=lora(d, n_kv), o_proj=lora(n_q, d))
            self.mlp = Tree(gate_proj=lora(d, f), up_proj=lora(d, f), down_proj=lora(f, d))
            self.input_layernorm, self.post_attention_layernorm = RMSNorm(d, c['eps']), RMSNorm(d, c['eps'])

    def project(self, x):
        """q [B,L,n_head,d_head], k and v [B,L,n_kv,d_head]."""
        c, (b, l, _) = self.c, x.shape
        if c['kind'] == 'internlm2':  # rows grouped by key head: its queries, its key, its value (SPEC 2.6)
            n = c['n_head'] // c['n_kv']
            y = self.attention.wqkv(x).reshape(b, l, c['n_kv'], n + 2, c['d_head'])
            return y[..., :n, :].reshape(b, l, c['n_head'], c['d_head']), y[..., n, :], y[..., n + 1, :]
        a = self.self_attn
        return tuple(t.reshape(b, l, -1, c['d_head']) for t in (a.q_proj(x), a.k_proj(x), a.v_proj(x)))

    def forward(self, h, cos, sin, mask, cache=None):
        c, internlm = self.c, self.c['kind'] == 'internlm2'
        b, l, _ = h.shape
        q, k, v = self.project((self.attention_norm if internlm else self.input_layernorm)(h))
        q, k, v = (t.transpose(1, 2) for t in (rope(q, cos, sin), rope(k, cos, sin), v))
        if cache is not None:
            k, v = cache.append(id(self), k, v)
        n = c['n_head'] // c['n_kv']
        k, v = (t.repeat_interleave(n, 1) if n > 1 else t for t in (k, v))
        y = attention(q, k, v, c['d_head'] ** -0.5, mask, causal=mask is None and l > 1)
        y = y.transpose(1, 2).reshape(b, l, -1)
        if internlm:
            h = h + self.attention.wo(y)
            x, f = self.ffn_norm(h), self.feed_forward
            return h + f.w2(F.silu(f.w1(x)) * f.w3(x))
        h = h + self.self_attn.o_proj(y)
        x, f = self.post_attention_layernorm(h), self.mlp
        return h + f.down_proj(F.silu(f.gate_proj(x)) * f.up_proj(x))


class Cache:
    """Keys and values so far, one pair a layer."""

    def __init__(self):
        self.kv, self.n = {}, 0

    def append(self, key, k, v):
        if key in self.kv:
            k, v = (torch.cat(pair, 2) for pair in zip(self.kv[key], (k, v)))
        self.kv[key] = (k, v)
        return k, v


class Llm(nn.Module):
    """The peft wrapping gives the names base_model.model.model and base_model.model.lm_head."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        internlm = c['kind'] == 'internlm2'
        body = Tree(layers=nn.ModuleList(LlmLayer(c) for _ in range(c['n_layer'])), norm=RMSNorm(c['d_model'], c['eps']))
        setattr(body, 'tok_embeddings' if internlm else 'embed_tokens', nn.Embedding(c['n_vocab'], c['d_model']))
        head = LoraLinear(c['d_model'], c['n_vocab'], 0 if internlm else c['lora_r'], c['lora_alpha'])
        self.base_model = Tree(model=Tree(model=body, **{'output' if internlm else 'lm_head': head}))

    @property
    def body(self):
        return self.base_model.model.model

    def embed(self, ids):
        body = self.body
        return (body.tok_embeddings if self.c['kind'] == 'internlm2' else body.embed_tokens)(ids)

    def head(self, h):
        m = self.base_model.model
        return (m.output if self.c['kind'] == 'internlm2' else m.lm_head)(h).float()

    def forward(self, h, pos, mask=None, cache=None):
        """h [B,L,d], pos [B,L]; without a mask causal over h alone (a cache must then be empty or L be 1). -> normed rows."""
        cos, sin = rope_table(pos, self.c['d_head'], self.c['theta'], h.dtype)
        for layer in self.body.layers:
            h = layer(h, cos, sin, mask, cache)
        if cache is not None:
            cache.n += h.shape[1]
        return self.body.norm(h)


# ---------------------------------------------------------------- the whole (SPEC 1)

class VideoChat(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.vit_size, self.qformer_size, self.llm_size = sizes(config)
        q, lm = self.qformer_size, self.llm_size
        self.vision_encoder = Vit(self.vit_size)
        self.vision_layernorm = nn.LayerNorm(self.vit_size['d_model'], eps=1e-12)
        self.qformer = Qformer(q)
        self.query_tokens = nn.Parameter(torch.zeros(1, q['n_query'], q['d_model']))
        self.extra_query_tokens = nn.Parameter(torch.zeros(1, q['n_extra'], q['d_model']))
        self.project_up = nn.Linear(q['d_model'], lm['d_model'])
        self.project_down = nn.Linear(lm['d_model'], q['d_model'])
        self.lm = Llm(lm)

    @property
    def dtype(self):
        return self.query_tokens.dtype

    def queries(self, n):
        return torch.cat([self.query_tokens, self.extra_query_tokens], 1).expand(n, -1, -1)

    def vision(self, pixels, tap=None):
        """pixels [N,T,3,224,224] -> what the Q-Former looks at, [N, 1 + T * n_patch, d_vision]."""
        v = self.vision_layernorm(self.vision_encoder(pixels, tap))
        if tap:
            tap('vit', v)
        return v

    def project(self, v, instruction_ids=None, tap=None):
        """v of vision(), instruction_ids [L] or None -> rows [N, n_query, d_llm] of N clips."""
        ids = None if instruction_ids is None else torch.as_tensor(instruction_ids)[None].expand(len(v), -1)
        query = self.queries(len(v))
        q = self.qformer(query, v, ids)[:, :query.shape[1]]
        rows = self.project_up(q)
        if tap:
            tap('qformer', q)
            tap('projected', rows.reshape(-1, rows.shape[-1]))
        return rows

    def visual(self, pixels, instruction_ids=None, tap=None):
        """pixels [N,T,3,224,224], instruction_ids [L] or None -> rows [N, n_query, d_llm] of N clips."""
        return self.project(self.vision(pixels, tap), instruction_ids, tap)

    def prefill(self, ids, rows):
        """ids [L], -1 where a visual row goes -> scores of what follows [1,n_vocab], cache."""
        ids, cache = torch.as_tensor(ids)[None], Cache()
        h = self.lm.embed(ids.clamp(min=0)).clone()
        if (ids < 0).any():
            h[ids < 0] = rows.reshape(-1, rows.shape[-1]).to(h.dtype)
        return self.lm.head(self.lm(h, torch.arange(ids.shape[1])[None], cache=cache)[:, -1]), cache

    def step(self, ids, cache):
        """One new id of each sequence -> scores of what follows [n,n_vocab]"""
        pos = torch.full((len(ids), 1), cache.n)
        return self.lm.head(self.lm(self.lm.embed(torch.tensor(ids)[:, None]), pos, cache=cache)[:, -1])

    @torch.no_grad()
    def generate(self, ids, rows, max_new_tokens=200, min_length=1, repetition_penalty=1.0, tap=None):
        """Greedy. ids: -1 where a visual row goes. -> new ids (a final end of sequence included), [best, second] score a step."""
        s, cache = self.prefill(ids, rows)
        out, best = [], []
        if tap:
            tap('logits', s[0].clone())  # process() writes into s
        while True:
            s = process(s[0], out, self.llm_size['eos'], min_length, repetition_penalty)
            best.append(torch.topk(s, 2).values.tolist())
            out.append(int(s.argmax()))
            if out[-1] in self.llm_size['eos'] or len(out) >= max_new_tokens:
                return out, best
            s = self.step(out[-1:], cache)


# ---------------------------------------------------------------- checkpoints (SPEC 2)

def load(path, dtype=torch.float32):
    """A snapshot folder -> VideoChat in evaluation mode. Tensors keep f32 values whatever the file's dtype (or become dtype)."""
    from safetensors.torch import load_file
    with open(os.path.join(path, 'config.json')) as f:
        config = json.load(f)
    index = os.path.join(path, 'model.safetensors.index.json')
    if os.path.exists(index):
        with open(index) as f:
            files = sorted(set(json.load(f)['weight_map'].values()))
    else:
        files = ['model.safetensors']
    state = {}
    for name in files:
        state.update(load_file(os.path.join(path, name)))
    state = {k.replace('.base_layer.', '.'): v for k, v in state.items()}
    config['model_config']['vision_encoder']['num_frames'] = num_frames = config['model_config']['vision_encoder'].get('num_frames', 8)
    model = VideoChat(config)
    rows, n_patch = state['vision_encoder.pos_embed'].shape[1] - 1, model.vision_encoder.n_patch
    if rows != num_frames * n_patch:  # a table made for another number of frames (SPEC 8)
        model.vision_encoder.pos_embed = nn.Parameter(torch.zeros_like(state['vision_encoder.pos_embed'], dtype=torch.float32))
    for name, module in model.named_modules():  # LoRA may be absent from any linear
        if isinstance(module, LoraLinear) and module.scale and name + '.lora_A.default.weight' not in state:
            module.scale = 0.0
            del module.lora_A, module.lora_B
    missing, unknown = model.load_state_dict(state, strict=False)
    needed = [k for k in missing if not k.startswith('project_down.') and not k.endswith('position_ids')]
    if needed or unknown:
        raise ValueError('%s: missing %s, unknown %s' % (path, needed[:4], unknown[:4]))
    return model.to(dtype).eval()


def save(model, path, dtype=torch.bfloat16, shard_bytes=5 * 10 ** 9):
    """Writes config.json, shards and their index; floating tensors in dtype. Files are complete or absent."""
    from safetensors.torch import save_file
    os.makedirs(path, exist_ok=True)
    state = {k: (v.detach().to(dtype) if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}
    shards, size = [{}], 0
    for k, v in state.items():
        n = v.numel() * v.element_size()
        if shards[-1] and size + n > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][k] = v
        size += n
    names = ['model-%05d-of-%05d.safetensors' % (i + 1, len(shards)) for i in range(len(shards))]
    for name, shard in zip(names, shards):
        save_file(shard, os.path.join(path, name + '.tmp'), metadata={'format': 'pt'})
        os.replace(os.path.join(path, name + '.tmp'), os.path.join(path, name))
    total = sum(v.numel() * v.element_size() for v in state.values())
    index = {'metadata': {'total_size': total}, 'weight_map': {k: n for n, s in zip(names, shards) for k in s}}
    for name, value in (('model.safetensors.index.json', index), ('config.json', model.config)):
        with open(os.path.join(path, name), 'w') as f:
            json.dump(value, f, indent=1, sort_keys=name.startswith('model'))
            f.write('\n')


def open_chat(path, dtype=torch.float32, variant=None):
    model = load(path, dtype)
    kind = model.llm_size['kind']
    return Chat(model, text.open_tokenizer(path, kind), text.open_bert(path), variant or ('internlm' if kind == 'internlm2' else 'hd'))


if __name__ == '__main__':
    import reference_run
    sys.exit(reference_run.main())
