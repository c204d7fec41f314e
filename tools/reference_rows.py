# SPDX-License-Identifier: MIT
"""The golden rows of texts and ids (tokenizer/*, prompt/*) through reference_text.py. Needs no PyTorch: tests run it as it is."""
import json
import os

import reference_text as text

N_QUERY = 96  # a stored id of -96 stands for that many visual rows


def lines(golden, case):
    with open(os.path.join(golden, case['files'][0]['file']), encoding='utf-8') as f:
        return [json.loads(line) for line in f]


def compact(ids):
    """Runs of N_QUERY visual rows as golden writes them."""
    out, at = [], 0
    while at < len(ids):
        visual = ids[at] < 0
        out.append(-N_QUERY if visual and ids[at:at + N_QUERY] == [-1] * N_QUERY else ids[at])
        at += N_QUERY if visual else 1
    return out


def prompt(tokenizer, variant, row):
    """-> (conversation, ids) of one row of prompt/*"""
    s = text.conversation(variant, row['clips'], row['prompt'], row.get('history') or (), row['media_type'] == 'image', row.get('instruction'),
                          row.get('msg') or '', row.get('answer_prompt'))
    return s, compact(text.prompt_ids(tokenizer, s, N_QUERY))


def different(golden, case, model):
    """-> number of rows, descriptions of those that differ; model: folder with the tokenizer files."""
    family, name = case['id'].split('/')
    rows = lines(golden, case)
    if name == 'bert_encode':
        bert = text.open_bert(model)
        got = [{'ids': bert.encode(r['text'])} for r in rows]
    else:
        tokenizer = text.open_tokenizer(model, 'internlm2' if 'internlm' in name else 'mistral')
        if family == 'prompt':
            got = [dict(zip(('conversation', 'ids'), prompt(tokenizer, name, r))) for r in rows]
        elif name.endswith('decode'):
            got = [{'text': tokenizer.decode(r['ids'])} for r in rows]
        else:
            got = [{'ids': tokenizer.encode(r['text'])} for r in rows]
    return len(rows), ['row %d: %s %r, expected %r' % (i, k, g[k], r[k]) for i, (g, r) in enumerate(zip(got, rows)) for k in g if g[k] != r[k]]
