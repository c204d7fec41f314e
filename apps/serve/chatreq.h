// SPDX-License-Identifier: MIT
// The body of /v1/chat/completions (and of the paths that read its messages), checked: what it asks for, and which
// media it names. Opens nothing, knows no model.
#ifndef IV_APPS_SERVE_CHATREQ_H
#define IV_APPS_SERVE_CHATREQ_H

#include "mediaref.h"

enum {
    CHATREQ_TURNS_MAX = 1024,
    CHATREQ_MEDIA_MAX = 64, // parts; images in all
    CHATREQ_STOPS_MAX = 64, // these two are the library's
    CHATREQ_STOP_BYTES = 1024,
    CHATREQ_CHOICES_MAX = 16,
    CHATREQ_TOP_MAX = 20,
    CHATREQ_TEXT_MAX = 1 << 20, // bytes of one text
    CHATREQ_TEXTS_MAX = 8 << 20 // of all messages: their ids take forty times as much for a while
};

struct chatreq_turn {
    char *question, *answer; // answer NULL: the question that is to be answered
};

struct chatreq {
    struct json_t *json; // texts below point into it
    struct chatreq_turn *turn;
    size_t n_turn; // the last one is the question
    struct mediaref *media;
    size_t n_media;
    // preprocessing; 0 = not said
    int n_frame, hd_num, fix_cols, fix_rows;
    bool fix_ratio, padding, time_text;
    double rate, start_s, end_s;
    const char *instruction, *msg, *answer_prefix;
    // generation
    int max_tokens, top_k, num_beams, min_length, n_choice; // max_tokens 0 = not said
    double temperature, top_p, repetition_penalty, length_penalty;
    bool seed_given, ignore_eos, stream, include_usage;
    uint64_t seed;
    int n_logprob; // -1 = none
    const char **stop;
    size_t n_stop;
};

// 0, or -1 with *r (400 or 413); then nothing is held. The text may go afterwards.
int chatreq_read(struct chatreq *q, const char *text, size_t n, struct refusal *r);
// The same for a body that needs no messages: the media stand in "input" or "messages".
int chatreq_read_media(struct chatreq *q, const char *text, size_t n, struct refusal *r);
// Only media_io_kwargs and mm_processor_kwargs of an object.
int chatreq_processing(struct chatreq *q, const struct json_t *in, struct refusal *r);
void chatreq_free(struct chatreq *q);

#endif
