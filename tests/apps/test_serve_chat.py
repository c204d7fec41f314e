#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Chats with the server: the answers of `ivchat chat`, media in every spelling, streams, options, uploads, tokens."""
import base64
import json
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor

import program
from program import Tap, run
from serverrig import MEDIA, VIDEO, Server, data_url, image, read, video

tap = Tap()
model = program.TINY


def cli(*options):
    """Turns of `ivchat chat --json`; a video's features are computed once."""
    done = run("chat", "-m", model, "--dtype", "f32", "-n", "6", "--json", "-q", "--cache-dir", program.path("features"), *options)
    return [json.loads(line) for line in done.out.splitlines()]


ASK, MORE = "What happens?", "Who is in it?"
first, second = cli("--video", VIDEO, "-p", ASK, "-p", MORE)
FRAME = [data_url(os.path.join(MEDIA, n), "image/jpeg").split(",")[1] for n in ("exif6.jpg", "photo.jpg")]
SECOND = program.make_video("second.y4m", frames=9)

with Server("--media-path", MEDIA, "--metrics") as s:
    # ---- the same answers as the command line
    url = data_url()
    r = s.chat(video(url), ASK)
    one = r.json["choices"][0]
    tap.ok(r.status == 200 and one["message"] == {"role": "assistant", "content": first["response"], "refusal": None} and
           one["token_ids"] == first["token_ids"] and one["finish_reason"] == first["finish_reason"],
           "a video by data URL: the answer of the command line", r)
    usage = r.json["usage"]
    tap.ok(usage == {"prompt_tokens": first["prompt_tokens"], "completion_tokens": len(first["token_ids"]),
                     "total_tokens": first["prompt_tokens"] + len(first["token_ids"]),
                     "prompt_tokens_details": {"cached_tokens": 0}}, "usage", usage)
    told = dict(r.json["video"], path=VIDEO)
    hit = told.pop("cache_hit")
    tap.ok(told == first["video"] and hit is False, "video as in chat --json, and cache_hit", r.json["video"])
    tap.ok(set(first["timings"]) <= set(r.json["timings"]) and r.json["timings"]["vision_ms"] > 0 and
           r.json["timings"]["decode_video_ms"] > 0, "timings as in chat --json", r.json["timings"])
    again = s.chat(video(url), ASK)
    tap.ok(again.json["choices"] == r.json["choices"] and again.json["video"]["cache_hit"] is True and
           again.json["timings"]["vision_ms"] == 0 and again.json["timings"]["decode_video_ms"] == 0,
           "a cache hit answers alike, and says so", again)
    r = s.chat(MORE, turns=[([video(url), {"type": "text", "text": ASK}], first["response"])])
    tap.ok(r.json["choices"][0]["token_ids"] == second["token_ids"] and
           r.json["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["prompt_tokens"] - 1,
           "a second turn, its keys reused", r)

    # ---- every spelling
    upload = s.post("/v1/videos", read(VIDEO), headers={"Content-Type": "video/mp4"})
    ident = upload.json.get("id")
    tap.ok(upload.status == 200 and ident.startswith("video-") and upload.json["bytes"] == os.path.getsize(VIDEO) and
           upload.json["sha256"] == first["video"]["sha256"], "POST /v1/videos, raw", upload)
    form = b"--XyZ\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n--XyZ\r\nContent-Disposition: " \
           b"form-data; name=\"file\"; filename=\"../a/clip.mp4\"\r\nContent-Type: video/mp4\r\n\r\n" + read(VIDEO) + \
           b"\r\n--XyZ--\r\n"
    multi = s.post("/v1/videos", form, headers={"Content-Type": "multipart/form-data; boundary=XyZ"})
    tap.ok(multi.status == 200 and multi.json["sha256"] == upload.json["sha256"] and
           multi.json["filename"] == "clip.mp4", "POST /v1/videos, multipart", multi)
    plain = base64.b64encode(read(VIDEO)).decode()
    spellings = {
        "video_url string": {"type": "video_url", "video_url": url},
        "file URL": video("file://" + VIDEO), "file URL with localhost": video("file://localhost" + VIDEO),
        "file URL with escapes": video("file://" + VIDEO.replace("bframes", "%62frames")),
        "input_video data": {"type": "input_video", "input_video": {"data": plain}},
        "input_video data URL": {"type": "input_video", "input_video": {"data": url}},
        "input_video url": {"type": "input_video", "input_video": {"url": url}},
        "input_video path": {"type": "input_video", "input_video": {"path": VIDEO}},
        "input_video string, a URL": {"type": "input_video", "input_video": url},
        "input_video string, base64": {"type": "input_video", "input_video": plain},
        "video path": {"type": "video", "video": {"path": VIDEO}},
        "video path below the folder": {"type": "video", "video": {"path": "bframes.mp4"}},
        "video id": {"type": "video", "id": ident}, "video id of a form": {"type": "video", "id": multi.json["id"]},
        "wrapped base64": {"type": "input_video", "input_video":
                           "\r\n".join(plain[i:i + 76] for i in range(0, len(plain), 76))},
        "URL-safe base64": {"type": "input_video", "input_video":
                            plain.replace("+", "-").replace("/", "_").rstrip("=")},
    }
    for name, part in spellings.items():
        r = s.chat(part, ASK)
        tap.ok(r.status == 200 and r.json["choices"][0]["token_ids"] == first["token_ids"], name, r)
    r = s.chat({"type": "video_url", "video_url": {"url": url}, "uuid": "mine"}, ASK)
    null = s.chat({"type": "video_url", "video_url": {"url": None}, "uuid": "mine"}, ASK)
    none = s.chat({"type": "video_url", "video_url": None, "uuid": "mine"}, ASK)
    tap.ok(all(x.status == 200 and x.json["choices"][0]["token_ids"] == first["token_ids"] for x in (r, null, none)),
           "uuid with bytes, then without", null)
    r = s.chat({"type": "video_url", "video_url": {"url": None}, "uuid": "unknown"}, ASK)
    tap.ok(r.status == 404 and r.error["code"] == "media_not_found" and r.error["param"] == "messages[0].content[0]",
           "an unknown uuid: 404", r)
    r = s.chat(video(url), video(url), ASK)
    tap.ok(r.status == 200, "the same video twice is one", r)
    r = s.chat(video(url), video(data_url(SECOND)), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "invalid_media", "two videos: 400", r)
    r = s.chat(video(url), image(data_url(os.path.join(MEDIA, "photo.jpg"), "image/jpeg")), ASK)
    tap.ok(r.status == 400, "a video and an image: 400", r)

    # ---- images, frame lists
    names = [os.path.join(MEDIA, n) for n in ("photo.jpg", "rgba.png")]
    wanted = cli("--image", names[0], "--image", names[1], "-p", ASK)[0]
    r = s.chat(image(data_url(names[0], "image/jpeg")), image("file://" + names[1]), ASK)
    tap.ok(r.status == 200 and r.json["choices"][0]["token_ids"] == wanted["token_ids"] and
           r.json["video"]["image"] is True, "images", r)
    r = s.chat(video("data:video/jpeg;base64," + ",".join([FRAME[1]] * 3)), ASK)
    tap.ok(r.status == 200 and r.json["video"]["frame_count"] == 3 and r.json["video"]["frame_indices"] == [0, 1, 2],
           "a list of frames", r)
    r = s.chat(video("data:video/jpeg;base64," + ",".join([FRAME[1]] * 20)), ASK,
               media_io_kwargs={"video": {"num_frames": 2}})
    tap.ok(r.status == 200 and len(r.json["video"]["frame_indices"]) == 2, "a list, sampled", r)
    r = s.chat(video("data:video/jpeg;base64," + ",".join(FRAME)), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "invalid_media", "frames of several sizes: 400", r)
    for text, status in ((",,", 400), ("," * 100000, 413), (FRAME[0] + ",", 400), ("AAAA,BBBB", 415)):
        r = s.chat(video("data:video/jpeg;base64," + text), ASK)
        tap.ok(r.status == status, "a broken list %s: %d" % (text[:6], status), r)

    # ---- preprocessing
    TWO, two = ["--num-frames", "2"], {"media_io_kwargs": {"video": {"num_frames": 2}}}
    for options, body in ((["--num-frames", "4"], {"media_io_kwargs": {"video": {"num_frames": 4}}}),
                          (["--fix-ratio", "auto", "--hd-num", "4", *TWO],
                           {"mm_processor_kwargs": {"fix_ratio": "auto", "hd_num": 4}, **two}),
                          (["--fix-ratio", "1x2", *TWO], {"mm_processor_kwargs": {"fix_ratio": "1x2"}, **two}),
                          (["--padding", *TWO], {"mm_processor_kwargs": {"padding": True}, **two}),
                          (["--start", "1", "--end", "3", *TWO],
                           {"media_io_kwargs": {"video": {"start": 1, "end": 3, "num_frames": 2}}}),
                          (["--instruction", "Watch closely."], {"instruction": "Watch closely."}),
                          (["--answer-prefix", "It is"], {"answer_prefix": "It is"}),
                          (["--time-text"], {"time_text": True}), (["--msg", "A clip."], {"msg": "A clip."}),
                          (["--num-beams", "2"], {"num_beams": 2}),
                          (["--repetition-penalty", "1.5"], {"repetition_penalty": 1.5})):
        wanted = cli("--video", VIDEO, "-p", ASK, *options)[0]
        r = s.chat(video(url), ASK, **body)
        tap.ok(r.status == 200 and r.json["choices"][0]["token_ids"] == wanted["token_ids"] and
               r.json["video"]["frame_indices"] == wanted["video"]["frame_indices"] and
               r.json["video"]["tiles"] == wanted["video"]["tiles"], "as on the command line: " + " ".join(options), r)
    r = s.chat(video(url), ASK, media_io_kwargs={"video": {"fps": 1}})
    tap.ok(r.status == 200 and len(r.json["video"]["frame_indices"]) == 4, "one frame a second of four", r)

    # ---- options of the answer
    r = s.chat(video(url), ASK, temperature=1.0, seed=7, n=3)
    texts = [c["message"]["content"] for c in r.json["choices"]]
    ids_seed7 = [c["token_ids"] for c in r.json["choices"]]
    again = s.chat(video(url), ASK, temperature=1.0, seed=7, n=3)
    tap.ok([c["index"] for c in r.json["choices"]] == [0, 1, 2] and len(set(texts)) > 1 and
           again.json["choices"] == r.json["choices"], "n answers, the same for the same seed", r)
    seed7 = cli("--video", VIDEO, "-p", ASK, "--temp", "1", "--seed", "7")[0]
    tap.ok(r.json["choices"][0]["token_ids"] == seed7["token_ids"], "sampling as on the command line", r)
    tap.ok(r.json["usage"]["completion_tokens"] == sum(len(c["token_ids"]) for c in r.json["choices"]),
           "usage of n answers")
    free = {s.chat(ASK, temperature=1.0).content for _ in range(4)}
    tap.ok(len(free) > 1, "without a seed answers differ", free)
    word = first["response"].split()[1]
    r = s.chat(video(url), ASK, stop=word)
    tap.ok(r.json["choices"][0]["finish_reason"] == "stop" and
           r.content == first["response"][:first["response"].index(word)], "stop", r)
    tap.ok(s.chat(video(url), ASK, stop=["zzz", word]).content == r.content, "a list of stops")
    r = s.chat(video(url), ASK, logprobs=True, top_logprobs=3)
    marks = r.json["choices"][0]["logprobs"]["content"]
    spelt = re.sub("\ufffd+", ".+", re.escape("".join(m["token"] for m in marks).strip()))  # tokens may be parts of a character
    whole = [m for m in marks if "\ufffd" not in m["token"]]
    tap.ok(len(marks) == 6 and 2 * len(whole) >= len(marks) and re.fullmatch(spelt, first["response"]) and
           all(m["logprob"] <= 0 and len(m["top_logprobs"]) == 3 and
               m["top_logprobs"][0]["token"] == m["token"] and m["top_logprobs"][0]["logprob"] == m["logprob"] and
               m["top_logprobs"][1]["logprob"] <= m["logprob"] and bytes(m["bytes"]).decode() == m["token"]
               for m in marks), "logprobs of a greedy answer", r)
    r = s.chat(ASK, max_completion_tokens=2, max_tokens=None)
    tap.ok(r.json["usage"]["completion_tokens"] == 2, "max_completion_tokens", r)

    # ---- streams
    r = s.chat(video(url), ASK, stream=True, stream_options={"include_usage": True})
    events = r.events
    tap.ok(r.status == 200 and r.headers["content-type"].startswith("text/event-stream") and events[-1] == "[DONE]" and
           r.content == first["response"], "a stream has the same text", r)
    chunks = events[:-1]
    tap.ok(len({e["id"] for e in chunks}) == 1 and {e["object"] for e in chunks} == {"chat.completion.chunk"} and
           chunks[0]["choices"][0]["delta"]["role"] == "assistant" and
           [e["choices"][0]["finish_reason"] for e in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"],
           "chunks in OpenAI's shape", r)
    last = chunks[-1]
    tap.ok(last["choices"] == [] and last["usage"]["prompt_tokens"] == first["prompt_tokens"] and
           last["video"]["cache_hit"] is True and last["timings"]["generate_ms"] > 0, "usage at the end", last)
    r = s.chat(video(url), ASK, stream=True)
    tap.ok("usage" not in r.body.decode(), "no usage unless asked for", r)
    r = s.chat(video(url), ASK, stream=True, logprobs=True)
    streamed = [m["token"] for e in r.events if e != "[DONE]" for c in e["choices"]
                for m in (c["logprobs"] or {}).get("content", [])]
    tap.ok(streamed == [m["token"] for m in marks], "logprobs in a stream", r)
    r = s.chat(video(url), ASK, stream=True, n=2, temperature=1.0, seed=7)
    two = ["", ""]
    for e in r.events[:-1]:
        for c in e["choices"]:
            two[c["index"]] += c["delta"].get("content", "")
    tap.ok(two == texts[:2], "two answers in a stream", r)
    ids = {c["index"]: c["token_ids"] for e in r.events[:-1] for c in e["choices"] if c["finish_reason"]}
    tap.ok([ids[0], ids[1]] == ids_seed7[:2] and all("token_ids" not in c for e in r.events[:-1] for c in e["choices"]
                                                     if not c["finish_reason"]), "their ids with the last chunk of each", r)
    with Server(model=program.model()) as slow:
        for many in (8, 16, 32):  # until vision takes long enough for a comment
            r = slow.chat(video(data_url(SECOND)), ASK, stream=True, media_io_kwargs={"video": {"num_frames": many}})
            if r.status != 200 or any(c.startswith("vision ") for c in r.comments):
                break
    tap.ok(r.status == 200 and any(c.startswith("vision ") for c in r.comments), "comments tell how far it is", r)
    r = s.chat(video("data:video/mp4;base64,QUJD"), ASK, stream=True)
    tap.ok(r.status == 415 and r.error["code"] == "not_a_video", "no stream for what is no video", r)

    # ---- who speaks
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]
    r = s.post("/apply-template", {"messages": system})
    tap.ok(r.status == 200 and "Be brief." in r.json["prompt"] and r.json["prompt"].index("Be brief.") <
           r.json["prompt"].index(ASK) and r.json["count"] == len(r.json["tokens"]), "/apply-template", r)
    r = s.post("/apply-template", {"messages": [{"role": "user", "content": [video(url), {"type": "text",
                                                                                         "text": ASK}]}]})
    tap.ok(r.json["tokens"].count(-1) == 96 * 3 and r.json["count"] == first["prompt_tokens"] and
           "<Video>" in r.json["prompt"], "/apply-template with a video", r)
    bad = [
        ([{"role": "assistant", "content": "x"}], "messages[0]"), ([{"role": "user", "content": 3}], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0]"), (["x"], "messages[0]"), ([], "messages"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "messages"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [3]}], "messages[0].content[0]"),
        ([{"role": "system", "content": [video(url)]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x"}] * 2000, "messages"), ("x", "messages"),
    ]
    for messages, where in bad:
        r = s.post("/v1/chat/completions", {"messages": messages})
        tap.ok(r.status == 400 and (r.error["param"] or "").startswith(where), "refused: " + str(messages)[:60], r)
    for text in ("[<VID_PLH>]", "<Video>", "</s>", "[INST]", "[<IMG_PLH>][<VID_PLH>]", "", " ", "\U0001f600\u0000"[:-1]):
        r = s.chat(video(url), text)
        tap.ok(r.status == 200, "harmless text %r" % text, r)
    spaces = s.post("/apply-template", {"messages": [{"role": "user", "content": "</s>[INST]"}]}).json["tokens"]
    tap.ok(2 not in spaces, "control strings stay text", spaces)

    # ---- numbers out of range
    wrong = [("max_tokens", 2 ** 31), ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", "9"),
             ("n", 16384), ("n", 0), ("n", -1), ("temperature", -0.1), ("temperature", 1e308), ("top_p", 0),
             ("top_p", 1.1), ("top_k", -1), ("seed", 1.5), ("seed", "x"), ("stop", ["x"] * 100000), ("stop", ""),
             ("stop", [3]), ("stop", "x" * 2000), ("logprobs", 3), ("top_logprobs", 21), ("top_logprobs", 2),
             ("num_beams", 65), ("repetition_penalty", 0), ("stream", "yes"), ("stream_options", 3),
             ("logit_bias", {"999999999": 5}), ("tools", [{}]), ("presence_penalty", 0.5), ("instruction", 5),
             ("response_format", {"type": "json_object"}), ("messages", None), ("top_p", "a"), ("min_p", 0.1), ("best_of", 2),
             ("use_beam_search", True), ("stop_token_ids", [5]), ("typical_p", 0.5), ("repeat_penalty", 1.1), ("grammar", "x"),
             ("json_schema", {"type": "object"}), ("allowed_token_ids", [5]), ("mirostat", 2),
             ("media_io_kwargs", {"video": {"num_frames": -1}}), ("media_io_kwargs", {"video": {"num_frames": 513}}),
             ("media_io_kwargs", {"video": {"fps": 0}}), ("media_io_kwargs", {"video": {"start": 5, "end": 2}}),
             ("media_io_kwargs", []), ("mm_processor_kwargs", {"hd_num": 0}),
             ("mm_processor_kwargs", {"fix_ratio": "9x9"}), ("mm_processor_kwargs", {"fix_ratio": "2"}),
             ("mm_processor_kwargs", {"fix_ratio": [1, 2, 3]}), ("mm_processor_kwargs", {"padding": 1}),
             ("mm_processor_kwargs", {"padding": True, "fix_ratio": "1x1"})]
    for key, value in wrong:
        body = {"messages": [{"role": "user", "content": "Hi"}], key: value}
        r = s.post("/v1/chat/completions", body)
        tap.ok(r.status == 400 and r.error["type"] == "invalid_request_error", "400: %s %s" % (key, str(value)[:30]), r)
    r = s.chat("Hi", min_p=0, best_of=1, typical_p=1.0, repeat_penalty=1, stop_token_ids=[], tools=[], presence_penalty=0.0,
               use_beam_search=False, tool_choice="auto", grammar="", seed=7.0, temperature=1)
    tap.ok(r.status == 200 and r.json["choices"] == s.chat("Hi", seed=7, temperature=1).json["choices"],
           "what changes nothing is no reason to refuse", r)
    # no number brings it down, whatever member it stands in
    numbers = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "num_beams", "min_length", "min_tokens",
               "repetition_penalty", "length_penalty", "seed", "top_logprobs")
    hostile = ("-1", "1e308", "-1e308", "1e-320", "9223372036854775808", "2147483648", "4294967297", "-9223372036854775808", "0.5",
               "-0.0", "NaN", "Infinity", "1e999", '"x"', '""', "[]", "{}", "true", "[1]")
    head, odd = '{"messages":[{"role":"user","content":"Hi"}],', []
    inside = [('"media_io_kwargs":{"video":{"%s":%s}}', k) for k in ("num_frames", "fps", "start", "end")]
    inside += [('"mm_processor_kwargs":{"%s":%s}', k) for k in ("hd_num", "padding", "fix_ratio")]
    for form, key in [('"%s":%s', k) for k in numbers] + inside:
        for value in hostile:
            more = "" if key in ("max_tokens", "max_completion_tokens") else ',"max_tokens":1'
            r = s.post("/v1/chat/completions", head + form % (key, value) + more + "}")
            fine = (200, 400) if value not in ("NaN", "Infinity", "1e999", '"x"', '""', "{}", "[1]") else (400,)
            if r.status not in fine:
                odd.append((key, value, str(r)))
    tap.ok(not odd, "hostile numbers in each member", odd[:3])
    r = s.chat(video(url), ASK, media_io_kwargs={"video": {"num_frames": 200}})
    tap.ok(r.status == 413 and r.error["code"] == "too_many_frames", "more frames than --max-frames: 413", r)
    r = s.chat(video(url), ASK, media_io_kwargs={"video": {"num_frames": 128}}, mm_processor_kwargs={"fix_ratio": "8x8"})
    tap.ok(r.status == 413, "more pixels than fit: 413, before anything is decoded", r)
    r = s.chat("x " * 60000)
    tap.ok(r.status == 400 and r.error["code"] == "context_length_exceeded", "a prompt longer than the context", r)

    # ---- uploads
    r = s.get("/v1/videos")
    tap.ok(r.json["object"] == "list" and {v["id"] for v in r.json["data"]} >= {ident, multi.json["id"]}, "list", r)
    tap.ok(s.get("/v1/videos/" + ident).json == upload.json, "GET /v1/videos/ID")
    r = s.get("/v1/videos/%s/frames?num_frames=4" % ident)
    frames = r.json["frames"]
    pictures = [base64.b64decode(f["image"].split(",")[1]) for f in frames]
    tap.ok(r.status == 200 and [f["index"] for f in frames] == cli("--video", VIDEO, "-p", ASK, "--num-frames",
                                                                    "4")[0]["video"]["frame_indices"] and
           all(p[:2] == b"BM" and struct.unpack("<ii", p[18:26]) == (96, 64) and
               struct.unpack("<I", p[2:6])[0] == len(p) for p in pictures) and len(set(pictures)) == 4 and
           r.json["video"]["tiles"] == [2, 1], "the frames that the model sees", r)
    for query in ("num_frames=x", "num_frames=inf", "num_frames=nan", "num_frames=1e999", "fps=nan", "end=inf", "hd_num=-inf"):
        r = s.get("/v1/videos/%s/frames?%s" % (ident, query))
        tap.ok(r.status == 400 and query.split("=")[0] in r.error["message"], "frames: %s is no number" % query, r)
    r = s.request("DELETE", "/v1/videos/" + ident)
    tap.ok(r.json == {"id": ident, "object": "video.deleted", "deleted": True}, "DELETE", r)
    tap.ok(s.request("DELETE", "/v1/videos/" + ident).status == 404 and s.get("/v1/videos/" + ident).status == 404 and
           s.chat({"type": "video", "id": ident}, ASK).status == 404, "and it is gone")
    for body, kind in ((b"", "video/mp4"), (b"--X\r\n\r\nx", "multipart/form-data; boundary=X"),
                       (b"x", "multipart/form-data"), (b"--X--\r\n", "multipart/form-data; boundary=X")):
        r = s.post("/v1/videos", body, headers={"Content-Type": kind})
        tap.ok(r.status == 400, "an upload of nothing: %s" % body[:9], r)

    # ---- tokens
    line = run("tokenize", "-m", model, stdin=json.dumps("Hello world") + "\n").out
    r = s.post("/tokenize", {"content": "Hello world", "add_special": True})
    tap.ok(r.json["tokens"] == json.loads(line) and r.json["count"] == len(r.json["tokens"]), "/tokenize", r)
    bare = s.post("/tokenize", {"content": "Hello world"}).json["tokens"]
    tap.ok(bare == json.loads(line)[1:] and s.post("/tokenize", {"prompt": "Hello world"}).json["tokens"] ==
           json.loads(line), "with and without the special tokens", bare)
    r = s.post("/detokenize", {"tokens": bare})
    tap.ok(r.json["content"] == "Hello world" and r.json["prompt"] == "Hello world", "/detokenize", r)
    bert = run("tokenize", "-m", model, "--kind", "bert", stdin=json.dumps("Hello world") + "\n").out
    tap.ok(s.post("/tokenize", {"content": "Hello world", "kind": "bert", "add_special": True}).json["tokens"] ==
           json.loads(bert), "/tokenize kind bert")
    most = 1 << 20
    r = s.post("/tokenize", {"content": "a" * most})
    long = s.post("/tokenize", {"content": "a" * most + "a"})
    tap.ok(r.status == 200 and long.status == 400 and long.error["code"] == "string_above_max_length",
           "/tokenize takes texts as long as a chat's", long)
    if program.sanitized():
        tap.skip("memory of many texts at once", "a sanitizer keeps what was freed")
    else:
        s.reset_peak()
        with ThreadPoolExecutor(24) as pool:
            each = list(pool.map(lambda _: s.post("/tokenize", {"content": "ab cd, " * 149000}).status, range(24)))
        tap.ok(each == [200] * 24 and s.peak() < 500 << 20, "many texts at once take the memory of few", (each, s.peak()))
    for path, body in (("/tokenize", {}), ("/tokenize", {"content": 3}), ("/tokenize", {"content": "x", "kind": "y"}),
                       ("/detokenize", {}), ("/detokenize", {"tokens": [-1]}), ("/detokenize", {"tokens": [2 ** 40]}),
                       ("/detokenize", {"tokens": [10 ** 6]}), ("/detokenize", {"tokens": ["x"]})):
        r = s.post(path, body)
        tap.ok(r.status == 400, "400: %s %s" % (path, body), r)

    # ---- embeddings
    r = s.post("/v1/embeddings", {"input": [video(url)]})
    vector = r.json["data"][0]["embedding"]
    tap.ok(r.status == 200 and r.json["object"] == "list" and len(r.json["data"]) == 1 and len(vector) > 8, "pooled", r)
    each = s.post("/v1/embeddings", {"input": video(url), "pooling": "none"}).json["data"]
    mean = [sum(e["embedding"][k] for e in each) / len(each) for k in range(len(vector))]
    tap.ok(len(each) == 96 * 3 and all(abs(a - b) < 1e-5 * (1 + abs(b)) for a, b in zip(vector, mean)), "per query")
    out = program.path("f.npy")
    run("embed", "-m", model, "--dtype", "f32", "--video", VIDEO, "--stage", "projected", "-o", out, "-q")
    shape, values = program.read_npy(out)
    tap.ok(shape[-1] == len(vector) and all(abs(a - b) < 1e-6 * (1 + abs(b)) for a, b in
                                            zip(each[1]["embedding"], values[shape[-1]:2 * shape[-1]])),
           "the features of `ivchat embed`", shape)
    r = s.post("/v1/embeddings", {"input": video(url), "encoding_format": "base64"})
    packed = base64.b64decode(r.json["data"][0]["embedding"])
    tap.ok(struct.unpack("<%df" % len(vector), packed)[3] == struct.unpack("f", struct.pack("f", vector[3]))[0],
           "base64", r)
    for body in ({"input": "text"}, {"input": ["text"]}, {}, {"input": [video(url)], "pooling": "max"},
                 {"input": [video(url)], "encoding_format": "hex"}, {"input": [video(url)], "dimensions": 3}):
        tap.ok(s.post("/v1/embeddings", body).status == 400, "no embedding: " + str(body)[-40:])

# ---- nothing reused: the same answers
with Server("--media-path", MEDIA, "--cache-mib", "0") as s:
    a, b = s.chat(video(url), ASK), s.chat(video(url), ASK)
    tap.ok(a.json["choices"][0]["token_ids"] == b.json["choices"][0]["token_ids"] == first["token_ids"] and
           b.json["video"]["cache_hit"] is False and b.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0,
           "--cache-mib 0", b)

# ---- two key holders
KEYS = [{"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}]
with Server("--api-key", "-", stdin="one\ntwo\n") as s:
    ident = s.post("/v1/videos", read(VIDEO), headers=KEYS[0]).json["id"]
    mine = s.chat({"type": "video", "id": ident}, ASK, headers=KEYS[0])
    theirs = s.chat({"type": "video", "id": ident}, ASK, headers=KEYS[1])
    tap.ok(mine.status == 200 and theirs.status == 404 and s.get("/v1/videos", headers=KEYS[1]).json["data"] == [] and
           s.request("DELETE", "/v1/videos/" + ident, headers=KEYS[1]).status == 404, "an id opens for its owner only",
           theirs)
    s.chat({"type": "video_url", "video_url": {"url": url}, "uuid": "u"}, ASK, headers=KEYS[0])
    r = s.chat({"type": "video_url", "video_url": {"url": None}, "uuid": "u"}, ASK, headers=KEYS[1])
    tap.ok(r.status == 404, "nor does a uuid", r)
    r = s.chat(video(url), ASK, headers=KEYS[1])
    tap.ok(r.status == 200 and r.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0,
           "keys of a conversation are its owner's; features go by the bytes", r)
tap.done()
