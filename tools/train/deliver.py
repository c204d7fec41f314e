# SPDX-License-Identifier: MIT
"""What a training hands over, in few files of under 16 MB each, so that they can be carried home from anywhere:

    model.tar            a snapshot as ivchat reads it, weights in bfloat16
    best.tar             the same of the best validation so far: with more views, then with more right answers
    resume-N.safetensors all weights in f32, heads included, cut into parts: --resume begins with them, or with a snapshot's
    validation.txt       one line for each validation
    log.jsonl            the curves
"""
import io
import json
import os
import shutil
import tarfile
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import reference

PART = 13 << 20
TOKENIZER = ('tokenizer.json', 'tokenizer.model', 'tokenizer_config.json', 'vocab.txt')
HEADS = ('see_heads.', 'align_heads.', 'bind_heads.')


def export(net, folder, vocab):
    """A snapshot folder. Only what the model needs: the heads of training stay behind."""
    bare = reference.VideoChat(net.config)
    bare.load_state_dict({k: v.to('cpu') for k, v in net.state_dict().items() if not k.startswith(HEADS)})
    reference.save(bare, folder)
    for name in TOKENIZER:
        shutil.copyfile(os.path.join(vocab, name), os.path.join(folder, name))


def write_tar(net, path, vocab, name='ivchat-small'):
    with tempfile.TemporaryDirectory() as top:
        export(net, os.path.join(top, name), vocab)
        with tarfile.open(path + '.tmp', 'w') as tar:
            for file in sorted(os.listdir(os.path.join(top, name))):
                info = tar.gettarinfo(os.path.join(top, name, file), name + '/' + file)
                info.uid = info.gid = info.mtime = 0
                info.uname, info.gname, info.mode = '', '', 0o644
                with open(os.path.join(top, name, file), 'rb') as f:
                    tar.addfile(info, io.BytesIO(f.read()))
    os.replace(path + '.tmp', path)


def write_resume(net, folder, finished):
    parts, size = [{}], 0
    for k, v in net.state_dict().items():
        n = v.numel() * v.element_size()
        if parts[-1] and size + n > PART:
            parts.append({})
            size = 0
        parts[-1][k] = v.detach().to('cpu').contiguous()
        size += n
    for i, part in enumerate(parts):
        path = os.path.join(folder, 'resume-%d.safetensors' % (i + 1))
        save_file(part, path + '.tmp', metadata=dict(parts=str(len(parts)), finished=json.dumps(list(finished))))
        os.replace(path + '.tmp', path)


def read_resume(folder):
    """-> tensors, names of the finished stages. A snapshot, models/ivchat-small say, has none of these and no heads."""
    index = os.path.join(folder, 'model.safetensors.index.json')
    if os.path.exists(index):
        with open(index, encoding='utf-8') as f:
            shards = sorted(set(json.load(f)['weight_map'].values()))
        return {k: v for shard in shards for k, v in load_file(os.path.join(folder, shard)).items()}, []
    state, n, i, finished = {}, 1, 0, []
    while i < n:
        i += 1
        with safe_open(os.path.join(folder, 'resume-%d.safetensors' % i), 'pt') as f:
            n, finished = int(f.metadata()['parts']), json.loads(f.metadata()['finished'])
            state.update({k: f.get_tensor(k) for k in f.keys()})
    return state, finished


class Delivery:
    """Writes into `folder`; the last results replace the ones before."""

    def __init__(self, folder, vocab, log=None):
        self.folder, self.vocab, self.log, self.best = folder, vocab, log, (0, 0.0)
        os.makedirs(folder, exist_ok=True)

    def note(self, text):
        with open(os.path.join(self.folder, 'validation.txt'), 'a', encoding='utf-8') as f:
            f.write(text + '\n')

    def hand_over(self, net, finished, score=None):
        """score: (views, share of right answers), None while the model cannot answer yet."""
        write_resume(net, self.folder, finished)
        if self.log and os.path.exists(self.log):
            shutil.copyfile(self.log, os.path.join(self.folder, 'log.jsonl'))
        if score is None:
            return
        write_tar(net, os.path.join(self.folder, 'model.tar'), self.vocab)
        best = os.path.join(self.folder, 'best.tar')
        if score >= self.best:
            self.best = score
            shutil.copyfile(os.path.join(self.folder, 'model.tar'), best + '.tmp')
            os.replace(best + '.tmp', best)


def load_into(net, state):
    """Takes over what both have in common; shapes must agree. -> number of tensors"""
    own = net.state_dict()
    with torch.no_grad():
        known = {k: v for k, v in state.items() if k in own}
        for k, v in known.items():
            if own[k].shape != v.shape:
                raise ValueError('%s: %s in the state, %s in the model' % (k, list(v.shape), list(own[k].shape)))
        net.load_state_dict(known, strict=False)
    return len(known)
