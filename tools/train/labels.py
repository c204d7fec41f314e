# SPDX-License-Identifier: MIT
"""What every cell of a frame holds, and the crowds that the video transformer learns from. numpy only: the processes that make
samples import this and never PyTorch.

Cells are t major, then rows, then columns of a grid of 8 x 8.
"""
import numpy as np

from world import scene as W
from world.render import DISTANCE, boxes, placed

FINE = 7  # points of a cell's outline, a side


def lattice(scene, times, grid=8):
    """What lies in each cell: ids int64 [T, grid * grid] of the object that covers most of it (-1: none covers a fifth), and
    outline f32 [T, grid * grid, FINE * FINE]: 1 where a point of the cell lies on an object."""
    w, h = scene.extent
    n, t = grid * FINE, len(times)
    at = ((np.arange(n) + 0.5) / n).astype(np.float32)
    owner = np.full((t, n, n), -1, np.int64)  # objects do not overlap
    for i, o in enumerate(scene.objects):
        x, y, r, a = placed(scene, o, times)
        lo_x, hi_x = np.searchsorted(at, [(x - 1.1 * r).min() / w, (x + 1.1 * r).max() / w])
        lo_y, hi_y = np.searchsorted(at, [(y - 1.1 * r).min() / h, (y + 1.1 * r).max() / h])
        px = ((at[lo_x:hi_x] * w)[None] - x[:, None]) / r[:, None]
        py = ((at[lo_y:hi_y] * h)[None] - y[:, None]) / r[:, None]
        inside = DISTANCE[o.shape](px.astype(np.float32)[:, None, :], py.astype(np.float32)[:, :, None]) <= 0
        if a.min() <= 0.5:
            inside = inside & (a > 0.5)[:, None, None]
        owner[:, lo_y:hi_y, lo_x:hi_x][inside] = i
    owner = owner.reshape(t, grid, FINE, grid, FINE).swapaxes(2, 3).reshape(t * grid * grid, -1)
    k = len(scene.objects) + 1
    count = np.bincount(((np.arange(len(owner)) * k)[:, None] + owner + 1).ravel(), minlength=len(owner) * k).reshape(-1, k)[:, 1:]
    best = count.argmax(1)
    ids = np.where(count[np.arange(len(owner)), best] * 5 >= FINE * FINE, best, -1)
    return ids.reshape(t, -1), (owner >= 0).astype(np.float32).reshape(t, grid * grid, -1)


def targets(scene, times):
    """Labels of every cell: ids [T,64] of objects (-1 none) and, where there is one, classes and boxes."""
    ids, outline = lattice(scene, times)
    n = len(scene.objects)
    look = np.array([(W.SHAPES.index(o.shape), W.COLOURS.index(o.colour), W.TEXTURES.index(o.texture)) for o in scene.objects])
    now = np.zeros((len(times), n), np.int64)
    life = np.zeros((n, len(W.ACTIONS)), np.float32)
    for i, o in enumerate(scene.objects):
        for a in o.actions:
            life[i, W.ACTIONS.index(a)] = 1
        for e in o.events:
            now[(times >= e.t0) & (times <= e.t1), i] = W.ACTIONS.index(e.action)
    box = boxes(scene, times)[:, :, :4]
    at = np.maximum(ids, 0)
    t = np.arange(len(times))[:, None]
    centre = (np.arange(8) + 0.5) / 8
    cy, cx = (v.reshape(1, -1) for v in np.meshgrid(centre, centre, indexing='ij'))
    b = box[t, at]
    b = np.stack([(b[..., 0] - cx) * 4, (b[..., 1] - cy) * 4, b[..., 2] * 8, b[..., 3] * 8], -1)
    every = np.arange(len(times))
    step = lambda k: (box[np.clip(every + k, 0, len(times) - 1)] - box)[t, at][..., :3] * (10, 10, 20)
    flow = np.concatenate([step(-1), step(1)], -1)  # where and how large the object was a frame ago and will be
    return dict(ids=ids, flow=flow.astype(np.float32), outline=outline, shape=look[at, 0], colour=look[at, 1], texture=look[at, 2],
                now=now[t, at], life=life[at], box=b.astype(np.float32))


