// SPDX-License-Identifier: MIT
// Demuxing, decoding and colour conversion with libavformat, libavcodec and libswscale, after the
// behaviour of decord (SPEC 3.2): ffmpeg's best video stream, container rotation, swscale to RGB24 at
// native size.
//
// source -> AVIOContext -> demuxer -> packet -> decoder -> picture -> swscale -> rotate -> RGB
//
// Easy to get wrong: accurate_rnd or full_chroma_int change most values; rows of the RGB buffer need
// padding or SIMD code skips the last columns; untagged colours are BT.601 limited range at every size;
// discard flags of edit lists must not swallow pictures; pictures are told apart by the rank that their
// packet was sent with, not by the file's timestamps, which may be missing, equal or absurd.
#include "media/decode.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "media/libav.h"
#include "media/mov_tables.h"
#include "media/nal.h"
#include "media/rotate.h"

// What may be opened. Absent on purpose: formats that refer to other files, capture devices, network
// protocols, scripts and text renderers; codecs that few videos use and that had memory defects.
static const char FORMATS[] =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,apng,"
    "yuv4mpegpipe,h264,hevc,h263,m4v,vc1,vc1test,av1,obu,ivf,nut,mxf,gxf,rm,dv,mjpeg,wtv,ingenient,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,ppm_pipe,pgm_pipe,pbm_pipe,pam_pipe,tiff_pipe,gif_pipe,"
    "mp3,wav,flac,aac,w64,caf,aiff,amr"; // the last line: to say "no video stream"
static const char CODECS[] =
    "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,mpeg1video,mpeg2video,mpegvideo,mpeg4,msmpeg4v1,"
    "msmpeg4v2,msmpeg4,h263,h263p,flv,wmv1,wmv2,wmv3,vc1,theora,vp3,vp6,vp6f,mjpeg,rawvideo,ffv1,"
    "ffvhuff,huffyuv,utvideo,prores,dnxhd,cfhd,dvvideo,png,apng,gif,webp,bmp,tiff,ppm,pgm,pbm,pam,"
    "qtrle,svq1,svq3,rv10,rv20,rv30,rv40,v210,v410,yuv4,msvideo1,cinepak";
// Formats that are lists of other files: they get a message of their own.
static const char REFERENCES[] = "hls,applehttp,concat,dash,image2,sdp,rtsp,rtp,imf";
// Codecs whose key packets make everything after them independent of everything before.
static const enum AVCodecID RANDOM_ACCESS[] = {
    AV_CODEC_ID_H264,     AV_CODEC_ID_HEVC,       AV_CODEC_ID_AV1,        AV_CODEC_ID_VP8,
    AV_CODEC_ID_VP9,      AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG4,
    AV_CODEC_ID_MJPEG,    AV_CODEC_ID_RAWVIDEO,   AV_CODEC_ID_FFV1,       AV_CODEC_ID_HUFFYUV,
    AV_CODEC_ID_FFVHUFF,  AV_CODEC_ID_PRORES,     AV_CODEC_ID_DNXHD,      AV_CODEC_ID_THEORA,
    AV_CODEC_ID_MSMPEG4V3};

enum {
    IO_BYTES = 64 << 10,
    SAMPLES_MAX = 1 << 24, // that an MP4 may claim: 400 MB of libavformat's index
    ERRORS_MAX = 64,       // in a row from one decoder
};

struct kind {
    int width, height, format, space, range;
};

struct decode {
    struct libav av;
    struct decode_options o;
    struct decode_info info;

    AVFormatContext *format;
    AVIOContext *io;
    uint64_t io_at;
    int io_errno;    // of a read that failed
    bool is_checked; // the tables, once
    int stream;
    AVPacket *packet;

    AVCodecContext *decoder;
    AVFrame *frame;

    struct SwsContext *sws;
    AVFrame *rgb;     // padded RGB24 before rotation
    struct kind kind; // of the pictures that sws was made for
};

// ---- the demuxer, over our bytes only

static int io_read(void *user, uint8_t *buf, int n)
{
    struct decode *d = user;
    if (deadline_check(d->o.deadline, d->o.hooks, d->o.name, NULL) != 0)
        return AVERROR_EXIT;
    ptrdiff_t k = source_read(d->o.source, d->io_at, buf, (size_t)n);
    if (k < 0) {
        d->io_errno = errno;
        return AVERROR(EIO);
    }
    d->io_at += (uint64_t)k;
    return k == 0 ? AVERROR_EOF : (int)k;
}

