# SPDX-License-Identifier: MIT
"""A conversation with the model of reference.py: texts to ids to texts (SPEC 6)."""
import torch

import reference_text as text


class Chat:
    """chat() of the release: the prompt of every turn is made anew from the texts. variant: 8b, hd (16 frames alike) or internlm."""

    def __init__(self, model, tokenizer, bert, variant):
        self.model, self.tokenizer, self.bert, self.variant = model, tokenizer, bert, variant

    def instruction_ids(self, instruction):
        """What the Q-Former reads; the 8B family keeps the instruction from it."""
        return self.bert.encode(instruction) if instruction and self.variant != '8b' else None

    @torch.no_grad()
    def visual(self, pixels, instruction=None, tap=None):
        """pixels [N,T,3,224,224] -> rows"""
        return self.model.visual(torch.as_tensor(pixels), self.instruction_ids(instruction), tap)

    def prompt_ids(self, n_clip, prompt, history=(), image=False, **parts):
        s = text.conversation(self.variant, n_clip, prompt, history, image=image, **parts)
        return text.prompt_ids(self.tokenizer, s, self.model.query_tokens.shape[1] + self.model.extra_query_tokens.shape[1])

    def ask(self, rows, prompt, history=(), image=False, instruction=None, msg='', answer_prefix=None, tap=None, **kw):
        """-> text, new ids, scores. rows None: no media."""
        ids = self.prompt_ids(0 if rows is None else len(rows), prompt, history, image, instruction=instruction, msg=msg,
                              answer_prefix=answer_prefix)
        if tap:
            tap('input_ids', torch.tensor(ids))
        new, gaps = self.model.generate(ids, rows, tap=tap, **kw)
        return self.tokenizer.decode(new), new, gaps
