# SPDX-License-Identifier: MIT
"""The verbs of reference.py: one conversation, its stages as files, the questions of a whole corpus, the golden cases.

`dump` writes the files of `ivchat chat --dump` under the same names: DIR/frame_indices.npy, pixels.npy, vit_patch.npy,
vit_block_<i>.npy, vit.npy, qformer.npy, projected.npy, input_ids.npy (0 where a visual row goes), logits.npy (of the prompt's last
position); further turns have input_ids and logits in DIR/turn2 and so on.

`answers` reads DIR/questions.jsonl, lines of {"video", "id", "instruction", "answer_prefix", "turns": [{"q", ...}]}, and writes lines of
{"id", "turn_ids", "margin", "texts"}: the ids of each turn's answer, a final end of sequence included; for each id the distance
between the best and the second best score; the answers. Lines stand by video, in the order in which the videos first occur.
"""
import argparse
import json
import multiprocessing
import os
import sys
import time

import numpy as np
import torch

import reference
import reference_media as media


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
        indices = media.frame_indices(video.n, a.num_frames or chat.model.vit_size['n_frame'])
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


class Corpus:
    """Questions about the videos of a folder."""

    def __init__(self, a):
        self.chat = reference.open_chat(a.model, getattr(torch, a.dtype), a.variant)
        self.folder, self.max_new_tokens = a.data, a.max_new_tokens
        self.num_frames = a.num_frames or self.chat.model.vit_size['n_frame']

    @torch.no_grad()
    def answer_video(self, questions):
        """Lines for the questions of one video: seen once, its rows made once for each instruction."""
        model, name, rows = self.chat.model, questions[0].get('video'), {}
        if name:
            seen = model.vision(media.video_clips(os.path.join(self.folder, name), self.num_frames, self.chat.variant))
            for words in {q.get('instruction') for q in questions}:
                rows[words] = model.project(seen, self.chat.instruction_ids(words))
        return [self.answer(q, rows.get(q.get('instruction'))) for q in questions]

    def answer(self, question, rows):
        history, out = [], {'id': question['id'], 'turn_ids': [], 'margin': [], 'texts': []}
        for turn in question['turns']:
            answer, ids, best = self.chat.ask(rows, turn['q'], history, instruction=question.get('instruction'),
                                              answer_prefix=question.get('answer_prefix'), max_new_tokens=self.max_new_tokens)
            out['turn_ids'].append(ids)
            out['margin'].append([round(first - second, 6) for first, second in best])
            out['texts'].append(answer)
            history.append((turn['q'], answer))
        return json.dumps(out) + '\n'


forked = {}  # the corpus, which worker processes inherit


def answer_video(questions):
    return forked['corpus'].answer_video(questions)


def answers(a):
    """One process a thread: the steps of a small model are too short to be worth cutting."""
    torch.set_num_threads(1)
    forked['corpus'] = Corpus(a)
    videos = {}
    with open(os.path.join(a.data, 'questions.jsonl'), encoding='utf-8') as f:
        for question in [json.loads(line) for line in f][:a.limit]:
            videos.setdefault(question.get('video'), []).append(question)
    total, done, start = sum(map(len, videos.values())), 0, time.monotonic()
    with open(a.out + '.tmp', 'w', encoding='utf-8') as out, multiprocessing.get_context('fork').Pool(a.threads) as pool:
        for n, lines in enumerate(pool.imap(answer_video, videos.values()), 1):
            out.writelines(lines)
            done += len(lines)
            if n % 25 == 0 or done == total:
                print('%d of %d questions, %.1f s' % (done, total, time.monotonic() - start), file=sys.stderr, flush=True)
    os.replace(a.out + '.tmp', a.out)


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
        v.add_argument('--variant', choices=('8b', 'hd', 'internlm'), help='default: internlm or hd, by the language model')
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
