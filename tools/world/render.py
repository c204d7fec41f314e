# SPDX-License-Identifier: MIT
"""Pictures of a scene: render() its frames, cells() and boxes() say where the objects are in them.

Shapes are signed distances in units of the object's radius, evaluated for all frames of an object at once inside
its bounding box only; coverage of a pixel is the distance in pixels, clipped. The frame of a scene may be asked in
any size: it is squashed as if the native frame had been resized. float32; the backdrop is made once and a pan crops
a larger one, objects move at subpixel steps.

Easy to get wrong: y points down, so the angle grows clockwise; a box is clipped to the picture by moving it, not
by cutting, hence no box may be larger than the picture.
"""
import math

import numpy as np

from .scene import camera_shift, trace

F = np.float32


def circle(x, y):
    return np.sqrt(x * x + y * y) - F(0.92)


def square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) - F(0.77)


def triangle(x, y):
    return np.maximum(y - F(0.64), F(0.8703) * np.abs(x) - F(0.4925) * y - F(0.4925))


def star(x, y):
    """Five points: fold the plane at the mirrors 108 and 36 degrees from the top, then at the vertical one."""
    x, y = np.abs(x), -y
    for degrees in (108, 36):
        nx, ny = F(math.cos(math.radians(degrees))), F(-math.sin(math.radians(degrees)))
        k = F(2) * np.maximum(x * nx + y * ny, F(0))
        x, y = x - k * nx, y - k * ny
    # one edge left, from the tip (0, 1.06) to the notch at 36 degrees and 0.47
    tip, notch = 1.06, (0.47 * math.sin(math.radians(36)), 0.47 * math.cos(math.radians(36)))
    ex, ey = notch[0], notch[1] - tip
    length = math.hypot(ex, ey)
    return np.abs(x) * F(-ey / length) + (y - F(tip)) * F(ex / length)


def cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - F(0.96), np.minimum(x, y) - F(0.31))


def ring(x, y):
    return np.abs(np.sqrt(x * x + y * y) - F(0.73)) - F(0.235)


LOBE = (0.45, -0.34, 0.50)   # centre and radius of the right half's disc
TIP = 0.98
_d = math.hypot(LOBE[0], TIP - LOBE[1])
_a = math.atan2(LOBE[1] - TIP, LOBE[0]) + math.asin(LOBE[2] / _d)  # direction of the tangent, tip to lobe
SIDE = (-math.sin(_a), math.cos(_a))                                # its normal, outwards


def heart(x, y):
    x = np.abs(x)
    dx, dy = x - F(LOBE[0]), y - F(LOBE[1])
    lobe = np.sqrt(dx * dx + dy * dy) - F(LOBE[2])
    side = x * F(SIDE[0]) + (y - F(TIP)) * F(SIDE[1])
    above = dx * F(math.cos(_a)) + dy * F(math.sin(_a))
    return np.minimum(lobe, np.maximum(side, above))


DISTANCE = {"circle": circle, "square": square, "triangle": triangle, "star": star, "cross": cross, "ring": ring,
            "heart": heart}


def pattern(thing, x, y):
    """Where the second colour lies, 0..1: stripes or dots, fixed to the object (x, y in radii)."""
    if thing.texture == "striped":
        t = x * F(math.cos(thing.slant)) + y * F(math.sin(thing.slant))
        return np.clip(F(0.5) + F(3.2) * np.sin(t * F(2 * math.pi / 0.52)), 0, 1)
    u = x * F(1 / 0.46)
    v = y * F(1 / 0.46)
    u -= np.rint(u)
    v -= np.rint(v)
    return np.clip((F(0.31) - np.sqrt(u * u + v * v)) * F(7) + F(0.5), 0, 1)


def placed(scene, thing, times):
    """x, y, radius, opacity in units, with the camera's shift."""
    x, y, r, a = trace(thing, times)
    sx, sy = camera_shift(scene, times)
    return x + sx, y + sy, r, a


def smooth_noise(rng, across, down, xs, ys):
    """Noise of a coarse grid, smoothly interpolated at columns xs and rows ys (in grid steps)."""
    grid = rng.standard_normal((down + 2, across + 2)).astype(F)

    def mixed(values, at):
        i = at.astype(int)
        t = (at - i).reshape(-1, 1)
        t = t * t * (3 - 2 * t)
        return values[i] + t * (values[i + 1] - values[i])
    return mixed(np.ascontiguousarray(mixed(grid, ys).T), xs).T


def backdrop(scene, width, height):
    """uint8 picture that holds all a pan will show, and the pixel of its corner that u = 0 begins at."""
    b = scene.background
    w, h = scene.extent
    more_x, more_y = math.ceil(abs(scene.pan[0]) / w * width), math.ceil(abs(scene.pan[1]) / h * height)
    x = ((np.arange(width + more_x) + 0.5) / width * w).astype(F)
    y = ((np.arange(height + more_y) + 0.5) / height * h).astype(F)
    if b.kind == "flat":
        f = np.zeros((1, 1), F)
    elif b.kind == "radial":
        f = np.sqrt((x[None] - w * F(0.5)) ** 2 + (y[:, None] - h * F(0.5)) ** 2) / F(0.5 * math.hypot(w, h))
    elif b.kind == "noise":
        rng = np.random.default_rng(b.seed)
        across, down = int(x[-1] * b.freq) + 1, int(y[-1] * b.freq) + 1
        f = np.clip(F(0.5) + F(0.32) * smooth_noise(rng, across, down, x * F(b.freq), y * F(b.freq)), 0, 1)
    else:
        t = x[None] * F(math.cos(b.angle)) + y[:, None] * F(math.sin(b.angle))
        if b.kind == "linear":
            low, high = float(t.min()), float(t.max())
            f = (t - F(low)) * F(1 / (high - low))
        else:
            f = F(0.5) + F(0.5) * np.sin(t * F(2 * math.pi * b.freq / 2))
    first, second = np.array(b.first, F), np.array(b.second, F)
    picture = np.empty((height + more_y, width + more_x, 3), np.uint8)
    for c in range(3):
        picture[..., c] = f * (second[c] - first[c]) + first[c] + F(0.5)
    # the picture shifts by pan: what is shown moves the other way through the larger backdrop
    return picture, (more_x if scene.pan[0] > 0 else 0, more_y if scene.pan[1] > 0 else 0)