static int64_t io_seek(void *user, int64_t to, int whence)
{
    struct decode *d = user;
    int64_t size = (int64_t)d->o.source->size;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return size;
    if (whence == SEEK_CUR)
        to += (int64_t)d->io_at;
    else if (whence == SEEK_END)
        to += size;
    else if (whence != SEEK_SET)
        return AVERROR(EINVAL);
    if (to < 0 || to > size)
        return AVERROR(EINVAL);
    d->io_at = (uint64_t)to;
    return to;
}

static int io_interrupt(void *user)
{
    struct decode *d = user;
    return deadline_check(d->o.deadline, d->o.hooks, d->o.name, NULL) != 0;
}

// Demuxers that want to open something else are told no.
static int io_refuse(struct AVFormatContext *s, AVIOContext **pb, const char *url, int flags,
                     AVDictionary **options)
{
    (void)s;
    (void)url;
    (void)flags;
    (void)options;
    *pb = NULL;
    return AVERROR(EACCES);
}

// What stops reading and is no matter of the bytes: abort, time limit, a file that cannot be read. The libraries take
// the last for the end of the file.
static int stopped(struct decode *d, struct err *e)
{
    int rc = deadline_check(d->o.deadline, d->o.hooks, d->o.name, e);
    if (rc != 0 || d->io_errno == 0)
        return rc;
    return err_set(e, ERR_MEDIA, "%s: byte %llu: %s", d->o.name, (unsigned long long)d->io_at,
                   strerror(d->io_errno));
}

// A failure of the libraries: what stopped them first, else the given sentence.
static int failed(struct decode *d, int code, const char *what, struct err *e)
{
    int rc = stopped(d, e);
    return rc != 0 ? rc : err_set(e, code, "%s: %s", d->o.name, what);
}

static void demux_close(struct decode *d)
{
    d->av.avformat_close_input(&d->format);
    if (d->io)
        d->av.av_freep(&d->io->buffer);
    d->av.avio_context_free(&d->io);
}

static int demux_probe(struct decode *d, const AVInputFormat **found, struct err *e)
{
    const AVInputFormat *f = NULL;
    *found = NULL;
    // No name: only the content decides, so an extension can promise nothing
    int k = d->av.av_probe_input_buffer2(d->io, &f, "", NULL, 0, 0);
    if (k < 0 || !f)
        return failed(d, ERR_MEDIA, "not a video or image that is known here", e);
    if (d->av.av_match_list(f->name, REFERENCES, ','))
        return err_set(e, ERR_MEDIA, "%s: '%s' refers to other files and is refused", d->o.name,
                       f->name);
    if (!d->av.av_match_list(f->name, FORMATS, ','))
        return err_set(e, ERR_MEDIA, "%s: format '%s' is not accepted", d->o.name, f->name);
    *found = f;
    if (d->is_checked || !d->av.av_match_list(f->name, "mov", ','))
        return 0;
    int rc = mov_tables_check(d->o.source, d->o.deadline, d->o.hooks, d->o.name, SAMPLES_MAX, e);
    d->is_checked = rc == 0;
    return rc;
}

// The limit as decoders apply it: to buffers with aligned sides.
static size_t buffer_pixels(const struct decode_options *o)
{
    size_t n;
    return mul_size(o->max_side, 256, &n) && add_size(n, o->max_pixels, &n) && n < INT64_MAX
               ? n
               : (size_t)INT64_MAX;
}

// Reads until the streams are known. This decodes a little, so the picture limit is told here, too.
static int find_streams(struct decode *d, struct err *e)
{
    unsigned n = d->format->nb_streams;
    char limit[32];
    snprintf(limit, sizeof limit, "%zu", buffer_pixels(&d->o));
    AVDictionary **each = mem_calloc(n, sizeof *each);
    if (!each)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %u streams", d->o.name, n);
    for (unsigned i = 0; i < n; i++)
        d->av.av_dict_set(&each[i], "max_pixels", limit, 0);
    int k = d->av.avformat_find_stream_info(d->format, each);
    for (unsigned i = 0; i < n; i++)
        d->av.av_dict_free(&each[i]);
    mem_free(each);
    return k < 0 ? failed(d, ERR_MEDIA, "damaged: no stream can be understood", e) : 0;
}

