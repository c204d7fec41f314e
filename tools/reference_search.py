# SPDX-License-Identifier: MIT
"""How a token is chosen from scores, for reference.py: processors, sampling probabilities, beam search (SPEC 7.3, 7.4).

Easy to get wrong: only generated ids are penalised; in a beam the penalty acts on log-probabilities; an end of sequence ranked behind the
first n_beam candidates is dropped, not kept as a beam; a search that is done adds no open beams at the length limit.
"""
import torch


def process(s, out, eos, min_length=1, repetition_penalty=1.0):
    """Scores [n_vocab] after the ids `out`, in place: the repetition penalty, then no end before min_length."""
    if repetition_penalty != 1 and out:
        seen = torch.tensor(sorted(set(out)))
        s[seen] = torch.where(s[seen] > 0, s[seen] / repetition_penalty, s[seen] * repetition_penalty)
    if len(out) < min_length:
        s[eos] = float('-inf')
    return s


def probabilities(s, temperature=1.0, top_k=0, top_p=1.0, min_tokens_to_keep=1):
    """What sampling draws from, of processed scores [n_vocab]."""
    s = s / temperature
    if top_k:
        s = s.masked_fill(s < torch.topk(s, max(top_k, min_tokens_to_keep)).values[-1], float('-inf'))
    if top_p < 1:
        ascending, order = torch.sort(s)
        out = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        out[-min_tokens_to_keep:] = False
        s = s.index_fill(0, order[out], float('-inf'))
    return s.softmax(-1)


@torch.no_grad()
def beam_search(model, ids, rows, n_beam, max_new_tokens=200, min_length=1, repetition_penalty=1.0, length_penalty=1.0):
    """-> hypotheses [(score, ids)], best first. model.prefill() and model.step() give scores [n_beam, n_vocab]."""
    eos = model.llm_size['eos']
    scores, cache = model.prefill(ids, rows)
    scores, cache.kv = scores.expand(n_beam, -1), {k: tuple(t.expand(n_beam, -1, -1, -1) for t in kv) for k, kv in cache.kv.items()}
    beams, total = [[] for _ in range(n_beam)], torch.tensor([0.0] + [-1e9] * (n_beam - 1))
    closed = []

    def close(sum_logprob, tokens):
        closed.append((sum_logprob / len(tokens) ** length_penalty, tokens))
        closed.sort(key=lambda h: -h[0])
        del closed[n_beam:]

    for n in range(1, max_new_tokens + 1):
        s = torch.stack([process(row, out, eos, min_length, repetition_penalty) for row, out in zip(scores.log_softmax(-1), beams)])
        best, at = torch.topk((s + total[:, None]).flatten(), n_beam * max(2, 1 + len(eos)))
        kept = []
        for rank, (value, i) in enumerate(zip(best.tolist(), at.tolist())):
            beam, token = divmod(i, s.shape[1])
            if token not in eos:
                kept.append((value, beam, token))
            elif rank < n_beam:
                close(value, beams[beam] + [token])
            if len(kept) == n_beam:
                break
        beams, total = [beams[b] + [t] for _, b, t in kept], torch.tensor([v for v, _, _ in kept])
        if len(closed) == n_beam and closed[-1][0] >= best[0].item() / n ** length_penalty:
            return closed
        if n < max_new_tokens:
            order = torch.tensor([b for _, b, _ in kept])
            cache.kv = {k: tuple(t[order] for t in kv) for k, kv in cache.kv.items()}
            scores = model.step([out[-1] for out in beams], cache)
    for value, out in zip(total.tolist(), beams):
        close(value, out)
    return closed
