# SPDX-License-Identifier: MIT
"""Scenes of the procedural world: what is in a clip, where, and what happens when. Pure data, no pixels.

Units: the frame has area 1, so it is sqrt(w/h) wide and sqrt(h/w) high, x to the right, y downwards. A size
therefore covers the same share of the picture in every format; at 4:3 the radii are 0.09, 0.133 and 0.19 of the
height. Time u runs from 0 (first frame) to 1 (last frame).

A scene follows from (split, seed). Splits differ in seeds, and some pairs (colour, shape) and (shape, action) occur
in "val" and "test" only: HELD_PAIRS and HELD_ACTIONS. Whole trajectories of objects, as swept discs, neither touch
each other nor leave the frame, so that nothing ever hides anything.

Easy to get wrong: eight or sixteen frames are all the model sees. A turn or a hop faster than the samples looks like another
one, so a turn takes at least a third of the clip and hops are checked to be caught in the air.
"""
import math
from dataclasses import dataclass, field

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
RGB = {"red": (214, 38, 40), "orange": (246, 132, 28), "yellow": (250, 218, 48), "green": (38, 158, 66),
       "blue": (36, 86, 220), "purple": (142, 56, 178), "white": (246, 246, 244), "black": (20, 20, 22)}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart")
SIZES = ("small", "medium", "large")
RADIUS = {"small": 0.078, "medium": 0.115, "large": 0.165}
TEXTURES = ("plain", "striped", "dotted")
STRAIGHT = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "up-left": (-1, -1),
            "up-right": (1, -1), "down-left": (-1, 1), "down-right": (1, 1)}
ORBITS = {"clockwise": 1, "anticlockwise": -1}
ACTIONS = ("still",) + tuple(STRAIGHT) + tuple(ORBITS) + ("grow", "shrink", "bounce", "appear", "vanish")
DRAWN = tuple(2 if a in ORBITS else 1 for a in ACTIONS[1:])  # weights: short events cannot be turns
MOVES = frozenset(STRAIGHT) | frozenset(ORBITS) | {"bounce"}
PANS = ("left", "right", "up", "down")
SPLITS = ("train", "val", "test")

HELD_PAIRS = frozenset((c, SHAPES[(3 * i + 1) % 7]) for i, c in enumerate(COLOURS))
HELD_ACTIONS = frozenset((SHAPES[(2 * i + 3) % 7], a) for i, a in enumerate(ACTIONS[1:])
                         if a not in ("down-left", "up-right", "bounce"))
HELD_SHARE = 0.35  # of the val and test scenes

FORMATS = (((320, 180), 26), ((384, 216), 14), ((320, 240), 16), ((240, 240), 14), ((426, 240), 12),
           ((180, 320), 7), ((216, 384), 5), ((317, 181), 6))
RATES = (12, 15, 16, 20, 24, 25, 30)
GAP = 0.03      # least distance between two swept discs
MARGIN = 0.012  # and from the frame's edge
REACH = 1.08    # corners of a shape reach so far, in radii
STEPS = np.linspace(0, 1, 7)
SWEEP = {**dict.fromkeys(ORBITS, np.linspace(0, 1, 15)), "bounce": np.linspace(0, 1, 13),  # 13: the peaks, too
         **dict.fromkeys(("appear", "vanish"), np.zeros(1)),
         **dict.fromkeys(("grow", "shrink"), np.array([0.0, 1.0]))}
FADE = 0.04     # an object appears or vanishes within this time


@dataclass
class Event:
    """One action of one object between times t0 and t1; fields that its action does not use are 0."""
    action: str
    t0: float
    t1: float
    vec: tuple = (0.0, 0.0)   # straight: displacement
    radius: float = 0.0       # orbit
    phase: float = 0.0        # orbit: angle of the object seen from the centre, at t0
    turn: float = 0.0         # orbit: signed angle, positive = clockwise on the screen
    hops: int = 0             # bounce
    height: float = 0.0       # bounce
    factor: float = 1.0       # grow, shrink
    smooth: bool = False      # eased instead of even speed

    @property
    def moment(self):
        return 0.5 * (self.t0 + self.t1)


