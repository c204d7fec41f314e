# SPDX-License-Identifier: MIT
"""The small model's two vocabularies, from texts of the train split.

    python -m train.vocab --out DIR [--lines 60000]        (with tools/ as the working folder)

Language model: SentencePiece BPE as Mistral's (identity normaliser, digits one by one, byte fallback, [INST] and [/INST] as control
pieces 3 and 4), written as tokenizer.model and, for readers of the release's form, as tokenizer.json with its merges and
tokenizer_config.json. Q-Former: whole words and their letters in the order of BERT's vocab.txt.

SentencePiece merges the pair whose piece has the best score, whatever its halves; the merge list therefore holds every split of a
piece, all splits of a better piece first.
"""
import argparse
import collections
import json
import os
import string

PIECES = 1024
ADDED = ('<unk>', '<s>', '</s>', '[INST]', '[/INST]')
TEMPLATE = ('<Video></Video>', '</Video><Video>', '<Image></Image>', '</Image><Image>', '</Video>', '</Image>', ' <Video>', ' <Image>')


def train_sentencepiece(lines, prefix):
    import sentencepiece
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=prefix, model_type='bpe', vocab_size=PIECES, byte_fallback=True, split_digits=True,
        normalization_rule_name='identity', remove_extra_whitespaces=False, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        control_symbols=list(ADDED[3:]), character_coverage=1.0, max_sentence_length=8192, num_threads=2, hard_vocab_limit=False,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=prefix + '.model')


def tokenizer_json(sp):
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    plain = {p: i for p, i in vocab.items() if not sp.is_control(i) and not sp.is_byte(i) and not sp.is_unknown(i)}
    merges = []
    for piece in sorted((p for p in plain if len(p) > 1), key=lambda p: -sp.get_score(plain[p])):
        merges += [[piece[:i], piece[i:]] for i in range(1, len(piece)) if piece[:i] in plain and piece[i:] in plain]
    token = lambda i, s: dict(id=i, content=s, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    bos = {'SpecialToken': {'id': '<s>', 'type_id': 0}}
    return dict(
        version='1.0', truncation=None, padding=None, added_tokens=[token(i, s) for i, s in enumerate(ADDED)], normalizer=None,
        pre_tokenizer=dict(type='Metaspace', replacement='\u2581', prepend_scheme='first', split=False),
        post_processor=dict(type='TemplateProcessing', single=[bos, {'Sequence': {'id': 'A', 'type_id': 0}}],
                            pair=[bos, {'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': '<s>', 'type_id': 1}},
                                  {'Sequence': {'id': 'B', 'type_id': 1}}], special_tokens={'<s>': dict(id='<s>', ids=[1], tokens=['<s>'])}),
        decoder=dict(type='Sequence', decoders=[dict(type='Replace', pattern=dict(String='\u2581'), content=' '), dict(type='ByteFallback'),
                                                dict(type='Fuse'), dict(type='Strip', content=' ', start=1, stop=0)]),
        model=dict(type='BPE', dropout=None, unk_token='<unk>', continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True,
                   byte_fallback=True, ignore_merges=False, vocab=vocab, merges=[' '.join(m) for m in merges]))


def tokenizer_config():
    token = lambda s: dict(content=s, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    return dict(add_bos_token=True, add_eos_token=False, add_prefix_space=True, added_tokens_decoder={str(i): token(s) for i, s in enumerate(ADDED)},
                bos_token='<s>', clean_up_tokenization_spaces=False, eos_token='</s>', legacy=False, model_max_length=4096, pad_token='<unk>',
                sp_model_kwargs={}, spaces_between_special_tokens=False, tokenizer_class='LlamaTokenizer', unk_token='<unk>', use_default_system_prompt=False)


def wordpieces(lines):
    """[PAD] [UNK] [CLS] [SEP] [MASK], every word of the lines, then single characters as wholes and as continuations."""
    from reference_text import BertTokenizer
    count = collections.Counter(w for line in lines for w in BertTokenizer.words(line))
    letters = string.ascii_lowercase + string.digits
    words = sorted(w for w, n in count.items() if n >= 3 and len(w) > 1)
    marks = sorted(set(string.punctuation))
    return ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] + words + list(letters) + marks + ['##' + c for c in letters]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--out', required=True)
    parser.add_argument('--lines', type=int, default=60000)
    options = parser.parse_args()
    from reference_text import BpeTokenizer
    from world import corpus
    os.makedirs(options.out, exist_ok=True)
    lines = [line for _, line in zip(range(options.lines), corpus.lines(1 << 41))]
    prefix = os.path.join(options.out, 'tokenizer')
    sp = train_sentencepiece(lines + list(TEMPLATE) * 200 + [c for c in string.printable.strip()] * 20, prefix)
    os.remove(prefix + '.vocab')
    for name, value in (('tokenizer.json', tokenizer_json(sp)), ('tokenizer_config.json', tokenizer_config())):
        with open(os.path.join(options.out, name), 'w', encoding='utf-8') as f:
            json.dump(value, f, ensure_ascii=False, indent=1)
            f.write('\n')
    words = wordpieces(lines)
    with open(os.path.join(options.out, 'vocab.txt'), 'w', encoding='utf-8') as f:
        f.write(''.join(w + '\n' for w in words))
    own = BpeTokenizer(prefix + '.json')
    tried = lines[:5000] + list(TEMPLATE) + ['a  b   c', 'caf\u00e9 \u65e5\u672c \U0001f600', 'x\ty', ' 12 345']
    differ = [s for s in tried if own.encode(s)[1:] != sp.encode(s)]
    print('%d pieces, %d wordpieces, %d merges; %d of %d texts encoded otherwise than by SentencePiece; %.1f ids a line' % (
        sp.get_piece_size(), len(words), len(own.rank), len(differ), len(tried), sum(len(sp.encode(s)) for s in lines[:2000]) / 2000))
    return 1 if differ else 0


if __name__ == '__main__':
    raise SystemExit(main())
