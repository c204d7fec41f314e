# SPDX-License-Identifier: MIT
"""The verbs of reference.py: one conversation, its stages as files, the questions of a whole corpus, the golden cases.

`dump` writes the files of `ivchat chat --dump` under the same names: DIR/frame_indices.npy, pixels.npy, vit_patch.npy,
vit_block_<i>.npy, vit.npy, qformer.npy, projected.npy, input_ids.npy (0 where a visual row goes), logits.npy (of the prompt's last
position); further turns have input_ids and logits in DIR/turn2 and so on.

`answers` reads DIR/questions.jsonl, lines of {"video", "id", "instruction", "answer_prefix", "turns": [{"q", ...}]}, and writes lines of
{"id", "turn_ids", "margin", "texts"}: the ids of each turn's answer, a final end of sequence included; for each id the distance
between the best and the second best score; the answers. Lines stand by video, in the order in which the videos first occur.
It may be interrupted: FILE.part keeps what is done, the same command goes on behind it.
"""
import argparse
import json
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import torch

import kept_lines
import reference
import reference_media as media
from reference_sizes import frames_of


def write_npy(path, value):
    if isinstance(value, torch.Tensor):
        value = value.float().numpy() if value.is_floating_point() else value.clamp(min=0).numpy().astype(np.int32)
    np.save(path, np.ascontiguousarray(value))


def converse(a, tap=lambda turn, name, value: None):
    """The turns of `chat` and `dump`, answers on standard output; tap sees the stages."""
    chat = reference.open_chat(a.model, getattr(torch, a.dtype), a.variant)
    rows, history = None, []
    if a.video:
        video = media.Video(a.video)
        indices = media.frame_indices(video.n, a.num_frames or frames_of(chat.model.config, a.model, a.variant))
        frames = video.read(indices)
        pixels = media.plain_clip(frames) if chat.variant == '8b' else media.hd_clips(frames)
        tap(1, 'frame_indices', np.array(indices, np.int32))
        tap(1, 'pixels', pixels[None])
        rows = chat.visual(pixels, a.instruction, lambda name, value: tap(1, name, value))
    for turn, prompt in enumerate(a.prompt, 1):
        answer, _, _ = chat.ask(rows, prompt, history, instruction=a.instruction, msg=a.msg, answer_prefix=a.answer_prefix,
                                tap=lambda name, value: tap(turn, name, value), max_new_tokens=a.max_new_tokens,
                                repetition_penalty=a.repetition_penalty)
        print(answer, flush=True)
        history.append((prompt, answer))


def dump(a):
    def tap(turn, name, value):
        folder = a.out if turn == 1 else os.path.join(a.out, 'turn%d' % turn)
        os.makedirs(folder, exist_ok=True)
        write_npy(os.path.join(folder, name + '.npy'), value)
    converse(a, tap)


def is_image(name):
    return name.lower().endswith(('.png', '.jpg', '.jpeg'))


class Corpus:
    """Questions about the videos of a folder."""

    def __init__(self, a):
        self.chat = reference.open_chat(a.model, getattr(torch, a.dtype), a.variant)
        self.folder, self.max_new_tokens = a.data, a.max_new_tokens
        self.num_frames = a.num_frames or frames_of(self.chat.model.config, a.model, a.variant)

    @torch.no_grad()
    def answer_video(self, questions):
        """Lines for the questions of one video or image: seen once, its rows made once for each instruction."""
        model, name, rows = self.chat.model, questions[0].get('video'), {}
        if name:
            n_frame = 1 if is_image(name) else self.num_frames
            seen = model.vision(media.video_clips(os.path.join(self.folder, name), n_frame, self.chat.variant))
            for words in {q.get('instruction') for q in questions}:
                rows[words] = model.project(seen, self.chat.instruction_ids(words))
        return [self.answer(q, rows.get(q.get('instruction'))) for q in questions]

    def answer(self, question, rows):
        history, out = [], {'id': question['id'], 'turn_ids': [], 'margin': [], 'texts': []}
        for turn in question['turns']:
            answer, ids, best = self.chat.ask(rows, turn['q'], history, is_image(question.get('video') or ''), instruction=question.get('instruction'),
                                              answer_prefix=question.get('answer_prefix'), max_new_tokens=self.max_new_tokens)
            out['turn_ids'].append(ids)
            out['margin'].append([round(first - second, 6) for first, second in best])
            out['texts'].append(answer)
            history.append((turn['q'], answer))
        return out