@dataclass
class Thing:
    """An object: size is its size at the start, x and y its place then."""
    colour: str
    shape: str
    size: str
    texture: str
    rgb: tuple
    second: tuple             # colour of stripes or dots
    radius: float
    x: float = 0.0
    y: float = 0.0
    slant: float = 0.0        # direction of stripes, radians
    events: list = field(default_factory=list)

    @property
    def name(self):
        return self.colour + " " + self.shape

    @property
    def actions(self):
        return [e.action for e in self.events] or ["still"]


@dataclass
class Background:
    kind: str                 # flat, linear, radial, noise, stripes
    first: tuple
    second: tuple
    angle: float
    freq: float
    seed: int


@dataclass
class Scene:
    split: str
    seed: int
    kind: str                 # whole, sequence, camera
    width: int
    height: int
    fps: int
    n_frames: int
    objects: list
    background: Background
    camera: str               # "still" or a member of PANS: the way the camera moves
    pan: tuple                # where the picture shifts to until u = 1 (opposite to the camera)
    pan_window: tuple
    heldout: list

    @property
    def extent(self):
        return extent(self.width, self.height)

    def events(self):
        """[(event, object index)] in the order of time."""
        pairs = [(e, i) for i, o in enumerate(self.objects) for e in o.events]
        return sorted(pairs, key=lambda p: p[0].moment)


def extent(width, height):
    return math.sqrt(width / height), math.sqrt(height / width)


def sample_times(n_frames, n=8):
    """Times of the n frames that the frame chooser of ivchat takes from a file of n_frames frames."""
    seg = (n_frames - 1) / n
    return (int(seg / 2) + np.rint(seg * np.arange(n))) / (n_frames - 1)


def progress(event, u):
    s = np.minimum(np.maximum((u - event.t0) / (event.t1 - event.t0), 0.0), 1.0)
    return s * s * (3 - 2 * s) if event.smooth else s


def trace(thing, u):
    """x, y, radius, opacity of an object at times u (without the camera)."""
    x = np.full(u.shape, thing.x)
    y = np.full(u.shape, thing.y)
    r = np.full(u.shape, thing.radius)
    a = np.ones(u.shape)
    for e in thing.events:
        s = progress(e, u)
        if e.action in STRAIGHT:
            x += s * e.vec[0]
            y += s * e.vec[1]
        elif e.action in ORBITS:
            x += e.radius * (np.cos(e.phase + e.turn * s) - math.cos(e.phase))
            y += e.radius * (np.sin(e.phase + e.turn * s) - math.sin(e.phase))
        elif e.action == "bounce":
            y -= e.height * np.abs(np.sin(math.pi * e.hops * np.clip((u - e.t0) / (e.t1 - e.t0), 0, 1)))
        elif e.action in ("grow", "shrink"):
            r *= 1 + (e.factor - 1) * s
        elif e.action == "appear":
            a *= np.clip((u - e.moment) / FADE + 0.5, 0, 1)
        elif e.action == "vanish":
            a *= np.clip((e.moment - u) / FADE + 0.5, 0, 1)
    return x, y, r, a


def camera_shift(scene, u):
    """How far the picture is shifted at times u."""
    if scene.camera == "still":
        return np.zeros(u.shape), np.zeros(u.shape)
    t0, t1 = scene.pan_window
    s = np.clip((u - t0) / (t1 - t0), 0, 1)
    return s * scene.pan[0], s * scene.pan[1]


def pick(rng, items, weights=None):
    if weights is None:
        return items[int(rng.integers(len(items)))]
    at = rng.random() * sum(weights)
    for item, weight in zip(items, weights):
        at -= weight
        if at < 0:
            return item
    return items[-1]


def allowed_shapes(colour, held):
    return [s for s in SHAPES if held or (colour, s) not in HELD_PAIRS]


