# SPDX-License-Identifier: MIT
"""Texts and ids for reference.py: the tokenizers as the released slow classes behave, and the prompt templates (SPEC 5.3, 6, 7.5).

tokenizer.json is read as vocabulary, merge order and added tokens; its own pre-tokenizer is not used. Easy to get wrong: a piece
gets one leading blank before added tokens are split out, chunks behind an added token get none; merge order is that of the list.
"""
import json
import os
import re
import unicodedata

BLANK = '\u2581'
IMAGE, VIDEO = '[<IMG_PLH>]', '[<VID_PLH>]'


class BpeTokenizer:
    """The Mistral family's SentencePiece BPE from tokenizer.json (SPEC 6.5)."""

    def __init__(self, path):
        with open(path, encoding='utf-8') as f:
            doc = json.load(f)
        self.vocab = doc['model']['vocab']
        merges = (m.split(' ', 1) if isinstance(m, str) else m for m in doc['model']['merges'])
        self.rank = {tuple(m): i for i, m in enumerate(merges)}
        self.added = {t['content']: t['id'] for t in doc['added_tokens']}
        self.name = {i: t for t, i in self.vocab.items()}
        self.name.update({i: t for t, i in self.added.items()})
        self.split = re.compile('|'.join(re.escape(t) for t in sorted(self.added, key=len, reverse=True)))
        self.cache = {}

    def chunk(self, s):
        """Ids of plain text, blanks already replaced."""
        if s in self.cache:
            return self.cache[s]
        parts = []
        for c in s:
            parts.extend([c] if c in self.vocab else ['<0x%02X>' % b for b in c.encode()])
        while len(parts) > 1:
            best = min(((self.rank.get(p, 1 << 30), i) for i, p in enumerate(zip(parts, parts[1:]))))
            if best[0] == 1 << 30:
                break
            parts[best[1]:best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]
        ids = [self.vocab[p] for p in parts]
        if len(self.cache) < 1 << 20:
            self.cache[s] = ids
        return ids

    def encode_raw(self, s):
        """Added tokens and chunks of s without a leading blank and without BOS."""
        ids, at = [], 0
        for m in self.split.finditer(s):
            ids += self.chunk(s[at:m.start()].replace(' ', BLANK)) + [self.added[m.group()]]
            at = m.end()
        return ids + self.chunk(s[at:].replace(' ', BLANK))

    def encode(self, s):
        if not s:
            return [1]
        ids = self.encode_raw(BLANK + s.replace(BLANK, ' '))
        if len(ids) > 1 and ids[0] == self.vocab[BLANK] and ids[1] in (0, 1, 2):
            ids = ids[1:]
        return [1] + ids

    def decode(self, ids):
        """Runs of ordinary pieces lose one leading blank each; other added tokens are joined with single blanks (SPEC 7.5)."""
        runs, run = [], []
        special = set(self.added.values())
        for i in [i for i in ids if i not in (0, 1, 2)]:
            if i in special:
                runs += [('text', run), ('added', self.name[i])]
                run = []
            else:
                run.append(self.name[i])
        runs.append(('text', run))
        out = []
        for n, (kind, value) in enumerate(runs):
            s = value if kind == 'added' else self.join(value)
            if s or (kind == 'text' and n == len(runs) - 1 and n and not value == [] ):
                out.append(s)
        return ' '.join(out)

    @staticmethod
    def join(pieces):
        if pieces and pieces[0].startswith(BLANK):
            pieces = [pieces[0][1:]] + pieces[1:]
        data = b''.join(bytes([int(p[3:5], 16)]) if re.fullmatch('<0x[0-9A-F]{2}>', p) else p.replace(BLANK, ' ').encode() for p in pieces)
        return decode_bytes(data)


def decode_bytes(data):
    """UTF-8, each invalid byte on its own becoming U+FFFD."""
    out, i = [], 0
    while i < len(data):
        for n in (1, 2, 3, 4):
            try:
                out.append(data[i:i + n].decode())
                i += n
                break
            except UnicodeDecodeError:
                continue
        else:
            out.append('\ufffd')
            i += 1
    return ''.join(out)


class InternlmTokenizer:
    """The InternLM2 slow tokenizer: SentencePiece on each chunk as it is (SPEC 6.7)."""
    ADDED = {'<unk>': 0, '<s>': 1, '</s>': 2, '<|plugin|>': 92538, '<|interpreter|>': 92539, '<|action_end|>': 92540,
             '<|action_start|>': 92541, '<|im_end|>': 92542, '<|im_start|>': 92543}

    def __init__(self, path):
        import sentencepiece
        self.sp = sentencepiece.SentencePieceProcessor(model_file=path)
        self.split = re.compile('|'.join(re.escape(t) for t in sorted(self.ADDED, key=len, reverse=True)))

    def chunk(self, s):
        """Ids of plain text; the piece U+0000 is not used, its byte is (the library itself does so from 0.2 on)."""
        first, *rest = (self.sp.encode(part) for part in s.split('\0'))
        return first + [i for part in rest for i in [self.sp.piece_to_id('<0x00>')] + part]

    def encode(self, s):
        ids, at = [1], 0
        for m in self.split.finditer(s):
            ids += self.chunk(s[at:m.start()]) + [self.ADDED[m.group()]]
            at = m.end()
        return ids + self.chunk(s[at:])

    def decode(self, ids):
        special = set(self.ADDED.values())
        pieces = [self.sp.id_to_piece(i) for i in ids if i not in special]
        data = b''.join(bytes([int(p[3:5], 16)]) if re.fullmatch('<0x[0-9A-F]{2}>', p) else p.replace(BLANK, ' ').encode() for p in pieces)
        s = decode_bytes(data)
        for a, b in ((' .', '.'), (' ?', '?'), (' !', '!'), (' ,', ','), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
                     (" 've", "'ve"), (" 're", "'re")):
            s = s.replace(a, b)
        return s