static int demux_open(struct decode *d, struct err *e)
{
    int rc;
    const AVInputFormat *input;
    AVDictionary *options = NULL;
    uint8_t *buffer = d->av.av_malloc(IO_BYTES);
    d->io_at = 0;
    d->io_errno = 0;
    if (buffer)
        d->io = d->av.avio_alloc_context(buffer, IO_BYTES, 0, d, io_read, NULL, io_seek);
    d->format = d->av.avformat_alloc_context();
    if (!d->io || !d->format || d->av.av_dict_set(&options, "format_whitelist", FORMATS, 0) < 0 ||
        d->av.av_dict_set(&options, "codec_whitelist", CODECS, 0) < 0 ||
        d->av.av_dict_set(&options, "protocol_whitelist", "none", 0) < 0) {
        if (!d->io)
            d->av.av_free(buffer);
        rc = err_set(e, ERR_LIMIT, "%s: out of memory", d->o.name);
        goto fail;
    }
    TRY(demux_probe(d, &input, e));
    d->format->pb = d->io;
    d->format->flags |= AVFMT_FLAG_CUSTOM_IO;
    d->format->io_open = io_refuse;
    d->format->interrupt_callback = (AVIOInterruptCB){io_interrupt, d};
    // frees d->format on failure
    if (d->av.avformat_open_input(&d->format, "", input, &options) < 0) {
        rc = failed(d, ERR_MEDIA, "damaged: the container's header cannot be read", e);
        goto fail;
    }
    TRY(find_streams(d, e));
    d->stream =
        d->av.av_find_best_stream(d->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0); // as decord does
    if (d->stream < 0) {
        rc = failed(d, ERR_MEDIA, d->format->nb_streams ? "no video stream" : "no streams", e);
        goto fail;
    }
    for (unsigned i = 0; i < d->format->nb_streams; i++)
        d->format->streams[i]->discard = (int)i == d->stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    d->av.av_dict_free(&options);
    return 0;
fail:
    d->av.av_dict_free(&options);
    demux_close(d);
    return rc;
}

static enum packet_entry entry_kind(const AVPacket *p, const AVCodecParameters *par)
{
    if (!(p->flags & AV_PKT_FLAG_KEY) || (p->flags & AV_PKT_FLAG_CORRUPT))
        return ENTRY_NO;
    if (par->codec_id == AV_CODEC_ID_H264 &&
        !nal_has_idr(p->data, (size_t)p->size, par->extradata, (size_t)par->extradata_size))
        return ENTRY_SOON;
    for (size_t i = 0; i < sizeof RANDOM_ACCESS / sizeof RANDOM_ACCESS[0]; i++) {
        if (par->codec_id == RANDOM_ACCESS[i])
            return ENTRY_EXACT;
    }
    return ENTRY_NO;
}

int decode_packet(struct decode *d, struct packet *p, struct err *e)
{
    memset(p, 0, sizeof *p);
    for (;;) {
        d->av.av_packet_unref(d->packet);
        int k = d->av.av_read_frame(d->format, d->packet);
        int rc = stopped(d, e);
        if (rc != 0)
            return rc;
        if (k == AVERROR(EAGAIN))
            continue;
        if (k == AVERROR(ENOMEM))
            return err_set(e, ERR_LIMIT, "%s: out of memory for a packet", d->o.name);
        if (k < 0)
            return 0;
        if (d->packet->stream_index == d->stream)
            break;
    }
    const AVPacket *a = d->packet;
    if (d->av.av_packet_get_side_data(a, AV_PKT_DATA_ENCRYPTION_INFO, NULL))
        return err_set(e, ERR_MEDIA, "%s: the video is encrypted", d->o.name);
    *p = (struct packet){.pts = a->pts == AV_NOPTS_VALUE ? PACKET_NO_TIME : a->pts,
                         .dts = a->dts == AV_NOPTS_VALUE ? PACKET_NO_TIME : a->dts,
                         .pos = a->pos,
                         .size = (uint32_t)a->size,
                         .entry = entry_kind(a, d->format->streams[d->stream]->codecpar)};
    return 1;
}

