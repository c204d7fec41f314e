#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One other engine at the model's sizes on the CPU, random weights: what tools/bench_peers.py runs, in the environment
that it made.

  peer_cpu.py WORK HOW [--threads N] [--gguf FILE] [--prompt 322] [--layers 8] [--small]

Prepares, prints a line {"ready": ...}, then makes one run for each line of standard input and prints {"ms": ...}.

  vision   a stack of 4 of the 39 blocks of the video transformer, one clip of 2049 tokens; "scale" says by how much to
           multiply. HOW: eager, compile, zentorch (PyTorch, bf16; eager is how the reference runs), openvino-bf16,
           openvino-int8 (weights and activations by nncf, the rest bf16)
  llm      prefill of --prompt rows and decoding behind them. HOW: eager, lora (PyTorch and transformers, bf16, --layers of
           the 32 layers; lora: not merged, as the reference has it), llamacpp (llama-cpp-python on --gguf, all of it)
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
    say(ready=name, scale=s["depth"] / s["blocks"])
    for _ in sys.stdin:
        say(ms=statistics.median(timed(run) for _ in range(3)))


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

    def once():
        start = time.perf_counter()
        out = model(inputs_embeds=x, use_cache=True, logits_to_keep=1)
        prefill = 1e3 * (time.perf_counter() - start)
        token, steps = out.logits[:, -1:].argmax(-1), []
        for _ in range(args.steps):
            start = time.perf_counter()
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            steps.append(1e3 * (time.perf_counter() - start))
        heads = [timed(lambda: model.lm_head(row)) for _ in range(3)]
        return prefill, statistics.median(steps), statistics.median(heads)
    once()
    scale = s["depth_llm"] / args.layers
    say(ready=name, scale=scale)
    for _ in sys.stdin:  # layers are scaled, the head is not
        prefill, step, head = once()
        say(prefill_ms=(prefill - head) * scale + head, decode_ms=(step - head) * scale + head)


def llm_llamacpp(args):
    import llama_cpp
    model = llama_cpp.Llama(model_path=args.gguf, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=args.threads,
                            n_threads_batch=args.threads, n_gpu_layers=0, flash_attn=True, verbose=False)
    prompt = [3 + 37 * i % 200 for i in range(args.prompt)]

    def once(steps):
        model.reset()
        prefill = timed(lambda: model.eval(prompt))
        return prefill, statistics.median(timed(lambda: model.eval([5])) for _ in range(steps))
    once(2)
    say(ready="llama-cpp-python " + llama_cpp.__version__, scale=1)
    for _ in sys.stdin:
        prefill, step = once(args.steps)
        say(prefill_ms=prefill, decode_ms=step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("vision", "llm"))
    parser.add_argument("how")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gguf")
    parser.add_argument("--prompt", type=int, default=322)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="tokens decoded in a run")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    args = parser.parse_args()
    sizes = SMALL if args.small else RELEASE
    if args.work == "vision":
        vision(args, sizes)
    elif args.how == "llamacpp":
        llm_llamacpp(args)
    else:
        llm_torch(args, sizes)


if __name__ == "__main__":
    main()
