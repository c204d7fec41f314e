# SPDX-License-Identifier: MIT
"""config.json -> the dimensions of the parts of reference.py (SPEC 1.2, 8): the release's own where the extension keys are absent."""
import os
import re

FRAMES, F16_FRAMES = 8, 16


def word_in(name, *words):
    return any(re.search('(?<![a-z0-9])%s(?![a-z0-9])' % w, name.lower()) for w in words)


def is_f16(config, folder):
    """Whether a model is the release of 16 frames: by their number, else by the first name that says what it is (SPEC 8)."""
    m = config['model_config']
    if sizes(config)[2]['kind'] == 'internlm2':
        return False
    if m['vision_encoder'].get('num_frames', FRAMES) == F16_FRAMES:
        return True
    names = os.path.basename(os.path.abspath(folder)), config.get('_name_or_path'), config.get('model_cls')
    told = [n for n in names if n and word_in(n, 'f16', 'hdf16', 'hd', '8b')]
    return bool(told) and word_in(told[0], 'f16', 'hdf16')


def frames_of(config, folder, variant=None):
    """How many frames of a video a model sees, as variant where one is given."""
    f16 = is_f16(config, folder)
    if variant == 'f16' or f16 and variant is None:
        return F16_FRAMES
    return FRAMES if f16 else config['model_config']['vision_encoder'].get('num_frames', FRAMES)


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
