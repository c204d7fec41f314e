# SPDX-License-Identifier: MIT
"""Video file -> pixels of the model, for reference.py: frame choice, tiling, resizing, normalising (SPEC 3).

Needs PyAV for decoding and PyTorch for the resizing. With PyAV 15.1 (FFmpeg 7) all 41 fixtures that decord reads have its bytes; with
18.1 (FFmpeg 8) all but 4:2:0 of odd height or 10 bits, which another code path of swscale converts there.

Easy to get wrong: numpy's rounding (half to even), no antialiasing and no clamping on the HD path, the global view is made from the
normalised tiles and comes last; swscale believes chroma samples in the middle of their pixels, whatever the file says.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224


def frame_indices(n, s):
    seg = (n - 1) / s
    return [int(seg / 2) + int(np.rint(seg * i)) for i in range(s)]


def time_sentence(indices, fps):
    times = ', '.join(str(np.round(np.float64(i) / fps, 1)) for i in indices)
    return 'The video contains %d frames sampled at %s seconds.' % (len(indices), times)


class Video:
    """Frames as decord counts them (SPEC 3.2): as many as the stream has packets, in the order in which the decoder delivers them; an
    index behind the last is the last one. Damaged streams, where this is not the order of the timestamps, are not its business."""

    def __init__(self, path):
        import av
        self.path = path
        with av.open(path) as f:
            stream = f.streams.best('video')
            if stream is None:
                raise ValueError('%s: no video stream' % path)
            self.stream, self.fps = stream.index, float(stream.average_rate or 0)
            self.n = sum(1 for p in f.demux(stream) if p.size)
        if not self.n:
            raise ValueError('%s: no frames' % path)

    def read(self, indices):
        """u8 [n,H,W,3] at native size, turned upright."""
        import av
        wanted, found = set(indices), {}
        with av.open(self.path) as f:
            stream = f.streams[self.stream]
            graph = av.filter.Graph()  # as decord's; unlike VideoFrame.reformat it heeds the file's matrix and range
            graph.link_nodes(graph.add_buffer(template=stream), graph.add('scale', 'flags=bilinear:in_chroma_loc=center'),
                             graph.add('format', 'rgb24'), graph.add('buffersink')).configure()
            for i, frame in enumerate(f.decode(stream)):
                if i in wanted or i == 0:
                    graph.push(frame)
                    found[i] = np.rot90(graph.pull().to_ndarray(), int(frame.rotation) // 90 % 4)
                if i == max(wanted):
                    break
        if not found:
            raise ValueError('%s: no frame can be decoded' % self.path)
        return np.stack([found[max(i for i in found if i <= k)] for k in indices])


def bicubic(x, h, w):
    return F.interpolate(x, (h, w), mode='bicubic', align_corners=False)


def normalise(x):
    """f32 [T,3,H,W] in 0..255"""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x / 255 - mean) / std


def grid_candidates(hd_num):
    """Order of CPython's set, then by area (SPEC 3.4)."""
    found = set((i, j) for n in range(1, hd_num + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= n)
    return sorted(found, key=lambda g: g[0] * g[1])


def closest_grid(w, h, hd_num):
    best, best_d = (1, 1), float('inf')
    for i, j in grid_candidates(hd_num):
        d = abs(w / h - i / j)
        if d < best_d or (d == best_d and w * h > 0.5 * SIZE * SIZE * i * j):
            best, best_d = (i, j), d
    return best


def pad_sizes(w, h, hd_num):
    """Frame size -> new width, new height, height with the padding; w >= h."""
    ratio, scale = w / h, 1
    while scale * math.ceil(scale / ratio) <= hd_num:
        scale += 1
    new_w = (scale - 1) * SIZE
    new_h = int(new_w / ratio)
    return new_w, new_h, math.ceil(new_h / SIZE) * SIZE


def pad_transform(x, hd_num):
    """SPEC 3.5, quirks included: a portrait is turned by 180 degrees and squeezed into a landscape."""
    h, w = x.shape[2:]
    new_w, new_h, tall = pad_sizes(max(w, h), min(w, h), hd_num)
    turned = w < h
    x = bicubic(x.flip((2, 3)) if turned else x, new_h, new_w)
    top = (tall - new_h) // 2
    x = F.pad(x, (0, 0, top, tall - new_h - top), value=255)
    return x.flip((2, 3)) if turned else x


def tiles(x):
    """Normalised [T,3,H,W], sides multiples of 224 -> [N,T,3,224,224]: tiles by rows, then the global view."""
    t, _, h, w = x.shape
    cut = x.reshape(t, 3, h // SIZE, SIZE, w // SIZE, SIZE).permute(2, 4, 0, 1, 3, 5).reshape(-1, t, 3, SIZE, SIZE)
    return torch.cat([cut, bicubic(x, SIZE, SIZE)[None]])


def hd_canvas(frames, hd_num=6, padding=False, grid=(2, 1)):
    """u8 [T,H,W,3] -> f32 [T,3,224 * rows,224 * columns] in 0..255; grid (columns, rows), None = the closest."""
    x = torch.as_tensor(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    if padding:
        return pad_transform(x, hd_num)
    cols, rows = grid or closest_grid(x.shape[3], x.shape[2], hd_num)
    return bicubic(x, SIZE * rows, SIZE * cols)


def hd_clips(frames, hd_num=6, padding=False, grid=(2, 1)):
    """u8 [T,H,W,3] -> f32 [N,T,3,224,224]"""
    return tiles(normalise(hd_canvas(frames, hd_num, padding, grid)))


def plain_clip(frames, antialias=True):
    """The 8B preprocessing (SPEC 3.8): short side to 224, centre crop -> [1,T,3,224,224]."""
    x = torch.as_tensor(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    h, w = x.shape[2:]
    nh, nw = (SIZE, int(SIZE * w / h)) if h <= w else (int(SIZE * h / w), SIZE)
    if (nh, nw) != (h, w):
        x = F.interpolate(x, (nh, nw), mode='bicubic', align_corners=False, antialias=antialias)
    top, left = round((nh - SIZE) / 2), round((nw - SIZE) / 2)
    return normalise(x[:, :, top:top + SIZE, left:left + SIZE] * 255)[None]


def video_clips(path, n_frame=8, variant='hd', **kw):
    video = Video(path)
    frames = video.read(frame_indices(video.n, n_frame))
    return plain_clip(frames, **kw) if variant == '8b' else hd_clips(frames, **kw)