def draw(frames, scene, thing, times, antialias):
    height, width = frames.shape[1:3]
    w, h = scene.extent
    sx, sy = width / w, height / h
    x, y, r, a = placed(scene, thing, times)
    seen = np.flatnonzero(a > 0)
    if not len(seen):
        return
    state = np.stack([x, y, r, a], axis=1)[seen]
    kept, which = np.unique(np.round(state, 6), axis=0, return_inverse=True)
    which = which.reshape(-1)
    cx, cy = kept[:, 0] * sx, kept[:, 1] * sy
    rx, ry = kept[:, 2] * sx, kept[:, 2] * sy
    bw, bh = min(width, math.ceil(2.16 * rx.max()) + 3), min(height, math.ceil(2.16 * ry.max()) + 3)
    left = np.clip(np.rint(cx - bw / 2), 0, width - bw).astype(int)
    top = np.clip(np.rint(cy - bh / 2), 0, height - bh).astype(int)
    px = ((left - cx + 0.5)[:, None] + np.arange(bw)) / rx[:, None]
    py = ((top - cy + 0.5)[:, None] + np.arange(bh)) / ry[:, None]
    px, py = px.astype(F)[:, None, :], py.astype(F)[:, :, None]
    d = DISTANCE[thing.shape](px, py)
    d = np.broadcast_to(d, (len(kept), bh, bw))
    if antialias:
        cover = np.clip(F(0.5) - d * np.sqrt(rx * ry).astype(F)[:, None, None], 0, 1)
    else:
        cover = (d <= 0).astype(F)
    if kept[:, 3].min() < 1:
        cover = cover * kept[:, 3].astype(F)[:, None, None]
    # rows of 3 * bw numbers: numpy's inner loop is the last axis, and three numbers are too short a loop
    cover = np.repeat(cover, 3, axis=2)
    ink = np.tile(np.array(thing.rgb, F), bw)
    if thing.texture != "plain":
        mix = np.repeat(pattern(thing, px, py), 3, axis=2)
        ink = ink + mix * (np.tile(np.array(thing.second, F), bw) - ink)
    inks = np.broadcast_to(ink, cover.shape)
    flat = frames.reshape(len(frames), height, 3 * width)
    for t, k in zip(seen, which):
        part = flat[t, top[k]:top[k] + bh, 3 * left[k]:3 * (left[k] + bw)]
        under = part.astype(F)
        part[...] = under + cover[k] * (inks[k] - under) + F(0.5)


def render(scene, times, width, height, antialias=True):
    """uint8 [T, height, width, 3]: the scene at times u, its frame squashed to width x height."""
    times = np.asarray(times, dtype=float)
    picture, (x0, y0) = backdrop(scene, width, height)
    frames = np.empty((len(times), height, width, 3), np.uint8)
    if scene.camera == "still":
        frames[:] = picture
    else:
        w, h = scene.extent
        dx, dy = camera_shift(scene, times)
        for t in range(len(times)):
            left, top = x0 - round(dx[t] / w * width), y0 - round(dy[t] / h * height)
            frames[t] = picture[top:top + height, left:left + width]
    for thing in scene.objects:
        draw(frames, scene, thing, times, antialias)
    return frames


def boxes(scene, times):
    """float32 [T, n_obj, 5]: cx, cy, rx, ry in 0..1 of the frame, visible (0 or 1)."""
    times = np.asarray(times, dtype=float)
    w, h = scene.extent
    out = np.empty((len(times), len(scene.objects), 5), F)
    for i, thing in enumerate(scene.objects):
        x, y, r, a = placed(scene, thing, times)
        out[:, i] = np.stack([x / w, y / h, r / w, r / h, a > 0.5], axis=1)
    return out


def cells(scene, times, grid=8):
    """int8 [T, grid, grid]: the object that covers most of each cell of the squashed frame, -1 where none covers a
    fifth of it (judged at 4 x 4 points a cell)."""
    times = np.asarray(times, dtype=float)
    w, h = scene.extent
    at = ((np.arange(4 * grid) + 0.5) / (4 * grid)).astype(F)
    count = np.zeros((len(scene.objects) + 1, len(times), grid, grid), F)
    count[0] = 3.19
    for i, thing in enumerate(scene.objects):
        x, y, r, a = placed(scene, thing, times)
        px = ((at * w)[None] - x[:, None]) / r[:, None]
        py = ((at * h)[None] - y[:, None]) / r[:, None]
        inside = DISTANCE[thing.shape](px.astype(F)[:, None, :], py.astype(F)[:, :, None]) <= 0
        inside = inside & (a > 0.5)[:, None, None]
        count[i + 1] = inside.reshape(len(times), grid, 4, grid, 4).sum(axis=(2, 4))
    return (np.argmax(count, axis=0) - 1).astype(np.int8)
