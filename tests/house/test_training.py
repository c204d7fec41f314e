# SPDX-License-Identifier: MIT
"""The training of tools/train without a GPU: samples and the processes that make them (numpy), and, where PyTorch is
installed, that one step of each stage stays on the device it was given, trains what it should and waits for nothing."""
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import types

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tools")]
import tap  # noqa: E402
import train_small  # noqa: E402

try:
    import numpy as np
except ImportError:
    np = None
else:
    from train import labels, packing, samples, workers
    from world import corpus, scene

with open(os.path.join(ROOT, "tools", "train", "recipe.json"), encoding="utf-8") as f:
    RECIPE = json.load(f)


with open(os.path.join(ROOT, "tools", "train", "more.json"), encoding="utf-8") as f:
    MORE = json.load(f)
with open(os.path.join(ROOT, "tools", "train", "lookup.json"), encoding="utf-8") as f:
    LOOKUP = json.load(f)
with open(os.path.join(ROOT, "tools", "train", "two_cores.json"), encoding="utf-8") as f:
    TWO_CORES = json.load(f)


def write_vocabulary(folder):
    """Letters, a few merges, colours and shapes whole, and all words: enough for texts to become ids."""
    blank, letters = "\u2581", [chr(c) for c in range(33, 127)]
    pieces = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"] + ["<0x%02X>" % n for n in range(256)] + [blank] + letters
    merges = [["t", "h"], [blank, "th"], [blank + "th", "e"], ["i", "n"], ["in", "g"]]
    merges = [[blank + w[:i], w[i]] for w in scene.COLOURS + scene.SHAPES for i in range(len(w))] + merges
    merges = [m for i, m in enumerate(merges) if m not in merges[:i]]
    pieces += ["".join(m) for m in merges]
    doc = {"model": {"vocab": {p: i for i, p in enumerate(pieces)}, "merges": [" ".join(m) for m in merges]},
           "added_tokens": [{"id": i, "content": p} for i, p in enumerate(pieces[:5])]}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(doc, f)
    words = {w for _, line in zip(range(3000), corpus.lines(5)) for w in samples.text.BertTokenizer.words(line)}
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.writelines(w + "\n" for w in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(words))
    for name in ("tokenizer.model", "tokenizer_config.json"):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write("{}")


