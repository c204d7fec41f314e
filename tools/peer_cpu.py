#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One other engine at the model's sizes on the CPU, random weights: what tools/bench_peers.py runs, in the environment
that it made.

  peer_cpu.py WORK HOW [--threads N] [--gguf FILE] [--prompt 322] [--context 32] [--new 16] [--sessions 8] [--layers 4] [--small]

Prepares, prints a line {"ready": ...}, then for each line of standard input, which names stages, makes one run and prints
{"ms": {STAGE: ...}}, of the whole model.

  vision   a stack of 4 of the 39 blocks of the video transformer, one clip of 2049 tokens, multiplied by 39/4. HOW: eager,
           compile, zentorch (PyTorch, bf16; eager is how the reference runs), openvino-bf16, openvino-int8 (weights and
           activations by nncf, the rest bf16)
  llm      stages prefill (--prompt rows), decode (a token behind them; llamacpp: behind --context others), sessions (a
           token in each of --sessions conversations). HOW: eager, lora (PyTorch and transformers, bf16, --layers of the 32
           layers; lora: not merged, as the reference has it), llamacpp (llama-cpp-python on --gguf). What stands for fewer
           than 32 layers is multiplied, but for the output matrix.
"""
import argparse
import json
import statistics
import sys
import time

RELEASE = {"d": 1408, "heads": 16, "ffn": 6144, "tokens": 2049, "blocks": 4, "depth": 39,
           "llm": {"vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                   "num_key_value_heads": 8}, "depth_llm": 32}
SMALL = {"d": 64, "heads": 2, "ffn": 96, "tokens": 33, "blocks": 2, "depth": 39,
         "llm": {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
                 "num_key_value_heads": 2}, "depth_llm": 32}


def say(**what):
    print(json.dumps(what), flush=True)


def serve(run):
    """run(stages) -> {stage: ms}"""
    for line in sys.stdin:
        say(ms=run(line.split()))


def timed(f):
    start = time.perf_counter()
    f()
    return 1e3 * (time.perf_counter() - start)


# ---- video transformer

def vision_stack(s, fused):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Norm(nn.Module):
        """As the published code has it: f32 inside, whatever the type outside."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(s["d"]))

        def forward(self, x):
            y = x.float()
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
            return self.weight * y.to(x.dtype)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            d = s["d"]
            self.n1, self.n2, self.nq, self.nk = Norm(), Norm(), Norm(), Norm()
            self.qkv, self.proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, s["ffn"]), nn.Linear(s["ffn"], d)
            self.s1, self.s2 = nn.Parameter(torch.full((d,), 0.1)), nn.Parameter(torch.full((d,), 0.1))

        def forward(self, x):
            q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
            heads = [t.unflatten(-1, (s["heads"], -1)).transpose(1, 2) for t in (self.nq(q), self.nk(k), v)]
            if fused:
                a = F.scaled_dot_product_attention(*heads)
            else:
                q, k, v = heads
                a = torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1), -1) @ v
            x = x + self.s1 * self.proj(a.transpose(1, 2).flatten(2))
            return x + self.s2 * self.down(F.gelu(self.up(self.n2(x))))

    torch.manual_seed(1)
    return nn.Sequential(*[Block() for _ in range(s["blocks"])]).eval()


def vision(args, s):
    import torch
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    x = torch.randn(1, s["tokens"], s["d"])
    if args.how.startswith("openvino"):
        run, name = openvino(args, s, x)
    else:
        model, x = vision_stack(s, args.how == "zentorch").to(torch.bfloat16), x.to(torch.bfloat16)
        name = "torch " + torch.__version__
        if args.how == "zentorch":
            import zentorch
            name += ", zentorch " + zentorch.__version__
            model = torch.compile(model, backend="zentorch")
        elif args.how == "compile":
            from torch._inductor import config
            config.freezing = True
            model = torch.compile(model)

        def run():
            model(x)
    run()
    run()
    scale = s["depth"] / s["blocks"]
    say(ready="%s, %d of %d blocks" % (name, s["blocks"], s["depth"]))
    serve(lambda _: {"vision": scale * statistics.median(timed(run) for _ in range(3))})


