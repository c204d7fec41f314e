# SPDX-License-Identifier: MIT
"""The twin's modules in fewer or faster operators, for training only."""
import torch
import torch.nn.functional as F

import reference


def norms():
    """RMSNorm in one operator, in the precision of its input; the twin's own form has the rounding of the released modules."""
    reference.RMSNorm.forward = lambda self, x: F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def whole(m):
    """A linear's weight with its LoRA pair added: one product a token instead of three."""
    return torch.addmm(m.weight, m.lora_B['default'].weight, m.lora_A['default'].weight, alpha=m.scale) if m.scale else m.weight


def feed_forward(m, h):
    """The second half of an LlmLayer of the Mistral kind."""
    f = m.mlp
    gate, up = F.linear(m.post_attention_layernorm(h), torch.cat([whole(f.gate_proj), whole(f.up_proj)])).chunk(2, -1)
    return h + F.linear(F.silu(gate) * up, whole(f.down_proj))


def layer_of(m, h, cos, sin, mask, cache=None):
    """LlmLayer of the Mistral kind without a cache, in fewer operators: products that read the same rows are one. m.watch, if there is
    one, is shown the scaled queries of the first head of each key head, and these keys."""
    c, a, (b, l, _) = m.c, m.self_attn, h.shape
    n = c['n_head'], c['n_kv']
    y = F.linear(m.input_layernorm(h), torch.cat([whole(a.q_proj), whole(a.k_proj), whole(a.v_proj)])).view(b, l, -1, c['d_head'])
    qk = reference.rope(y[:, :, :n[0] + n[1]], cos, sin).transpose(1, 2)
    q, k, v = qk[:, :n[0]], qk[:, n[0]:], y[:, :, n[0] + n[1]:].transpose(1, 2)
    k, v = (t[:, :, None].expand(-1, -1, n[0] // n[1], -1, -1).reshape(b, n[0], l, -1) for t in (k, v))
    if getattr(m, 'watch', None):
        m.watch(q[:, ::n[0] // n[1]] * c['d_head'] ** -0.5, k[:, ::n[0] // n[1]])
    y = reference.attention(q, k, v, c['d_head'] ** -0.5, mask, causal=mask is None and l > 1)
    h = h + F.linear(y.transpose(1, 2).reshape(b, l, -1), whole(a.o_proj))
    return feed_forward(m, h)


def layers(net):
    """For training only, on this net."""
    for layer in net.lm.body.layers:
        layer.forward = lambda *x, layer=layer: layer_of(layer, *x)
    head = net.lm.base_model.model.lm_head
    head.forward = lambda x: F.linear(x, whole(head))


def plain_attention(q, k, v, scale, mask=None, causal=False):
    """reference.attention() as products in the precision of q: in bfloat16 on CPUs twice as fast as the fused one, backwards too."""
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    with torch.autocast(q.device.type, enabled=False):
        s = (q * scale).contiguous() @ k.contiguous().transpose(-2, -1)
        if mask is not None:
            s = s + mask if mask.is_floating_point() else s.masked_fill(~mask, float('-inf'))
        return F.softmax(s, -1) @ v.contiguous()


def attention_on_cpus():
    reference.attention = plain_attention