def check_average_program(report, deliver, top, vocab, mean):
    recipe, out = os.path.join(top, "recipe.json"), os.path.join(top, "mean")
    with open(recipe, "w", encoding="utf-8") as f:
        json.dump(RECIPE, f)
    run = lambda *args: subprocess.run([sys.executable, "-m", "train.average", "--recipe", recipe, "--vocab", vocab, "--out", out, *args], check=False,
                                       cwd=os.path.join(ROOT, "tools"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first, second = os.path.join(top, "out"), os.path.join(top, "other")
    for args, code, word in ((("x",), 2, "FOLDER=SHARE"), ((first + "=1.5",), 2, "at most 1"), ((first + "=0.5",), 2, "sum to 0.5"),
                             ((os.path.join(top, "none") + "=1",), 1, "none")):
        done = run(*args)
        report.ok(done.returncode == code and word in done.stdout and not os.path.exists(out), "average refuses %s" % os.path.basename(args[0]), done)
    done = run(first + "=0.75", second + "=0.25")
    state = deliver.read_resume(out)[0] if done.returncode == 0 else {}
    report.ok(state and all(state[k].equal(v) for k, v in mean.items()) and os.path.exists(os.path.join(out, "model.tar")),
              "average writes weights and a snapshot", done)


def check_recipe(report):
    names = list(RECIPE["stages"])
    seconds, spent = 300.0, []
    for n, name in enumerate(names):
        spent.append(train_small.shares(RECIPE, names, names[:n], seconds))
        seconds -= spent[-1]
    report.ok(abs(seconds) < 1e-6 and min(spent) > 5, "the time is shared out to the last second", spent)
    late = train_small.shares(RECIPE, names, names[:-1], 33.0)
    report.ok(late == 33.0, "the last stage gets all that is left", late)
    for recipe in (MORE, LOOKUP, TWO_CORES):
        fine = all(set(r["turns"]) == set(r["channels"]) for r in recipe["stages"].values())
        report.ok(fine and recipe["model"] == RECIPE["model"], "a recipe that goes on has the same model, and every channel its turn")
    bad = [n for recipe in (RECIPE, MORE, LOOKUP) for n, r in recipe["stages"].items()
           if set(r["turns"]) != set(r["channels"]) or set(r["gpu"]["batch"]) != set(r["channels"])]
    report.ok(not bad, "each channel has its turns and its batch on a GPU", bad)
    report.ok(RECIPE["model"] == MORE["model"] == LOOKUP["model"], "every recipe is about the same model")


def check_packing(report, vocab):
    plain = packing.text.BpeTokenizer(os.path.join(vocab, "tokenizer.json"))
    quick = packing.Words(os.path.join(vocab, "tokenizer.json"))
    lines = [line for _, line in zip(range(300), corpus.lines(9))] + ["", " ", "  the  thing", "[INST] x [/INST]the\u00e9"]
    differ = [s for s in lines if plain.encode(s) != quick.encode(s) or plain.encode_raw(s) != quick.encode_raw(s)]
    report.ok(not quick.whole and not differ, "ids word by word are the ids of the whole", differ[:2])
    row = packing.pack([1, -1, -1, 7], [([8, 9, 10, 2], 2, "b", [3, -1]), ([11, 12, 2], 1, "a", []), ([5] * 9, 1, "a", [])], 12, ("a", "b"))
    wants = {"ids": [1, -1, -1, 7, 8, 9, 10, 2, 11, 12, 2, 0], "pos": [0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 0],
             "part": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, -1], "label": [-1] * 5 + [10, 2, -1, -1, 2, -1, -1], "about": [-1] * 5 + [3] + [-1] * 6}
    got = {k: row[k].tolist() for k in wants}
    report.ok(got == wants and row["n"] == 11 and row["kind"][:3].tolist() == [1, 0, -1], "a row, the last talk left out",
              (got, row["kind"]))
    row = packing.pack([20, 21], [([20, 21, 8, 20, 21, 20, 9, 20, 2], 7, "a", []), ([8, 20, 21, 2], 3, "b", [])], 16, ("a", "b"))
    before = {k: np.copy(v) for k, v in row.items()}
    packing.swap(row, np.random.default_rng(0), 1.0, [([20, 30, 31], [30, 31]), ([21], [])], [2, 21], [1])
    differ = np.flatnonzero(row["ids"] != before["ids"])
    report.ok(differ.tolist() == [5, 9] and set(row["ids"][differ].tolist()) <= {30, 31} and all((row[k] == before[k]).all() for k in before if k != "ids"),
              "whole words of answers alone are swapped, of those kinds, for others of the kind", (row["ids"], row["label"]))
    row = {k: np.copy(v) for k, v in before.items()}
    for n in range(400):
        packing.swap(row, np.random.default_rng(n), 0.01, [([20, 30, 31], [30, 31])], [2, 9, 21], [])
        if (row["ids"] != before["ids"]).sum() > 1:
            break
    report.ok(10 < n < 399, "in the share that is asked for", n)
    item = {"type": "choice", "answer_prefix": None, "turns": [{"q": "(A) is it?\nOptions:\n(A) up\n(B) down\nBest option", "a": "(B) down (A)"}]}
    talk, name = packing.Encoder(quick, 96).conversations([item])[0], {i: p for p, i in quick.vocab.items()}
    lines = ["".join(name[i] for i, o in zip(talk.ids, talk.option) if o == n) for n in (-1, 0, 1)]
    report.ok(lines[1] == "A)\u2581is\u2581it?A)\u2581up" and lines[2] == "B)\u2581down" and len(talk.option) == len(talk.ids), "lines of options", lines)
    row = packing.pack([1], [talk], 200, ("choice",))
    named = [(name[int(row["label"][i])], int(row["choice"][i])) for i in np.flatnonzero(row["choice"] >= 0)]
    report.ok(named == [("B", 1), ("A", 0)] and row["option"][1:1 + len(talk.option)].tolist() == talk.option, "letters name options", named)
    encoder, things = packing.Encoder(quick, 96), [("red", "heart"), ("blue", "cross"), ("red", "star")]
    for answer, begun, wants in (("The heart is red.", False, [0] * 4), ("Yes, the red star moves up and to the left before the blue cross grows.", False,
                                 [2] * 10 + [1] * 5), ("There are two red objects.", False, [-1] * 5), ("A) It moves.", True, [-1] * 3)):
        got = encoder.subjects(answer, begun, things)
        ids = quick.encode_raw(answer if begun else packing.text.BLANK + answer)
        words = [len(quick.encode_raw(w if begun and not n else packing.text.BLANK + w)) for n, w in enumerate(answer.split(" "))]
        want = [w for w, n in zip(wants, words) for _ in range(n)] + [-1]
        report.ok(got == want and len(got) == len(ids) + 1, "what each word of an answer tells of: %s" % answer, (got, want))


def check_samples(report, vocab):
    """Every channel of the recipe makes records that read as they were written, within their bounds."""
    for stage, r in RECIPE["stages"].items():
        for name, c in r["channels"].items():
            made = samples.Maker(r["kind"], dict(c, rows=2), vocab)
            records, frames = made.chunk(np.random.default_rng(3), 2)
            again, same = samples.Maker(r["kind"], dict(c, rows=2), vocab).chunk(np.random.default_rng(3), 2)
            fine = records.shape == (2, made.layout.size) and (again == records).all()
            if frames is not None:
                fine = fine and frames.dtype == np.uint8 and frames.shape[1] == c["frames"] and (same == frames).all()
                fine = fine and frames.nbytes <= 2 * made.frame_bytes and len(np.unique(frames)) > 20
            if "ids" in made.layout.at and r["kind"] != "encoder":
                n, ids = made.layout.read(records, "n"), made.layout.read(records, "ids")
                label, views = made.layout.read(records, "label"), c.get("views", 1)
                fine = fine and (n > 100).all() and (n < made.length).all() and (label >= 0).any(axis=2).all()
                fine = fine and (r["kind"] == "reader" or ((ids < 0).sum(axis=2) == 96 * views).any())
            report.ok(fine, "samples: %s %s" % (stage, name), records.shape)
    harder = LOOKUP["stages"]["hd"]["channels"]["clip"]
    for share, low, high in ((harder["alike"], 0.55, 0.85), (1.0, 1.0, 1.0), (0.0, 0.25, 0.55)):
        made = samples.Maker("chatting", dict(harder, alike=share), vocab)
        rng = np.random.default_rng(4)
        some = [made.scene(rng, made.seed(rng)) for _ in range(100)]
        part = sum(samples.alike(s) for s in some) / len(some)
        report.ok(low <= part <= high and not any(s.heldout for s in some), "scenes with two objects alike, %g asked for" % share, part)
    twins = next(s for s in some if samples.alike(s))
    report.ok(len({o.colour for o in twins.objects}) + len({o.shape for o in twins.objects}) < 2 * len(twins.objects), "and they are alike")
    made = samples.Maker("chatting", {"frames": 1, "questions": 9, "rows": 3, "swapped": 1.0}, vocab)
    name, clear, swapped = {i: p for p, i in made.encoder.tokenizer.vocab.items()}, 0, []
    records, _ = made.chunk(np.random.default_rng(6), 4)
    plain, _ = samples.Maker("chatting", {"frames": 1, "questions": 9, "rows": 3}, vocab).chunk(np.random.default_rng(6), 1)
    for ids, label, part, kind in zip(*(made.layout.read(records, k).reshape(12, -1) for k in ("ids", "label", "part", "kind"))):
        for i in np.flatnonzero(label[:-1] >= 0):
            word, there = name[label[i]][1:], name[ids[i + 1]][1:]
            if word not in scene.COLOURS + scene.SHAPES:
                continue
            if word == there:
                clear += kind[part[i] - 1] in samples.TOLD_FREELY
            else:
                swapped.append(kind[part[i] - 1] not in samples.TOLD_FREELY and (word in scene.COLOURS) == (there in scene.COLOURS))
    report.ok(clear > 10 and len(swapped) > 10 and all(swapped), "colours and shapes that answers have said are swapped for their like", (clear, len(swapped)))
    report.ok((made.layout.read(plain, "label") == made.layout.read(records[:1], "label")).all(), "and what is to be said stays")
    rng = np.random.default_rng(1)
    moving = [labels.crowd(rng, True) for _ in range(40)]
    flow = np.concatenate([labels.targets(s, np.array([0.0, 0.5, 1.0]))["flow"][1].reshape(-1, 6) for s in moving])
    far = np.abs(flow[:, [0, 1, 3, 4]]).max(1) / 10 * 8  # in cells
    report.ok((far > 0.2).mean() > 0.2 and far.max() < 3, "crowds move by parts of a cell", (far.mean(), far.max()))


def check_workers(report, vocab):
    channels = {"move": ({"frames": 3, "crowds": 1.0}, 4), "image": ({"frames": 1, "crowds": 0.5}, 6)}
    crew = workers.Workers(2, 4 << 20, vocab)
    try:
        crew.stage("encoder", channels, (5, 6))
        for slot, name in ((0, "move"), (3, "image"), (4, "move")):
            crew.fill(slot, name)
        made = []
        while len(made) < 3:
            made += crew.made(60)
        made = {slot: (serial, name, size) for serial, slot, name, *size in made}
        report.ok(made == {0: (1, "move", [224, 224]), 3: (1, "image", [224, 224]), 4: (1, "move", [224, 224])},
                  "what was asked for is made", made)
        fine = True
        for number, asked in ((0, [(0, "move")]), (1, [(3, "image"), (4, "move")])):
            rng = np.random.default_rng([5, 6, number])
            for slot, name in asked:
                maker = samples.Maker("encoder", channels[name][0], vocab)
                records, frames = maker.chunk(rng, channels[name][1])
                there = workers.slot_arrays(crew.slot(slot), maker, channels[name][1], 224, 224)
                fine = fine and (there[0] == records).all() and (there[1] == frames.reshape(-1)).all()
        report.ok(fine, "and lies in the slot as the same seed makes it here")
        crew.stage("encoder", {"move": ({"frames": 3, "crowds": "many"}, 4)}, (5,))
        crew.fill(1, "move")
        try:
            while not crew.made(60):
                pass
            report.ok(False, "a worker's mistake is raised")
        except RuntimeError as error:
            report.ok("worker 0" in str(error) and "TypeError" in str(error), "a worker's mistake is raised", error)
        crew.processes[1].kill()
        try:
            while not crew.made(60):
                pass
            report.ok(False, "a worker that is gone is noticed")
        except RuntimeError as error:
            report.ok("ended" in str(error), "a worker that is gone is noticed", error)
    finally:
        crew.close()
    ask = "import sys; import train.workers, train.samples; sys.exit('torch' in sys.modules)"
    report.ok(subprocess.run([sys.executable, "-c", ask], check=False, cwd=os.path.join(ROOT, "tools")).returncode == 0,
              "samples are made without PyTorch")


def fake_device(torch, stages, feed, quick, vocab, loop, recipe):
    """One step of every channel on a device that is not there: tensors have shapes, types and a place, but no values.
    -> what went wrong"""
    from torch._subclasses.fake_tensor import FakeTensorMode
    net, build = stages.build(recipe, vocab), stages.build
    quick.layers(net)
    place = types.SimpleNamespace(load=lambda: None, rank=0, say=print)
    wrong = []
    stages.build = lambda *_: net
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer = stages.Trainer(recipe, vocab, "cuda", place)
        net._apply(lambda t: torch.empty_like(t, device="cuda"))
        trainer.dec = 3
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        try:
            for stage in recipe["stages"]:
                r = stages.recipe_of(recipe, stage, "cuda")
                stages.set_lora(net, bool(r.get("lora")))
                for name, c in r["channels"].items():
                    maker = samples.Maker(r["kind"], c, vocab)
                    pool = feed.Pool(maker, 4, 2, 2, 1, torch.device("cuda"))
                    records, frames = maker.chunk(np.random.default_rng(0), 4)
                    parts = [records.reshape(-1)] + ([frames.reshape(-1)] if frames is not None else [])
                    size = frames.shape[2:4] if frames is not None else (0, 0)
                    pool.settle(pool.put(np.concatenate(parts), *size, np.random.default_rng(1)))
                    batch = pool.draw(np.random.default_rng(2))
                    loss, values = trainer.step(r["kind"], r, batch, np.random.default_rng(3))[:2]
                    sums = loop.Sums()
                    sums.add(values)
                    if any(x.device.type != "cuda" for x in (loss, *values.values())) or loss.dtype != torch.float32:
                        wrong.append((stage, name, loss.device, loss.dtype))
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.clear_autocast_cache()
            stages.build = build
            sys.modules["train.chatting"].TABLES.clear()
            sys.modules["train.binding"].ORDERS.clear()
            feed.CONSTANTS.clear()
    return wrong


def check_quick(report, torch, stages, quick, net):
    """The language model in fewer operators has the values and gradients of the twin, with LoRA and without."""
    h, pos = torch.randn(2, 24, net.llm_size["d_model"]), torch.arange(24)[None].expand(2, -1)
    mask = torch.rand(2, 1, 24, 24) < 0.5
    mask |= torch.eye(24, dtype=torch.bool)

    def outcome():
        for p in net.parameters():
            p.grad = None
            p.requires_grad_(True)
        y = net.lm.head(net.lm(h, pos, mask))
        y.square().mean().backward()
        return [y.detach()] + [p.grad for n, p in net.lm.named_parameters() if "embed" not in n and ("lora_" not in n or on)]
    plain = []
    for on in (True, False):
        stages.set_lora(net, on)
        plain.append(outcome())
    quick.layers(net)
    for on, before in zip((True, False), plain):
        stages.set_lora(net, on)
        far = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(outcome(), before)]
        report.ok(max(far) < 1e-4, "fewer operators, the same values and gradients, LoRA %s" % on, max(far))


