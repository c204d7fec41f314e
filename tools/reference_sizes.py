# SPDX-License-Identifier: MIT
"""config.json -> the dimensions of the parts of reference.py (SPEC 1.2, 8): the release's own where the extension keys are absent."""
import re

F16_FRAMES = 16


def frames_of(config):
    """How many frames of a video the model sees: 16 where its name says F16, whatever num_frames says (SPEC 8)."""
    if re.search(r'(?<![a-z0-9])(hd)?f16(?![a-z0-9])', config.get('_name_or_path', '').lower()):
        return F16_FRAMES
    return config['model_config']['vision_encoder'].get('num_frames', 8)


def sizes(config):
    """-> dimensions of the video transformer, the Q-Former and the language model"""
    m = config['model_config']
    v, b, l, llm = m['vision_encoder'], m['bridge'], m['llm'], m.get('llm_config', {})
    q = m.get('qformer_config', {})
    small = any(k in v for k in ('depth', 'num_heads', 'mlp_ratio'))
    d = v['d_model']
    internlm = llm.get('model_type', l['name']).startswith('internlm')
    vit = dict(d_model=d, n_head=v.get('num_heads', 16), d_ffn=int(d * v.get('mlp_ratio', 48 / 11)),
               n_layer=v.get('depth', 40) + v.get('x_vis_return_idx', -2) + 1, image=224,
               patch=v['patch_size'] if small else 14, n_frame=v.get('num_frames', 8))
    qf = dict(d_model=q.get('hidden_size', 768), n_head=q.get('num_attention_heads', 12), d_ffn=q.get('intermediate_size', 3072),
              n_layer=q.get('num_hidden_layers', 12), n_vocab=q.get('vocab_size', 30522) + 1, n_pos=q.get('max_position_embeddings', 512),
              eps=q.get('layer_norm_eps', 1e-12), cross_every=q.get('cross_attention_freq', 2), d_vision=d,
              n_query=b['num_query_token'], n_extra=b['extra_num_query_token'])
    width = llm.get('hidden_size', 4096)
    heads = llm.get('num_attention_heads', 32)
    eos = llm.get('eos_token_id', 2)
    lm = dict(kind='internlm2' if internlm else 'mistral', d_model=width, n_layer=llm.get('num_hidden_layers', 32), n_head=heads,
              n_kv=llm.get('num_key_value_heads', 8), d_head=llm.get('head_dim') or width // heads,
              d_ffn=llm.get('intermediate_size', 14336), n_vocab=llm.get('vocab_size', 92544 if internlm else 32768),
              theta=llm.get('rope_theta', 5e7 if internlm else 1e6), eps=llm.get('rms_norm_eps', 1e-5),
              lora_r=l.get('lora_r', 16) if l.get('use_lora', True) else 0, lora_alpha=l.get('lora_alpha', 32),
              eos=sorted(set((eos if isinstance(eos, list) else [eos]) + ([92542] if internlm else []))))
    return vit, qf, lm
