# SPDX-License-Identifier: MIT
"""Samples of every kind as arrays of fixed shapes, for the processes that make them and for validation. numpy only.

A channel is one kind of sample of a stage, as recipe.json describes it: "kind" (where it is not the stage's), "frames" (of a clip; 1 = a picture), "crowds" (share of
crowds instead of scenes), "alike" (share of the samples whose scene must have two objects of one colour or of one shape), "swapped" (share of colours and shapes in
what an answer has said that are replaced, see packing.swap()), "views" (3: frames stay at their native size, the HD transform follows where the model is), "questions"
and "rows" (sets of questions for one clip, used in turn). A record is bytes: the fields of a layout one behind the other.
"""
import os

import numpy as np

import reference_text as text
from train.labels import crowd, targets
from train.packing import FIELDS, MOST, Encoder, Words, pack, swap
from world import scene as W
from world.describe import describe, make_dialogue_text
from world.questions import MAKERS, make_image_questions, make_questions
from world.render import render
from world.wordings import PROTOCOL, SHORT_INSTRUCTIONS

SIZE, GRID = 224, 64
TYPES = tuple(MAKERS) + ('no video',)
NO_MEDIA = ('There is no video to look at.', 'I do not see a video.', 'Please show me a video first.')
N_TEXT = 112     # WordPiece ids of an instruction or a caption
LENGTH = {'reader': 528, 1: 624, 3: 832}
OBJECTS = (('shape', len(W.SHAPES), 1.0), ('colour', len(W.COLOURS), 1.0), ('texture', len(W.TEXTURES), 1.0), ('size', len(W.SIZES), 1.0),
           ('action', len(W.ACTIONS), 1.0), ('deed_1', len(W.ACTIONS), 0.5), ('deed_2', len(W.ACTIONS), 0.5),
           ('deed_3', len(W.ACTIONS), 0.5))  # what binding.py learns of an object: name, classes, weight
PLACES = ('x', 'y')
MOST_OBJECTS = 4
TOLD_FREELY = [TYPES.index(t) for t in ('choice', 'describe', 'dialogue')]  # answers in which the words so far may decide what comes next
LARGEST = max(w * h for (w, h), _ in W.FORMATS)


