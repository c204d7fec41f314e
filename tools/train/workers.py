# SPDX-License-Identifier: MIT
"""Processes that make samples, and the shared memory through which they hand them over. No PyTorch here: they are forked before
it is loaded, so that no process inherits its threads or a device.

Every worker owns a few slots of one anonymous mapping (not a file: /dev/shm may be tiny). It is told which channel to fill a slot
with, makes a chunk of samples there and reports it; the slot is its own again when it is granted anew. Slot: records, then frames.

    to a worker     ('stage', serial, kind, {name: (channel, n samples a chunk)}, seed)      ('fill', slot, name)
    from a worker   ('made', serial, slot, name, height, width)      ('failed', text)

A worker that fails says so and ends; whoever waits for it raises. A worker whose master is gone ends, too.
"""
import mmap
import os
import signal
import traceback
from multiprocessing import connection, get_context

import numpy as np

SLOTS = 3
PAGE = 1 << 21


def slot_arrays(slot, maker, n, height, width):
    """slot: u8 -> records u8 [n, size], frames u8 [n * T * height * width * 3] (they are packed tightly)."""
    head = n * maker.layout.size
    return slot[:head].reshape(n, -1), slot[head:head + n * maker.n_frame * height * width * 3]


def work(number, link, memory, slot_bytes, vocab):
    """A worker's life."""
    from train.samples import Maker
    for told in (signal.SIGINT, signal.SIGTERM):  # both may be told to a whole group; the master decides when this ends
        signal.signal(told, signal.SIG_IGN)
    os.nice(5)
    try:
        makers, serial, rng = {}, -1, None
        while True:
            message = link.recv()
            if message[0] == 'stage':
                _, serial, kind, channels, seed = message
                makers = {k: (Maker(kind, c, vocab), n) for k, (c, n) in channels.items()}
                rng = np.random.default_rng([*seed, number])
                continue
            _, slot, name = message
            maker, n = makers[name]
            records, frames = maker.chunk(rng, n)
            size = frames.shape[2:4] if frames is not None else (0, 0)
            into, pixels = slot_arrays(memory[slot * slot_bytes:(slot + 1) * slot_bytes], maker, n, *size)
            into[...] = records
            if frames is not None:
                pixels[...] = frames.reshape(-1)
            link.send(('made', serial, slot, name, *size))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except BaseException:  # whatever it was, the master has to know
        try:
            link.send(('failed', 'worker %d: %s' % (number, traceback.format_exc())))
        except OSError:
            pass
        os._exit(1)
    os._exit(0)


class Workers:
    """n processes with SLOTS slots of slot_bytes each."""

    def __init__(self, n, slot_bytes, vocab):
        self.slot_bytes = -(-slot_bytes // PAGE) * PAGE
        self.mapping = mmap.mmap(-1, n * SLOTS * self.slot_bytes)
        self.memory = np.frombuffer(self.mapping, np.uint8)
        self.links, self.processes, self.serial = [], [], 0
        self.free = list(range(n * SLOTS))  # slots that no worker is filling
        context = get_context('fork')
        for i in range(n):
            ours, theirs = context.Pipe()
            def life(theirs=theirs, i=i):
                for link in self.links:  # a copy of another's end would keep that one alive
                    link.close()
                work(i, theirs, self.memory, self.slot_bytes, vocab)
            p = context.Process(target=life, daemon=True)
            p.start()
            theirs.close()
            self.links.append(ours)
            self.processes.append(p)

    def stage(self, kind, channels, seed):
        """channels: {name: (channel, samples a chunk)}. What was asked for before is still reported, under an older serial."""
        self.serial += 1
        for link in self.links:
            self.tell(link, ('stage', self.serial, kind, channels, list(seed)))

    def fill(self, slot, name):
        self.tell(self.links[slot // SLOTS], ('fill', slot, name))

    def tell(self, link, message):
        try:
            link.send(message)
        except OSError as error:
            raise RuntimeError('worker %d has ended' % self.links.index(link)) from error

    def slot(self, slot):
        return self.memory[slot * self.slot_bytes:(slot + 1) * self.slot_bytes]

    def made(self, timeout):
        """-> [(serial, slot, name, height, width)] of what has been reported; waits up to timeout seconds for the first."""
        out = []
        for link in connection.wait(self.links, timeout):
            try:
                while link.poll():
                    message = link.recv()
                    if message[0] == 'failed':
                        raise RuntimeError(message[1])
                    out.append(message[1:])
            except (EOFError, ConnectionResetError) as error:
                raise RuntimeError('worker %d has ended without a word' % self.links.index(link)) from error
        return out

    def close(self):
        for p in self.processes:
            p.kill()
        for p in self.processes:
            p.join()
        for link in self.links:
            link.close()