bool decode_seek(struct decode *d, int64_t dts)
{
    return d->format && d->av.av_seek_frame(d->format, d->stream, dts, AVSEEK_FLAG_BACKWARD) >= 0;
}

// ---- what the headers tell

// Clockwise degrees, 0 unless a quarter turn: the "rotate" tag, else the display matrix (SPEC 3.2).
static int quarter_turn(double degrees)
{
    if (!isfinite(degrees))
        return 0;
    int turn = (int)fmod(degrees, 360);
    turn = turn < 0 ? turn + 360 : turn;
    return turn == 90 || turn == 180 || turn == 270 ? turn : 0;
}

static const uint8_t *stream_side_data(const struct decode *d, const AVStream *s,
                                       enum AVPacketSideDataType type, size_t *n)
{
#if LIBAV_CODED_SIDE_DATA
    const AVPacketSideData *found = d->av.av_packet_side_data_get(
        s->codecpar->coded_side_data, s->codecpar->nb_coded_side_data, type);
    *n = found ? found->size : 0;
    return found ? found->data : NULL;
#else
    return d->av.av_stream_get_side_data(s, type, n);
#endif
}

static int stream_rotation(const struct decode *d, const AVStream *s)
{
    const AVDictionaryEntry *tag = d->av.av_dict_get(s->metadata, "rotate", NULL, 0);
    double degrees = tag ? (double)strtol(tag->value, NULL, 10) : 0;
    if (degrees == 0) {
        size_t n = 0;
        const uint8_t *m = stream_side_data(d, s, AV_PKT_DATA_DISPLAYMATRIX, &n);
        if (m && n >= 9 * sizeof(int32_t))
            degrees = -d->av.av_display_rotation_get((const int32_t *)(const void *)m);
    }
    return quarter_turn(degrees);
}

static double ratio(AVRational q)
{
    return q.num > 0 && q.den > 0 ? (double)q.num / (double)q.den : 0;
}

// What the header tells. Pictures beyond the limits are refused before the file is read through.
static int fill_info(struct decode *d, struct err *e)
{
    const AVStream *s = d->format->streams[d->stream];
    struct decode_info *t = &d->info;
    const AVCodecDescriptor *codec = d->av.avcodec_descriptor_get(s->codecpar->codec_id);
    int w = s->codecpar->width, h = s->codecpar->height;

    t->time_base = ratio(s->time_base);
    t->format = d->format->iformat->name;
    t->broadcast = d->av.av_match_list(t->format, "mpegts,mpeg", ',') > 0;
    t->codec = codec ? codec->name : "unknown";
    if (w <= 0 || h <= 0)
        return err_set(e, ERR_MEDIA,
                       "%s: the %s stream tells no picture size, or one above %zu pixels",
                       d->o.name, t->codec, d->o.max_pixels);
    if ((size_t)w > d->o.max_side || (size_t)h > d->o.max_side ||
        (size_t)w * (size_t)h > d->o.max_pixels)
        return err_set(e, ERR_LIMIT, "%s: pictures of %dx%d, at most %zu a side and %zu in all",
                       d->o.name, w, h, d->o.max_side, d->o.max_pixels);
    t->rotation = stream_rotation(d, s);
    t->width = (size_t)(t->rotation % 180 ? h : w);
    t->height = (size_t)(t->rotation % 180 ? w : h);
    return 0;
}

const struct decode_info *decode_info(struct decode *d)
{
    struct decode_info *t = &d->info;
    if (d->format) { // some demuxers know the times only after the whole file was read
        const AVStream *s = d->format->streams[d->stream];
        t->fps = ratio(s->avg_frame_rate);
        t->duration_s = s->duration > 0           ? (double)s->duration * t->time_base
                        : d->format->duration > 0 ? (double)d->format->duration / AV_TIME_BASE
                                                  : 0;
    }
    return t;
}

// ---- decoder