def openvino(args, s, x):
    import openvino as ov
    import torch
    graph = ov.convert_model(vision_stack(s, True), example_input=x, input=[tuple(x.shape)])
    name = "openvino " + ov.__version__.split("-")[0]
    if args.how == "openvino-int8":
        import nncf
        data = nncf.Dataset([x.numpy(), torch.randn(x.shape).numpy()])
        graph = nncf.quantize(graph, data, subset_size=2, model_type=nncf.ModelType.TRANSFORMER,
                              preset=nncf.QuantizationPreset.MIXED)
        name += ", nncf " + nncf.__version__
    compiled = ov.Core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads,
                                                      "INFERENCE_PRECISION_HINT": "bf16"})
    request, given = compiled.create_infer_request(), {0: x.numpy()}
    return (lambda: request.infer(given)), name


# ---- language model

def mistral(args, s):
    import torch
    import transformers
    from torch import nn
    config = transformers.MistralConfig(**s["llm"], num_hidden_layers=args.layers, max_position_embeddings=32768, rope_theta=1e6,
                                        sliding_window=None, attn_implementation="sdpa")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = transformers.MistralForCausalLM(config)
    model = model.to_empty(device="cpu").eval()
    noise = torch.randn(1 << 22).mul(0.02).to(torch.bfloat16)
    for p in model.parameters():
        if p.dim() == 1:
            p.data.fill_(1)
        else:
            flat = p.data.view(-1)
            for i in range(0, flat.numel(), noise.numel()):
                part = flat[i:i + noise.numel()]
                part.copy_(noise[:part.numel()])
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)  # its buffers did not survive to_empty

    class Lora(nn.Module):
        def __init__(self, base, rank=16):
            super().__init__()
            self.base = base
            self.a, self.b = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)

        def forward(self, x):
            return self.base(x) + self.b(self.a(x)) * 2.0

    if args.how == "lora":
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and not isinstance(module, Lora):
                    setattr(module, name, Lora(child))
    torch.set_default_dtype(torch.float32)
    return model, "torch %s, transformers %s" % (torch.__version__, transformers.__version__)


def llm_torch(args, s):
    import torch
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model, name = mistral(args, s)
    x = torch.randn(1, args.prompt, s["llm"]["hidden_size"]).to(torch.bfloat16)
    row = torch.randn(1, 1, s["llm"]["hidden_size"]).to(torch.bfloat16)

    def once(stages):
        start = time.perf_counter()
        out = model(inputs_embeds=x, use_cache=True, logits_to_keep=1)
        prefill = 1e3 * (time.perf_counter() - start)
        token, steps = out.logits[:, -1:].argmax(-1), []
        for _ in range(args.new if "decode" in stages else 1):
            start = time.perf_counter()
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            steps.append(1e3 * (time.perf_counter() - start))
        head = statistics.median(timed(lambda: model.lm_head(row)) for _ in range(3))
        whole = {"prefill": prefill, "decode": statistics.median(steps)}
        return {k: (whole[k] - head) * scale + head for k in whole if k in stages}
    scale = s["depth_llm"] / args.layers
    once([])
    say(ready="%s, %d of %d layers" % (name, args.layers, s["depth_llm"]))
    serve(once)