class BertTokenizer:
    """bert-base-uncased style WordPiece with the added [DEC] (SPEC 5.3)."""
    SPECIAL = ('[UNK]', '[SEP]', '[PAD]', '[CLS]', '[MASK]', '[DEC]')

    def __init__(self, path):
        with open(path, encoding='utf-8') as f:
            self.vocab = {w.rstrip('\n'): i for i, w in enumerate(f)}
        self.vocab.setdefault('[DEC]', len(self.vocab))

    def encode(self, s, limit=512):
        ids = []
        for part in re.split('(' + '|'.join(map(re.escape, self.SPECIAL)) + ')', s):
            ids += [self.vocab[part]] if part in self.SPECIAL else [i for w in self.words(part) for i in self.pieces(w)]
        ids = ids[-(limit - 2):]
        return [self.vocab['[CLS]']] + ids + [self.vocab['[SEP]']]

    @staticmethod
    def words(s):
        out = []
        for c in s:
            cat, o = unicodedata.category(c), ord(c)
            if o in (0, 0xFFFD) or (cat.startswith('C') and c not in '\t\n\r'):
                continue
            cjk = any(a <= o <= b for a, b in ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
                                               (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)))
            out.append(' ' if cat == 'Zs' or c in '\t\n\r' else ' %s ' % c if cjk else c)
        words = []
        for w in unicodedata.normalize('NFC', ''.join(out)).split():
            w = ''.join(c for c in unicodedata.normalize('NFD', w.lower()) if unicodedata.category(c) != 'Mn')
            mark = lambda c: unicodedata.category(c).startswith('P') or 33 <= ord(c) <= 47 or 58 <= ord(c) <= 64 or 91 <= ord(c) <= 96 or 123 <= ord(c) <= 126
            words += ''.join(' %s ' % c if mark(c) else c for c in w).split()
        return words

    def pieces(self, w):
        if len(w) > 100:
            return [self.vocab['[UNK]']]
        ids, at = [], 0
        while at < len(w):
            for end in range(len(w), at, -1):
                i = self.vocab.get(('##' if at else '') + w[at:end])
                if i is not None:
                    break
            else:
                return [self.vocab['[UNK]']]
            ids.append(i)
            at = end
        return ids


def open_tokenizer(path, kind):
    return InternlmTokenizer(os.path.join(path, 'tokenizer.model')) if kind == 'internlm2' else BpeTokenizer(os.path.join(path, 'tokenizer.json'))


def open_bert(path):
    own = os.path.join(path, 'vocab.txt')
    built_in = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'third_party', 'bert-base-uncased', 'vocab.txt')
    return BertTokenizer(own if os.path.exists(own) else built_in)


TEMPLATES = {
    'mistral': dict(system='%s', open='[INST] ', image='<Image>%s</Image>', video='<Video>%s</Video>', close='[/INST]',
                    turn=' [INST] %s [/INST]%s</s>', ask=' [INST] %s [/INST]'),
    'internlm': dict(system='<|im_start|>system\n%s<|im_end|>\n', open='<|im_start|>user\n', image='<img>%s</img>', video='<vid>%s</vid>',
                     close='<|im_end|>\n', turn='<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n%s<|im_end|>\n</s>',
                     ask='<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n'),
}


def conversation(variant, n_clip, prompt, history=(), image=False, instruction=None, msg='', answer_prefix=None):
    """The string of SPEC 6.2 or 6.3; n_clip 0 = a plain text turn without media block."""
    t = TEMPLATES['internlm' if variant == 'internlm' else 'mistral']
    s = ''
    if n_clip:
        s = t['system'] % instruction if instruction else ''
        s += t['open'] + (t['image'] % IMAGE if image else t['video'] % VIDEO) * (1 if variant == '8b' else n_clip)
        s += (msg or '').rstrip() + t['close']
    for q, a in history:
        s += t['turn'] % (q, a)
    s += t['ask'] % prompt + (answer_prefix or '')
    return s if n_clip else s.lstrip(' ')


def prompt_ids(tokenizer, s, n_query):
    """Pieces between placeholders are encoded on their own; -1 stands for a visual row."""
    ids = []
    for n, piece in enumerate(re.split('%s|%s' % (re.escape(IMAGE), re.escape(VIDEO)), s)):
        ids += [-1] * (n_query if n else 0) + tokenizer.encode(piece)
    return ids
