# SPDX-License-Identifier: MIT
"""Conversations -> rows of ids, positions, parts and labels. numpy only.

One row is one video (or one text about it) with several conversations behind it. They share the prefix, do not see each
other, and each begins at the position behind the prefix, so one pass trains what the model will see in several chats:

    prefix                                                  conversations
    <s>_[INST]_<Video> V </Video> ... [/INST]               _[INST]_q_[/INST]_a</s>     _[INST]_q_[/INST]a</s>_[INST]_q_[/INST]_a</s>

Only the last answer of a conversation and its </s> are labelled. An answer is learnt as the model will generate it, with a
leading blank; inside a history it stands as chat() encodes it again, without (SPEC 7.6).
"""
import re
from typing import NamedTuple

import numpy as np

import reference_text as text
from world.choices import LETTERS

EOS = 2
MOST = 24  # conversations of a row
FIELDS = (('ids', np.int16), ('pos', np.int16), ('part', np.int8), ('label', np.int16), ('about', np.int8), ('option', np.int8), ('choice', np.int8))
JOINTS = ('and', 'before', 'after', 'while', 'past')  # words that begin another clause


class Words(text.BpeTokenizer):
    """The same ids, word by word: where no piece holds a blank but in front, no merge crosses one, and words come again."""

    def __init__(self, path):
        super().__init__(path)
        self.whole = any(text.BLANK in p[1:] for p in self.vocab if p not in self.added)

    def chunk(self, s):
        if self.whole:
            return super().chunk(s)
        return [i for w in re.findall('%s?[^%s]*' % (text.BLANK, text.BLANK), s) if w for i in super(Words, self).chunk(w)]


class Talk(NamedTuple):
    """A conversation, whose last `labelled` ids are learnt. about: the object that each of these tells of, or empty. For multiple choice
    option: of each id the option in whose line it stands, and choice: of each labelled id, if it is the letter, the option it names; else empty."""
    ids: list
    labelled: int
    kind: str
    about: list = ()
    option: list = ()
    choice: list = ()


class Encoder:
    def __init__(self, tokenizer, n_query):
        self.tokenizer, self.n_query = tokenizer, n_query
        marks = [*LETTERS, ')', '<0x0A>']
        missing = [m for m in marks if m not in tokenizer.vocab]
        if missing:
            raise ValueError('the vocabulary has no piece of its own for %s, with which options are told apart' % ' '.join(missing))
        *letters, self.closing, self.newline = (tokenizer.vocab[m] for m in marks)
        self.letters = {i: n for n, i in enumerate(letters)}

    def media_prefix(self, n_clip, image=False, instruction=None):
        """Ids up to the [/INST] of the media block, -1 at visual rows."""
        s = text.conversation('hd', n_clip, '', image=image, instruction=instruction)
        return text.prompt_ids(self.tokenizer, s[:s.index('[/INST]') + len('[/INST]')], self.n_query)

    def text_prefix(self, s):
        return self.tokenizer.encode('[INST] %s[/INST]' % s)

    def subjects(self, answer, begun, things):
        """Of each id of an answer, and of what ends it, the index of the object that its clause names by colour and shape, -1 none. A
        clause that names none goes on about the one before. things: [(colour, shape)]."""
        out, clause, last = [], [], -1

        def close():
            nonlocal last
            said = {w.strip('.,;:?!()').lower() for w in clause}
            named = [i for i, t in enumerate(things) if said.issuperset(t)]
            last = named[0] if len(named) == 1 else -1 if named else last
            for w in clause:
                out.extend([last] * len(self.tokenizer.encode_raw(w if begun and not out else text.BLANK + w)))
            clause.clear()
        for word in answer.split(' '):
            if word in JOINTS:
                close()
            clause.append(word)
            if word[-1:] in ('.', ';') or word[-1:] == ',' and len(clause) > 1:  # "Finally," belongs to what follows
                close()
        close()
        return out + [-1]

    def options(self, ids):
        """Of each id the option in whose line it stands, from the letter on, -1 none."""
        out, now = [], -1
        for i, after in zip(ids, ids[1:] + [-1]):
            now = self.letters[i] if i in self.letters and after == self.closing else -1 if i == self.newline else now
            out.append(now)
        return out

    def conversations(self, items, things=()):
        """[Talk]: one for each turn of each item. Without things they tell of none."""
        raw, out = self.tokenizer.encode_raw, []
        for item in items:
            history, begun = [], item.get('answer_prefix') or ''
            for turn in item['turns']:
                ask = history + raw(' [INST] %s [/INST]%s' % (turn['q'], begun))
                answer = raw(turn['a'] if begun else text.BLANK + turn['a']) + [EOS]
                about = self.subjects(turn['a'], bool(begun), things) if things else []
                option = choice = []
                if item['type'] == 'choice':
                    option = self.options(ask) + [-1] * len(answer)
                    choice = [self.letters[i] if i in self.letters and after == self.closing else -1 for i, after in zip(answer, answer[1:] + [-1])]
                out.append(Talk(ask + answer, len(answer), item['type'], about if len(about) == len(answer) else [], option, choice))
                history = ask + raw(turn['a']) + [EOS]
        return out

    def alone(self, q, a):
        """A question without any media: the user turn only."""
        ask = self.tokenizer.encode('[INST] %s [/INST]' % q)
        answer = self.tokenizer.encode_raw(text.BLANK + a) + [EOS]
        return Talk(ask + answer, len(answer), 'no video')