def check_views(report, torch, feed):
    x = torch.rand(1, 2, 3, 224, 448) * 255
    f = torch.nn.functional.interpolate(feed.normalised(x.clone())[0], (224, 224), mode="bicubic", align_corners=False)
    before = x.clone()
    plain = feed.views(x.to(torch.float16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = feed.views(x_short := x.to(torch.float16))
    far = float((plain[0, 2] - f).abs().max()), float((short.float() - plain).abs().max())
    report.ok(far[0] < 2e-3 and far[1] < 8e-3, "the global view is the bicubic one, in both precisions", far)
    report.ok(torch.equal(x_short, before.to(torch.float16)), "and the canvas stays as it was")


def check_sheaves(report, torch, stages, feed, chatting, net, vocab):
    """Conversations taken apart have the scores of the packed rows, and their gradients."""
    stages.set_lora(net, True)
    visual = torch.randn(6, 96, net.llm_size["d_model"], requires_grad=True)
    weights = [p.requires_grad_(True) for n, p in net.lm.named_parameters() if "lm_head" not in n]

    def some_rows(n, questions, seed):
        maker = samples.Maker("chatting", {"frames": 1, "questions": questions, "instructed": 0.5, "lonely": 0.3}, vocab)
        batch = feed.fixed(maker, *maker.chunk(np.random.default_rng(seed), n), torch.device("cpu"))
        rows = chatting.Rows(batch, np.random.default_rng(3))
        return rows, (rows.part == 0).sum(1)

    def outcome(rows, scores, at):
        mask = (rows.label >= 0).flatten()
        picked = scores[torch.argsort(at)] if at is not None else scores[mask]
        grads = torch.autograd.grad(picked.square().mean(), [visual] + weights, allow_unused=True)
        return [picked.detach()] + list(grads)
    for n, questions, seed in ((2, 1, 6), (6, 6, 2)):  # of one conversation each, and of many
        rows, begins = some_rows(n, questions, seed)
        report.ok(len(set(begins.tolist())) >= min(n, 3) and (n < 6 or int(begins.min()) == 0), "rows with long prefixes, short ones and none", begins)
        sheaved = outcome(rows, *rows.scored(net.lm, visual[:n]))
        rows.sheaved = False
        pairs = list(zip(sheaved, outcome(rows, *rows.scored(net.lm, visual[:n]))))
        far = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b is not None]
        report.ok(len(far) > 40 and max(far) < 1e-4, "in sheaves, the same scores and gradients, %d questions" % questions, max(far))
    from train.sheaves import Sheaves
    some = Sheaves(rows.part.numpy())
    tells = torch.randint(32, 96, (6, 8, samples.MOST_OBJECTS))
    places = rows.pointed(tells, 96, some.n_prefix)
    want = [b for b in range(6) if begins[b]]
    fine = all(places[b, i].nonzero()[:, 0].tolist() == sorted({int(torch.nonzero(rows.ids[b] < 0)[t, 0]) for t in tells[b, :, i]}) for b in want for i in range(4))
    report.ok(fine and not places[begins == 0].any() and len(want) < 6, "rows of objects are found in the prefix")
    rows.about, costs = torch.where(rows.label >= 0, 1, -1), []
    for rows.sheaved in (True, False):
        rows.scored(net.lm, visual, tells, True)
        costs.append([x for k in ("point", "choose") for x in (rows.strayed[k], *torch.autograd.grad(rows.strayed[k], visual, retain_graph=True))])
    far = [float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(*costs)]
    high = [float(c.detach()) for c in costs[0][::2]]
    report.ok((rows.choice >= 0).any() and 1 < min(high) and max(high) < 9 and max(far) < 1e-4,
              "attention that looks elsewhere pays the same in sheaves and without", (high, far))
    some.point(2, rows.about, torch.ones(6, samples.MOST_OBJECTS, some.n_prefix, dtype=torch.bool))
    wanted, places, _ = some.asked[2][0]
    share = torch.full((len(wanted), 2, wanted.shape[1], some.n_prefix), 1.0 / some.n_prefix)
    cost, n = chatting.astray(share, wanted, places)
    report.ok(n == 2 * wanted.sum() > 0 and abs(float(cost)) < 1e-3 * float(n), "and who looks at it does not", (cost, n))
    report.ok(sorted(some.at[some.there].tolist()) == torch.nonzero(rows.part.flatten() >= 0)[:, 0].tolist(), "every id lies in one sheaf")


def check_kept(report, torch, feed, vocab):
    looks = []

    def look(batch, rng):
        looks.append(len(batch))
        return (batch["n"] % 128)[:, :, None, None].expand(-1, -1, 2, 3).float()  # tells whose they are
    channels = {"clip": {"frames": 2, "batch": 6, "replay": 3, "questions": 2}, "text": {"kind": "reader", "questions": 2, "batch": 5}}
    kept = feed.Kept("chatting", channels, vocab, (1,), torch.device("cpu"), look, 30)
    seen, steps, whose = [], 60, True
    for step in range(steps):
        batch = kept.batch("clip", step)
        seen.append([x.tobytes() for x in batch.records.numpy()])
        whose = whose and torch.equal(batch.features[:, :, 0, 0].long(), batch["n"] % 128) and np.array_equal(batch.n_host["n"], batch["n"].max(1).values.numpy())
    counts = {}
    for x in sum(seen, []):
        counts[x] = counts.get(x, 0) + 1
    report.ok(all(len(set(x)) == 6 for x in seen), "no clip comes twice in a batch")
    report.ok(sum(looks) == 120 and len(counts) > 100 and max(counts.values()) < 15, "each is looked at once and used three times on average",
              (sum(looks), len(counts), max(counts.values())))
    report.ok(whose and batch.features.shape == (6, 1, 2, 3), "records come with their own features", batch.features.shape)
    looks.clear()
    spot = feed.Kept("chatting", {"clip": dict(channels["clip"], replay=1)}, vocab, (1,), torch.device("cpu"), look, 30)
    report.ok(len(spot.batch("clip", 0)) == 6 and looks == [6], "what is used once is not kept", looks)
    text = kept.batch("text", 3)
    report.ok(text.features is None and text.frames is None and len(text) == 5 and text.maker.kind == "reader", "a channel may have its own kind")
    rng, x = np.random.default_rng(4), torch.zeros(3, 1, 40, 40)
    noise = feed.grain(rng, x)
    report.ok(noise.shape == x.shape and 0.9 < float(noise.std()) < 1.1 and not torch.equal(noise[0], noise[1]), "grain is noise, another for each clip")


def check_pools(report, torch, feed, vocab):
    """As Streamed fills them: asked until they are full, whatever the memory."""
    maker, stuck = samples.Maker("bind", {"frames": 1}, vocab), []
    for chunk, batch in ((1, 5), (4, 4), (4, 6), (9, 6), (48, 7)):
        pool = feed.Pool(maker, chunk, 1, batch, 2, torch.device("cpu"))
        for _ in range(8):
            while not pool.full():
                pool.arrived += chunk
                pool.ready[pool.at] = True
                pool.at = (pool.at + 1) % pool.n_chunk
            if pool.starved():
                stuck.append((chunk, batch))
                break
            pool.draw(np.random.default_rng(0))
    report.ok(not stuck, "a pool of any size can be drawn from when it is full", stuck)


def check_attention(report, torch, quick, plain):
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    seen = torch.rand(2, 1, 5, 7) < 0.7
    seen[..., 0] = True
    for name, mask, fused in (("none", None, None), ("bool", seen, seen), ("added", torch.zeros(seen.shape).masked_fill(~seen, float("-inf")), seen)):
        far = float((quick.plain_attention(q, k, v, 0.3, mask) - plain(q, k, v, 0.3, fused)).abs().max())
        report.ok(far < 1e-5, "attention as plain products is the twin's, mask: %s" % name, far)
    far = float((quick.plain_attention(k, k, v, 0.3, causal=True) - plain(k, k, v, 0.3, causal=True)).abs().max())
    report.ok(far < 1e-5, "and causal", far)


def check_looking(report, torch, stages, trainer, amp):
    """Stages whose video transformer does not learn take its features, in both precisions, and leave its weights alone."""
    for stage, names in (("bind", ("clip",)), ("instruct", ("clip", "image", "text"))):
        r = stages.recipe_of(TWO_CORES, stage, "cpu", smoke=True)
        r.update(kept=8)
        learnt = stages.learns(r["kind"], r)
        report.ok(not any(learnt(n) for n, _ in trainer.net.named_parameters() if n.startswith("vision_")), "%s: what does not learn is not given" % stage)
        for trainer.amp in (amp, None):
            source = trainer.source(r, r["kind"], 0)
            for name in names:
                with trainer.amp() if trainer.amp else contextlib.nullcontext():
                    batch = source.batch(name, 0)
                    loss = trainer.step(r["kind"], r, batch, np.random.default_rng(1))[0]
                report.ok(torch.isfinite(loss) and (batch.features is not None) == (name != "text"), "%s, %s, %s" % (stage, name, "bf16" if trainer.amp else "f32"), loss)


def check_averager(report, torch, loop):
    with tempfile.TemporaryDirectory() as top:
        torch.distributed.init_process_group("gloo", init_method="file://" + os.path.join(top, "store"), rank=0, world_size=1)
        try:
            a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
            a.grad = torch.tensor([1.0, 2.0, 3.0])
            got = loop.Averager([a, b])(0.25, True)
            report.ok(got == (0.25, True) and a.grad.tolist() == [1.0, 2.0, 3.0] and b.grad is None, "gradients are averaged, what has none rests", got)
        finally:
            torch.distributed.destroy_process_group()


def check_weights(report, torch, chatting):
    rows = types.SimpleNamespace(part=torch.tensor([[0, 0, 1, 1, 1, 1, 2, -1]]), kind=torch.full((1, packing.MOST), -1))
    rows.kind[0, :2] = torch.tensor([samples.TYPES.index("choice"), samples.TYPES.index("colour")])
    answer = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0]]).bool()
    got = chatting.Rows.weights(rows, answer, {"prefix": 0.1, "evened": 0.5, "boost": {"choice": 3.0}})[0, :7].tolist()
    report.ok(np.allclose(got, [0.1, 0.1, 1.5, 1.5, 1.5, 1.5, 1.0]), "weights of ids by length and type of the answer", got)
    got = chatting.Rows.weights(rows, answer, {})[0, :7].tolist()
    report.ok(np.allclose(got, [0.3, 0.3, 1, 1, 1, 1, 1]), "weights of ids when nothing is asked for", got)


