// SPDX-License-Identifier: MIT
// What a person asked for: one field per option of any verb. The option tables (verbs.c) name the
// field that each option fills; a verb reads only those of its own options, the others are zero.
#ifndef IV_APPS_SETTINGS_H
#define IV_APPS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Texts point into argv or the environment, which outlive the program's work.
struct text_list {
    const char **item;
    size_t n;
};

struct grid {
    int cols, rows; // 0 x 0 = auto
};

enum { OPTION_MAX = 64 }; // options of one verb

struct settings {
    // model
    const char *model, *mmproj, *variant;
    // media
    const char *video;
    struct text_list image;
    int num_frames, hd_num;
    bool padding, antialias, time_text;
    struct grid fix_ratio;
    double start_s, end_s; // end_s 0 = to the end
    double segments;       // seconds of each, 0 = one piece
    bool each_segment;
    // prompt
    struct text_list prompt;
    const char *instruction, *msg, *answer_prefix;
    // generation
    int max_new_tokens, top_k, num_beams, min_length;
    double temp, top_p, length_penalty, repetition_penalty;
    uint64_t seed;
    struct text_list stop;
    bool allow_special, ignore_eos;
    // running
    const char *device, *dtype, *cpu, *gpu_weights, *weights, *cache_type_k, *cache_type_v;
    int threads;
    uint64_t ctx, cache_mib, cache_dir_mib;
    const char *cache_dir, *save, *load;
    // output
    const char *dump, *output, *stage, *progress;
    bool json, verbose, quiet, log_json, history;
    // tokenize
    const char *kind;
    bool decode;
    // pull, list, rm
    const char *repo, *local_dir;
    struct text_list include, exclude;
    int connections, retries;
    bool dry_run;
    // quantize
    const char *from, *to, *format, *type, *vision_type;
    struct text_list tensor_type;
    const char *imatrix, *imatrix_out, *media;
    bool report;
    // serve
    const char *host, *api_key, *media_path, *allow_remote_media, *cors_origins, *ssl_cert_file,
        *ssl_key_file;
    int port, parallel, queue, max_frames;
    uint64_t max_body, store_mib;
    double timeout, grace, max_duration;
    bool metrics;
    // bench
    struct text_list bench_stage;
    int repeat, prompt_tokens, context, sessions;
    bool csv, peaks, profile;
    // info
    bool plan, verify;
    struct grid size;

    // by position in the verb's tables: where the value comes from (enum option_source)
    uint8_t source[OPTION_MAX];
};

#endif