class LlamaCpp:
    """llama.cpp by its C functions, which llama-cpp-python has."""

    def __init__(self, args):
        import llama_cpp
        self.c, self.args, n = llama_cpp, args, max(1, args.sessions)
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(args.gguf.encode(), options)
        if not self.model:
            raise SystemExit("llama.cpp cannot load " + args.gguf)
        options = llama_cpp.llama_context_default_params()
        prompt = max(args.prompt, args.context)
        options.n_ctx, options.n_seq_max = n * ((prompt + args.new + 255) // 256 * 256), n
        options.n_batch = options.n_ubatch = max(512, prompt)
        options.n_threads = options.n_threads_batch = args.threads
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit("llama.cpp has no context for " + args.gguf)
        self.batch = llama_cpp.llama_batch_init(max(512, prompt), 0, 1)
        self.layers = llama_cpp.llama_model_n_layer(self.model)

    def step(self, rows):
        """rows: (token, position, conversation, whether logits are wanted)"""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, conversation, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, logits
            b.seq_id[i][0] = conversation
        if self.c.llama_decode(self.context, b):
            raise SystemExit("llama.cpp cannot decode %d tokens" % len(rows))
        self.c.llama_synchronize(self.context)

    def prompt(self, conversation, n):
        self.step([(3 + 37 * i % 100, i, conversation, i == n - 1) for i in range(n)])

    def steps(self, conversations, behind, n):
        return [timed(lambda i=i: self.step([(5, behind + i, c, True) for c in range(conversations)])) for i in range(n)]

    def once(self, stages):
        a, ms = self.args, {}
        clear = lambda: self.c.llama_memory_clear(self.c.llama_get_memory(self.context), True)  # noqa: E731
        if "prefill" in stages:
            clear()
            ms["prefill"] = timed(lambda: self.prompt(0, a.prompt))
        if "decode" in stages:
            steps = []
            for _ in range(a.repeats):
                clear()
                self.prompt(0, a.context)
                steps += self.steps(1, a.context, a.new)
            ms["decode"] = statistics.median(steps)
        if "sessions" in stages:
            clear()
            for c in range(a.sessions):
                self.prompt(c, a.context)
            ms["sessions"] = statistics.median(self.steps(a.sessions, a.context, a.new))
        return ms


def weights():
    """Of a layer without its feed-forward part, of that part, of the output matrix."""
    llm = RELEASE["llm"]
    d, kv = llm["hidden_size"], llm["hidden_size"] // llm["num_attention_heads"] * llm["num_key_value_heads"]
    return 2 * d * d + 2 * d * kv, 3 * d * llm["intermediate_size"], d * llm["vocab_size"]


def whole_model(ms, layers, depth=RELEASE["depth_llm"]):
    """Times that llama.cpp or ik took for some layers, all of one type, as times of all. The output matrix, a share of decode
    by its weights, is not multiplied; of the last layer's feed-forward part a prompt needs one row only, and they know that."""
    if layers == depth:
        return ms
    attention, ffn, head = weights()
    head_ms = ms["decode"] * head / (head + layers * (attention + ffn))
    skipped = ffn / (attention + ffn)
    times = {"prefill": (depth - skipped) / (layers - skipped)}
    return {k: (v - head_ms) * times.get(k, depth / layers) + head_ms for k, v in ms.items()}


def llm_llamacpp(args, s):
    peer = LlamaCpp(args)

    depth = peer.layers if args.small else s["depth_llm"]

    def once(stages):
        more = ["decode"] if peer.layers < depth and "decode" not in stages else []
        ms = whole_model(peer.once(stages + more), peer.layers, depth)
        return {k: ms[k] for k in stages if k in ms}
    peer.once(["prefill", "decode"])
    short = "" if peer.layers == depth else ", %d of %d layers" % (peer.layers, depth)
    say(ready="llama-cpp-python " + peer.c.__version__ + short)
    serve(once)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("vision", "llm"))
    parser.add_argument("how")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gguf")
    parser.add_argument("--prompt", type=int, default=322)
    parser.add_argument("--context", type=int, default=32)
    parser.add_argument("--new", type=int, default=16, help="tokens decoded in a run")
    parser.add_argument("--repeats", type=int, default=1, help="so often llama.cpp decodes them")
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    args = parser.parse_args()
    sizes = SMALL if args.small else RELEASE
    if args.work == "vision":
        vision(args, sizes)
    elif args.how == "llamacpp":
        llm_llamacpp(args, sizes)
    else:
        llm_torch(args, sizes)


if __name__ == "__main__":
    main()