def check_muon(report, torch, optimise):
    torch.manual_seed(5)
    g = torch.randn(3, 40, 90) @ torch.diag(torch.logspace(-1, 1, 90))
    for x, name in ((g, "wide"), (g.mT, "tall")):
        s = torch.linalg.svdvals(optimise.orthogonal(x))
        report.ok(0.5 < float(s.min()) and float(s.max()) < 1.3, "a %s matrix becomes nearly orthogonal" % name, (s.min(), s.max()))
    named = [(n, torch.nn.Parameter(torch.ones(s))) for n, s in (
        ("lm.a.weight", (6, 4)), ("lm.b.weight", (6, 4)), ("lm.norm.weight", (4,)), ("lm.embed_tokens.weight", (9, 4)), ("lm.lm_head.weight", (9, 4)),
        ("lm.a.lora_A.default.weight", (2, 4)), ("bind_heads.tell.weight", (5, 4)), ("qformer.c.weight", (4, 4)))]
    recipe = {"lr": {"": 0.001, "lm.": 0.01}, "muon": 2.0}
    make = lambda: optimise.Optimisers(named, recipe, False)
    both = make()
    rates = {id(p): g["base"] for g in both.each[1].param_groups for p in g["params"]}
    want = {id(p): r for (n, p), r in zip(named, (0.02, 0.02, None, None, None, None, None, 0.002)) if r}
    report.ok(rates == want, "Muon moves the matrices of hidden layers, at their rates", rates)
    report.ok(sum(len(g["params"]) for o in both.each for g in o.param_groups) == len(named), "and nothing is left out")
    report.ok(len(optimise.Optimisers(named, {"lr": {"": 0.1}}, False).each) == 1, "no Muon where none is asked for")
    both.rate(1.0)
    for _, p in named:
        p.grad = torch.randn_like(p)
    one, other = named[0][1].detach().clone(), named[1][1].detach().clone()
    both.step(torch.tensor(float("nan")))
    report.ok(torch.equal(one, named[0][1]), "a step whose norm is not finite is left out")
    both.step(torch.tensor(1.0))
    u, s, v = torch.linalg.svd((named[0][1].detach() - one * (1 - 0.02 * 0.02)) / (-0.2 * 6 ** 0.5 * 0.02), full_matrices=False)
    gu, _, gv = torch.linalg.svd(named[0][1].grad, full_matrices=False)
    far = float((u @ v - gu @ gv).abs().max())
    report.ok(0.5 < float(s.min()) and float(s.max()) < 1.3 and far < 0.1, "the first step follows the gradient's directions, all at one pace", (s, far))
    report.ok(not torch.equal(named[1][1] - other, named[0][1] - one), "matrices of one shape have their own steps")
    recipe["lr"] = {"": 0.001, "lm.": 0.03}
    again = make()
    fresh = [[g["base"] for g in o.param_groups] for o in again.each]
    again.load_state_dict(both.state_dict())
    same = all(torch.equal(again.each[1].state[p]["momentum"], both.each[1].state[p]["momentum"]) for _, p in named[:2])
    report.ok(same and [[g["base"] for g in o.param_groups] for o in again.each] == fresh, "state comes back, rates are the recipe's", fresh)
    for _, p in named:
        p.grad = torch.full_like(p, float("nan"))
    kept = [(t, t.detach().clone()) for _, p in named[:2] for t in (p, both.each[1].state[p]["momentum"])]
    both.each[1].found_inf = torch.ones(())
    both.each[1].step()
    report.ok(all(torch.equal(t, was) for t, was in kept), "and on a device neither weights nor momenta move in it")


