# SPDX-License-Identifier: MIT
"""What moves the weights: AdamW, and with "muon" in a stage's recipe orthogonalised momentum for the matrices of hidden layers.

Muon (Jordan and others, 2024): a matrix moves along the nearest orthogonal one to its momentum, so that every direction that the
gradients have in common gets the same pace, the rare ones too. The step is scaled by 0.2 sqrt(longest side), which gives it the size
of an AdamW step. "muon" is the rate of the matrices in units of the rate of their group. Embeddings, the output layer, LoRA pairs,
heads that are dropped, vectors and filters stay with AdamW.

Matrices of one shape are orthogonalised together: a small model has a hundred of them, and each alone is shorter than its launch.
"""
import torch

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)  # drives singular values of 0.01 to 1 to about 1 in five rounds


def orthogonal(g, rounds=5):
    """g [n, r, c] -> about U V' of each, in bf16 inside."""
    a, b, c = QUINTIC
    tall = g.shape[-2] > g.shape[-1]
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(torch.bfloat16)
    x = x.mT if tall else x
    for _ in range(rounds):
        m = x @ x.mT
        x = a * x + (b * m + c * (m @ m)) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    def __init__(self, groups):
        super().__init__(groups, dict(lr=0.0, weight_decay=0.0))
        self.found_inf = None  # as in fused AdamW: on the device, nonzero leaves the step out

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group['params']:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                grads, keep = torch.stack([p.grad for p in params]), 1.0
                if self.found_inf is not None:
                    keep = (self.found_inf == 0).to(grads.dtype)
                    grads = torch.where(self.found_inf > 0, torch.zeros_like(grads), grads)
                for p in params:
                    if not self.state[p]:
                        self.state[p]['momentum'] = torch.zeros_like(p)
                momenta = [self.state[p]['momentum'] for p in params]
                mean = torch.stack(momenta).lerp(grads, (1 - MOMENTUM) * keep)
                torch._foreach_copy_(momenta, list(mean.unbind()))
                moves = orthogonal(grads.lerp(mean, MOMENTUM)) * keep
                torch._foreach_mul_(params, 1 - group['lr'] * group['weight_decay'] * keep)
                torch._foreach_add_(params, list(moves.unbind()), alpha=-0.2 * max(shape) ** 0.5 * group['lr'])


def is_matrix(name, p):
    """Of a hidden layer."""
    return p.ndim == 2 and not any(k in name for k in ('embed', 'lm_head', 'lora_', 'heads.'))


def groups(named, lr, factor=1.0):
    """Optimiser groups by module: {"": base, "lora_": all pairs, "vision_encoder": ..., "lm": ...}, the first that fits; vectors are not decayed."""
    out = {}
    for name, p in named:
        rate = factor * next((v for k, v in lr.items() if k and (name.startswith(k) or k == 'lora_' and k in name)), lr[''])
        out.setdefault((rate, p.ndim > 1), []).append(p)
    return [dict(params=ps, lr=rate, base=rate, weight_decay=0.02 if decay else 0.0) for (rate, decay), ps in sorted(out.items(), key=lambda x: x[0])]


class Optimisers:
    """AdamW and, where the recipe asks for it, Muon, as one. On a device a step whose norm is not finite is left out there."""

    def __init__(self, named, recipe, fused):
        factor, self.fused = recipe.get('muon', 0.0), fused
        matrices = [(n, p) for n, p in named if factor and is_matrix(n, p)]
        mine = {n for n, _ in matrices}
        self.sets = [groups([(n, p) for n, p in named if n not in mine], recipe['lr'])]
        self.each = [torch.optim.AdamW(self.sets[0], betas=(0.9, recipe.get('beta2', 0.98)), eps=1e-8, fused=fused)]
        if matrices:
            self.sets.append(groups(matrices, recipe['lr'], factor))
            self.each.append(Muon(self.sets[1]))

    def rate(self, factor):
        for o in self.each:
            for g in o.param_groups:
                g['lr'] = g['base'] * factor

    def zero_grad(self):
        for o in self.each:
            o.zero_grad(set_to_none=True)

    def step(self, norm):
        """norm: of all gradients"""
        if not self.fused and not torch.isfinite(norm):
            return
        for o in self.each:
            if self.fused:
                o.found_inf = torch.isfinite(norm).logical_not().float()
            o.step()

    def state_dict(self):
        return [o.state_dict() for o in self.each]

    def load_state_dict(self, states):
        """Rates are those of the recipe, which may have changed."""
        for o, state in zip(self.each, states, strict=True):
            base = [g['base'] for g in o.param_groups]
            o.load_state_dict(state)
            for g, b in zip(o.param_groups, base):
                g['base'] = b
