# SPDX-License-Identifier: MIT
"""Batches for the loop, from worker processes through a replay pool in the device's memory, or made on the spot.

A pool holds the newest samples of one channel; a batch is drawn from it at random. A sample is used `replay` times on average and no
more: then the loop waits. Chunks are copied on a stream of their own, from page-locked memory where the driver allows; a chunk
can be drawn from when its copy has finished, and its slot goes back to the worker then.

Frames stay uint8 [T,224,224,3] until a batch is drawn (pixels()). In HD the frames come at the clip's own size and the pool holds
the canvas of the HD transform, f16 [T,3,224,448].
"""
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from train.samples import SIZE, Maker
from train.workers import slot_arrays

CHUNK = 48             # samples at most that a worker makes at once
KEPT_CHUNK = 8         # clips that a video transformer on a CPU looks at together: their scores stay in L2
WORDS = torch.int64    # records and frames are moved as these


def chunk_samples(maker, slot_bytes):
    n = slot_bytes // (maker.layout.size + maker.frame_bytes)
    if n < 1:
        raise ValueError('a sample of %d bytes does not fit into a slot of %d' % (maker.layout.size + maker.frame_bytes, slot_bytes))
    return min(CHUNK, n)


class Batch:
    """Fields of a batch on the device, by name (integers as int64, halves as f32), and its frames, or what the video transformer made
    of them."""

    def __init__(self, maker, records, frames, n_host, features=None):
        self.maker, self.records, self.frames, self.n_host, self.features = maker, records, frames, n_host, features

    def __len__(self):
        return len(self.records)

    def __getitem__(self, name):
        at, dtype, shape = self.maker.layout.at[name]
        part = self.records[:, at:at + dtype.itemsize * int(np.prod(shape))].contiguous()
        x = part.view(getattr(torch, {'f2': 'float16', 'u1': 'uint8'}.get(dtype.str[1:], 'int%d' % (8 * dtype.itemsize))))
        return x.reshape(len(self), *shape).to(torch.float32 if dtype.kind == 'f' else torch.int64)

    def longest(self, name):
        """Largest value of a field over the batch, known without asking the device."""
        return int(self.n_host[name].max())


def noise_of(rng, n, low, high, device):
    return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1, 1)).astype(np.float32)).to(device, non_blocking=True)


GRAIN = []


def grain(rng, x):
    """Noise for clips x [n, ...], of x's dtype. CPUs take a stretch of one table for each clip: drawing anew costs as much as looking."""
    if x.device.type != 'cpu':
        return torch.randn(x.shape, device=x.device, dtype=x.dtype)
    n = x[0].numel()
    if not GRAIN or len(GRAIN[0]) < 2 * n:
        GRAIN[:] = [torch.from_numpy(np.random.default_rng(0).standard_normal(2 * n, np.float32))]
    return torch.stack([GRAIN[0][at:at + n].view(x.shape[1:]) for at in rng.integers(n, size=len(x))]).to(x.dtype)


CONSTANTS = {}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(x):
    """0..255 [...,3,H,W] -> what the video transformer takes, in place."""
    key = (x.dtype, x.device)
    if key not in CONSTANTS:  # made once: making them waits for the device
        CONSTANTS[key] = [torch.tensor(v, dtype=x.dtype, device=x.device).view(3, 1, 1) for v in (MEAN, STD)]
    mean, std = CONSTANTS[key]
    return x.mul_(1 / (255 * std)).sub_(mean / std)


def pixels(frames, rng=None):
    """u8 [B,T,H,W,3] -> [B,T,3,H,W], normalised; with rng: noise, brightness and contrast as of a camera and a codec. bf16 (which holds
    every u8) where autocast would make that of it anyway, else f32."""
    short = torch.is_autocast_enabled(frames.device.type)
    x = frames.permute(0, 1, 4, 2, 3).to(torch.bfloat16 if short else torch.float32, memory_format=torch.contiguous_format)
    if rng is not None:
        b, device = len(x), x.device
        x.mul_(noise_of(rng, b, 0.93, 1.07, device)).add_(noise_of(rng, b, -8, 8, device))
        strength = noise_of(rng, b, 0, 5, device) * (noise_of(rng, b, 0, 1, device) < 0.5)
        x.add_(grain(rng, x[:, :1]) * strength)
    return normalised(x)


