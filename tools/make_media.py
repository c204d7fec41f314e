#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the small videos and images of tests/fixtures/media/ and the README that tells how.

  tools/make_media.py [DIR]

Needs the ffmpeg program with libx264, libx265, libvpx-vp9, libaom-av1 and libwebp (Debian's has them). The files
are committed: encoders of other versions give other bytes, and the expected hashes in frames.json belong
to the committed ones. Damaged files are made from whole ones by cutting and overwriting.
"""
import os
import shlex
import struct
import subprocess
import sys
import zlib

SRC = "testsrc2=size={size}:rate={rate}:duration={seconds}"
X264 = "-c:v libx264 -preset veryfast -crf 30"
made = []  # (name, what, how)


def run(args):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y"] + args, check=True)


def ffmpeg(name, what, options, size="96x64", rate="12", seconds="4", src=SRC, inputs=None):
    """One ffmpeg call; inputs = files made before, instead of the test source."""
    line = []
    for i in inputs or []:
        line += shlex.split(i)
    if not inputs:
        line += ["-f", "lavfi", "-i", src.format(size=size, rate=rate, seconds=seconds)]
    line += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-threads", "1"] + shlex.split(options) + [name]
    run(line)
    made.append((name, what, "ffmpeg " + shlex.join(line)))


def write(name, what, how, data):
    with open(name, "wb") as f:
        f.write(data)
    made.append((name, what, how))


def read(name):
    with open(name, "rb") as f:
        return f.read()


def h264():
    x = X264 + " -pix_fmt yuv420p "
    ffmpeg("bframes.mp4", "H.264, closed groups of 12, 3 B-frames, moov at the end",
           x + "-x264-params keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0")
    ffmpeg("start.mp4", "the same packets, moov at the start", "-c copy -movflags +faststart",
           inputs=["-i bframes.mp4"])
    ffmpeg("fragmented.mp4", "the same packets, fragmented", "-c copy -movflags frag_keyframe+empty_moov",
           inputs=["-i bframes.mp4"])
    ffmpeg("bframes.mkv", "the same packets in Matroska", "-c copy", inputs=["-i bframes.mp4"])
    ffmpeg("bframes.ts", "the same packets in MPEG-TS", "-c copy -bsf:v h264_mp4toannexb", inputs=["-i bframes.mp4"])
    ffmpeg("bframes.flv", "the same packets in FLV", "-c copy", inputs=["-i bframes.mp4"])
    ffmpeg("bframes.avi", "the same packets in AVI, which has no presentation times", "-c copy -bsf:v h264_mp4toannexb",
           inputs=["-i bframes.mp4"])
    ffmpeg("bframes.h264", "the same packets without container or timestamps", "-c copy -bsf:v h264_mp4toannexb",
           inputs=["-i bframes.mp4"])
    opened = "-x264-params keyint=8:min-keyint=8:bframes=3:b-adapt=0:open-gop=1:scenecut=0"
    ffmpeg("opengop.mkv", "open groups: pictures before the key picture refer to the group before", x + opened)
    ffmpeg("opengop.ts", "open groups in MPEG-TS", x + opened)
    ffmpeg("refresh.mp4", "periodic intra refresh: no key picture after the first",
           x + "-x264-params keyint=12:intra-refresh=1:bframes=0:scenecut=0")
    ffmpeg("cut.mp4", "cut without encoding: starts in the middle of a group, edit list", "-c copy",
           inputs=["-ss 1.5 -i bframes.mp4"])
    ffmpeg("vfr.mkv", "variable frame rate", x + "-vf \"setpts='(N+0.3*mod(N,3)*mod(N,5))/12/TB'\" -vsync vfr "
           "-x264-params keyint=10:bframes=2:scenecut=0")
    ffmpeg("interlaced.ts", "interlaced (MBAFF)", x + "-vf interlace -flags +ilme+ildct -x264-params keyint=12",
           rate="24")
    ffmpeg("sar.mp4", "sample aspect ratio 2:1, to be ignored", x + "-vf setsar=2 -x264-params keyint=12")
    ffmpeg("bt709.mp4", "tagged BT.709", x + "-colorspace bt709 -color_trc bt709 -color_primaries bt709")
    ffmpeg("fullrange.mp4", "tagged full range", X264 + " -vf scale=out_range=full -pix_fmt yuvj420p")
    ffmpeg("h264_444.mp4", "4:4:4", X264 + " -pix_fmt yuv444p")
    ffmpeg("h264_422_10.mkv", "4:2:2, 10 bits", X264 + " -pix_fmt yuv422p10le")
    ffmpeg("h264_gray.mp4", "gray", X264 + " -pix_fmt gray")
    odd = "-vf scale=53:37 "
    ffmpeg("odd.mp4", "53x37", X264 + " -pix_fmt yuv444p " + odd, seconds="2")
    ffmpeg("odd420.mkv", "53x37, 4:2:0 with odd sides", "-c:v ffv1 -pix_fmt yuv420p " + odd, seconds="0.5")
    ffmpeg("odd_vp9.webm", "53x37, VP9", "-c:v libvpx-vp9 -b:v 60k -g 8 -pix_fmt yuv420p " + odd, seconds="2")
    ffmpeg("portrait.mp4", "portrait without rotation", x, size="64x96", seconds="2")
    for turn in (90, 180, 270):
        ffmpeg("rotate%d.mp4" % turn, "display matrix of %d degrees" % turn,
               "-c copy -metadata:s:v:0 rotate=%d" % turn, inputs=["-i bframes.mp4"])
    for name, n in (("one.mp4", 1), ("two.mp4", 2), ("five.mp4", 5)):
        ffmpeg(name, "%d frame(s)" % n, x + "-frames:v %d" % n)
    ffmpeg("small.h264", "48x32, for sizes.h264", x + "-bsf:v h264_mp4toannexb -f h264", size="48x32", seconds="1")
    write("sizes.h264", "96x64, then 48x32", "bframes.h264 + small.h264", read("bframes.h264") + read("small.h264"))
    ffmpeg("fps1000.mp4", "1000 frames a second", x, rate="1000", seconds="0.03")


def other_codecs():
    ffmpeg("vp9.webm", "VP9 with hidden reference frames", "-c:v libvpx-vp9 -b:v 60k -g 16 -auto-alt-ref 1 "
           "-lag-in-frames 12 -pix_fmt yuv420p")
    ffmpeg("vp9_alpha.webm", "VP9 with alpha", "-c:v libvpx-vp9 -b:v 60k -vf format=yuva420p -auto-alt-ref 0", seconds="1")
    ffmpeg("vp8.webm", "VP8", "-c:v libvpx -b:v 60k -g 16 -pix_fmt yuv420p")
    ffmpeg("av1.mp4", "AV1", "-c:v libaom-av1 -cpu-used 8 -b:v 60k -g 16 -pix_fmt yuv420p", seconds="3")
    x265 = "-c:v libx265 -preset veryfast -crf 34 -x265-params log-level=none:info=0:keyint=8:min-keyint=8:bframes=3:scenecut=0"
    ffmpeg("hevc.mp4", "HEVC, closed groups", x265 + ":open-gop=0 -pix_fmt yuv420p")
    ffmpeg("hevc_open.mkv", "HEVC, open groups (CRA, RASL)", x265 + ":open-gop=1 -pix_fmt yuv420p")
    ffmpeg("hevc_10.mkv", "HEVC, 10 bits, BT.2020", x265 + " -pix_fmt yuv420p10le -colorspace bt2020nc "
           "-color_trc smpte2084 -color_primaries bt2020", seconds="1")
    ffmpeg("mpeg4.avi", "MPEG-4 part 2 with B-frames in AVI", "-c:v mpeg4 -q:v 12 -bf 2 -g 10")
    ffmpeg("mpeg2.mpg", "MPEG-2 program stream, B-frames, open groups", "-c:v mpeg2video -q:v 12 -bf 2 -g 10", rate="25",
           seconds="2")
    ffmpeg("wmv.asf", "Windows Media Video 8", "-c:v wmv2 -q:v 10 -g 10", seconds="2")
    ffmpeg("flv1.flv", "Sorenson H.263", "-c:v flv -q:v 10 -g 10", seconds="2")
    ffmpeg("mjpeg.avi", "Motion JPEG", "-c:v mjpeg -q:v 10 -pix_fmt yuvj422p", seconds="1")
    ffmpeg("theora.ogv", "Theora in Ogg", "-c:v libtheora -q:v 3 -g 8", seconds="2")
    ffmpeg("prores.mov", "ProRes, 4:2:2, 10 bits", "-c:v prores_ks -profile:v 0 -pix_fmt yuv422p10le", seconds="0.5")
    ffmpeg("ffv1_alpha.mkv", "FFV1 with alpha", "-c:v ffv1 -pix_fmt bgra", seconds="0.5", size="32x24")
    ffmpeg("qtrle.mov", "QuickTime animation, RGB", "-c:v qtrle -pix_fmt rgb24", seconds="0.5", size="64x48")
    ffmpeg("raw.y4m", "y4m, as programs pipe it", "-pix_fmt yuv420p", seconds="0.5", size="64x48")
    ffmpeg("anim.gif", "GIF: palette, frames that cover part of the picture", "", seconds="1", size="64x48")
    ffmpeg("anim.png", "APNG", "-f apng -pix_fmt rgb24", seconds="0.5", size="64x48")
    ffmpeg("dot.mkv", "1x1", "-vf scale=1:1 -c:v ffv1 -pix_fmt gbrp", seconds="1")
    ffmpeg("line.mkv", "1x40", "-vf scale=1:40 -c:v ffv1 -pix_fmt gbrp", seconds="1")


def streams():
    tone = "-f lavfi -i sine=frequency=440:duration=1"
    ffmpeg("audio.m4a", "no video at all", "-c:a aac -b:a 24k", inputs=[tone])
    ffmpeg("cover.m4a", "audio with a cover picture only", "-map 0 -map 1 -c copy -disposition:v:0 attached_pic",
           inputs=["-i audio.m4a", "-i photo.jpg"])
    ffmpeg("cover.mp4", "video with a larger cover picture in front", "-map 1 -map 0 -c copy -disposition:v:0 attached_pic",
           inputs=["-i bframes.mp4", "-i photo.jpg"])
    ffmpeg("streams.mkv", "two video streams, the second is the default",
           "-map 0 -map 1 -c copy -disposition:v:0 0 -disposition:v:1 default", inputs=["-i portrait.mp4", "-i bframes.mp4"])


def exif_jpeg(jpeg, orientation):
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + b"\0" * 4
    app1 = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:]


def gray16_png(width, height):
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", (x * 65535 // (width - 1) + y * 997) % 65536)
                                     for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def images():
    one = "-frames:v 1 "
    ffmpeg("photo.jpg", "JPEG 4:2:0", one + "-q:v 5 -pix_fmt yuvj420p", size="120x80")
    write("exif6.jpg", "photo.jpg with EXIF orientation 6 (to be turned 90 degrees clockwise)", "an APP1 segment put in",
          exif_jpeg(read("photo.jpg"), 6))
    ffmpeg("rgba.png", "PNG with alpha", one + "-vf format=rgba,colorchannelmixer=aa=0.5", size="40x30")
    ffmpeg("palette.png", "PNG with a palette", one + "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse", size="40x30")
    write("gray16.png", "PNG, 16-bit gray ramp", "by the script", gray16_png(40, 30))
    ffmpeg("lossy.webp", "WebP", one + "-c:v libwebp -q:v 60", size="40x30")
    ffmpeg("lossless.webp", "WebP, lossless, with alpha", one + "-c:v libwebp -lossless 1 -vf format=bgra", size="40x30")
    ffmpeg("picture.bmp", "BMP", one + "-pix_fmt bgr24", size="40x30")


def damaged():
    start, end = read("start.mp4"), read("bframes.mp4")
    write("truncated.mp4", "start.mp4 without its last third", "the first 2/3 of the bytes", start[:len(start) * 2 // 3])
    write("no_moov.mp4", "bframes.mp4 without its moov box", "the first 2/3 of the bytes", end[:len(end) * 2 // 3])
    write("half_moov.mp4", "bframes.mp4 with half of its moov box", "all but the last 400 bytes", end[:-400])
    body = bytearray(end)
    for i in range(len(body) // 3, len(body) // 2):
        body[i] = (i * 131) & 255
    write("corrupt.mp4", "bframes.mp4 with its middle overwritten", "bytes from 1/3 to 1/2", bytes(body))
    body = bytearray(end)
    at = body.find(b"mdat") + 4
    for i in range(at, at + 3000):
        body[i] = 255
    write("corrupt_first.mp4", "bframes.mp4 with its first group overwritten", "3000 bytes after 'mdat'", bytes(body))
    ts = read("bframes.ts")
    write("no_key.ts", "bframes.ts without its first key picture", "packets 0-2 and the last two thirds",
          ts[:188 * 3] + ts[len(ts) // 188 // 3 * 188:])
    ffmpeg("encrypted.mp4", "Common Encryption, key not given",
           "-c copy -encryption_scheme cenc-aes-ctr -encryption_key " + "1f" * 16 + " -encryption_kid " + "2e" * 16,
           inputs=["-i two.mp4"])
    write("empty.mp4", "0 bytes", "", b"")
    write("text.mp4", "plain text", "", b"this is not a video\n" * 40)
    write("page.mp4", "the error page of a download", "", b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n")
    write("list.m3u8", "HLS playlist that names a file", "",
          b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nbframes.ts\n#EXT-X-ENDLIST\n")
    write("list.ffconcat", "concat list that names a file", "", b"ffconcat version 1.0\nfile bframes.mp4\n")
    write("list.mpd", "DASH manifest that names a file", "",
          b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
          b"<Period><AdaptationSet><Representation id=\"0\"><BaseURL>bframes.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n")
    write("list.sdp", "session description that names a host", "",
          b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n")


def readme():
    with open("README.md", "w") as f:
        f.write("# Videos and images for the tests\n\nMade by `tools/make_media.py` with ffmpeg 5.1.9; the pictures are "
                "ffmpeg's own test pattern. `frames.json` holds what decord 0.6.0 reads from them "
                "(`tools/make_media_expected.py`).\n\n| file | what | how |\n|---|---|---|\n")
        for name, what, how in sorted(made):
            f.write("| `%s` | %s | %s |\n" % (name, what, ("`%s`" % how.replace("|", "\\|")) if how else "by the script"))


def main():
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else
             os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "media"))
    h264()
    other_codecs()
    images()
    streams()
    damaged()
    readme()


if __name__ == "__main__":
    main()