def make_thing(rng, pair, action_hint):
    colour, shape = pair
    if action_hint == "grow":
        size = pick(rng, SIZES[:2])
    elif action_hint == "shrink":
        size = pick(rng, SIZES[1:])
    else:
        size = pick(rng, SIZES, (32, 38, 30))
    texture = "plain" if size == "small" else pick(rng, TEXTURES, (46, 27, 27))
    rgb = tuple(min(255, max(0, v + j)) for v, j in zip(RGB[colour], rng.integers(-7, 8, 3).tolist()))
    if colour == "black":
        second = tuple(v + 88 for v in rgb)
    elif colour in ("white", "yellow"):
        second = tuple(int(v * 0.60) for v in rgb)
    elif rng.random() < 0.5:
        second = tuple(int(v * 0.45) for v in rgb)
    else:
        second = tuple(int(v + 0.58 * (255 - v)) for v in rgb)
    return Thing(colour, shape, size, texture, rgb, second, RADIUS[size] * rng.uniform(0.96, 1.04),
                 slant=float(pick(rng, (0.0, 0.79, 1.57, 2.36))))


def make_event(rng, action, thing, t0, t1, frame):
    e = Event(action, t0, t1, smooth=bool(rng.random() < 0.3))
    w, h = frame
    if action in STRAIGHT:
        sx, sy = STRAIGHT[action]
        low, high = (0.31, 0.52) if not sx or not sy else (0.25, 0.40)
        e.vec = (sx * rng.uniform(low, high) * w, sy * rng.uniform(low, high) * h)
    elif action in ORBITS:
        e.radius = rng.uniform(0.12, 0.18)
        e.phase = rng.uniform(0, 2 * math.pi)
        full = t1 - t0 > 0.5 and rng.random() < 0.6
        e.turn = ORBITS[action] * 2 * math.pi * (1.0 if full else 0.75)
        e.smooth = False
    elif action == "bounce":
        e.hops = 3 if t1 - t0 > 0.7 and rng.random() < 0.5 else 2
        e.height = rng.uniform(0.15, 0.25)
    elif action == "grow":
        e.factor = rng.uniform(1.9, 2.1)
    elif action == "shrink":
        e.factor = rng.uniform(0.46, 0.52) if thing.size == "large" else rng.uniform(0.52, 0.57)
    return e


def windows(rng, k):
    """k disjoint windows, each >= 0.26 long, >= 0.06 apart, within [0.03, 0.97]."""
    least = np.array([0.0] + [0.26, 0.06] * (k - 1) + [0.26, 0.0])
    slack = 0.94 - least.sum()
    edges = 0.03 + np.cumsum(least + slack * rng.dirichlet(np.where(least > 0.2, 3.0, 0.7)))
    return [(float(edges[2 * i]), float(edges[2 * i + 1])) for i in range(k)]


def plan_whole(rng, n):
    """[[(action, t0, t1)]] for each object: most act during most of the clip."""
    acting = rng.random(n) < 0.75
    if acting.sum() > 3:
        acting[int(rng.integers(n))] = False
    plans = []
    for acts in acting:
        if not acts:
            plans.append([])
            continue
        action = pick(rng, ACTIONS[1:], DRAWN)
        if action in ("appear", "vanish"):
            mid = rng.uniform(0.32, 0.68)
            plans.append([(action, mid - 0.13, mid + 0.13)])
        else:
            plans.append([(action, rng.uniform(0.02, 0.10), rng.uniform(0.90, 0.98))])
    return plans


def fits(actions, new):
    """May new follow actions in one object's life?"""
    if new in actions or new == "appear" and actions or actions and actions[-1] == "vanish":
        return False
    return not (new in ("grow", "shrink") and {"grow", "shrink"} & set(actions))


def plan_sequence(rng, n, k):
    """The same for k events one after another; None if no action was found for one of them."""
    if n > 1 and rng.random() < 0.75:
        order = list(rng.permutation(n)) + [int(i) for i in rng.integers(n, size=3)]
    else:
        order = [int(i) for i in rng.integers(n, size=3)]
    plans = [[] for _ in range(n)]
    for (t0, t1), i in zip(windows(rng, k), order):
        had = [p[0] for p in plans[i]]
        for _ in range(20):
            action = pick(rng, ACTIONS[1:], DRAWN)
            if fits(had, action) and (action not in ORBITS or t1 - t0 > 0.33):
                break
        else:
            return None
        plans[i].append((action, t0, t1))
    return plans