int decode_restart(struct decode *d, struct err *e)
{
    const AVCodecParameters *par = d->format->streams[d->stream]->codecpar;
    const AVCodec *codec = d->av.avcodec_find_decoder(par->codec_id);
    AVDictionary *options = NULL;
    d->av.avcodec_free_context(&d->decoder);
    if (!codec || !d->av.av_match_list(codec->name, CODECS, ','))
        return err_set(e, ERR_MEDIA, "%s: video codec '%s' is not accepted", d->o.name,
                       d->info.codec);
    d->decoder = d->av.avcodec_alloc_context3(codec);
    if (!d->decoder || d->av.avcodec_parameters_to_context(d->decoder, par) < 0)
        return err_set(e, ERR_LIMIT, "%s: out of memory for the %s decoder", d->o.name,
                       d->info.codec);
    d->decoder->thread_count = (int)d->o.n_thread;
    d->decoder->max_pixels = (int64_t)buffer_pixels(&d->o);
    int k = d->av.avcodec_open2(d->decoder, codec, &options);
    d->av.av_dict_free(&options);
    return k < 0 ? failed(d, ERR_MEDIA, "damaged: the video decoder cannot start", e) : 0;
}

int decode_flush(struct decode *d, struct err *e)
{
    if (!d->decoder || !d->av.avcodec_is_open(d->decoder))
        return decode_restart(d, e);
    d->av.avcodec_flush_buffers(d->decoder);
    return 0;
}

// What avcodec said, where only running out of memory is our caller's concern.
static int said(struct decode *d, int k, struct err *e)
{
    return k == AVERROR(ENOMEM)
               ? err_set(e, ERR_LIMIT, "%s: the decoder is out of memory", d->o.name)
               : 0;
}

int decode_send(struct decode *d, int64_t rank, struct err *e)
{
    d->packet->pts = rank;
    d->packet->dts = AV_NOPTS_VALUE;
    d->packet->flags &= ~AV_PKT_FLAG_DISCARD; // the packet counts, so its picture does
    return said(d, d->av.avcodec_send_packet(d->decoder, d->packet), e);
}

int decode_send_end(struct decode *d, struct err *e)
{
    return said(d, d->av.avcodec_send_packet(d->decoder, NULL), e);
}

int decode_picture(struct decode *d, int64_t *rank, struct err *e)
{
    int k = 0;
    *rank = -1;
    // damage in one packet is told here, too, and good pictures of other threads may follow
    for (unsigned n_error = 0; n_error <= ERRORS_MAX; n_error++) {
        k = d->av.avcodec_receive_frame(d->decoder, d->frame);
        if (k >= 0) {
            *rank = d->frame->pts == AV_NOPTS_VALUE ? -1 : d->frame->pts;
            return 1;
        }
        if (k == AVERROR(EAGAIN) || k == AVERROR_EOF || k == AVERROR(ENOMEM))
            break;
    }
    return said(d, k, e);
}

// ---- colours

static bool same_kind(const AVFrame *a, const struct kind *b)
{
    return a->width == b->width && a->height == b->height && a->format == b->format &&
           (int)a->colorspace == b->space && (int)a->color_range == b->range;
}

// The converter for pictures like f to the stream's size, with decord's matrix and range (SPEC 3.2).
// Bilinear is what its scale filter defaults to. The flag does not matter for 8-bit 4:2:0 of even height,
// which takes a table-driven path; for odd heights and 10 bits bicubic gives other bytes than decord.
static int converter_make(struct decode *d, const AVFrame *f, struct err *e)
{
    if (d->sws && same_kind(f, &d->kind))
        return 0;
    d->av.sws_freeContext(d->sws);
    d->sws = d->av.sws_getContext(f->width, f->height, f->format, d->rgb->width, d->rgb->height,
                                  AV_PIX_FMT_RGB24, SWS_BILINEAR, NULL, NULL, NULL);
    if (!d->sws)
        return err_set(e, ERR_MEDIA, "%s: pictures of %dx%d, pixel format %d, cannot be converted",
                       d->o.name, f->width, f->height, f->format);
    int *in, *out, full, out_full, brightness, contrast, saturation;
    if (d->av.sws_getColorspaceDetails(d->sws, &in, &full, &out, &out_full, &brightness, &contrast,
                                       &saturation) >= 0) {
        const int *matrix = d->av.sws_getCoefficients((int)f->colorspace); // unknown = BT.601
        if (f->color_range != AVCOL_RANGE_UNSPECIFIED)
            full = f->color_range == AVCOL_RANGE_JPEG;
        d->av.sws_setColorspaceDetails(d->sws, matrix, full, matrix, out_full, brightness, contrast,
                                       saturation);
    }
    d->kind =
        (struct kind){f->width, f->height, f->format, (int)f->colorspace, (int)f->color_range};
    return 0;
}

