#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The server and media that it must not open or cannot decode: files, addresses, broken bytes, killed decoders."""
import base64
import os
import signal
import threading
import time

import program
from program import Tap, run
from serverrig import MEDIA, VIDEO, Server, data_url, image, read, video

tap = Tap()
model = program.TINY

ASK = "What happens?"
ROOT = program.path("root")
os.makedirs(os.path.join(ROOT, "sub", "deep"))
for name in ("a.mp4", "sub/b.mp4", "sub/deep/c.mp4", "we ird%41#?.mp4"):
    with open(os.path.join(ROOT, name), "wb") as f:
        f.write(read(VIDEO))
outside = program.path("outside.mp4")
with open(outside, "wb") as f:
    f.write(read(VIDEO))
os.symlink(outside, os.path.join(ROOT, "link.mp4"))
os.symlink(os.path.join(ROOT, "a.mp4"), os.path.join(ROOT, "inner.mp4"))
os.symlink("/", os.path.join(ROOT, "slash"))
os.symlink("sub", os.path.join(ROOT, "linked"))
os.mkfifo(os.path.join(ROOT, "fifo.mp4"))
open(os.path.join(ROOT, "empty.mp4"), "wb").close()


def plain_video(name, frames, width, height):
    out = program.path(name)
    with open(out, "wb") as f:
        f.write(b"YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420jpeg\n" % (width, height))
        for t in range(frames):
            f.write(b"FRAME\n" + bytes([(40 + 3 * t) % 256]) * (width * height) + bytes([128]) * (width * height // 2))
    return out


def paths_in(reply):
    return any(x in reply.body.decode("utf-8", "replace") for x in (ROOT, "/etc", "outside", "Invalid data", "moov"))


def file_part(path):
    return {"type": "video", "video": {"path": path}}


# what is asked here is what becomes of the bytes: the model has little to look at
LITTLE = ["--fix-ratio", "1x1"]

with Server("--media-path", ROOT, "-v", *LITTLE, dtype="bf16") as s:
    # ---- files
    for path in (ROOT + "/a.mp4", ROOT + "/sub/b.mp4", ROOT + "/sub/deep/c.mp4", "a.mp4", "sub/deep/c.mp4"):
        tap.ok(s.chat(file_part(path), ASK).status == 200, "allowed: " + path.replace(ROOT, "ROOT"))
    r = s.chat(video("file://" + ROOT + "/we%20ird%2541%23%3f.mp4"), ASK)
    tap.ok(r.status == 200, "escapes are undone once", r)
    refused = ["/etc/passwd", outside, ROOT + "/../outside.mp4", "../outside.mp4", "sub/../../outside.mp4",
               "sub/../a.mp4", ROOT + "/link.mp4", ROOT + "/inner.mp4", ROOT + "/slash" + outside, "linked/b.mp4",
               ROOT + "/fifo.mp4", ROOT + "/sub", ROOT, ROOT + "x/a.mp4", "/dev/zero", "/proc/self/environ",
               "/proc/self/fd/0", "\\etc\\passwd", "%2e%2e/outside.mp4x", "a.mp4/../../outside.mp4"]
    for path in refused:
        r = s.chat(file_part(path), ASK)
        tap.ok(r.status in (400, 404) and not paths_in(r) and (r.status == 400 or path.startswith(("%2e", "\\", "a."))),
               "refused: " + path.replace(ROOT, "ROOT"), r)
    for url in ("file:///etc/passwd", "file://host/x", "file://" + ROOT + "/..%2foutside.mp4", "file:/etc/passwd",
                "file://" + ROOT + "/%2e%2e/outside.mp4", "FILE:///etc/passwd", "file:///" + "a" * 5000,
                "file://127.0.0.1" + ROOT + "/a.mp4", "file://" + ROOT + "/a.mp4?x", "file://" + ROOT + "/a.mp4%00.jpg",
                "file:a.mp4", "file://localhost:80" + ROOT + "/a.mp4", "file://" + ROOT + "/a.mp4#f",
                "file://" + ROOT + "\\a.mp4", "file://" + ROOT + "/%", "file://" + ROOT + "/%zz", "/etc/passwd:x"):
        r = s.chat(video(url), ASK)
        tap.ok(r.status == 400 and not paths_in(r), "refused: " + url[:60].replace(ROOT, "ROOT"), r)
    r = s.chat(file_part("missing.mp4"), ASK)
    tap.ok(r.status == 404 and r.error["code"] == "media_not_found" and r.error["param"] == "messages[0].content[0]",
           "a file that is not there: 404", r)
    r = s.chat(file_part("empty.mp4"), ASK)
    tap.ok(r.status == 415, "an empty file: 415", r)

    # ---- addresses: off by default
    for url in ("https://example.com/a.mp4", "http://127.0.0.1/", "https://[::1]/", "ftp://example.com/a",
                "gopher://x", "javascript:alert(1)", "https://user@host/", "data:video/mp4,plain", "data:,", "blob:x",
                "concat:a|b", "data:video/mp4;base64", "", "x://y"):
        r = s.chat(video(url), ASK)
        tap.ok(r.status == 400, "refused: " + url, r)

    # ---- bytes that are no video
    names = ("text.mp4", "page.mp4", "no_moov.mp4", "half_moov.mp4", "audio.m4a", "list.m3u8", "list.ffconcat",
             "list.mpd", "list.sdp", "encrypted.mp4", "empty.mp4")
    for name in names:
        body = read(os.path.join(MEDIA, name))
        if not body:
            continue
        r = s.chat(video("data:video/mp4;base64," + base64.b64encode(body).decode()), ASK)
        tap.ok(r.status == 415 and r.error["code"] == "not_a_video" and not paths_in(r) and
               r.error["message"].startswith("the bytes are not"), "415: " + name, r)
    for name in ("cut.mp4", "corrupt.mp4", "vfr.mkv", "av1.mp4", "vp9.webm", "hevc.mp4", "anim.gif", "one.mp4", "sar.mp4",
                 "rotate90.mp4", "fragmented.mp4", "interlaced.ts", "theora.ogv", "wmv.asf", "raw.y4m", "mpeg2.mpg"):
        r = s.chat(video("data:;base64," + base64.b64encode(read(os.path.join(MEDIA, name))).decode()), ASK)
        tap.ok(r.status in (200, 415), "decodes or is refused: %s (%d)" % (name, r.status), r)
        tap.ok(name not in ("vfr.mkv", "av1.mp4", "vp9.webm", "hevc.mp4", "anim.gif", "rotate90.mp4", "raw.y4m",
                            "theora.ogv", "wmv.asf") or r.status == 200, "sound in confinement: " + name, r)
    for name in ("exif6.jpg", "lossy.webp", "lossless.webp", "gray16.png", "palette.png", "picture.bmp", "anim.gif"):
        r = s.chat(image(data_url(os.path.join(MEDIA, name), "image/png")), ASK)
        tap.ok(r.status == 200, "image in confinement: " + name, r)
    for text in ("!!!!", "QUJ", "QQ==QQ==", "QR==", "=", "QUJD=", "QUJD%20", "Q U J D"):
        r = s.chat(video("data:video/mp4;base64," + text), ASK)
        tap.ok(r.status == (415 if text == "Q U J D" else 400), "base64 %r" % text, r)
    big = plain_video("wide.y4m", 1, 2000, 2)
    for grid in ("1x1", "2x1"):  # 2x1 is the server's default elsewhere
        tap.ok(s.chat(video(data_url(big)), ASK, mm_processor_kwargs={"fix_ratio": grid}).status == 200, "2000 x 2 as " + grid)

    # ---- decoders that die
    slow = plain_video("slow.y4m", 60, 640, 480)
    with Server(*LITTLE, dtype="bf16") as calm:  # what is right
        ident = calm.post("/v1/videos", read(slow)).json["id"]
        right = [calm.chat({"type": "video", "id": ident}, ASK, media_io_kwargs={"video": {"num_frames": 1 + n}}).content
                 for n in range(8)]
    ident = s.post("/v1/videos", read(slow)).json["id"]
    part = {"type": "video", "id": ident}
    stop = threading.Event()
    killed = []

    def children():
        out = []
        for pid in os.listdir("/proc"):
            try:
                with open("/proc/%s/stat" % pid, encoding="ascii", errors="replace") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                if int(fields[1]) == s.process.pid and fields[0] != "Z":
                    out.append(int(pid))
            except (OSError, IndexError, ValueError):
                pass
        return out

    def killer():
        wait = 0.0
        while not stop.is_set():
            for pid in children():
                time.sleep(wait)
                wait = (wait + 0.007) % 0.1
                try:
                    os.kill(pid, signal.SIGKILL if len(killed) % 2 else signal.SIGSEGV)
                    killed.append(pid)
                except OSError:
                    pass
            time.sleep(0.001)

    thread = threading.Thread(target=killer)
    thread.start()
    codes, wrong = [], []
    # on a busy machine a decoder may be done before it is seen: until enough of them were hit; hd_num changes nothing
    # here but makes each request one that was not decoded yet
    for n in range(8 * 64):
        if len(killed) >= 60 and codes.count(415) >= 20:
            break
        r = s.chat(part, ASK, media_io_kwargs={"video": {"num_frames": 1 + n % 8}}, mm_processor_kwargs={"hd_num": 1 + n // 8})
        codes.append(r.status)
        if r.status not in (200, 415) or (r.status == 200 and r.content != right[n % 8]):
            wrong.append(str(r))
    stop.set()
    thread.join()
    print("# %d decoders killed in %d requests: %d of 415, %d answers" % (len(killed), len(codes), codes.count(415),
                                                                          codes.count(200)))
    tap.ok(not wrong and len(killed) >= 50 and codes.count(415) >= 20, "a decoder that dies is a 415, else the answer is right",
           (codes, len(killed), wrong[:3]))
    r = s.chat(part, ASK, media_io_kwargs={"video": {"num_frames": 2}})
    tap.ok(r.status == 200 and not children(), "and the next one works; none is left", (r, children()))
    tap.ok(s.stop() == 143, "ends well", s.log[-300:])

with Server() as s:
    r = s.chat(file_part(VIDEO), ASK)
    tap.ok(r.status == 400 and r.error["code"] == "files_not_allowed", "no --media-path, no files", r)

# ---- fewer frames than the variant's
with Server("--variant", "f16", "--max-frames", "8", *LITTLE) as s:
    r = s.chat(video(data_url()), ASK)
    tap.ok(r.status == 200 and len(r.json["video"]["frame_indices"]) == 8, "who does not ask for frames gets what may be asked for", r)

# ---- a language file alone
GGUF = program.path("alone")
run("quantize", model, GGUF, "--type", "F32")
for name in os.listdir(GGUF):
    if name.startswith("mmproj-"):
        os.remove(os.path.join(GGUF, name))
with Server(model=os.path.join(GGUF, os.listdir(GGUF)[0])) as s:
    tap.ok(s.chat("Hello").status == 200, "without a vision file: text", s.log)
    for r in (s.chat(video(data_url()), ASK), s.chat(image(data_url(os.path.join(MEDIA, "photo.jpg"), "image/jpeg")), ASK),
              s.post("/v1/embeddings", {"input": video(data_url())})):
        tap.ok(r.status == 400 and r.error["code"] == "media_not_supported", "but no media, which are not to blame", r)

# ---- addresses that stay forbidden when the host is named
hosts = ["127.0.0.1", "0.0.0.0", "localhost", "169.254.169.254", "10.0.0.1", "192.168.1.1", "[::1]", "::1", "127.1",
         "2130706433", "0x7f000001", "0177.0.0.1", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]", "[::]", "100.64.0.1"]
with Server("--allow-remote-media", ",".join(hosts)) as s:
    for host in ("127.0.0.1", "0.0.0.0", "localhost", "169.254.169.254", "10.0.0.1", "192.168.1.1", "[::1]", "127.1",
                 "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::]", "100.64.0.1",
                 "127.0.0.1:%d" % s.port, "LOCALHOST", "localhost.", "user@127.0.0.1", "127.0.0.1\\@example.com",
                 "example.com@127.0.0.1", "127.0.0.1#@example.com", "[::1%25lo]", "%31%32%37.0.0.1", "127.0.0.1 ",
                 "example.com", "\u2460\u2461\u2466.0.0.1"):
        r = s.chat(video("https://%s/a.mp4" % host), ASK)
        tap.ok(r.status == 400 and r.error["code"] in ("remote_media_not_allowed", "media_not_reachable") and
               not any(x in r.error["message"] for x in ("127", "::1", "169", "example")),
               "refused: https://%s" % host.encode("ascii", "replace").decode(), r)
    r = s.chat(video("http://localhost/a.mp4"), ASK)
    tap.ok(r.status == 400, "refused: plain http", r)
tap.done()
