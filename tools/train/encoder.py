# SPDX-License-Identifier: MIT
"""S0: the video transformer learns to see. In place of the published masked reconstruction and contrastive stages, which need
millions of clips, every token is told what its cell of the frame holds: shape, colour, texture, outline, centre and radius of the object,
where it was a frame ago and will be, what it does now and in the whole clip, and the outlines that the cell itself had a frame ago and will
have: to tell these, tokens must look at their own cell in the next frames, which is where seeing motion begins. The heads are dropped afterwards.

Clips of fewer frames than the position table stand for frames from any place of it. Nothing here asks the device for a value: cells
without object are masked, not left out.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from train.feed import pixels
from train.labels import FINE
from world import scene as W

HEADS = dict(there=1, outline=FINE * FINE, before=FINE * FINE, after=FINE * FINE, shape=len(W.SHAPES), colour=len(W.COLOURS), texture=len(W.TEXTURES), box=4, flow=6, now=len(W.ACTIONS), life=len(W.ACTIONS))
CLIP_HEADS = dict(camera=len(W.PANS) + 1)
FIELDS = ('ids', 'outline', 'shape', 'colour', 'texture', 'now', 'life', 'flow', 'box')


class Heads(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.cell = nn.ModuleDict({k: nn.Linear(d, n) for k, n in HEADS.items()})
        self.clip = nn.ModuleDict({k: nn.Linear(d, n) for k, n in CLIP_HEADS.items()})


def mirrored(x, y):
    """Still pictures and their mirror images: every shape is its own."""
    turned = {}
    for k, v in y.items():
        grid = v.reshape(*v.shape[:2], 8, 8, *v.shape[3:]).flip(3)
        if k == 'outline':
            grid = grid.reshape(*grid.shape[:-1], FINE, FINE).flip(-1)
        if k == 'box':
            grid = grid * torch.tensor([-1.0, 1.0, 1.0, 1.0], device=grid.device)
        # flow is zero in still pictures
        turned[k] = torch.cat([v, grid.reshape(v.shape)])
    return torch.cat([x, x.flip(-1)]), turned


def encode(net, x, rng):
    """Tokens after the last LayerNorm; the clips of a batch that are shorter than the table are spread over its places."""
    vit, t = net.vision_encoder, x.shape[1]
    n, whole = vit.n_patch, (vit.pos_embed.shape[1] - 1) // vit.n_patch
    if t in (1, whole):
        return net.vision_layernorm(vit(x))
    first = torch.from_numpy(rng.integers(whole - t + 1, size=len(x))).to(x.device, non_blocking=True)
    frames = first[:, None] + torch.arange(t, device=x.device)
    p = vit.pos_embed[0, 1:].reshape(whole, n, -1)[frames].reshape(len(x), t * n, -1)
    h = vit.embed(x)
    h = h + torch.cat([vit.pos_embed[:, :1].expand(len(x), -1, -1), p], 1)
    for block in vit.blocks:
        h = block(h)
    return net.vision_layernorm(h)


def mean_of(values, mask):
    """Mean of values where mask (both [...])."""
    m = mask.to(values.dtype)
    return (values * m).sum() / m.sum().clamp(min=1)


def loss(net, batch, rng, noisy=True):
    """-> loss, {name: value} as tensors. Cells without object count for the heads "there" and, at edges, "outline" only."""
    x, y = pixels(batch.frames, rng if noisy else None), {k: batch[k] for k in FIELDS}
    if batch.maker.image:
        x, y = mirrored(x, y)
    b, t = x.shape[:2]
    v = encode(net, x, rng)
    cell = v[:, 1:].reshape(b, t, 64, -1)
    out = {k: head(cell).float() for k, head in net.see_heads.cell.items()}
    has = y['ids'] >= 0
    truth = {k: torch.where(has, y[k], -100) for k in ('shape', 'colour', 'texture', 'now')}
    entropy = lambda k: F.cross_entropy(out[k].flatten(0, 2), truth[k].flatten(), ignore_index=-100)
    losses = dict(shape=2 * entropy('shape'), colour=entropy('colour'), texture=entropy('texture'))
    edge = (y['outline'].amax(-1) > 0)[..., None].expand(-1, -1, -1, FINE * FINE)
    outline = mean_of(F.binary_cross_entropy_with_logits(out['outline'], y['outline'].float(), reduction='none'), edge)
    box = mean_of(F.smooth_l1_loss(out['box'], y['box'], beta=0.1, reduction='none'), has[..., None].expand(-1, -1, -1, 4))
    losses.update(outline=4 * outline, box=2 * box, there=F.binary_cross_entropy_with_logits(out['there'][..., 0], has.float()))
    right = lambda k, mask: mean_of((out[k].argmax(-1) == y[k]).float(), mask)
    seen = {'acc_' + k: right(k, has) for k in ('shape', 'colour', 'texture')}
    seen.update(acc_there=((out['there'][..., 0] > 0) == has).float().mean(), box=box, outline=outline)
    if t > 1:
        known = has[..., None].repeat(1, 1, 1, 6)
        known[:, 0, :, :3] = known[:, -1, :, 3:] = False  # outside of what is shown
        for k, mine, other in (('before', slice(1, None), slice(None, -1)), ('after', slice(None, -1), slice(1, None))):
            there, own = y['outline'][:, other], y['outline'][:, mine]
            differ = (there != own).any(-1, keepdim=True).expand_as(there)
            losses[k] = 4 * mean_of(F.binary_cross_entropy_with_logits(out[k][:, mine], there.float(), reduction='none'), differ)
            seen['acc_' + k] = mean_of(((out[k][:, mine] > 0) == (there > 0)).float(), differ)
        flow = mean_of(F.smooth_l1_loss(out['flow'], y['flow'], beta=0.1, reduction='none'), known)
        life = (y['life'] > 0)
        told = F.binary_cross_entropy_with_logits(out['life'], life.float(), reduction='none').mean(-1)
        pan = batch['camera']
        camera = net.see_heads.clip['camera'](v[:, 0]).float()
        losses.update(flow=8 * flow, now=2 * entropy('now'), life=5 * mean_of(told, has), camera=0.3 * F.cross_entropy(camera, pan))
        moves = known & (y['flow'][..., (0, 1, 3, 4)].abs().amax(-1) > 0.1)[..., None]
        moves[..., 2::3] = False  # the radius
        seen.update(motion_of(out['flow'], y['flow'], moves))
        busy = has & (y['now'] > 0)
        seen.update(flow=flow, acc_now=right('now', has), acc_busy=right('now', busy), acc_camera=(camera.argmax(-1) == pan).float().mean(),
                    acc_pan=mean_of((camera.argmax(-1) == pan).float(), pan < len(W.PANS)),
                    acc_life=mean_of(((out['life'] > 0) == life).all(-1).float(), has),
                    acc_acts=mean_of(((out['life'] > 0) == life).all(-1).float(), has & ~life[..., 0]))
    total = sum(losses.values())
    return total, {k: x.detach() for k, x in dict(seen, loss=total).items()}


def motion_of(guess, truth, mask):
    """Over displacements that are there: share of their variance explained, and share told within a quarter of a cell."""
    m = mask.to(guess.dtype)
    error, size = ((guess - truth) ** 2 * m).sum(), (truth ** 2 * m).sum()
    near = ((guess - truth).abs() < 10 * 0.25 / 8).float()
    return dict(motion=1 - error / size.clamp(min=1e-6), acc_motion=mean_of(near, mask))