static int rgb_frame(struct decode *d, struct err *e)
{
    bool turned = d->info.rotation % 180 != 0;
    if (d->rgb)
        return 0;
    d->rgb = d->av.av_frame_alloc();
    if (d->rgb) {
        d->rgb->format = AV_PIX_FMT_RGB24;
        d->rgb->width = (int)(turned ? d->info.height : d->info.width);
        d->rgb->height = (int)(turned ? d->info.width : d->info.height);
    }
    if (d->rgb && d->av.av_frame_get_buffer(d->rgb, 0) >= 0)
        return 0;
    d->av.av_frame_free(&d->rgb);
    return err_set(e, ERR_LIMIT, "%s: out of memory for a picture of %zux%zu", d->o.name,
                   d->info.width, d->info.height);
}

static void image_rotation(struct decode *d)
{
    const AVFrameSideData *side =
        d->av.av_frame_get_side_data(d->frame, AV_FRAME_DATA_DISPLAYMATRIX);
    if (d->info.rotation != 0 || !side || side->size < 9 * sizeof(int32_t))
        return;
    d->info.rotation =
        quarter_turn(-d->av.av_display_rotation_get((const int32_t *)(const void *)side->data));
    d->info.width = (size_t)(d->info.rotation % 180 ? d->rgb->height : d->rgb->width);
    d->info.height = (size_t)(d->info.rotation % 180 ? d->rgb->width : d->rgb->height);
}

int decode_rgb(struct decode *d, uint8_t *rgb, struct err *e)
{
    int rc;
    const AVFrame *f = d->frame;
    TRY(rgb_frame(d, e));
    TRY(converter_make(d, f, e));
    if (d->av.sws_scale(d->sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height,
                        d->rgb->data, d->rgb->linesize) != d->rgb->height)
        return err_set(e, ERR_MEDIA, "%s: a picture of %dx%d cannot be converted", d->o.name,
                       f->width, f->height);
    if (d->o.image)
        image_rotation(d);
    rotate_rgb(rgb, d->rgb->data[0], (size_t)d->rgb->width, (size_t)d->rgb->height,
               (size_t)d->rgb->linesize[0], d->info.rotation);
fail:
    return rc;
}

// ---- opening and closing

int decode_open(struct decode **out, const struct decode_options *o, struct err *e)
{
    int rc;
    *out = NULL;
    struct decode *d = mem_calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ERR_LIMIT, "%s: out of memory", o->name);
    d->o = *o;
    rc = libav_open(&d->av, e);
    if (rc != 0) {
        mem_free(d);
        return rc;
    }
    if (d->av.av_log_get_level() == AV_LOG_INFO) // as it comes: nobody wants FFmpeg's own messages
        d->av.av_log_set_level(AV_LOG_QUIET);
    d->packet = d->av.av_packet_alloc();
    d->frame = d->av.av_frame_alloc();
    if (!d->packet || !d->frame) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory", o->name);
        goto fail;
    }
    TRY(demux_open(d, e));
    TRY(fill_info(d, e));
    TRY(decode_restart(d, e));
    *out = d;
    return 0;
fail:
    decode_close(d);
    return rc;
}

int decode_rewind(struct decode *d, struct err *e)
{
    demux_close(d);
    return demux_open(d, e);
}

void decode_close(struct decode *d)
{
    if (!d)
        return;
    d->av.avcodec_free_context(&d->decoder);
    demux_close(d);
    d->av.av_packet_free(&d->packet);
    d->av.av_frame_free(&d->frame);
    d->av.av_frame_free(&d->rgb);
    d->av.sws_freeContext(d->sws);
    mem_free(d);
}

void decode_describe(char *out, size_t cap)
{
    struct err e;
    struct libav av;
    if (libav_open(&av, &e) != 0) {
        snprintf(out, cap, "none (%s)", e.msg);
        return;
    }
    unsigned f = av.avformat_version(), c = av.avcodec_version(), s = av.swscale_version();
    snprintf(out, cap, "libavformat %u.%u.%u, libavcodec %u.%u.%u, libswscale %u.%u.%u", f >> 16,
             f >> 8 & 255, f & 255, c >> 16, c >> 8 & 255, c & 255, s >> 16, s >> 8 & 255, s & 255);
}
