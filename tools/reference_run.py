# SPDX-License-Identifier: MIT
"""The verbs of reference.py: one conversation, its stages as files, the questions of a whole corpus, the golden cases.

`dump` writes the files of `ivchat chat --dump` under the same names: DIR/frame_indices.npy, pixels.npy, vit_patch.npy,
vit_block_<i>.npy, vit.npy, qformer.npy, projected.npy, input_ids.npy (0 where a visual row goes), logits.npy (of the prompt's last
position); further turns have input_ids and logits in DIR/turn2 and so on.

`answers` reads DIR/questions.jsonl, lines of {"video", "id", "instruction", "answer_prefix", "turns": [{"q", ...}]}, and writes lines of
{"id", "turn_ids", "margin", "texts"}: the ids of each turn's answer, a final end of sequence included; for each id the distance
between the best and the second best score; the answers. A video is seen once, its rows are made once for each instruction.
"""
import argparse
import json
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
        indices = media.frame_indices(video.n, a.num_frames)
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
    """Videos of a folder; the last one's features are kept, for its questions stand together."""

    def __init__(self, chat, folder, num_frames):
        self.chat, self.folder, self.num_frames = chat, folder, num_frames
        self.name, self.seen, self.rows = None, None, {}

    @torch.no_grad()
    def visual(self, name, instruction):
        if name != self.name:
            pixels = media.video_clips(os.path.join(self.folder, name), self.num_frames, self.chat.variant)
            self.name, self.seen, self.rows = name, self.chat.model.vision(pixels), {}
        if instruction not in self.rows:
            self.rows[instruction] = self.chat.model.project(self.seen, self.chat.instruction_ids(instruction))
        return self.rows[instruction]

    def answer(self, question, **options):
        instruction, history = question.get('instruction'), []
        out = {'id': question['id'], 'turn_ids': [], 'margin': [], 'texts': []}
        rows = self.visual(question['video'], instruction) if question.get('video') else None
        for turn in question['turns']:
            answer, ids, best = self.chat.ask(rows, turn['q'], history, instruction=instruction,
                                              answer_prefix=question.get('answer_prefix'), **options)
            out['turn_ids'].append(ids)
            out['margin'].append([round(first - second, 6) for first, second in best])
            out['texts'].append(answer)
            history.append((turn['q'], answer))
        return out


def answers(a):
    corpus = Corpus(reference.open_chat(a.model, getattr(torch, a.dtype), a.variant), a.data, a.num_frames)
    with open(os.path.join(a.data, 'questions.jsonl'), encoding='utf-8') as f:
        questions = [json.loads(line) for line in f]
    first = {}
    for q in questions:  # the questions of a video together, videos in the order of the file
        first.setdefault(q.get('video'), len(first))
    questions.sort(key=lambda q: first[q.get('video')])
    start = time.monotonic()
    with open(a.out + '.tmp', 'w', encoding='utf-8') as out:
        for n, question in enumerate(questions[:a.limit], 1):
            out.write(json.dumps(corpus.answer(question, max_new_tokens=a.max_new_tokens)) + '\n')
            if n % 100 == 0 or n == len(questions):
                print('%d of %d questions, %.1f s' % (n, len(questions), time.monotonic() - start), file=sys.stderr, flush=True)
    os.replace(a.out + '.tmp', a.out)


def check(a):
    import reference_check
    return reference_check.run(a.model, a.golden, a.verbose)


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
        v.add_argument('--num-frames', type=int, default=8)
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
    golden.add_argument('-v', '--verbose', action='store_true', help='each comparison and the largest distances')
    return p


def main():
    a = parser().parse_args()
    torch.set_num_threads(a.threads)
    return a.run(a) or 0