def check_binding(report, torch, binding):
    n, d = samples.MOST_OBJECTS, 1 + len(samples.PLACES) + sum(k for _, k, _ in samples.OBJECTS)
    rng = np.random.default_rng(8)
    scenes = [samples.W.sample_scene(int(rng.integers(1 << 40)), "train") for _ in range(40)]
    objects = torch.from_numpy(np.stack([samples.objects(s) for s in scenes])).long()
    there = objects[:, :, 0] >= 0
    fine = [len(s.objects) for s in scenes] == there.sum(1).tolist() and bool((objects[~there] == -1).all())
    for s, fields in zip(scenes, objects.tolist()):
        events = s.events() if s.kind == "sequence" else []
        for o, f in zip(s.objects, fields):
            deeds = [samples.W.ACTIONS.index(e.action) if s.objects[j] is o else 0 for e, j in events] + [0 if events else -1] * 3
            fine = fine and (samples.W.COLOURS[f[1]], samples.W.SHAPES[f[0]], samples.W.ACTIONS[f[4]]) == (o.colour, o.shape, o.actions[0])
            fine = fine and abs(f[-2] / 100 - o.x / s.extent[0]) < 0.011 and abs(f[-1] / 100 - o.y / s.extent[1]) < 0.011
            fine = fine and f[5:5 + len(events)] == deeds[:len(events)] and (events or f[5:8] == [-1, -1, -1])
    report.ok(fine, "a row of fields for each object, as the scene has them")
    told = torch.zeros(len(scenes), n, d)  # by rows that know
    known = told.clone()
    for b in range(len(scenes)):
        for i in range(n):
            known[b, i, 0] = 20 if there[b, i] else -20
            known[b, i, 1:3] = torch.logit((objects[b, i, -2:].float() / 100).clamp(0.001, 0.999))
            at = 3
            for k, (_, width, _) in enumerate(samples.OBJECTS):
                if objects[b, i, k] >= 0:
                    known[b, i, at + int(objects[b, i, k])] = 30
                at += width
    heads = types.SimpleNamespace(norm=lambda x: x, tell=lambda x: x)
    rows = lambda x: torch.cat([torch.zeros(len(x), binding.FIRST, d), x.repeat(1, binding.GROUPS, 1), torch.zeros(len(x), 3, d)], 1)
    right, values, _ = binding.loss(heads, rows(known), objects)
    turned, again, tells = binding.loss(heads, rows(known[:, torch.tensor([1, 2, 3, 0])]), objects)
    report.ok(right < 0.1 and values["bound"] == again["bound"] == 1 and abs(float(right - turned)) < 1e-5, "any order of rows will do", (right, turned, values))
    where = [(int(tells[b, g, i]) - binding.FIRST, 4 * g + [1, 2, 3, 0].index(i)) for b in range(len(scenes)) for g in range(binding.GROUPS)
             for i in range(n) if there[b, i]]
    report.ok(all(a == b for a, b in where), "and it is known which row tells of which object", where[:4])
    mixed, at = known.clone(), 3 + len(samples.W.SHAPES)
    mixed[..., at:at + len(samples.W.COLOURS)] = known.roll(1, 1)[..., at:at + len(samples.W.COLOURS)]
    wrong, values, _ = binding.loss(heads, rows(mixed), objects)
    report.ok(wrong > right + 1 and values["bound"] < 0.6 and values["bound_shape"] == 1, "but not the shape of one with the colour of another", (wrong, values))
    none, _, _ = binding.loss(heads, rows(told), objects)
    report.ok(none > 10, "and who knows nothing pays", none)