def canvas(frames, rng=None):
    """u8 [B,T,H,W,3] at native size -> f16 [B,T,3,224,448] in 0..255, as the HD transform with two tiles resizes it."""
    b, t = frames.shape[:2]
    x = frames.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    if rng is not None:
        x.mul_(noise_of(rng, b, 0.94, 1.06, x.device)).add_(noise_of(rng, b, -6, 6, x.device)).clamp_(0, 255)
        strength = noise_of(rng, b, 0, 4, x.device) * (noise_of(rng, b, 0, 1, x.device) < 0.5)
        x.add_(grain(rng, x[:, :1]) * strength)
    x = F.interpolate(x.flatten(0, 1), (SIZE, 2 * SIZE), mode='bicubic', align_corners=False)
    return x.reshape(b, t, 3, SIZE, 2 * SIZE).to(torch.float16)


def narrowed(x):
    """F.interpolate(x, half its width, mode='bicubic', align_corners=False): every new column lies in the middle of two old ones."""
    even, odd = x[..., 0::2], x[..., 1::2]
    before, after = torch.cat([even[..., :1], odd[..., :-1]], -1), torch.cat([even[..., 1:], odd[..., -1:]], -1)
    return (even + odd).mul_(0.59375).sub_((before + after).mul_(0.09375))


def views(x):
    """A batch of canvases -> [B,3,T,3,224,224]: left tile, right tile, the global view made of the normalised tiles. f32, or f16 (finer
    than what autocast makes of it) under autocast."""
    x = normalised(x.clone() if torch.is_autocast_enabled(x.device.type) else x.to(torch.float32))
    with torch.autocast(x.device.type, enabled=False):  # which refuses to put f16 side by side
        return torch.stack([x[..., :SIZE], x[..., SIZE:], narrowed(x)], 1)


def pool_form(maker):
    """Shape and dtype of frames in a pool."""
    t = maker.n_frame
    return ((t, 3, SIZE, 2 * SIZE), torch.float16) if maker.hd else ((t, SIZE, SIZE, 3), torch.uint8)


def as_words(x):
    return x.reshape(len(x), -1).view(WORDS)


