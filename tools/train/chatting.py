# SPDX-License-Identifier: MIT
"""S2 to S5: questions about clips, answered by the language model from the visual rows.

A batch is a few clips with several conversations each (packing.py). "views" is what the model sees of a frame: 1 = one squashed view,
3 = the two tiles and the global view of the HD transform, from the clip's own size. In HD only one view of each clip, drawn at random,
sends gradients into the video transformer; the others are encoded without, which halves the work.
"""
import numpy as np
import torch

import reference_media as media
from train.encoder import to_pixels
from train.packing import Packed
from train.reader import conversations, lonely
from world.questions import make_image_questions, make_questions
from world.render import render
from world.scene import sample_scene, sample_times
from world.wordings import PROTOCOL, SHORT_INSTRUCTIONS


def frames_of(scene, times, views, rng):
    """f32 [N,T,3,224,224]"""
    if views == 1:
        return to_pixels(render(scene, times, 224, 224, antialias=rng.random() < 0.8)[None], rng)
    frames = render(scene, times, scene.width, scene.height).astype(np.float32)
    frames = np.clip(frames * rng.uniform(0.94, 1.06) + rng.uniform(-6, 6), 0, 255)
    if rng.random() < 0.5:
        frames += (rng.standard_normal(frames.shape[1:]) * rng.uniform(0, 4)).astype(np.float32)
    return media.hd_clips(frames)


class Batch:
    """pixels [B,N,T,3,224,224], conversations packed, the instruction of all of them."""

    def __init__(self, encoder, bert, rng, seeds, recipe, image, split='train'):
        views, k = recipe['views'], recipe['questions']
        pick = lambda items: items[int(rng.integers(len(items)))]
        # long instruction, a short one, or none
        self.instruction = pick((PROTOCOL, pick(SHORT_INSTRUCTIONS))) if rng.random() < recipe.get('instructed', 0.0) else None
        pixels, rows, self.kinds = [], [], []
        for seed in seeds:
            scene = sample_scene(int(seed), split)
            n = pick(recipe.get('frames', [8]))
            if not pixels:
                self.n_frame = 1 if image else n
            times = sample_times(scene.n_frames, self.n_frame if self.n_frame > 1 else 8)
            if image:
                times = times[rng.integers(8, size=1)]
                items = make_image_questions(scene, rng, split, k, float(times[0]))
            else:
                items = make_questions(scene, rng, split, k)
            if not items:
                continue
            prefix = encoder.media_prefix(views, image, self.instruction)
            pixels.append(frames_of(scene, times, views, rng))
            rows.append((prefix, conversations(encoder, items)))
            self.kinds += [item['type'] for item in items for _ in item['turns']]
        self.pixels = torch.stack(pixels)
        self.text_ids = bert.encode(self.instruction) if self.instruction else None
        if recipe.get('lonely') and rng.random() < recipe['lonely']:
            rows.append(lonely(encoder, rng, seeds[0]))
            self.kinds += ['no video'] * len(rows[-1][1])
        self.packed = Packed(rows)


def visual(net, pixels, text_ids, train_vit, rng):
    """pixels [B,N,T,...] -> rows [B * N * n_query, d_llm], clip after clip."""
    b, n = pixels.shape[:2]
    flat = pixels.flatten(0, 1)
    encode = lambda x: net.vision_layernorm(net.vision_encoder(x))
    if not train_vit:
        with torch.no_grad():
            v = encode(flat)
    elif n == 1:
        v = encode(flat)
    else:
        learnt = torch.from_numpy(rng.integers(n, size=b)) + torch.arange(b) * n
        with torch.no_grad():
            v = net.vision_encoder(flat)
        v = net.vision_layernorm(v.index_copy(0, learnt, net.vision_encoder(flat[learnt])))
    ids = None if text_ids is None else torch.tensor(text_ids)[None].expand(len(flat), -1)
    query = net.queries(len(flat))
    return net.project_up(net.qformer(query, v, ids)[:, :query.shape[1]])


def loss(net, batch, train_vit, rng):
    rows = visual(net, batch.pixels, batch.text_ids, train_vit, rng)
    return batch.packed.loss(net.lm, rows)