forked = {}  # the corpus, which worker processes inherit


def answer_video(questions):
    return forked['corpus'].answer_video(questions)


def in_worker():
    """A signal to the whole group ends the parent, which ends the workers."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def answers(a):
    """One process a thread: the steps of a small model are too short to be worth cutting."""
    torch.set_num_threads(1)
    forked['corpus'] = Corpus(a)
    with open(os.path.join(a.data, 'questions.jsonl'), encoding='utf-8') as f:
        questions = [json.loads(line) for line in f][:a.limit]
    kept = kept_lines.Kept(a.out + '.part', {'model': os.path.abspath(a.model), 'dtype': a.dtype, 'variant': forked['corpus'].chat.variant,
                                             'frames': forked['corpus'].num_frames, 'tokens': a.max_new_tokens})
    known, videos = {line['id']: line for line in kept.lines}, {}
    for question in questions:
        videos.setdefault(question.get('video'), []).append(question)
    asked = [group for group in videos.values() if any(q['id'] not in known for q in group)]
    total, start = len(questions), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception: the pool ends its workers
    with multiprocessing.get_context('fork').Pool(a.threads, in_worker) as pool:
        for n, lines in enumerate(pool.imap(answer_video, asked), 1):
            lines = [line for line in lines if line['id'] not in known]
            kept.add(lines)
            known.update((line['id'], line) for line in lines)
            if n % 25 == 0 or n == len(asked):
                print('%d of %d questions, %.1f s' % (len(known), total, time.monotonic() - start), file=sys.stderr, flush=True)
    kept.close()
    with open(a.out, 'w', encoding='utf-8') as out:
        out.writelines(json.dumps(known[q['id']]) + '\n' for group in videos.values() for q in group)
    os.remove(a.out + '.part')


def check(a):
    import reference_check
    return reference_check.run(a.model, a.golden, a.verbose, a.only)


def parser():
    p = argparse.ArgumentParser(prog='reference.py', description='InternVideo2-Chat in PyTorch: the reference that ivchat is compared with.')
    verbs = p.add_subparsers(dest='verb', required=True)

    def verb(run, words):
        v = verbs.add_parser(run.__name__ if run is not converse else 'chat', help=words, description=words)
        v.set_defaults(run=run)
        v.add_argument('-m', '--model', required=True, help='folder of a snapshot')
        v.add_argument('--threads', type=int, default=2)
        return v

    talk = verb(converse, 'answer questions about a video'), verb(dump, 'the same, and write every stage as .npy')
    many, golden = verb(answers, 'answer questions.jsonl of a folder'), verb(check, 'run the golden cases of a checkpoint')
    for v in (*talk, many):
        v.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
        v.add_argument('--variant', choices=('8b', 'hd', 'f16', 'internlm'), help='default: by the model')
        v.add_argument('--num-frames', type=int, help="default: the model's")
        v.add_argument('--max-new-tokens', type=int, default=200)
    for v in talk:
        v.add_argument('--video')
        v.add_argument('--instruction')
        v.add_argument('--msg', default='')
        v.add_argument('--answer-prefix')
        v.add_argument('--repetition-penalty', type=float, default=1.0)
        v.add_argument('-p', '--prompt', action='append', required=True, help='again for a further turn')
    talk[1].add_argument('--out', required=True, help='folder')
    many.add_argument('--data', required=True, help='folder with questions.jsonl')
    many.add_argument('--out', required=True, help='file to write, JSON lines')
    many.add_argument('--limit', type=int, help='the first questions only')
    golden.add_argument('--golden', required=True)
    golden.add_argument('--only', default='', help='part of the case ids to run')
    golden.add_argument('-v', '--verbose', action='store_true', help='each comparison and the largest distances')
    return p


def main():
    a = parser().parse_args()
    torch.set_num_threads(a.threads)
    return a.run(a) or 0