class Layout:
    """Where each field of a record lies; records are multiples of 64 bytes."""

    def __init__(self, fields):
        self.at, n = {}, 0
        for name, dtype, *shape in fields:
            dtype = np.dtype(dtype)
            self.at[name] = (n, dtype, tuple(shape))
            n += -(-dtype.itemsize * int(np.prod(shape)) // 8) * 8
        self.size = -(-n // 64) * 64

    def write(self, record, values):
        """record: u8 [size]"""
        for name, (at, dtype, shape) in self.at.items():
            record[at:at + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)[...] = values[name]

    def read(self, records, name):
        """records: u8 [n, size] -> [n, *shape]"""
        at, dtype, shape = self.at[name]
        part = np.ascontiguousarray(records[:, at:at + dtype.itemsize * int(np.prod(shape))])
        return part.view(dtype).reshape(len(records), *shape)


def cells_layout(n):
    c = (n, GRID)
    return [('ids', 'i1', *c), ('shape', 'i1', *c), ('colour', 'i1', *c), ('texture', 'i1', *c), ('now', 'i1', *c), ('life', 'u1', *c, len(W.ACTIONS)),
            ('outline', 'u1', *c, 49), ('flow', 'f2', *c, 6), ('box', 'f2', *c, 4), ('camera', 'i1')]


def text_layout(rows, length):
    return [(k, t, rows, length) for k, t in FIELDS] + [('n', 'i2', rows), ('kind', 'i1', rows, MOST)]


def alike(scene):
    """Are there two objects that only two words together tell apart?"""
    things = scene.objects
    return len({o.colour for o in things}) < len(things) or len({o.shape for o in things}) < len(things)


def objects(scene):
    """int8 [MOST_OBJECTS, fields of OBJECTS and PLACES]: classes, in a sequence also what each does as the first, second and third event ("still" if
    another acts then), and its first place in hundredths of the frame. -1: unknown, or no object."""
    out = np.full((MOST_OBJECTS, len(OBJECTS) + len(PLACES)), -1, np.int8)
    w, h = scene.extent
    for i, o in enumerate(scene.objects):
        out[i, :5] = [W.SHAPES.index(o.shape), W.COLOURS.index(o.colour), W.TEXTURES.index(o.texture), W.SIZES.index(o.size) if o.size else -1,
                      W.ACTIONS.index(o.actions[0])]
        out[i, -2:] = np.clip([100 * o.x / w, 100 * o.y / h], 0, 100)
        if scene.kind == 'sequence':
            for n, (event, j) in enumerate(scene.events()[:3]):
                out[i, 5 + n] = W.ACTIONS.index(event.action) if i == j else 0
    return out


class Maker:
    """Makes the samples of one channel."""

    def __init__(self, kind, channel, vocab, split='train'):
        kind = channel.get('kind', kind)
        self.kind, self.c, self.split = kind, channel, split
        self.n_frame, self.hd = channel.get('frames', 0), channel.get('views', 1) == 3
        self.image = self.n_frame == 1
        self.waiting = {}
        if kind != 'encoder':
            self.encoder = Encoder(Words(os.path.join(vocab, 'tokenizer.json')), 96)
            self.bert = text.BertTokenizer(os.path.join(vocab, 'vocab.txt'))
        if channel.get('swapped'):
            self.starts = [i for p, i in self.encoder.tokenizer.vocab.items() if p.startswith(text.BLANK) or p in ('.', ',', ';', ':', '?', '!', '</s>')]
            pieces = {w: self.encoder.tokenizer.encode_raw(text.BLANK + w) for w in W.COLOURS + W.SHAPES}
            self.ids = {w: p[0] for w, p in pieces.items() if len(p) == 1}
            if len(self.ids) < len(pieces):
                raise ValueError('swapped: the vocabulary has no piece of its own for %s' % ', '.join(sorted(set(pieces) - set(self.ids))))
        rows = channel.get('rows', 1)
        self.length = LENGTH['reader' if kind == 'reader' else channel.get('views', 1)]
        told = [('text', 'i2', N_TEXT), ('n_text', 'i2')]
        shown = [('objects', 'i1', MOST_OBJECTS, len(OBJECTS) + len(PLACES))]
        self.layout = Layout({'encoder': lambda: cells_layout(self.n_frame), 'reader': lambda: text_layout(rows, self.length),
                              'align': lambda: told, 'chatting': lambda: text_layout(rows, self.length) + told + shown, 'bind': lambda: told + shown}[kind]())
        pixels = LARGEST if self.hd else SIZE * SIZE
        self.frame_bytes = self.n_frame * pixels * 3  # of the largest sample

    def chunk(self, rng, n):
        """-> records u8 [n, layout.size], frames u8 [n,T,h,w,3] or None: n samples of one frame size."""
        made = self.same_size(rng, n) if self.hd else [getattr(self, self.kind)(rng, self.seed(rng)) for _ in range(n)]
        records = np.zeros((n, self.layout.size), np.uint8)
        for record, (values, _) in zip(records, made):
            self.layout.write(record, values)
        return records, np.stack([f for _, f in made]) if self.n_frame else None

    @staticmethod
    def seed(rng):
        return int(rng.integers(1 << 40))

    def scene(self, rng, seed):
        """The scene of a seed, or where it must be a harder one the next such."""
        s = W.sample_scene(seed, self.split)
        if self.c.get('alike') and rng.random() < self.c['alike']:
            while not alike(s):
                s = W.sample_scene(self.seed(rng), self.split)
        return s

    def same_size(self, rng, n):
        """Scenes wait until n of one format are there."""
        while True:
            s = self.scene(rng, self.seed(rng))
            group = self.waiting.setdefault((s.width, s.height), [])
            group.append(s)
            if len(group) == n:
                del self.waiting[s.width, s.height]
                return [getattr(self, self.kind)(rng, s.seed, s) for s in group]

    def squashed(self, rng, scene, times):
        return render(scene, times, SIZE, SIZE, antialias=rng.random() < 0.8)

    def encoder(self, rng, seed):
        """A scene or a crowd with the labels of its cells."""
        n, camera = self.n_frame, 'still'
        if rng.random() < self.c.get('crowds', 0.0):
            scene = crowd(rng, n > 1)
            times = np.linspace(0.0, 1.0, n) if n > 1 else np.array([0.5])
        else:
            scene = W.sample_scene(seed, self.split)
            times = W.sample_times(scene.n_frames, 8 if n == 1 else n)
            times, camera = (times[rng.integers(8, size=1)] if n == 1 else times), scene.camera
        values = targets(scene, times)
        values['camera'] = W.PANS.index(camera) if camera in W.PANS else len(W.PANS)
        return values, self.squashed(rng, scene, times)

    def lonely(self, rng, seed):
        """Questions without anything to look at."""
        items = make_questions(W.sample_scene(seed, self.split), rng, self.split, 4)
        return [self.encoder.alone(item['turns'][0]['q'], NO_MEDIA[int(rng.integers(len(NO_MEDIA)))]) for item in items]

    def rows(self, rng, scene, made, learn_prefix=False):
        """made: [(prefix, conversations)], one for each row."""
        packed = [pack(p, cs, self.length, TYPES, learn_prefix) for p, cs in made]
        if self.c.get('swapped'):
            there = {o.colour for o in scene.objects} | {o.shape for o in scene.objects}
            words = [([self.ids[w] for w in ws], [self.ids[w] for w in ws if w not in there]) for ws in (W.COLOURS, W.SHAPES)]
            for row in packed:
                swap(row, rng, self.c['swapped'], words, self.starts, TOLD_FREELY)
        return {k: np.stack([p[k] for p in packed]) for k in packed[0]}

    def reader(self, rng, seed):
        scene, made = self.scene(rng, seed), []
        for _ in range(self.c.get('rows', 1)):
            if rng.random() < 0.02:
                made.append(([], self.lonely(rng, seed)))
                continue
            told = make_dialogue_text(scene, rng)
            made.append((self.encoder.text_prefix(told), self.encoder.conversations(make_questions(scene, rng, self.split, self.c['questions']))))
        return self.rows(rng, scene, made, True), None

    def told(self, ids):
        out = np.zeros(N_TEXT, np.int16)
        out[:len(ids)] = ids
        return dict(text=out, n_text=len(ids))

    def align(self, rng, seed):
        scene = W.sample_scene(seed, self.split)
        frames = self.squashed(rng, scene, W.sample_times(scene.n_frames, self.n_frame))
        return self.told(self.bert.encode(describe(scene, rng)[0], N_TEXT)), frames

    def instruction(self, rng):
        if rng.random() < self.c.get('instructed', 0.0):
            return PROTOCOL if rng.random() < 0.5 else SHORT_INSTRUCTIONS[int(rng.integers(len(SHORT_INSTRUCTIONS)))]
        return None

    def chatting(self, rng, seed, scene=None):
        views, k, n_row = self.c.get('views', 1), self.c['questions'], self.c.get('rows', 1)
        while True:
            scene = scene or self.scene(rng, seed)
            times = W.sample_times(scene.n_frames, 8 if self.image else self.n_frame)
            if not self.image:
                items = [make_questions(scene, rng, self.split, k) for _ in range(n_row)]
                break
            times = times[rng.integers(8, size=1)]
            items = [make_image_questions(scene, rng, self.split, k, float(times[0])) for _ in range(n_row)]
            if all(items):
                break
            seed = seed if self.hd else self.seed(rng)  # half faded; the size must stay in a chunk
            scene = scene if self.hd else None
        instruction = self.instruction(rng)
        prefix = self.encoder.media_prefix(views, self.image, instruction)
        things = [(o.colour, o.shape) for o in scene.objects]
        made = [(prefix, self.encoder.conversations(i, things)) for i in items]
        if rng.random() < self.c.get('lonely', 0.0):
            made[0] = ([], self.lonely(rng, seed))
        values = dict(self.rows(rng, scene, made), **self.told(self.bert.encode(instruction, N_TEXT) if instruction else []), objects=objects(scene))
        return values, self.shown(rng, scene, times)

    def shown(self, rng, scene, times):
        if self.hd:
            return render(scene, times, scene.width, scene.height)
        return self.squashed(rng, scene, times)

    def bind(self, rng, seed, scene=None):
        """A clip and its objects; no question."""
        scene = scene or self.scene(rng, seed)
        instruction = self.instruction(rng)
        values = dict(self.told(self.bert.encode(instruction, N_TEXT) if instruction else []), objects=objects(scene))
        return values, self.shown(rng, scene, W.sample_times(scene.n_frames, self.n_frame))
