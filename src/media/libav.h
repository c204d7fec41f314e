// SPDX-License-Identifier: MIT
// FFmpeg's libraries, opened with the first medium. They bring more than a hundred others along, whose loading would be
// nearly all of the time a command takes that needs none of them (a list, a question in text, help).
//
// Members have the functions' own names and types.
#ifndef IV_MEDIA_LIBAV_H
#define IV_MEDIA_LIBAV_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/display.h>
#include <libswscale/swscale.h>

#include "base/err.h"

// Side data of a stream: with its codec's parameters since FFmpeg 7.
#define LIBAV_CODED_SIDE_DATA (LIBAVFORMAT_VERSION_MAJOR >= 61)
#if LIBAV_CODED_SIDE_DATA
#define LIBAV_STREAM_SIDE_DATA(X)
#define LIBAV_PACKET_SIDE_DATA(X) X(av_packet_side_data_get)
#else
#define LIBAV_STREAM_SIDE_DATA(X) X(av_stream_get_side_data)
#define LIBAV_PACKET_SIDE_DATA(X)
#endif

// X(function), by the library that has it.
#define LIBAV_UTIL(X)                                                                              \
    X(av_dict_free)                                                                                \
    X(av_dict_get)                                                                                 \
    X(av_dict_set)                                                                                 \
    X(av_display_rotation_get)                                                                     \
    X(av_frame_alloc)                                                                              \
    X(av_frame_free)                                                                               \
    X(av_frame_get_buffer)                                                                         \
    X(av_frame_get_side_data)                                                                      \
    X(av_free)                                                                                     \
    X(av_freep)                                                                                    \
    X(av_log_get_level)                                                                            \
    X(av_log_set_level)                                                                            \
    X(av_malloc)                                                                                   \
    X(av_match_list)
#define LIBAV_CODEC(X)                                                                             \
    X(av_packet_alloc)                                                                             \
    X(av_packet_free)                                                                              \
    X(av_packet_get_side_data)                                                                     \
    LIBAV_PACKET_SIDE_DATA(X)                                                                      \
    X(av_packet_unref)                                                                             \
    X(avcodec_alloc_context3)                                                                      \
    X(avcodec_descriptor_get)                                                                      \
    X(avcodec_find_decoder)                                                                        \
    X(avcodec_flush_buffers)                                                                       \
    X(avcodec_free_context)                                                                        \
    X(avcodec_is_open)                                                                             \
    X(avcodec_open2)                                                                               \
    X(avcodec_parameters_to_context)                                                               \
    X(avcodec_receive_frame)                                                                       \
    X(avcodec_send_packet)                                                                         \
    X(avcodec_version)
#define LIBAV_FORMAT(X)                                                                            \
    X(av_find_best_stream)                                                                         \
    X(av_probe_input_buffer2)                                                                      \
    X(av_read_frame)                                                                               \
    X(av_seek_frame)                                                                               \
    LIBAV_STREAM_SIDE_DATA(X)                                                                      \
    X(avformat_alloc_context)                                                                      \
    X(avformat_close_input)                                                                        \
    X(avformat_find_stream_info)                                                                   \
    X(avformat_open_input)                                                                         \
    X(avformat_version)                                                                            \
    X(avio_alloc_context)                                                                          \
    X(avio_context_free)
#define LIBAV_SCALE(X)                                                                             \
    X(sws_freeContext)                                                                             \
    X(sws_getCoefficients)                                                                         \
    X(sws_getColorspaceDetails)                                                                    \
    X(sws_getContext)                                                                              \
    X(sws_scale)                                                                                   \
    X(sws_setColorspaceDetails)                                                                    \
    X(swscale_version)

#define LIBAV_MEMBER(function) __typeof__(function) *function;
struct libav {
    LIBAV_UTIL(LIBAV_MEMBER)
    LIBAV_CODEC(LIBAV_MEMBER)
    LIBAV_FORMAT(LIBAV_MEMBER)
    LIBAV_SCALE(LIBAV_MEMBER)
};
#undef LIBAV_MEMBER

// Opens the libraries of the major versions that the headers are of, and finds the functions. They stay loaded: a second
// call takes some microseconds. On failure ERR_FAIL, with what is missing, and no member may be used. Any thread. Reads
// files: before access to them is given up.
int libav_open(struct libav *av, struct err *e);

#endif
