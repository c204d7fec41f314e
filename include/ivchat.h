/* SPDX-License-Identifier: MIT
 *
 * ivchat: ask questions about videos and images with the InternVideo2-Chat models.
 *
 *   iv_engine   the weights and tokenizers of one model, and a cache of what was computed with it. Opened
 *               once, shared by any number of threads. Must outlive its media and sessions.
 *   iv_media    one video or set of images, decoded and preprocessed, later encoded. May be shared by
 *               several sessions; calls on one media are serialised inside.
 *   iv_session  one conversation. One thread at a time.
 *
 * Conventions. A function that can fail returns IV_OK or a negative iv_status and, if `e` is not NULL, fills *e
 * with one line that names the file, tensor or value and the numbers. Output pointers are set to NULL (or zeroed)
 * first and stay so on failure; what they hold on success is the caller's, to the iv_*_close or iv_*_free of its
 * type, unless the description says otherwise, and what was passed in stays the caller's. Any thread that has 512
 * KiB of stack left, and what its callbacks need, may call any function, but of one session and of one read probe
 * one thread at a time. Strings are UTF-8; paths are bytes. Options are made by the *_default() functions and then
 * changed by name. Pointers inside options are read during the call only, except callbacks, which must stay valid
 * as long as the object they were given to. Callbacks run inside the call that was made: they must not call back
 * into the same media or session, nor ask, warm, encode or prefill anything else with the same engine. Pointer
 * arguments are required unless their description says that NULL is allowed; every iv_*_close and iv_*_free takes
 * NULL. In C++ write "struct iv_plan" in full: some structs share their name with a function.
 *
 * Structs of this header may gain members in each minor version; the SONAME (libivchat.so.MAJOR.MINOR)
 * changes with them, so a program runs with the library it was compiled for.
 */