def check_steps(report, vocab):
    try:
        import reference
        import torch
        import safetensors  # noqa: F401
        from train import average, binding, chatting, deliver, feed, loop, optimise, quick, stages
    except ImportError as missing:
        report.skip("steps of every stage", str(missing))
        return
    quick.norms()
    factors = [loop.lr_factor(s, p, 10) for s, p in ((0, 0.0), (9, 0.0), (500, 0.5), (500, 1.0), (500, 1.7))]
    report.ok(np.allclose(factors, [0.1, 1.0, 0.525, 0.05, 0.05]), "the rate follows progress, whatever the steps", factors)
    report.ok([loop.share(9.0, b) for b in (None, 18.0, 0.0, -3.0)] == [0.0, 0.5, 1.0, 1.0], "a stage without time ends at once")
    net = stages.build(TWO_CORES, vocab)
    with tempfile.TemporaryDirectory() as top:
        place = loop.Place(top, 0, lambda: True, lambda _: None)
        told = stages.Trainer(TWO_CORES, vocab, "cpu", place, smoke=True)
        told.begin((net.state_dict(), ["bind", "look", "instruct", "hd"]), ["look", "hd", "f16"])
        stopped = not told.run("look", 100.0)
        told = stages.Trainer(TWO_CORES, vocab, "cpu", place, smoke=True)
        told.begin(None, ["look", "hd", "f16"])
        report.ok(stopped and told.finished == ["bind", "instruct"] and told.state["stage"] == "look", "what was stopped goes on, whatever went before", told.finished)
        r = stages.recipe_of(TWO_CORES, "instruct", "cpu", smoke=True)
        free = dict(r, channels={k: {**c, "swapped": 0.0} for k, c in r["channels"].items()})
        report.ok("swapped" in r["channels"]["clip"] and all(torch.equal(a[2].records, b[2].records) for a, b in zip(
            told.checks(r, "chatting"), told.checks(free, "chatting"))), "nothing is swapped in what validates")
    net = stages.build(RECIPE, vocab)
    place = types.SimpleNamespace(load=lambda: None, rank=0, say=print)
    amp = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    trainer = stages.Trainer(RECIPE, vocab, "cpu", place, amp=amp)
    trainer.dec, trainer.net = net.qformer_size["n_vocab"] - 1, net
    for p in net.parameters():  # LoRA's B and others begin at zero: no gradient would reach what stands behind them
        p.data.add_(0.01 * torch.randn_like(p))
    for recipe, stage in ((RECIPE, "see"), (RECIPE, "read"), (RECIPE, "align"), (LOOKUP, "bind"), (TWO_CORES, "instruct"), (LOOKUP, "hd"), (RECIPE, "hd")):
        r = stages.recipe_of(recipe, stage, "cpu", smoke=True)
        if recipe in (LOOKUP, TWO_CORES):
            r["vision"] = True
        name = r["turns"][-1] if stage == "see" else r["turns"][0]
        maker = samples.Maker(r["kind"], r["channels"][name], vocab)
        batch = feed.fixed(maker, *maker.chunk(np.random.default_rng(0), 2), torch.device("cpu"), np.random.default_rng(1))
        learnt = {n for n, _ in net.named_parameters() if stages.learns(r["kind"], r)(n)}
        stages.set_lora(net, bool(r.get("lora")))
        for n, p in net.named_parameters():
            p.grad = None
            p.requires_grad_(n in learnt)
        with amp():
            loss = trainer.step(r["kind"], r, batch, np.random.default_rng(2))[0]
        loss.backward()
        idle = [n for n in learnt if (p := net.get_parameter(n)).grad is None or not p.grad.abs().max() > 0]
        # no cell of a single picture tells of motion; a query path of text alone has no part in what is asked
        idle = [n for n in idle if n.endswith("weight") and "img_pos" not in n and "intermediate." not in n and "output.dense" not in n
                and "embeddings" not in n and "output.LayerNorm" not in n]
        report.ok(not idle and torch.isfinite(loss), "%s%s: all that is to learn has gradients" % (stage, " and bind" if r.get("bind") else ""), (loss, sorted(idle)[:6]))
    with tempfile.TemporaryDirectory() as top:
        with open(os.path.join(top, "log"), "w", encoding="utf-8") as f:
            f.write("{}\n")
        out = deliver.Delivery(os.path.join(top, "out"), vocab, os.path.join(top, "log"))
        out.hand_over(net, ["see"], (3, 0.5))
        first = os.stat(os.path.join(top, "out", "best.tar")).st_ino
        out.hand_over(net, ["see", "read"], (1, 0.9))
        sizes = {n: os.path.getsize(os.path.join(top, "out", n)) for n in os.listdir(os.path.join(top, "out"))}
        report.ok(len(sizes) <= 8 and max(sizes.values()) < 14 << 20 and sizes["model.tar"] < 12e6, "eight files of 14 MiB at most", sizes)
        report.ok(os.stat(os.path.join(top, "out", "best.tar")).st_ino == first, "fewer views are not better")
        state, finished = deliver.read_resume(os.path.join(top, "out"))
        other = stages.build(dict(RECIPE, seed=2), vocab)
        n = deliver.load_into(other, state)
        same = all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))
        report.ok(finished == ["see", "read"] and n == len(state) and same, "what was handed over comes back", (finished, n))
        other = stages.build(dict(RECIPE, seed=2), vocab)
        deliver.Delivery(os.path.join(top, "other"), vocab).hand_over(other, [])
        mean, finished = average.average([(os.path.join(top, "out"), 0.75), (os.path.join(top, "other"), 0.25)])
        a, b = net.state_dict(), other.state_dict()
        wrong = [k for k in a if k not in mean or not torch.allclose(
            mean[k], 0.75 * a[k] + 0.25 * b[k] if a[k].is_floating_point() else a[k], atol=1e-6)]
        report.ok(finished == ["see", "read"] and len(mean) == len(a) and not wrong,
                  "weights between two trainings", (finished, wrong[:5]))
        try:
            average.average([(os.path.join(top, "out"), 0.5), (os.path.join(ROOT, "models", "ivchat-small"), 0.5)])
            said = "nothing"
        except ValueError as e:
            said = str(e)
        report.ok("other names or shapes" in said, "trainings of other models have nothing between them", said)
        check_average_program(report, deliver, top, vocab, mean)
    shipped, finished = deliver.read_resume(os.path.join(ROOT, "models", "ivchat-small"))
    wanted = {n for n in net.state_dict() if not n.startswith(deliver.HEADS)}
    report.ok(finished == [] and wanted <= set(shipped), "training goes on from a snapshot, too", sorted(wanted - set(shipped))[:5])
    check_kept(report, torch, feed, vocab)
    check_pools(report, torch, feed, vocab)
    check_attention(report, torch, quick, reference.attention)
    fused = reference.attention
    quick.attention_on_cpus()
    check_looking(report, torch, stages, trainer, amp)
    reference.attention = fused
    check_averager(report, torch, loop)
    check_weights(report, torch, chatting)
    check_muon(report, torch, optimise)
    check_binding(report, torch, binding)
    check_views(report, torch, feed)
    check_quick(report, torch, stages, quick, net)
    check_sheaves(report, torch, stages, feed, chatting, net, vocab)
    for name, recipe in (("recipe", RECIPE), ("more", MORE), ("lookup", LOOKUP)):
        wrong = fake_device(torch, stages, feed, quick, vocab, loop, recipe)
        report.ok(not wrong, "every tensor of a step of %s lies on the device" % name, wrong)


def main():
    report = tap.Report()
    check_recipe(report)
    if np is None:
        report.skip("samples of tools/train", "numpy is not installed")
        return report.done()
    with tempfile.TemporaryDirectory() as vocab:
        write_vocabulary(vocab)
        check_packing(report, vocab)
        check_samples(report, vocab)
        check_workers(report, vocab)
        check_steps(report, vocab)
    return report.done()


if __name__ == "__main__":
    sys.exit(main())