def hops_seen(event, n_frames):
    """Do the sampled frames show a bounce and not a glide: up and back, in a long event twice?"""
    s = (sample_times(n_frames) - event.t0) / (event.t1 - event.t0)
    height = np.abs(np.sin(math.pi * event.hops * np.clip(s, 0, 1)))
    high = np.flatnonzero(height > 0.6)
    if height[0] > 0.45 or height[-1] > 0.45:
        return False
    if event.t1 - event.t0 < 0.5:
        return len(high) >= 1
    return len(high) >= 2 and (height[high[0]:high[-1]] < 0.4).any()


def sweep_times(thing):
    """Times that catch all of an object's track; standing still needs one."""
    return np.concatenate([e.t0 + (e.t1 - e.t0) * SWEEP.get(e.action, STEPS) for e in thing.events])


def place(rng, things, frame, pan):
    """Gives every object a start so that swept discs stay apart and inside; False if no luck."""
    w, h = frame
    taken = np.zeros((0, 3))
    for thing in sorted(things, key=lambda o: -len(o.events) - o.radius):
        thing.x = thing.y = 0.0
        if thing.events:
            x, y, r, _ = trace(thing, sweep_times(thing))
        else:
            x, y, r = np.zeros(1), np.zeros(1), np.full(1, thing.radius)
        r = r * REACH
        low_x, high_x = (r - x).max() + MARGIN + max(0, -pan[0]), (w - r - x).min() - MARGIN - max(0, pan[0])
        low_y, high_y = (r - y).max() + MARGIN + max(0, -pan[1]), (h - r - y).min() - MARGIN - max(0, pan[1])
        if low_x > high_x or low_y > high_y:
            return False
        start = rng.random((40, 2)) * (high_x - low_x, high_y - low_y) + (low_x, low_y)
        if len(taken):
            dx = start[:, 0, None, None] + x[:, None] - taken[:, 0]
            dy = start[:, 1, None, None] + y[:, None] - taken[:, 1]
            apart = (dx * dx + dy * dy > (r[:, None] + taken[:, 2] + GAP) ** 2).all(axis=(1, 2))
            if not apart.any():
                return False
            start = start[int(np.argmax(apart))]
        else:
            start = start[0]
        thing.x, thing.y = float(start[0]), float(start[1])
        taken = np.concatenate([taken, np.stack([x + thing.x, y + thing.y, r], axis=1)])
    return True


def choose_pairs(rng, n, held):
    pairs = []
    while len(pairs) < n:
        colour = pick(rng, COLOURS)
        if pairs and rng.random() < 0.2:
            colour = pick(rng, pairs)[0]
        pair = (colour, pick(rng, allowed_shapes(colour, held)))
        if pair not in pairs:
            pairs.append(pair)
    return pairs


def held_content(pairs, plans):
    found = ["%s %s" % p for p in pairs if p in HELD_PAIRS]
    return found + ["%s %s" % (p[1], a[0]) for p, plan in zip(pairs, plans) for a in plan
                    if (p[1], a[0]) in HELD_ACTIONS]


def plant_held(rng, pairs, plans):
    """Puts one held-out pair into a scene that is to have one."""
    acting = [(i, j) for i, plan in enumerate(plans) for j in range(len(plan))]
    i, j = pick(rng, acting) if acting else (int(rng.integers(len(pairs))), -1)
    if j >= 0 and rng.random() < 0.5:
        action = plans[i][j][0]
        shapes = [s for s, a in HELD_ACTIONS if a == action]
        if shapes:
            pairs[i] = (pairs[i][0], shapes[0])
            return
    pairs[i] = pick(rng, sorted(HELD_PAIRS))


def muted(rng):
    hue, sat, val = rng.random() * 6, rng.uniform(0.04, 0.30), rng.uniform(0.42, 0.72)
    k = [(n + hue) % 6 for n in (5, 3, 1)]
    return [255 * val * (1 - sat * max(0, min(v, 4 - v, 1))) for v in k]