def in_place(rng, thing, action, slack):
    """An event from time 0 to 1 that stays within slack (half widths, x and y) of the object's place."""
    e = W.Event(action, 0.0, 1.0)
    if action in W.STRAIGHT:
        sx, sy = W.STRAIGHT[action]
        most = min(s for s, way in zip(slack, (sx, sy)) if way) * 2
        reach = rng.uniform(0.5, 1.0) * min(most, 0.2)
        e.vec = (sx * reach, sy * reach * (rng.uniform(0.75, 1.0) if sx and sy else 1.0))
        thing.x, thing.y = thing.x - e.vec[0] / 2, thing.y - e.vec[1] / 2
    elif action in W.ORBITS:
        e.radius, e.phase = rng.uniform(0.7, 1.0) * min(slack), rng.uniform(0, 2 * np.pi)
        e.turn = W.ORBITS[action] * rng.uniform(1.5, 3.9)
        thing.x, thing.y = thing.x + e.radius * np.cos(e.phase), thing.y + e.radius * np.sin(e.phase)
    elif action == 'bounce':
        e.hops, e.height = 1, rng.uniform(0.6, 1.0) * slack[1] * 2
        thing.y += e.height / 2
    elif action in ('grow', 'shrink'):
        e.factor = rng.uniform(1.25, 1.9)
        small = thing.radius / e.factor
        if action == 'grow':
            thing.radius = small
        else:
            e.factor = 1 / e.factor
    elif action in ('appear', 'vanish'):
        moment = rng.choice((0.25, 0.75))
        e.t0, e.t1 = moment - 0.25, moment + 0.25
    return e


def crowd(rng, moving=False):
    """A scene full of objects on a loose grid: many lessons in one picture. moving: each acts within its place from time 0 to 1.
    Held-out pairs do not occur."""
    width, height = W.pick(rng, [f for f, _ in W.FORMATS])
    w, h = W.extent(width, height)
    pitch = rng.uniform(0.26, 0.40) if moving else rng.uniform(0.17, 0.36)
    cols, rows = max(1, int(w / pitch)), max(1, int(h / pitch))
    colours = rng.permutation(len(W.COLOURS))[:int(rng.integers(1, 5))]
    things = []
    for i in range(cols * rows):
        colour = W.COLOURS[W.pick(rng, colours)]
        thing = W.make_thing(rng, (colour, W.pick(rng, W.allowed_shapes(colour, False))), '')
        limit = min(w / cols, h / rows) * 0.47 / W.REACH
        if moving:
            action = 'still' if rng.random() < 0.15 else W.pick(rng, W.ACTIONS[1:])
            while (thing.shape, action) in W.HELD_ACTIONS:
                action = W.pick(rng, W.ACTIONS[1:])
            still = action in ('still', 'grow', 'shrink', 'appear', 'vanish')
            thing.radius = float(rng.uniform(0.068, min(0.17, limit)) if still else rng.uniform(0.055, min(0.1, limit * 0.62)))
        else:
            thing.radius = float(rng.uniform(min(0.068, limit), min(0.19, limit)))
        slack = w / cols / 2 - thing.radius * W.REACH, h / rows / 2 - thing.radius * W.REACH
        free = rng.uniform(-1, 1, 2) if not moving or still else (0.0, 0.0)
        thing.x = w / cols * (i % cols + 0.5) + free[0] * slack[0]
        thing.y = h / rows * (i // cols + 0.5) + free[1] * slack[1]
        if thing.radius < 0.09:
            thing.texture = 'plain'
        if moving and action != 'still':
            thing.events = [in_place(rng, thing, action, slack)]
        things.append(thing)
    kept = [o for o in things if rng.random() < 0.85] or things
    return W.Scene('train', 0, 'whole', width, height, 24, 48, kept, W.make_background(rng, kept, False), 'still', (0.0, 0.0), (0.0, 1.0), [])
