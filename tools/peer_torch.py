#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch at the model's sizes on a GPU, in bfloat16 with random weights: what ivchat's CUDA backend is
compared with.

  tools/peer_torch.py [--out FILE.json] [--seconds 75] [--only vision,prefill]
  tools/peer_torch.py --device cpu --small       the same code at toy sizes, to see that it runs

Stages: peaks (matrix product, copy, read), vision (39 blocks, 3 clips of 8 frames), prefill (322 rows),
decode (one token at 350 keys, batch 1 and 32; every sequence has a cache of its own). The language model
is written as one would for speed: q, k, v and gate, up are one product each, LoRA (r 16, not merged) two
thin products beside it, the cache is static. Each workload runs as it is (eager), replayed as a CUDA graph
and through torch.compile; attention takes the fastest of PyTorch's own kernels at that shape. Times are
medians by device events. After --seconds nothing new is begun; the file is rewritten after each stage.
"""
import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
            "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
RELEASE = {"vit_d": 1408, "vit_heads": 16, "vit_ffn": 6144, "vit_blocks": 39, "clips": 3, "tokens": 2049,
           "d": 4096, "heads": 32, "kv": 8, "head": 128, "ffn": 14336, "layers": 32, "vocab": 32768, "lora": 16,
           "prompt": 322, "keys": 350, "batches": [1, 32], "peak": 8192, "bytes": 4 << 30}
SMALL = {"vit_d": 64, "vit_heads": 2, "vit_ffn": 96, "vit_blocks": 2, "clips": 2, "tokens": 33,
         "d": 64, "heads": 4, "kv": 2, "head": 16, "ffn": 96, "layers": 2, "vocab": 128, "lora": 4,
         "prompt": 12, "keys": 20, "batches": [1, 3], "peak": 128, "bytes": 1 << 20}


class Bench:
    def __init__(self, args):
        self.args, self.s = args, SMALL if args.small else RELEASE
        self.cuda = args.device.startswith("cuda")
        self.start, self.rows, self.facts = time.monotonic(), [], {"torch": torch.__version__}
        self.backend = None  # of attention; None = PyTorch's own choice

    def left(self):
        return self.args.seconds - (time.monotonic() - self.start)

    def random(self, *shape, std=1.0):
        x = torch.empty(*shape, device=self.args.device, dtype=torch.bfloat16)
        return x.normal_(std=std)

    def linear(self, n_out, n_in, gain=1.0):
        return self.random(n_out, n_in, std=gain * n_in ** -0.5)

    def times(self, f, reps=12, warm=3):
        """Milliseconds of each of reps calls."""
        for _ in range(warm):
            f()
        if not self.cuda:
            out = []
            for _ in range(reps):
                t = time.perf_counter()
                f()
                out.append((time.perf_counter() - t) * 1e3)
            return out
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(2 * reps)]
        torch.cuda.synchronize()
        for i in range(reps):
            marks[2 * i].record()
            f()
            marks[2 * i + 1].record()
        torch.cuda.synchronize()
        return [marks[2 * i].elapsed_time(marks[2 * i + 1]) for i in range(reps)]

    def row(self, stage, how, f, flop=0, nbytes=0, reps=12):
        try:
            t = self.times(f, reps)
        except Exception as e:  # one variant that cannot run must not end the others
            self.rows.append({"stage": stage, "how": how, "error": str(e).strip().splitlines()[0][:160]})
            return self.show(self.rows[-1])
        ms = statistics.median(t)
        row = {"stage": stage, "how": how, "ms": ms, "min": min(t), "max": max(t), "reps": reps}
        if flop:
            row["tflops"] = flop / ms * 1e-9
        if nbytes:
            row["gbs"] = nbytes / ms * 1e-6
        self.rows.append(row)
        return self.show(row)

    def show(self, r):
        if "ms" not in r:
            print("%-11s %-26s %s" % (r["stage"], r["how"], r["error"]), flush=True)
            return None
        print("%-11s %-26s %9.3f ms [%.3f .. %.3f]%s%s" % (
            r["stage"], r["how"], r["ms"], r["min"], r["max"],
            " %7.1f TFLOP/s" % r["tflops"] if "tflops" in r else "",
            " %7.1f GB/s" % r["gbs"] if "gbs" in r else ""), flush=True)
        return r["ms"]

    def save(self):
        if self.args.out:
            with open(self.args.out, "w", encoding="utf-8") as f:
                json.dump({"facts": self.facts, "sizes": self.s, "rows": self.rows}, f, indent=1)

    def card(self, when):
        if self.cuda:
            p = torch.cuda.get_device_properties(0)
            self.facts.update(card=p.name, multiprocessors=p.multi_processor_count, memory=p.total_memory)
        what = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
        try:
            out = subprocess.run(["nvidia-smi", "--query-gpu=" + what, "--format=csv,noheader"], check=True,
                                 capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError) as e:
            out = "nvidia-smi: %s" % e
        self.facts["smi " + when] = out
        print("%-11s %s" % (when, out), flush=True)

    # ---- the machine

    def peaks(self):
        n, size = self.s["peak"], self.s["bytes"] // 2
        a, b, c = self.random(n, n), self.random(n, n), self.random(n, n)
        self.row("peak", "matmul %d bf16" % n, lambda: torch.mm(a, b, out=c), flop=2 * n ** 3, reps=20)
        self.card("after mm")
        src = torch.empty(size // 4, device=self.args.device).normal_()
        dst = torch.empty_like(src)
        self.row("peak", "copy, read + write", lambda: dst.copy_(src), nbytes=2 * size, reps=20)
        self.row("peak", "read (sum)", src.sum, nbytes=size, reps=20)
        self.row("peak", "read (max)", src.max, nbytes=size, reps=20)
        d, f = self.s["d"], self.s["ffn"]
        w, x = self.random(8 * f, d), self.random(1, d)
        self.row("peak", "matrix times one row", lambda: F.linear(x, w), nbytes=2 * w.numel(), reps=20)

    # ---- attention: the fastest of PyTorch's kernels at a shape

    def using(self):
        return sdpa_kernel(BACKENDS[self.backend]) if self.backend else contextlib.nullcontext()

    def choose(self, stage, q, k, v, flop, **more):
        best = None
        for name in BACKENDS:
            if name == "math" and best:
                continue
            with sdpa_kernel(BACKENDS[name]):
                ms = self.row(stage, "attention " + name, lambda: F.scaled_dot_product_attention(q, k, v, **more), flop)
            if ms and (best is None or ms < best[0]):
                best = (ms, name)
        self.backend = best[1] if best else None

    # ---- a workload in its three forms

    def run(self, stage, f, args, flop=0, nbytes=0):
        """f(part, *args): part turns each function of a layer into what is called. Eager and graph now; what
        compile needs is returned for later."""
        def eager():
            return f(lambda part: part, *args)
        with self.using():
            self.row(stage, "eager", eager, flop, nbytes)
            self.graph(stage, "graph", eager, flop, nbytes)
        return lambda: self.compiled(stage, f, args, flop, nbytes)

    def graph(self, stage, how, f, flop, nbytes):
        if not self.cuda:
            return
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    f()
            torch.cuda.current_stream().wait_stream(side)
            g = torch.cuda.CUDAGraph()
            with torch.cuda.graph(g):
                out = f()
            if not torch.isfinite(out.float()).all():
                raise RuntimeError("the result is not finite")
        except Exception as e:
            self.rows.append({"stage": stage, "how": how, "error": str(e).strip().splitlines()[0][:160]})
            self.show(self.rows[-1])
            return
        self.row(stage, how, g.replay, flop, nbytes, reps=20)

    def compiled(self, stage, f, args, flop, nbytes):
        made = {}

        def part(g):
            if g not in made:
                made[g] = torch.compile(g, dynamic=False)
            return made[g]

        def fast():
            return f(part, *args)
        t = time.monotonic()
        with self.using():
            if self.row(stage, "compile", fast, flop, nbytes) is not None:
                self.rows[-1]["compile_s"] = time.monotonic() - t
                self.graph(stage, "compile, graph", fast, flop, nbytes)

    # ---- vision encoder

    def vision(self):
        s = self.s
        d, heads, ffn, n, clips = s["vit_d"], s["vit_heads"], s["vit_ffn"], s["tokens"], s["clips"]
        blocks = []
        for _ in range(s["vit_blocks"]):
            norms = [self.random(d, std=0.1) + 1 for _ in range(4)]
            blocks.append((*norms, self.linear(3 * d, d), self.linear(d, d), self.random(d, std=0.02),
                           self.linear(ffn, d), self.random(ffn, std=0.02), self.linear(d, ffn),
                           self.random(d, std=0.02), self.random(d, std=0.1), self.random(d, std=0.1)))

        def block(x, n1, n2, nq, nk, qkv, proj, proj_b, w1, b1, w2, b2, ls1, ls2):
            q, k, v = F.linear(F.rms_norm(x, (d,), n1, 1e-6), qkv).chunk(3, -1)
            q, k = F.rms_norm(q, (d,), nq, 1e-6), F.rms_norm(k, (d,), nk, 1e-6)
            q, k, v = (t.unflatten(-1, (heads, d // heads)).transpose(1, 2) for t in (q, k, v))
            a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + ls1 * F.linear(a, proj, proj_b)
            return x + ls2 * F.linear(F.gelu(F.linear(F.rms_norm(x, (d,), n2, 1e-6), w1, b1)), w2, b2)

        def forward(part, x):
            for b in blocks:
                x = part(block)(x, *b)
            return x

        x = self.random(clips, n, d)
        q, k, v = (self.random(clips, n, d).unflatten(-1, (heads, d // heads)).transpose(1, 2) for _ in range(3))
        one = 4 * n * n * d * clips
        self.choose("vision", q, k, v, one)
        flop = len(blocks) * (clips * 2 * n * (4 * d * d + 2 * d * ffn) + one)
        return self.run("vision", forward, (x,), flop=flop)

    # ---- language model

    def weights(self):
        s = self.s
        d, head, heads, kv, ffn, r = s["d"], s["head"], s["heads"], s["kv"], s["ffn"], s["lora"]
        qkv = (heads + 2 * kv) * head

        def lora(n_out, n_in, parts):
            return self.linear(n_out, n_in), self.linear(parts * r, n_in), self.random(n_out, parts * r, std=0.03)
        self.layers = [(self.random(d, std=0.1) + 1, self.random(d, std=0.1) + 1, *lora(qkv, d, 3),
                        *lora(d, heads * head, 1), *lora(2 * ffn, d, 2), *lora(d, ffn, 1))
                       for _ in range(s["layers"])]
        self.last = (self.random(d, std=0.1) + 1, self.linear(s["vocab"], d, 3.0))
        angle = torch.arange(s["keys"] + 1)[:, None] * 1e6 ** (-torch.arange(0, head, 2) / head)
        self.cos, self.sin = (f(angle).repeat(1, 2).to(self.args.device, torch.bfloat16) for f in (torch.cos, torch.sin))
        used = [w for layer in self.layers for w in layer] + list(self.last)
        self.weight_bytes = sum(2 * w.numel() for w in used)
        self.weight_flop = sum(2 * w.numel() for layer in self.layers for w in layer if w.dim() == 2)

    def layer(self, x, cos, sin, attend, n1, n2, qkv, qkv_a, qkv_b, o, o_a, o_b, up, up_a, up_b, down, down_a, down_b):
        s = self.s
        d, head, heads, kv = s["d"], s["head"], s["heads"], s["kv"]

        def linear(h, w, a, b):
            return torch.addmm(F.linear(h, w), F.linear(h, a), b.t(), alpha=2)

        def rope(t):
            a, b = t.chunk(2, -1)
            return t * cos + torch.cat((-b, a), -1) * sin
        t = linear(F.rms_norm(x, (d,), n1, 1e-5), qkv, qkv_a, qkv_b)
        q, k, v = t.unflatten(-1, (-1, head)).split((heads, kv, kv), 1)
        a = attend(rope(q), rope(k), v).flatten(1)
        x = x + linear(a, o, o_a, o_b)
        gate, h = linear(F.rms_norm(x, (d,), n2, 1e-5), up, up_a, up_b).chunk(2, -1)
        return x + linear(F.silu(gate) * h, down, down_a, down_b)

    def head(self, x):
        return F.linear(F.rms_norm(x, (self.s["d"],), self.last[0], 1e-5), self.last[1])

    def prefill(self):
        s = self.s
        n, head, heads, kv = s["prompt"], s["head"], s["heads"], s["kv"]
        caches = [self.random(2, kv, n, head) for _ in range(s["layers"])]
        # a key head serves heads / kv query heads: by PyTorch's own option where the kernel has it
        q, k, v = self.random(1, heads, n, head), self.random(1, kv, n, head), self.random(1, kv, n, head)
        flop = 2 * heads * head * n * n
        self.choose("prefill", q, k, v, flop, is_causal=True, enable_gqa=True)

        def step(x, cos, sin, cache, *w):
            def attend(q, k, v):
                q, k, v = (t.transpose(0, 1) for t in (q, k, v))
                cache[0].copy_(k)
                cache[1].copy_(v)
                return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0].transpose(0, 1)
            return self.layer(x, cos, sin, attend, *w)

        def forward(part, x):
            cos, sin = self.cos[:n, None], self.sin[:n, None]
            for cache, w in zip(caches, self.layers):
                x = part(step)(x, cos, sin, cache, *w)
            return self.head(x[-1:])
        total = n * self.weight_flop + s["layers"] * flop + 2 * self.last[1].numel()
        return self.run("prefill", forward, (self.random(n, s["d"]),), flop=total, nbytes=self.weight_bytes)

    def decode(self, batch):
        s = self.s
        n, head, heads, kv = s["keys"], s["head"], s["heads"], s["kv"]
        caches = [self.random(2, batch, kv, n, head) for _ in range(s["layers"])]
        at = torch.tensor([n - 1], device=self.args.device)
        # the query heads of a key head are rows of one small product, so that no kernel need repeat keys
        q = self.random(batch, kv, heads // kv, head)
        stage = "decode x%d" % batch
        self.choose(stage, q, caches[0][0], caches[0][1], 4 * batch * heads * head * n)

        def step(x, cos, sin, cache, at, *w):
            def attend(q, k, v):
                cache[0].index_copy_(2, at, k[:, :, None])
                cache[1].index_copy_(2, at, v[:, :, None])
                return F.scaled_dot_product_attention(q.unflatten(1, (kv, -1)), cache[0], cache[1]).flatten(1, 2)
            return self.layer(x, cos, sin, attend, *w)

        def forward(part, x):
            cos, sin = self.cos[n - 1, None, None], self.sin[n - 1, None, None]
            for cache, w in zip(caches, self.layers):
                x = part(step)(x, cos, sin, cache, at, *w)
            return self.head(x)
        nbytes = self.weight_bytes + sum(2 * c.numel() for c in caches)
        return self.run(stage, forward, (self.random(batch, s["d"]),), nbytes=nbytes)

    def all(self):
        self.card("start")
        later, backends = [], []
        stages = [("peaks", self.peaks), ("vision", self.vision), ("weights", self.weights), ("prefill", self.prefill)]
        stages += [("decode", lambda b=b: self.decode(b)) for b in self.s["batches"]]
        wanted = self.args.only.split(",") if self.args.only else ["peaks", "vision", "prefill", "decode"]
        if set(wanted) & {"prefill", "decode"}:
            wanted.append("weights")
        for name, f in stages:
            if name in wanted and self.left() > 0:
                more = f()
                if more:
                    later.append(more)
                    backends.append(self.backend)
                self.save()
                if self.cuda:
                    self.facts["seconds to " + name] = time.monotonic() - self.start
        order = sorted(range(len(later)), key=lambda i: i == 1)  # the prefill last: it gains least
        for i in order if not self.args.no_compile else []:
            if self.left() > self.args.reserve:
                self.backend = backends[i]
                torch._dynamo.reset()
                later[i]()
                self.save()
        self.facts["seconds"] = time.monotonic() - self.start
        self.card("end")
        self.save()

    def table(self):
        print("\nbest of each, PyTorch %s" % self.facts["torch"])
        for stage in dict.fromkeys(r["stage"] for r in self.rows):
            rows = [r for r in self.rows if r["stage"] == stage and "ms" in r and not r["how"].startswith("attention")]
            for r in rows if stage == "peak" else sorted(rows, key=lambda r: r["ms"])[:1]:
                self.show(r)
        print("%.1f s" % self.facts["seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--out", metavar="FILE", help="everything as JSON")
    parser.add_argument("--seconds", type=float, default=75, help="begin nothing after so many (75)")
    parser.add_argument("--reserve", type=float, default=15, help="seconds that one torch.compile is given (15)")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--only", help="of peaks,vision,prefill,decode")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("peer_torch: PyTorch %s sees no CUDA device" % torch.__version__)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    bench = Bench(args)
    bench.all()
    bench.table()


if __name__ == "__main__":
    main()
