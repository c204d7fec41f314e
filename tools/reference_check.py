# SPDX-License-Identifier: MIT
"""`reference.py check`: the golden cases of one checkpoint through the twin, every stored array against its own tolerance, ids exactly.

A case belongs to the checkpoint that it names; those without one (frames, resizing, decoding) run for each. The bf16 cases compare
arrays only: after the first near tie the ids may part. What needs yoga.mp4 is counted as "not run" where GOLDEN/../data/upstream has no
such file.

Easy to get wrong: the stored rows are strided (every 8th or 16th token, the class token among them, the patches without it).
"""
import hashlib
import json
import os
import re

import numpy as np
import torch

import reference
import reference_media as media
import reference_rows
import reference_search as search

SCORE_LIMIT = 2e-3  # the tolerance of the logits, for the two best scores of each step


class Check:
    def __init__(self, model, golden, verbose):
        self.path, self.golden, self.verbose = model, golden, verbose
        self.yoga = os.path.join(golden, '..', 'data', 'upstream', 'yoga.mp4')
        with open(os.path.join(golden, 'manifest.json'), encoding='utf-8') as f:
            manifest = json.load(f)
        with open(os.path.join(model, 'config.json'), 'rb') as f:
            sha = hashlib.sha256(f.read()).hexdigest()
        names = [n for n, c in manifest['checkpoints'].items() if c['sha256']['config.json'] == sha]
        if not names:
            raise SystemExit('%s: config.json is that of none of the golden checkpoints' % model)
        self.name = names[0]
        self.case = {c['id']: c for c in manifest['cases']}
        self.equal = self.different = self.missing = 0
        self.worst = {}  # kind of array -> [number, largest distance / tolerance, largest distance]
        self.models, self.rows = {}, {}

    # ---- results

    def row(self, case, what, equal, detail):
        self.equal, self.different = self.equal + equal, self.different + (not equal)
        if self.verbose or not equal:
            print('%-26s %-20s %-9s %s' % (case['id'], what, 'equal' if equal else 'DIFFERENT', detail), flush=True)

    def same(self, case, what, got, want):
        self.row(case, what, got == want, '' if got == want else '%.150r, expected %.150r' % (got, want))

    def close(self, case, what, got, want, tolerance):
        got, want = np.asarray(got), np.asarray(want)
        if got.size != want.size:
            return self.row(case, what, False, 'shape %s, expected %s' % (got.shape, want.shape))
        if tolerance == 'exact':
            return self.row(case, what, np.array_equal(got.ravel(), want.ravel()), 'bytes')
        a, b = got.ravel().astype(np.float64), want.ravel().astype(np.float64)
        d, limit = np.abs(a - b).max(), tolerance['max_abs']
        cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300)
        seen = self.worst.setdefault(case['id'].split('/')[0] + ' ' + re.sub(r'\d+', '*', what), [0, 0.0, 0.0])
        seen[:] = seen[0] + 1, max(seen[1], d / limit), max(seen[2], d)
        equal = bool(d <= limit) and (tolerance['cosine'] is None or bool(cosine >= tolerance['cosine']))
        self.row(case, what, equal, 'max-abs %.3g (<= %.3g), cosine %.9f' % (d, limit, cosine))

    def array(self, case, name):
        """-> values, tolerance"""
        entry = next(a for a in case['arrays'] if a['name'] == name)
        return np.load(os.path.join(self.golden, entry['file'])), entry['tolerance']

    def points(self, case, name, full):
        """Stored values at stored flat positions of the tensor `full`."""
        values, tolerance = self.array(case, name + '_values')
        of = next(a['of'] for a in case['arrays'] if a['name'] == name + '_values')
        full = np.asarray(full)
        if full.size != np.prod(of):
            return self.row(case, name, False, 'shape %s, expected %s' % (full.shape, of))
        self.close(case, name, full.ravel()[self.array(case, name + '_at')[0]], values, tolerance)

    # ---- media

    def frames(self, case):
        if case['id'] == 'frames/index':
            with open(os.path.join(self.golden, case['files'][0]['file'])) as f:
                table = json.load(f)
            got = {s: [media.frame_indices(n + 1, int(s)) for n in range(len(rows))] for s, rows in table.items()}
            self.row(case, 'rows', got == table, '%d tables' % len(table))
            return
        rows = reference_rows.lines(self.golden, case)
        rate = lambda r: int(r['fps'].split('/')[0]) / int(r['fps'].split('/')[1])
        got = [media.time_sentence(media.frame_indices(r['frames'], r['segments']), rate(r)) for r in rows]
        self.row(case, 'rows', got == [r['message'] for r in rows], '%d rows' % len(rows))

    def resize(self, case):
        if case['id'] == 'resize/grids':
            rows = reference_rows.lines(self.golden, case)
            free = [list(media.closest_grid(r['width'], r['height'], r['hd_num'])) for r in rows]
            padded = [list(media.pad_sizes(max(r['width'], r['height']), min(r['width'], r['height']), r['hd_num'])[::2]) for r in rows]
            self.row(case, 'rows', free == [r['free'] for r in rows] and padded == [r['padding'] for r in rows], '%d rows' % len(rows))
            return
        n, h, w = case['inputs']['frames'], case['inputs']['height'], case['inputs']['width']
        t, y, x, c = np.ix_(range(n), range(h), range(w), range(3))
        rgb = ((x * 255 // max(w - 1, 1) + (((3 * x * x + 5 * y * y + x * y + 61 * c + 17 * t) >> 3) & 255)) >> 1).astype(np.uint8)
        for name in [a['name'][:-3] for a in case['arrays'] if a['name'].endswith('_at')]:
            hd_num = int(name.rsplit('_', 1)[1]) if name[-1].isdigit() else 6
            if name == 'media':
                got = media.hd_clips(rgb)
            elif name == 'plain_8b':
                got = media.plain_clip(rgb)
            else:
                got = media.hd_canvas(rgb, hd_num, name.startswith('padding'), None if name.startswith('free') else (2, 1))
            self.points(case, name, got)

    def video(self, case):
        given = case['inputs']
        video = media.Video(self.yoga)
        indices = media.frame_indices(video.n, given['segments'])
        rgb = video.read(indices)
        if case['id'] == 'media/yoga_frames':
            values = case['values']
            self.same(case, 'indices', indices, values['indices'])
            self.same(case, 'frames', [hashlib.sha256(f.tobytes()).hexdigest() for f in rgb], values['sha256_per_frame'])
            self.same(case, 'message', media.time_sentence(indices, video.fps), values['message'])
            for name, at in (('rgb0', 0), ('rgb7', 7)):
                self.close(case, name, rgb[at], *self.array(case, name))
            return
        plain = case['id'].endswith('_8b')
        got = media.plain_clip(rgb) if plain else media.hd_clips(rgb, given['hd_num'], given['padding'])
        if 'pixels' in [a['name'] for a in case['arrays']]:
            self.close(case, 'pixels', got, *self.array(case, 'pixels'))
        else:
            self.points(case, 'pixels', got)

    # ---- the model

    def pixels(self, words):
        """The words of inputs.media -> [N,T,3,224,224]."""
        if words.startswith('zeros'):
            return np.zeros((3, 8, 3, 224, 224), np.float32)
        if words.startswith('yoga.mp4, 16'):
            return media.video_clips(self.yoga, 16)
        if words.startswith('yoga.mp4, 8 segments, hd_num 4, padding'):
            return media.video_clips(self.yoga, 8, hd_num=4, padding=True)
        if words == 'media/yoga_8b':
            return media.video_clips(self.yoga, 8, '8b')
        base = self.array(self.case['media/yoga_hd'], 'pixels')[0][0]
        clips = re.search(r'clips? ([\d,]+)', words)
        frames = re.search(r'frames? ([\d,]+)', words)
        clips = [int(i) for i in clips[1].strip(',').split(',')] if clips else [0, 1, 2]
        frames = [int(i) for i in frames[1].strip(',').split(',')] if frames else list(range(8))
        if words.startswith('every frame'):
            frames = [t // 2 for t in range(16)]
        return base[clips][:, frames]

    def visual(self, chat, dtype, case):
        """-> rows, stages; each medium with each instruction once."""
        key = dtype, chat.variant, case['inputs']['media'], case['inputs'].get('instruction')
        if key not in self.rows:
            stages = {}
            pixels = torch.from_numpy(np.ascontiguousarray(self.pixels(key[2])))
            self.rows[key] = chat.visual(pixels, key[3], lambda n, v: stages.__setitem__(n, v.float().numpy())), stages
        return self.rows[key]

    @staticmethod
    def stored_part(name, want, stages):
        """The stage behind a golden array, cut to its clips and every k-th token."""
        part = re.fullmatch(r'(vit|patch|block(\d+))(_clip0|_rest)?', name)
        if not part:
            return stages[name]
        x = stages['vit' if part[1] == 'vit' else 'vit_patch' if part[1] == 'patch' else 'vit_block_' + part[2]]
        x = x[1:] if part[3] == '_rest' else x[0]
        x = x[1:] if part[1] == 'patch' else x
        n_row = want.size // want.shape[-1] // (x.shape[0] if x.ndim == 3 else 1)
        return x[..., ::-(-x.shape[-2] // n_row), :]

    def open(self, case):
        """The twin as the case wants it -> Chat, rows, stages"""
        dtype, family = getattr(torch, case['inputs']['dtype']), case['id'].split('/')[0]
        if dtype not in self.models:
            self.models[dtype] = reference.open_chat(self.path, dtype)
        chat = self.models[dtype]
        chat.variant = family if family in ('8b', 'internlm') else 'hd'
        return (chat, *self.visual(chat, dtype, case))

    def chat(self, case):
        given, values = case['inputs'], case['values']
        chat, rows, stages = self.open(case)
        seen = dict(stages)
        answer, ids, best = chat.ask(rows, given['prompt'], given.get('history') or (), given.get('media_type') == 'image',
                                     given.get('instruction'), given.get('msg') or '', given.get('answer_prompt'),
                                     lambda n, v: seen.__setitem__(n, v.float().numpy() if v.is_floating_point() else v.numpy()),
                                     max_new_tokens=given['max_new_tokens'], repetition_penalty=given.get('repetition_penalty', 1.0))
        self.same(case, 'prompt', reference_rows.compact(seen['input_ids'].tolist()), values['prompt_ids'])
        for a in case['arrays']:
            want, tolerance = self.array(case, a['name'])
            self.close(case, a['name'], self.stored_part(a['name'], want, seen), want, tolerance)
        if given['dtype'] == 'float32':
            self.same(case, 'ids', ids, values['generated_ids'])
            self.same(case, 'response', answer, values['response'])
            top = [[score for _, score in step[:2]] for step in values['top4_per_step']]
            self.close(case, 'two best', best, top, {'max_abs': SCORE_LIMIT, 'cosine': None})

    def beams(self, case):
        given, values = case['inputs'], case['values']
        chat, rows, _ = self.open(case)
        ids = chat.prompt_ids(len(rows), given['prompt'], answer_prefix=given['answer_prompt'])
        got = search.beam_search(chat.model, ids, rows, given['num_beams'], given['max_new_tokens'],
                                 repetition_penalty=given.get('repetition_penalty', 1.0), length_penalty=given.get('length_penalty', 1.0))
        self.same(case, 'ids', [ids for _, ids in got], [h['ids'] for h in values['hypotheses']])
        self.close(case, 'scores', [score for score, _ in got], [h['score'] for h in values['hypotheses']],
                   {'max_abs': values['score_tolerance'], 'cosine': None})

    def sampling(self, case):
        logits = torch.from_numpy(self.array(case, 'logits')[0])
        for entry in case['values']['configs']:
            config = dict(entry['config'])
            penalty = config.pop('repetition_penalty', 1.0)
            got = [search.probabilities(search.process(row.clone(), out, case['inputs']['eos'], 1, penalty), **config).numpy()
                   for row, out in zip(logits, case['values']['previous_ids'])]
            self.close(case, entry['array'], got, *self.array(case, entry['array']))

    def run(self, only=''):
        for name, case in self.case.items():
            family = name.split('/')[0]
            if only not in name:
                continue
            own = case['inputs'].get('checkpoint', 'tiny-internlm' if name == 'prompt/internlm' else
                                     'tiny-hd' if family == 'prompt' else self.name)
            if own != self.name:
                continue
            needs_yoga = family == 'media' or re.match('yoga.mp4|media/yoga_8b', case['inputs'].get('media', ''))
            if needs_yoga and not os.path.exists(self.yoga):
                self.missing += 1
            elif family in ('tokenizer', 'prompt'):
                n, bad = reference_rows.different(self.golden, case, self.path)
                self.row(case, 'rows', not bad, bad[0] if bad else '%d rows' % n)
            else:
                {'frames': self.frames, 'resize': self.resize, 'media': self.video, 'beams': self.beams,
                 'sampling': self.sampling}.get(family, self.chat)(case)
        if self.verbose:
            for kind, (n, ratio, d) in sorted(self.worst.items()):
                print('worst of %3d  %-28s max-abs %-10.3g %.1f %% of the tolerance' % (n, kind, d, 100 * ratio))
        print('%d cases not run' % self.missing)
        print('%d equal, %d different' % (self.equal, self.different))
        return 1 if self.different or not self.equal else 0


def run(model, golden, verbose=False, only=''):
    return Check(model, golden, verbose).run(only)