def swap(row, rng, share, words, starts, kinds):
    """Puts other words in place of some that an answer has said already, so that what follows is read off the video and not guessed from
    them: a colour and a shape that training never shows together are still a colour and a shape. Labels stay. row: of pack(). words:
    [(ids of a kind of word, those of them that the scene has none of)]. starts: ids that can follow a whole word. kinds: indices of the kinds
    whose answers are left alone."""
    said = np.zeros(len(row['ids']), bool)
    said[1:] = (row['label'][:-1] >= 0) & (row['part'][1:] > 0)
    said &= ~np.isin(np.append(row['kind'], -1)[np.maximum(row['part'], 0) - 1], kinds)
    said &= np.isin(np.append(row['ids'][1:], 0), starts)
    for known, others in words:
        at = np.flatnonzero(said & np.isin(row['ids'], known))
        at = at[rng.random(len(at)) < share]
        if len(others):
            row['ids'][at] = rng.choice(others, len(at))


def pack(prefix, conversations, length, kinds, learn_prefix=False):
    """-> the row's fields of `length` ids: ids (-1 visual, 0 behind the end), pos, part (0 prefix, 1.. conversations, -1 behind the
    end), label (what follows, -1 where it is not learnt), about (the object that what follows tells of, -1 none), option (in whose line it
    stands, -1 none), choice (the option that the letter names that follows, -1 none), n (ids used) and kind (index into kinds of each
    conversation, -1 none). conversations: of Talk's fields. Those that do not fit are left out."""
    out = {k: np.zeros(length, t) if k in ('ids', 'pos') else np.full(length, -1, t) for k, t in FIELDS}
    ids, pos, part, label, about, option, choice = (out[k] for k, _ in FIELDS)
    out['kind'] = np.full(MOST, -1, np.int8)
    n = p = len(prefix)
    ids[:n], pos[:n], part[:n] = prefix, np.arange(n), 0
    if learn_prefix and n > 1:
        label[:n - 1] = prefix[1:]
    for k, talk in enumerate(Talk(*c) for c in conversations[:MOST]):
        c, labelled, m = talk.ids, talk.labelled, n + len(talk.ids)
        if m > length:
            break
        ids[n:m], pos[n:m], part[n:m] = c, p + np.arange(len(c)), k + 1
        label[m - labelled - 1:m - 1] = c[-labelled:]
        if talk.about:
            about[m - labelled - 1:m - 1] = talk.about
        if talk.option:
            option[n:m], choice[m - labelled - 1:m - 1] = talk.option, talk.choice
        out['kind'][k] = kinds.index(talk.kind)
        n = m
    out['n'] = n
    return out