class Pool:
    """The newest samples of a channel."""

    def __init__(self, maker, chunk, n_chunk, batch, replay, device):
        self.maker, self.chunk, self.batch, self.replay, self.device = maker, chunk, batch, replay, device
        self.n_chunk = max(n_chunk, 2 - (-2 * batch // chunk))  # full() leaves two to be written into
        n = self.n_chunk * chunk
        self.records = torch.zeros(n, maker.layout.size // 8, dtype=WORDS, device=device)
        self.frames = None
        if maker.n_frame:
            shape, dtype = pool_form(maker)
            self.frames = torch.zeros(n, *shape, dtype=dtype, device=device)
        self.host = {k: np.zeros(n, np.int64) for k in ('n', 'n_text') if k in maker.layout.at}
        self.ready = np.zeros(self.n_chunk, bool)
        self.at = self.arrived = self.asked = self.used = 0

    def hunger(self):
        """Samples asked for, in shares of what is used of them: the smaller, the sooner a slot is filled with it."""
        return (self.arrived + self.asked - self.used / self.replay) / self.batch

    def full(self):
        """Enough that nobody has seen; where workers are faster than `replay` asks for, samples are used less often."""
        return self.arrived + self.asked - self.used > (self.n_chunk - 2) * self.chunk

    def put(self, slot, height, width, rng):
        """Copies a chunk into the pool; it may be drawn from when settle() has been called."""
        at, n = self.at, self.chunk
        self.at = (at + 1) % self.n_chunk
        self.ready[at] = False
        here = slice(at * n, (at + 1) * n)
        records, frames = slot_arrays(slot, self.maker, n, height, width)
        for k, v in self.host.items():
            v[here] = self.maker.layout.read(records, k).reshape(n, -1).max(1)
        self.records[here].copy_(as_words(torch.from_numpy(records)), non_blocking=True)
        if self.frames is not None:
            x = torch.from_numpy(frames).to(self.device, non_blocking=True).reshape(n, self.maker.n_frame, height, width, 3)
            self.frames[here].copy_(canvas(x, rng) if self.maker.hd else x)
        return at

    def settle(self, at):
        self.ready[at] = True
        self.arrived += self.chunk
        self.asked -= self.chunk

    def starved(self):
        """Must the loop wait? There are two batches to choose from, and nothing is used too often."""
        return self.ready.sum() * self.chunk < 2 * self.batch or self.used + self.batch > self.replay * self.arrived

    def draw(self, rng):
        known = (np.flatnonzero(self.ready)[:, None] * self.chunk + np.arange(self.chunk)).reshape(-1)
        mine = known[rng.choice(len(known), self.batch, replace=False)]
        self.used += self.batch
        return self.take(mine)

    def take(self, mine):
        at = torch.from_numpy(mine).to(self.device, non_blocking=True)
        records = self.records.index_select(0, at).view(torch.uint8)
        frames = None
        if self.frames is not None:
            frames = as_words(self.frames).index_select(0, at).view(self.frames.dtype).reshape(len(mine), *self.frames.shape[1:])
        return Batch(self.maker, records, frames, {k: v[mine] for k, v in self.host.items()})


def fixed(maker, records, frames, device, rng=None):
    """A batch of these samples, without a pool. frames: as Maker.chunk() gives them, one size."""
    host = {k: maker.layout.read(records, k).reshape(len(records), -1).max(1) for k in ('n', 'n_text') if k in maker.layout.at}
    x = None
    if frames is not None:
        x = torch.from_numpy(frames).to(device)
        x = canvas(x, rng) if maker.hd else x
    return Batch(maker, torch.from_numpy(records).to(device), x, host)


class Inline:
    """Batches made in this process, one after another: what a step sees follows from the seed alone."""

    def __init__(self, kind, channels, vocab, seed, device):
        self.makers = {k: Maker(kind, c, vocab) for k, c in channels.items()}
        self.channels, self.seed, self.device, self.waited = channels, list(seed), device, 0.0

    def batch(self, name, step):
        rng = np.random.default_rng([*self.seed, step])
        began = time.time()
        made = fixed(self.makers[name], *self.makers[name].chunk(rng, self.channels[name]['batch']), self.device, rng)
        self.waited += time.time() - began
        return made

    def close(self):
        pass


class Shelf:
    """The newest clips of a channel: their records, and what the video transformer made of them, in bf16."""

    def __init__(self, size):
        self.size = -(-size // KEPT_CHUNK) * KEPT_CHUNK
        self.records = self.features = None
        self.host, self.arrived, self.used = {}, 0, 0

    def put(self, batch, features):
        if self.records is None:
            self.records = torch.zeros(self.size, *batch.records.shape[1:], dtype=torch.uint8)
            self.features = torch.zeros(self.size, *features.shape[1:], dtype=torch.bfloat16)
            self.host = {k: np.zeros(self.size, np.int64) for k in batch.n_host}
        at = self.arrived % self.size
        here = slice(at, at + len(batch))
        self.records[here], self.features[here] = batch.records, features.to(torch.bfloat16)
        for k, v in batch.n_host.items():
            self.host[k][here] = v
        self.arrived += len(batch)

    def draw(self, maker, rng, n):
        self.used += n
        mine = rng.choice(min(self.arrived, self.size), n, replace=False)
        at = torch.from_numpy(mine)
        return Batch(maker, self.records[at], None, {k: v[mine] for k, v in self.host.items()}, self.features[at])


class Kept(Inline):
    """As Inline, where the video transformer does not learn: what it makes of a clip is kept, and the clip is used `replay` times on
    average, among `kept` others (the first ones more often, while there are few; after an interruption the shelf is filled anew).
    look(batch, rng) -> features [n, views, S, d]. Channels without pictures are made on the spot."""

    def __init__(self, kind, channels, vocab, seed, device, look, kept):
        super().__init__(kind, channels, vocab, seed, device)
        self.look, self.shelves = look, {k: Shelf(max(kept, 4 * c['batch'])) for k, c in channels.items()}

    def batch(self, name, step):
        maker, n, shelf = self.makers[name], self.channels[name]['batch'], self.shelves[name]
        if not maker.n_frame:
            return super().batch(name, step)
        rng, began = np.random.default_rng([*self.seed, step]), time.time()
        if self.channels[name]['replay'] == 1:
            made = fixed(maker, *maker.chunk(rng, n), self.device, rng)
            made.features = self.look(made, rng)
            self.waited += time.time() - began
            return made
        while shelf.arrived < 4 * n or shelf.used + n > self.channels[name]['replay'] * shelf.arrived:
            made = fixed(maker, *maker.chunk(rng, KEPT_CHUNK), self.device, rng)
            shelf.put(made, self.look(made, rng))
        self.waited += time.time() - began
        return shelf.draw(maker, rng, n)


class Streamed:
    """Batches from workers through pools. channels: {name: channel with batch, replay, and how often its turn comes}."""

    def __init__(self, workers, kind, channels, turns, vocab, seed, device, memory):
        """memory: bytes of the device for all pools together."""
        self.workers, self.device, self.waited = workers, device, 0.0
        self.rng = np.random.default_rng([*seed, 1 << 20])
        self.cuda = torch.device(device).type == 'cuda'
        self.side = torch.cuda.Stream(device) if self.cuda else None
        makers = {k: Maker(kind, c, vocab) for k, c in channels.items()}
        chunks = {k: chunk_samples(m, workers.slot_bytes) for k, m in makers.items()}
        self.pools = {}
        for k, m in makers.items():
            c, shape = channels[k], pool_form(m) if m.n_frame else None
            size = m.layout.size + (int(np.prod(shape[0])) * shape[1].itemsize if shape else 0)
            often = turns.count(k) / len(turns)
            n_chunk = min(int(memory / len(makers) / size), 64 * c['batch']) // chunks[k]
            self.pools[k] = Pool(m, chunks[k], n_chunk, c['batch'], c.get('replay', 1), device)
            self.pools[k].often = often
        workers.stage(kind, {k: (channels[k], chunks[k]) for k in channels}, seed)
        self.copies = []   # (event, pool, chunk, slot)
        self.idle, workers.free = workers.free, []
        self.grant()

    def grant(self):
        """Empty slots to the channels that need them most."""
        while self.idle:
            wanting = [(p.hunger() / p.often, k) for k, p in self.pools.items() if not p.full()]
            if not wanting:
                return
            name = min(wanting)[1]
            self.pools[name].asked += self.pools[name].chunk
            self.workers.fill(self.idle.pop(), name)

    def poll(self, timeout):
        """Takes what has been made and gives back what has been copied."""
        done = []
        for entry in self.copies:
            event, pool, at, slot = entry
            if event is None or event.query():
                pool.settle(at)
                self.idle.append(slot)
                done.append(entry)
        self.copies = [e for e in self.copies if e not in done]
        self.grant()
        for serial, slot, name, height, width in self.workers.made(timeout):
            if serial != self.workers.serial:  # of the stage before
                self.idle.append(slot)
                continue
            pool = self.pools[name]
            if self.cuda:
                self.side.wait_stream(torch.cuda.current_stream(self.device))
                with torch.cuda.stream(self.side):
                    at = pool.put(self.workers.slot(slot), height, width, self.rng)
                    event = torch.cuda.Event()
                    event.record(self.side)
            else:
                at, event = pool.put(self.workers.slot(slot), height, width, self.rng), None
            self.copies.append((event, pool, at, slot))

    def batch(self, name, step):
        del step
        self.poll(0)
        pool, began = self.pools[name], time.time()
        while pool.starved():
            self.poll(0.002)
            if time.time() - began > 120:
                raise RuntimeError('no samples of %s for two minutes (%d arrived)' % (name, pool.arrived))
        self.waited += time.time() - began
        return pool.draw(self.rng)

    def close(self):
        """Slots go back when everything that uses them has ended; those being filled are reported later, to the next stage."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        self.workers.free += self.idle + [e[3] for e in self.copies]
        self.idle, self.copies, self.pools = [], [], {}


def page_lock(workers):
    """Lets the device read the slots directly; without it copies go through the driver's own buffer, which is slower. -> done?"""
    try:
        result = torch.cuda.cudart().cudaHostRegister(workers.memory.ctypes.data, workers.memory.nbytes, 0)
        if int(result) == 0:
            return True
    except Exception as error:  # nothing depends on it
        result = error
    print('slots are not page-locked: %s' % (result,), file=sys.stderr)
    return False