#ifndef IVCHAT_H
#define IVCHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* a function and a struct of one name */
#endif
extern "C" {
#endif

#if defined(__GNUC__)
#define IV_API __attribute__((visibility("default")))
#else
#define IV_API
#endif

enum iv_status {
    IV_OK = 0,
    IV_ERR_FAIL = -1,    /* any other failure */
    IV_ERR_USAGE = -2,   /* arguments that make no sense */
    IV_ERR_MODEL = -3,   /* model files; in an answer: a token without a piece of the tokenizer */
    IV_ERR_MEDIA = -4,   /* input media */
    IV_ERR_LIMIT = -5,   /* out of memory or over a stated limit */
    IV_ERR_NETWORK = -6, /* downloads */
    IV_ERR_PARTIAL = -7, /* some items of a batch failed */
    IV_ERR_ABORT = -8    /* the abort callback asked to stop */
};

struct iv_error {
    int code;
    char message[1024];
};

enum iv_log_level { IV_LOG_ERROR, IV_LOG_WARN, IV_LOG_INFO, IV_LOG_DEBUG };

/* log, progress and stage are called on the thread that called the library; abort also on worker threads
 * and often: let it read an atomic flag; of an engine on a GPU it may be asked where CUDA forbids its thread nearly
 * all: nothing of a GPU, by this library or by itself, may be called in it. Any member may be NULL. */
struct iv_callbacks {
    void *user;
    void (*log)(void *user, enum iv_log_level level, const char *line);
    /* `done` of `total` units (0 = unknown) of "read" (bytes of standard input or a pipe), "decode", "vision",
     * "qformer", "prefill", "generate", "verify" or "quantize" */
    void (*progress)(void *user, const char *stage, uint64_t done, uint64_t total);
    /* true = stop; the call returns IV_ERR_ABORT within 200 ms, and what the disk takes */
    bool (*abort)(void *user);
    /* every stage's output by name: "frame_indices", "pixels", "vit_patch" (class token and patches, before
     * positions), "vit_block_<i>", "vit", "qformer", "projected", "input_ids" (0 at visual positions),
     * "logits" (of the prompt's last position). dtype "f32", or "i32" for
     * indices and ids; all clips in one call, only when computed; row-major, valid during the call. Costs
     * time: leave NULL in production. */
    void (*stage)(void *user, const char *name, const char *dtype, const void *data,
                  const size_t *dim, unsigned n_dim);
};

/* Version of the library, "MAJOR.MINOR.PATCH". */
IV_API const char *iv_version(void);
/* Lines on compiler, CPU features and kernel tier, devices, library versions. Static storage; any thread. */
IV_API const char *iv_build_info(void);

/* ---------------------------------------------------------------- engine */

typedef struct iv_engine iv_engine;

struct iv_engine_options {
    /* directory of a snapshot, a language model's .gguf file, or "ORG/REPO[@REVISION]" of the hub's cache (see iv_hub_pull) when there is
     * no directory of that name, with ":TYPE" behind it the *-TYPE.gguf there; NULL = the small model that ships with ivchat: ivchat-small in the folder
     * that the environment variable IVCHAT_MODELS_DIR names, else the one installed with this library */
    const char *model;
    /* with a .gguf file: the vision file; NULL = mmproj-NAME.gguf beside NAME.gguf, else the only
     * mmproj-*.gguf there. Without any the engine talks, but takes no media */
    const char *mmproj;
    const char *variant; /* "8b", "hd", "f16", "internlm"; NULL = from the model */
    const char *device; /* "cpu", "cuda", "cuda:N" or "auto" (a GPU if there is one); NULL = auto */
    const char *dtype;  /* precision of products: "f32", "bf16", "int8"; NULL = bf16 */
    /* how the language model's layers lie in a GPU's memory: "plain", in dtype, but in bf16 a .gguf file's Q8_0, Q6_K,
     * Q4_K and Q4_0 as they are there; or quantised when they are brought there, "q8_0", "q6_k", "q4_k_m", "q4_0", which
     * is IV_ERR_USAGE without dtype bf16, and, where a GPU computes or is asked for by name, of a language model that
     * is quantised already; NULL = plain. No effect on the CPU. */
    const char *gpu_weights;
    /* where a CPU reads the language model's weights: "mapped", in the files' page cache; "auto", as far as they lie
     * there in small pages, in a copy in large ones (a tenth faster to decode, 0.3 to 1.5 s a GB to open), if that
     * leaves memory for the files and 2 GiB and the system tells which pages are large (Linux 6.7; files of the same
     * user); NULL = mapped. In bf16 and int8 LoRA pairs that are not bf16 are copied so in any case */
    const char *weights;
    /* how keys and values of conversations are stored: "f32", "bf16", "f16" or "q8_0" (8.5 bits a value; only
     * with heads of a multiple of 32 values); NULL = as dtype, the only choice on a GPU */
    const char *cache_type_k;
    const char *cache_type_v;
    /* highest kernel tier: "ref", "avx2", "avx512", "neon"...; NULL = best; "onednn" is best only where the
     * processor has AMX-BF16 */
    const char *cpu;
    int n_threads;       /* 0 = every core this process may use */
    bool tokenizer_only; /* read no weights: only iv_tokenize and iv_detokenize work */
    /* for iv_plan and what else computes no answer (texts, iv_engine_verify, which reads every weight): a GPU asked for
     * by name need not be there, and nothing is brought to one; no media is encoded, no session opened */
    bool plan_only;
    bool profile; /* note where the time goes, for iv_engine_profile; on the CPU only */
    /* MiB of visual rows and of idle conversations' keys and values (KV) that the engine keeps between
     * calls, 4096; what was used longest ago goes first. 0 = nothing is reused: every turn computes
     * everything anew. Answers are the same, byte for byte, whatever the number. */
    uint64_t cache_mib;
    /* folder, made if absent, where visual rows are kept beyond the life of the engine; NULL = none. Files
     * there are checked when they are read; those that do not match are removed and computed anew. No effect
     * with cache_mib 0. */
    const char *cache_dir;
    uint64_t cache_dir_mib; /* most MiB of that folder, 16384; the oldest use goes first */
    /* sum the squares of what every linear layer reads, for iv_imatrix_save; of a model's folder, on the
     * CPU. What a cache or another session supplies is not read, so not seen */
    bool gather_imatrix;
    struct iv_callbacks callbacks;
};

IV_API struct iv_engine_options iv_engine_options_default(void);
/* Any thread. *out is the caller's, to iv_engine_close. */
IV_API int iv_engine_open(const struct iv_engine_options *o, iv_engine **out, struct iv_error *e);
/* No media, session or call may still use it. */
IV_API void iv_engine_close(iv_engine *engine);

struct iv_engine_info {
    const char *name;         /* last component of the model's path or hub name */
    const char *variant;      /* "8b", "hd", "f16", "internlm" */
    const char *family;       /* what the base language model is, e.g. "mistral", "internlm2" */
    const char *dtype;        /* precision of products */
    const char *cache_type_k; /* how keys are stored: "bf16" ... */
    const char *cache_type_v; /* and values */
    const char *device;       /* "cpu", or "cuda:0 (NVIDIA H200)" */
    const char *cpu;          /* kernel tier in use */
    int n_threads;
    uint64_t n_tensor, n_param, file_bytes;
    uint64_t n_file;
    /* dimensions, as in docs/MODEL.md */
    uint64_t vit_d_model, vit_n_layer, vit_n_head, vit_patch, vit_n_frame;
    uint64_t qformer_d_model, qformer_n_layer, qformer_n_head, n_query;
    uint64_t llm_d_model, llm_n_layer, llm_n_head, llm_n_kv, llm_d_head, llm_d_ffn, llm_n_vocab,
        llm_n_ctx_max;
    uint64_t lora_r;
    double load_ms;
    uint64_t default_n_frame; /* 8, F16: 16 */
};
/* Owned by the engine. Any thread. */
IV_API const struct iv_engine_info *iv_engine_info(const iv_engine *engine);

/* Reads every weight once: NaN or infinity, and the SHA-256 of each file. `report` (NULL = none) gets one line
 * per file and per finding. IV_ERR_MODEL when a value is not finite. Any thread. */
IV_API int iv_engine_verify(const iv_engine *engine, void (*report)(void *user, const char *line),
                            void *user, struct iv_error *e);

/* Time since the engine was opened, by stage ("vision", "qformer", "prefill", "decode") and kind of work ("products",
 * "attention", "norms", "activations", "sums", "rotary", "moves"). Texts are static. */
struct iv_profile_row {
    const char *stage, *kind;
    uint64_t calls;
    double ms; /* of the calling thread */
    double
        cpu_ms; /* of all threads of the process meanwhile: less than ms times threads where some waited */
    double flop, bytes; /* as iv_plan counts them */
};
/* What was called at all. *rows is the caller's, to iv_free. IV_ERR_USAGE when the engine was opened without profile. Any
 * thread. */
IV_API int iv_engine_profile(const iv_engine *engine, struct iv_profile_row **rows, size_t *n,
                             struct iv_error *e);

/* ---------------------------------------------------------------- media */

typedef struct iv_media iv_media;

struct iv_media_options {
    int n_frame;  /* frames sampled from a video; 0 = the variant's default */
    int hd_num;   /* 6; most tiles, for padding and fix_ratio auto */
    bool padding; /* HD padding transform (SPEC 3.5) */
    int fix_cols,
        fix_rows;   /* tile grid; 2 x 1; 0 x 0 = auto (closest grid of at most hd_num tiles) */
    bool antialias; /* plain 8B preprocessing only; true */
    double start_s, end_s; /* part of the video, seconds; end_s <= 0 = to the end */
    /* long videos: cut the part in segments of so many seconds, each with its own n_frame frames and
     * clips; 0 = one piece. Frames are then decoded segment by segment when they are encoded, so that
     * memory does not grow with the length; see iv_media_segment. Videos only. */
    double segment_s;
    struct iv_callbacks callbacks;
};
IV_API struct iv_media_options iv_media_options_default(void);

/* Video file, or "-" for standard input. Opens, decodes the sampled frames and preprocesses them.
 * The engine gives the variant. *out is the caller's, to iv_media_close. Any thread. */
IV_API int iv_media_open_video(const iv_engine *engine, const char *path,
                               const struct iv_media_options *o, iv_media **out,
                               struct iv_error *e);
/* n image files. */
IV_API int iv_media_open_images(const iv_engine *engine, const char *const *paths, size_t n,
                                const struct iv_media_options *o, iv_media **out,
                                struct iv_error *e);
/* n_frame RGB24 frames of width x height, packed rows, [n_frame,height,width,3]; every given frame is used.
 * fps <= 0 = unknown. */
IV_API int iv_media_from_rgb(const iv_engine *engine, const uint8_t *rgb, size_t n_frame,
                             size_t width, size_t height, double fps,
                             const struct iv_media_options *o, iv_media **out, struct iv_error *e);
/* Decoding apart from the model, for programs that open media of strangers: a process of its own, without
 * rights, runs iv_decode and passes on what the callbacks get; the one that holds the engine makes a media of it with
 * iv_media_from_frames. Answers, and what caches know the media by, are those of iv_media_open_*. */
struct iv_frames {              /* of a video */
    size_t n_frame;             /* that follow */
    size_t width, height;       /* after rotation */
    const int32_t *frame_index; /* [n_frame]; NULL = 0, 1, 2 ... */
    uint64_t frame_count;       /* of the whole video */
    double fps, duration_s;     /* 0 = unknown */
    const char
        *sha256; /* of the file's bytes, 64 hex digits; NULL = of frames that bring their own */
};
struct iv_frame {
    size_t slot; /* < n_frame: each comes once, in any order; images: 0, 1, 2 ... */
    const uint8_t *
        rgb; /* [height,width,3]; NULL = undecodable, in a video only: the picture of slot - 1, which was there, again */
    size_t width, height; /* of images each its own */
    const char *sha256;   /* of the bytes of an image's file; NULL for frames of a video */
};
struct iv_decode_options {
    bool image;            /* first picture only, turned as EXIF says */
    int n_frame;           /* frames sampled from a video, at least 1 */
    double rate;           /* > 0: so many a second, but at most n_frame */
    double start_s, end_s; /* part of the video, seconds; end_s <= 0 = to the end */
    double
        max_duration_s; /* IV_ERR_LIMIT beyond these; 0 = of the library: none, 16384, 2^26 (image 2^28), 2^22 */
    size_t max_side, max_pixels, max_frame_count;
    double max_seconds; /* of work; 0 = 1800 */
    int n_thread;       /* decoder threads, 1 */
    struct iv_callbacks callbacks;
    void *user;
    /* Once, before the frames of a video. Both return 0, or a negative status which ends the call. */
    int (*begin)(void *user, const struct iv_frames *f, struct iv_error *e);
    int (*frame)(void *user, const struct iv_frame *f, struct iv_error *e);
};
IV_API struct iv_decode_options iv_decode_options_default(void);
/* n bytes of a video or image file. Needs no engine. Any thread. */
IV_API int iv_decode(const void *bytes, size_t n, const struct iv_decode_options *o,
                     struct iv_error *e);
/* next fills in the next frame, which stays valid until the following call, or returns a negative status.
 * f NULL: n images, f not NULL: that video, n being its n_frame. As iv_media_open_images and _video in all else; of
 * the options n_frame, start_s, end_s and segment_s are not read. Frames without f->sha256 are known by the sha256 of
 * each, or, if one lacks that, by their pixels. */
IV_API int iv_media_from_frames(const iv_engine *engine, const struct iv_frames *f, size_t n,
                                int (*next)(void *user, struct iv_frame *frame, struct iv_error *e),
                                void *user, const struct iv_media_options *o, iv_media **out,
                                struct iv_error *e);
/* Already preprocessed pixels f32 [n_clip,n_frame,3,224,224] (normalised); copied. image = still images. */
IV_API int iv_media_from_pixels(const iv_engine *engine, const float *pixels, size_t n_clip,
                                size_t n_frame, bool image, iv_media **out, struct iv_error *e);
/* Segment i of a video opened with segment_s as a media of its own, with its own frames and time sentence:
 * to ask about one segment after the other. Decodes now. Independent of `media` afterwards; *out is the
 * caller's. IV_ERR_USAGE for a media without segments. Any thread; waits while another call encodes the
 * media. */
IV_API int iv_media_segment(iv_media *media, size_t i, iv_media **out, struct iv_error *e);
IV_API void iv_media_close(iv_media *media);

struct iv_media_info {
    const char *path;   /* as given; NULL for frames and pixels */
    const char *sha256; /* of the file's bytes, 64 hex digits; NULL for frames and pixels */
    bool image;
    uint64_t frame_count;       /* of the video */
    double fps, duration_s;     /* 0 = unknown */
    uint64_t width, height;     /* after rotation */
    size_t n_frame;             /* sampled, of all segments */
    const int32_t *frame_index; /* [n_frame] */
    const double *frame_s;      /* [n_frame] seconds, frame_index / fps */
    size_t cols, rows;          /* tiles */
    size_t n_clip;              /* tiles + global view, of all segments */
    size_t n_segment;           /* 0 = not cut; segments without any frame are left out */
    const double *segment_s;    /* [n_segment] where each begins, seconds */
    const char *time_text;      /* the sentence of SPEC 3.9; NULL when fps is unknown */
    double decode_ms, preprocess_ms, vision_ms, qformer_ms; /* 0 until done */
};
/* Owned by the media; valid until it is closed. The times change while the media
 * is encoded: read them when no other thread is using it. */
IV_API const struct iv_media_info *iv_media_info(const iv_media *media);

enum iv_stage { IV_STAGE_PIXELS, IV_STAGE_VIT, IV_STAGE_QFORMER, IV_STAGE_PROJECTED };
/* Computes (if needed) and copies a stage as f32: pixels [1,n_clip,n_frame,3,224,224], vit
 * [n_clip,1+tokens,d], qformer [n_clip,n_query,d], projected [n_clip*n_query,d_llm]. instruction is for the
 * Q-Former, NULL = none. *data is the caller's (iv_free); dim has room for 6. Of a media in segments
 * only qformer and projected. Any thread. */
IV_API int iv_media_stage(iv_media *media, enum iv_stage stage, const char *instruction,
                          float **data, size_t dim[6], unsigned *n_dim, struct iv_error *e);

/* Encodes now what the first question under this instruction (NULL = none) would wait for. Any thread; does
 * nothing if it is done. IV_ERR_LIMIT, before any work, when no conversation has the positions for it. With cache_mib 0
 * questions encode anew all the same; iv_media_stage and iv_media_save then have use for it. */
IV_API int iv_media_encode(iv_media *media, const char *instruction, struct iv_error *e);
/* Writes the encoded media to a file, as a conversation without turns (iv_session_save tells how), and reads
 * it: *out, the caller's, is a media of rows as iv_session_load makes them. callbacks is copied; NULL = none.
 * Any thread. */
IV_API int iv_media_save(iv_media *media, const char *instruction, const char *path,
                         struct iv_error *e);
IV_API int iv_media_load(const iv_engine *engine, const char *path,
                         const struct iv_callbacks *callbacks, iv_media **out, struct iv_error *e);

/* ---------------------------------------------------------------- session */

typedef struct iv_session iv_session;

struct iv_session_options {
    /* most positions; 0 = those of the model; more than the model can address is an error. Memory grows
     * as needed */
    size_t n_ctx;
    bool allow_special; /* control-token strings in the caller's texts become control ids, as in the
                                reference; default false: they stay plain text */
    const char *instruction; /* SPEC 6.1; copied; NULL = none */
    const char *msg;         /* copied; NULL = none */
    bool time_text;          /* put a video's time sentence in place of msg; images have none */
    bool keep_cache;         /* true: use the engine's cache, for visual rows and the KV prefix of
                                earlier turns; false = as if cache_mib were 0 */
    struct iv_callbacks callbacks;
};
IV_API struct iv_session_options iv_session_options_default(void);

/* media may be NULL (text only); it must outlive the session, or be replaced by iv_session_set_media before
 * it is closed. */
IV_API int iv_session_open(const iv_engine *engine, iv_media *media,
                           const struct iv_session_options *o, iv_session **out,
                           struct iv_error *e);
IV_API void iv_session_close(iv_session *session);

struct iv_turn {
    const char *prompt, *answer; /* each with a zero byte behind it */
    size_t answer_len;           /* bytes: an answer may hold zero bytes */
    bool answer_special; /* the model generated control tokens in it: strings of control tokens
                                    become ids again, whatever allow_special says */
};
/* Appends a past turn without running the model. Copied; answer_len 0 = up to the zero byte. */
IV_API int iv_session_add_turn(iv_session *session, const struct iv_turn *turn, struct iv_error *e);
/* Forgets every turn. */
IV_API void iv_session_reset(iv_session *session);
/* Removes the last turn, so that its question can be asked again. IV_ERR_USAGE when there is none. */
IV_API int iv_session_drop_turn(iv_session *session, struct iv_error *e);
/* The turns, oldest first. The texts of *turn are owned by the session and valid until the history next
 * changes. IV_ERR_USAGE (*turn all zero) when i is not below iv_session_n_turn. */
IV_API size_t iv_session_n_turn(const iv_session *session);
IV_API int iv_session_turn(const iv_session *session, size_t i, struct iv_turn *turn);
/* Goes on with another media (NULL = text only), under the same options, and forgets every turn. The old
 * media is no longer used and stays the caller's, as does the new one, which must outlive the session. On
 * failure (media of another engine; time_text without a frame rate) nothing has changed. */
IV_API int iv_session_set_media(iv_session *session, iv_media *media, struct iv_error *e);
/* Does now what the next question would otherwise wait for: encodes the media if that is not done, and
 * prefills everything in front of the question (media and history, re-tokenised). For the time in which a
 * person types. Stopped by the abort callback it keeps what is done. Changes no answer; does nothing
 * without caches. */
IV_API int iv_session_warm(iv_session *session, struct iv_error *e);

/* Writes the conversation to a file (docs/FORMATS.md): history, visual rows, KV, the numbers of the last
 * question's options. The file is written beside `path` with mode 0600, synced and renamed: path holds the old
 * or the new one, never a part; a symbolic link of that name is replaced, not followed. The media is encoded first if that is not done. On failure path is as before. */
IV_API int iv_session_save(iv_session *session, const char *path, struct iv_error *e);
/* Reads such a file: going on gives the same tokens as never having left. Instruction, msg and allow_special
 * are the file's; of `o` n_ctx, keep_cache and callbacks count. *media is made from the file's
 * visual rows, without frames: it can be asked about under the same instruction and told about
 * (iv_media_info), not encoded anew; NULL for a conversation without media. Both are the caller's: close the
 * session first. On failure both are NULL. IV_ERR_FAIL: the file cannot be read, is damaged or of another
 * version; IV_ERR_MODEL: it was made with another model or variant; the message says which. */
IV_API int iv_session_load(const iv_engine *engine, const char *path,
                           const struct iv_session_options *o, iv_media **media, iv_session **out,
                           struct iv_error *e);

struct iv_ask_options {
    int max_new_tokens;        /* 200, counts the end-of-sequence token */
    double temperature;        /* 0 = greedy */
    double top_p;              /* 0.9; used when sampling */
    int top_k;                 /* 0 = off */
    uint64_t seed;             /* of the sampler; 0 */
    int num_beams;             /* 1; more = beam search */
    double length_penalty;     /* 1; beam search */
    double repetition_penalty; /* 1 */
    int min_length;            /* 1: end-of-sequence cannot be the first token */
    bool ignore_eos;
    const char *const *stop; /* n_stop (<= 64) texts of 1..1024 bytes that end the answer */
    size_t n_stop;
    const char *answer_prefix; /* SPEC 6.1 answer_prompt; NULL = none */
    /* [n_forced] the answer, whatever the model would have chosen: `token` tells what it thought of each. Not with
     * beams or stop texts; max_new_tokens has no effect, nor does the end of sequence end it earlier. IV_ERR_USAGE for an
     * id without a piece in the tokenizer. NULL = none */
    const int32_t *forced;
    size_t n_forced;
    void *user;
    /* pieces of the answer as they become certain, whole UTF-8 characters; greedy and sampling only, beam
     * search gives the text at once. NULL = none */
    void (*text)(void *user, const char *piece, size_t n);
    /* each chosen token and the model's logits [n_vocab] it was chosen from, before penalties and temperature;
     * not with beams. Comes before the text that the token completes. NULL = none */
    void (*token)(void *user, int32_t id, const float *logits, size_t n_vocab);
};
IV_API struct iv_ask_options iv_ask_options_default(void);
/* The options of the session's last answered question, also of one loaded from a file: what must be given
 * again for the same tokens. Stop texts, answer_prefix and callbacks are left out. The defaults before the
 * first question. */
IV_API struct iv_ask_options iv_session_last_options(const iv_session *session);

struct iv_answer {
    char *text; /* zero-terminated */
    size_t text_len;
    int32_t *token_ids; /* generated, a final end-of-sequence id included */
    size_t n_token;
    const char *finish_reason; /* "stop" or "length" */
    size_t prompt_tokens,
        cached_tokens; /* cached: taken over from earlier turns or from another session's video */
    bool media_cached; /* the visual rows were there already, or another call made them meanwhile */
    double vision_ms, qformer_ms, prefill_ms, generate_ms, ttft_ms, tokens_per_second;
    double score;         /* beam search: of the answer */
    uint64_t logits_hash; /* of the last logits: equal for equal input, tier and precision */
};

/* One turn: encodes the media if that is not done, prefills, generates, appends (prompt, answer) to the
 * history. On success the answer is the caller's, to iv_answer_free. On failure or abort the history is as
 * before the call. */
IV_API int iv_session_ask(iv_session *session, const char *prompt, const struct iv_ask_options *o,
                          struct iv_answer *answer, struct iv_error *e);
IV_API void iv_answer_free(struct iv_answer *answer);

/* Token ids the model would see for `prompt` as the next turn; visual positions are id -1. The caller's,
 * to iv_free. */
IV_API int iv_session_prompt_ids(iv_session *session, const char *prompt, const char *answer_prefix,
                                 int32_t **ids, size_t *n, struct iv_error *e);

/* The same as text, for people: with the template's strings, a placeholder for the visual positions of each clip. Text
 * that looks like a control token cannot be told from one in it. *text is zero-terminated and the caller's. */
IV_API int iv_session_prompt_text(iv_session *session, const char *prompt,
                                  const char *answer_prefix, char **text, size_t *n,
                                  struct iv_error *e);

/* ---------------------------------------------------------------- planning, text, memory */

enum iv_gpu_plan_kind {
    IV_GPU_PLAN_NONE,     /* the CPU computes */
    IV_GPU_PLAN_DEVICE,   /* of a GPU that is there */
    IV_GPU_PLAN_ESTIMATE, /* of one that is not (plan_only): free_bytes and memory_bytes are 0 */
    IV_GPU_PLAN_UNKNOWN   /* this build knows no GPUs: all numbers are 0 */
};

/* Memory of the GPU: what this library takes there. What the driver takes for itself (context, rounding, recorded
 * steps) comes on top; where there is a device its context is no longer in free_bytes. */
struct iv_gpu_plan {
    enum iv_gpu_plan_kind kind;
    const char *device;    /* "cuda:0 (NVIDIA H200)"; the engine's */
    const char *reason;    /* why the device is not there; the engine's, NULL if it is */
    uint64_t weight_bytes; /* the sum of the next eight */
    /* layers in bf16 or f32. LoRA is merged into the language model's where they are computed in bf16; where it is not,
     * its matrix B lies in the rows of these */
    uint64_t plain_bytes;
    /* layers in blocks, the file's or quantised */
    uint64_t q8_0_bytes, q6_k_bytes, q4_k_bytes, q4_0_bytes;
    uint64_t lora_bytes;   /* matrix A of LoRA that is not merged */
    uint64_t vector_bytes; /* biases, norms, small tables of positions */
    uint64_t table_bytes;  /* rows to look up */
    uint64_t kv_bytes;     /* of this conversation */
    uint64_t work_bytes;   /* scratch of the largest forward */
    uint64_t stream_bytes; /* cuBLASLt's workspace and small buffers of each stream */
    uint64_t
        load_bytes; /* most at one time while weights are brought: those so far, and staging of a layer */
    uint64_t pinned_bytes; /* of the host's memory, through which copies pass */
    uint64_t peak_bytes;   /* most at one time, loading or in the turn */
    uint64_t free_bytes;   /* of the device, what the engine holds already included */
    uint64_t memory_bytes; /* of the device */
};

struct iv_plan {
    uint64_t weight_bytes; /* mapped or loaded */
    uint64_t
        work_bytes; /* most of the work buffers at one time; on a GPU they and kv_bytes lie there */
    uint64_t kv_bytes;
    /* frames and their scratch (of some at once: the more threads, the more), pixels, visual rows */
    uint64_t media_bytes;
    /* estimate of the process's peak resident memory: this turn, also as a later one of its conversation.
     * What the engine's cache holds of other conversations and media, cache_mib at most, comes on top */
    uint64_t peak_bytes;
    uint64_t n_clip, visual_tokens, prompt_tokens;
    uint64_t max_new_tokens; /* as asked, or what the model's positions leave */
    double vision_flop, prefill_flop, decode_bytes_per_token;
    double vision_s, prefill_s, decode_s_per_token; /* from a short probe of this machine's CPU */
    /* the parts of what was counted above; bytes are those of weights, and of keys and values for a token behind
     * this prompt */
    double vit_flop, qformer_flop, decode_flop_per_token;
    double vit_bytes, qformer_bytes, prefill_bytes, decode_kv_bytes;
    struct iv_gpu_plan gpu;
};
/* Without decoding or running anything. media NULL = text only; with segment_s, end_s must tell the length;
 * width, height: of the video (0 = unknown);
 * prompt_tokens: text tokens, those of the template included; IV_ERR_LIMIT when they and the visual ones
 * pass the model's positions. */
IV_API int iv_plan(const iv_engine *engine, const struct iv_media_options *media, size_t width,
                   size_t height, size_t prompt_tokens, const struct iv_ask_options *ask,
                   struct iv_plan *out, struct iv_error *e);

/* What this machine can do at best, all threads together, measured anew by each call, which takes about half a second
 * and up to 512 MiB for that long. 0 = the instructions of the tier have no such operation. */
struct iv_peaks {
    const char *cpu; /* kernel tier whose instructions were used */
    int n_threads;
    double read_bytes;                  /* read from memory in a second */
    double f32_ops, bf16_ops, int8_ops; /* a second; a multiply-add counts two */
};
/* cpu, n_threads: as in iv_engine_options. Any thread; other work on the machine shows in the result. */
IV_API int iv_peaks_measure(const char *cpu, int n_threads, struct iv_peaks *out,
                            struct iv_error *e);

/* Reading alone, as often as it is asked for, on machines where it is faster one second and slower the next. Holds its
 * memory, up to 512 MiB, and threads until closed. cpu, n_threads: as above. *out is the caller's, NULL on an error. */
typedef struct iv_read_probe iv_read_probe;
IV_API int iv_read_probe_open(const char *cpu, int n_threads, iv_read_probe **out,
                              struct iv_error *e);
/* Bytes a second, the median of three passes over that memory (together 30 ms at 50 GB/s), which leave nothing else in
 * the caches. One thread at a time. */
IV_API double iv_read_probe_rate(iv_read_probe *r);
IV_API void iv_read_probe_close(iv_read_probe *r);

enum iv_tokenizer { IV_TOKENIZER_LM, IV_TOKENIZER_BERT };
/* Ids of one text piece with the special tokens the model adds (BOS; [CLS] [SEP]). *ids is the caller's
 * (iv_free). Any thread; polls the engine's abort. */
IV_API int iv_tokenize(const iv_engine *engine, enum iv_tokenizer kind, const char *text, size_t n,
                       bool allow_special, int32_t **ids, size_t *n_id, struct iv_error *e);
/* Text of ids, special tokens skipped as the reference does. *text is zero-terminated and the caller's. */
IV_API int iv_detokenize(const iv_engine *engine, enum iv_tokenizer kind, const int32_t *ids,
                         size_t n_id, char **text, size_t *n, struct iv_error *e);

/* Releases what a function handed over. */
IV_API void iv_free(void *p);

/* ---------------------------------------------------------------- quantising */

struct iv_quantized_tensor {
    const char *name; /* in the file */
    const char *type; /* "Q4_K" ... */
    bool vision;      /* in the vision file */
    uint64_t rows, cols, bytes;
    bool weighted;        /* an importance matrix had its say */
    double rms;           /* of the source's values */
    double relative_rms;  /* of the differences, by rms; 0 where that is 0 */
    double cosine;        /* of both as vectors; 1 where either has no length */
    double largest_error; /* of one value */
};
struct iv_quantize_options {
    /* "gguf" (default), or "safetensors": FOLDER becomes a snapshot with LoRA merged, the language model's
     * matrices in type (F32, F16 or BF16; NULL = as they are), everything else unchanged */
    const char *format;
    const char *type; /* "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q4_0", "Q4_K_M" (default) */
    /* of the vision part, from the same list; NULL = Q8_0, and type where that is F32, F16 or BF16 */
    const char *vision_type;
    const char *variant; /* as in iv_engine_options */
    /* "REGEX=TYPE" by tensor name in the files, the first that matches counts */
    const char *const *tensor_type;
    size_t n_tensor_type;
    /* importance matrix (iv_imatrix_save, or llama.cpp's, GGUF or .dat): what is rounded well counts more where
     * inputs are large. Matrices that it lacks are rounded without; one of another model is IV_ERR_MODEL. NULL = none */
    const char *imatrix;
    /* after each tensor of both files: how far it is from the source with LoRA merged. NULL = none */
    void *user;
    void (*tensor)(void *user, const struct iv_quantized_tensor *t);
    int n_threads; /* 0 = every core this process may use */
    struct iv_callbacks
        callbacks; /* progress (stage "quantize", bytes of the source), log and abort are used */
};
IV_API struct iv_quantize_options iv_quantize_options_default(void);

struct iv_quantize_result {
    char *language, *vision; /* paths of the files; of "safetensors" language is all, vision NULL */
    uint64_t language_bytes, vision_bytes;
    uint64_t source_bytes; /* of the tensors read */
};
/* Writes FOLDER/NAME-TYPE.gguf (language model, LoRA merged, as llama.cpp reads it) and
 * FOLDER/mmproj-NAME-TYPE.gguf from a model's directory, its hub name, or NULL for the small model; NAME is the
 * last component. FOLDER is made if absent. A file appears under its name once it is whole. *out is the
 * caller's, to iv_quantize_result_free. Any thread. */
IV_API int iv_quantize(const char *model, const char *folder, const struct iv_quantize_options *o,
                       struct iv_quantize_result *out, struct iv_error *e);
IV_API void iv_quantize_result_free(struct iv_quantize_result *result);

/* Writes what an engine opened with gather_imatrix has read so far, for iv_quantize: a GGUF file of type imatrix.
 * dataset: a word on what it was shown; NULL = "ivchat". path holds the old or the new file. IV_ERR_USAGE when
 * nothing was gathered. Any thread. */
IV_API int iv_imatrix_save(const iv_engine *engine, const char *path, const char *dataset,
                           struct iv_error *e);

/* ---------------------------------------------------------------- hub */

/* Models of the Hugging Face hub and its cache on this machine, which other programs share. The environment
 * says where and who, as for the hub's own client: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_TOKEN,
 * HF_TOKEN_PATH, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT, SSL_CERT_FILE. Every function here: any thread. A
 * name is "ORG/REPO" or "ORG/REPO@REVISION" (branch, tag or commit; main by default). */

enum iv_hub_state {
    IV_HUB_WAITING,
    IV_HUB_BUSY, /* another process downloads it; taken over when that ends */
    IV_HUB_RUNNING,
    IV_HUB_DONE /* in place and verified */
};

struct iv_hub_file {
    const char *path; /* in the repository */
    uint64_t size;
    uint64_t done; /* bytes here, those of earlier downloads included */
    enum iv_hub_state state;
};

struct iv_hub_options {
    /* patterns in which '*' also matches '/'; none to include = weights, index, configuration and tokenizer
     * at the top level, what an engine reads */
    const char *const *include, *const *exclude;
    size_t n_include, n_exclude;
    const char *local_dir; /* put plain files there instead of the cache; NULL = cache */
    int n_connection;      /* 8; at most 64 */
    int retries;  /* 6; repetitions of a request without progress, after 0.25 s, 0.5 s, ... 8 s */
    bool dry_run; /* find out what would be downloaded, and no more */
    struct iv_callbacks callbacks; /* log and abort are used */
    /* the files under way, ten times a second on the calling thread; callbacks.user is given. NULL = none */
    void (*files)(void *user, const struct iv_hub_file *file, size_t n_file);
};
IV_API struct iv_hub_options iv_hub_options_default(void);

struct iv_hub_snapshot {
    char *folder;    /* the model's, for iv_engine_options.model; NULL for a dry run without one */
    char commit[41]; /* "" when HF_HUB_OFFLINE forbade to ask */
    struct iv_hub_file *file; /* those chosen; done = size for those that were here before */
    size_t n_file;
    uint64_t bytes;   /* of the files */
    uint64_t missing; /* of those that were not here */
    uint64_t fetched; /* received */
};
/* Downloads what is missing, over several connections, and verifies it: size, and SHA-256 (of small files
 * git's SHA-1). What has arrived is kept when the call fails or the process ends, and the next call goes on
 * there. Processes that pull the same files at once share the work. IV_ERR_NETWORK for what the hub or the
 * network refuses. *out is the caller's, to iv_hub_snapshot_free. */
IV_API int iv_hub_pull(const char *name, const struct iv_hub_options *o,
                       struct iv_hub_snapshot *out, struct iv_error *e);
IV_API void iv_hub_snapshot_free(struct iv_hub_snapshot *snapshot);

/* Folder of a complete snapshot in the cache; no network. IV_ERR_MODEL says which command downloads or
 * finishes it. *folder is the caller's (iv_free). */
IV_API int iv_hub_find(const char *name, char **folder, struct iv_error *e);

struct iv_hub_revision {
    char commit[41];
    char refs[128]; /* "main v1.0", cut to fit; "" = none */
    uint64_t bytes; /* files shared with other revisions included */
    size_t n_file;
    bool usable; /* an engine can be opened: configuration, tokenizer and every weight are here */
};
struct iv_hub_repo {
    char id[100]; /* "ORG/REPO" */
    char *folder;
    uint64_t bytes;      /* on disk */
    uint64_t unfinished; /* of these, in files not yet complete */
    struct iv_hub_revision *revision;
    size_t n_revision;
};
/* What the cache holds, sorted by name. *repo is the caller's, to iv_hub_list_free. */
IV_API int iv_hub_list(struct iv_hub_repo **repo, size_t *n, struct iv_error *e);
IV_API void iv_hub_list_free(struct iv_hub_repo *repo, size_t n);

/* Removes a repository from the cache, or with @REVISION one snapshot and the files that no other snapshot
 * of it uses. *freed = bytes on disk; with dry_run nothing is removed. IV_ERR_MODEL when it is not in the cache,
 * IV_ERR_FAIL while a process downloads it. */
IV_API int iv_hub_remove(const char *name, bool dry_run, uint64_t *freed, struct iv_error *e);

#ifdef __cplusplus
}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif
#endif