def differ(ink, ground):
    """Does an object of colour ink stand off from ground: far away in RGB, in lightness unless it is colourful?"""
    d = [a - b for a, b in zip(ink, ground)]
    light = abs(0.3 * d[0] + 0.59 * d[1] + 0.11 * d[2])
    return d[0] * d[0] + d[1] * d[1] + d[2] * d[2] > 105 * 105 and light + 0.5 * (max(ink) - min(ink)) > 55


def make_background(rng, things, pan):
    def stands_off(colour):
        return all(differ(o.rgb, colour) for o in things)

    for _ in range(60):
        first = muted(rng)
        if stands_off(first):
            break
    else:
        first = [132.0, 128.0, 124.0]
    kind = "noise" if pan else pick(rng, ("flat", "linear", "radial", "noise", "stripes"), (20, 24, 18, 22, 16))
    low = 30 if pan else 14
    for _ in range(60):
        if kind in ("stripes", "flat"):
            step = rng.uniform(12, 22) * pick(rng, (-1, 1))
            second = [v + step for v in first]
        else:
            step = rng.uniform(low, 52) * pick(rng, (-1, 1))
            second = [v + step + rng.uniform(-12, 12) for v in first]
        if stands_off(second):
            break
    else:
        second = [0.85 * v for v in first]
    freq = rng.uniform(5, 9) if kind == "noise" else rng.uniform(4, 9)
    return Background(kind, tuple(float(v) for v in first), tuple(float(v) for v in second),
                      float(rng.uniform(0, 2 * math.pi)), float(freq), int(rng.integers(1 << 31)))


def attempt(rng, split, seed, kind, held, frame):
    """One try at a scene of this kind; None when the plan does not fit into the frame."""
    width, height, fps, n_frames = frame
    size = extent(width, height)
    n = pick(rng, (1, 2, 3, 4), (30, 35, 20, 15))
    k = pick(rng, (2, 3))
    for tries in range(60):
        camera, pan, pan_window = "still", (0.0, 0.0), (0.0, 1.0)
        if kind == "camera":
            plans = [[] for _ in range(n)]
            camera = pick(rng, PANS)
            way = STRAIGHT[camera]
            reach = rng.uniform(0.26, 0.40)
            pan = (-way[0] * reach * size[0], -way[1] * reach * size[1])
            pan_window = (rng.uniform(0.0, 0.1), rng.uniform(0.9, 1.0))
        else:
            plans = plan_whole(rng, n) if kind == "whole" else plan_sequence(rng, n, k)
        if plans is None:
            continue
        pairs = choose_pairs(rng, n, False)
        if held:
            plant_held(rng, pairs, plans)
        if len(set(pairs)) < n or bool(held_content(pairs, plans)) != held:
            continue
        things = []
        for pair, plan in zip(pairs, plans):
            hint = next((a[0] for a in plan if a[0] in ("grow", "shrink")), "")
            thing = make_thing(rng, pair, hint)
            if n == 4 and tries > 25 and not hint:
                thing.size, thing.texture = "small", "plain"
                thing.radius = RADIUS["small"]
            thing.events = [make_event(rng, action, thing, t0, t1, size) for action, t0, t1 in plan]
            things.append(thing)
        if not all(hops_seen(e, n_frames) for o in things for e in o.events if e.action == "bounce"):
            continue
        if place(rng, things, size, pan):
            return Scene(split, seed, kind, width, height, fps, n_frames, things,
                         make_background(rng, things, camera != "still"), camera, pan, pan_window,
                         held_content(pairs, plans))
    return None


def sample_scene(seed, split):
    """The scene number seed of a split; equal arguments give equal scenes."""
    rng = np.random.default_rng([20240, SPLITS.index(split), seed])
    held = split != "train" and bool(rng.random() < HELD_SHARE)
    kind = pick(rng, ("whole", "sequence", "camera"), (45, 47, 8))
    while True:
        width, height = pick(rng, [f for f, _ in FORMATS], [w for _, w in FORMATS])
        fps = pick(rng, RATES)
        n_frames = int(np.clip(round(fps * rng.uniform(1.5, 6.0)), 24, 150))
        scene = attempt(rng, split, seed, kind, held, (width, height, fps, n_frames))
        if scene:
            return scene
