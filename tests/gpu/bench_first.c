// SPDX-License-Identifier: MIT
// Time to the first token of a video on a model that is warm: an engine without a cache is asked about made-up frames, then
// about the file as often as wanted, each time opened anew in a conversation of its own.
//   bench_first MODEL VIDEO [DEVICE [N [GPU_WEIGHTS]]]
#include <ivchat.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "median.h"

enum { N_FRAME = 8, WIDTH = 320, HEIGHT = 240, MOST = 100 };

static void must(int rc, const struct iv_error *e)
{
    if (rc == IV_OK)
        return;
    fprintf(stderr, "%s\n", e->message);
    exit(1);
}

// Asks about video, or about frames if it is NULL; milliseconds to the first token.
static double ask_about(iv_engine *engine, const char *video)
{
    static uint8_t rgb[N_FRAME][HEIGHT][WIDTH][3];
    struct iv_media_options mo = iv_media_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer answer = {0};
    struct iv_error e = {0};
    iv_media *media = NULL;
    iv_session *session = NULL;
    double start = clock_ms();
    ask.max_new_tokens = 1;
    ask.ignore_eos = true;
    for (size_t i = 0; !video && i < sizeof rgb; i++)
        (&rgb[0][0][0][0])[i] = (uint8_t)(i * 2654435761u >> 24);
    must(video ? iv_media_open_video(engine, video, &mo, &media, &e)
               : iv_media_from_rgb(engine, &rgb[0][0][0][0], N_FRAME, WIDTH, HEIGHT, 2.0, &mo,
                                   &media, &e),
         &e);
    must(iv_session_open(engine, media, &so, &session, &e), &e);
    must(iv_session_ask(session, "What is the person doing in this video?", &ask, &answer, &e), &e);
    double ms = clock_ms() - start;
    const struct iv_media_info *m = iv_media_info(media);
    printf("%s: decode %.1f, preprocess %.1f, vision %.2f, Q-Former %.2f, prefill %.2f ms of %zu "
           "tokens; first token after %.1f ms\n",
           video ? "video" : "frames", m->decode_ms, m->preprocess_ms, answer.vision_ms,
           answer.qformer_ms, answer.prefill_ms, answer.prompt_tokens, ms);
    iv_answer_free(&answer);
    iv_session_close(session);
    iv_media_close(media);
    return ms;
}

int main(int argc, char **argv)
{
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_error e = {0};
    iv_engine *engine = NULL;
    double ms[MOST];
    long n = argc > 4 ? strtol(argv[4], NULL, 10) : 7;
    if (argc < 3 || n < 1 || n > MOST) {
        fprintf(stderr, "bench_first MODEL VIDEO [DEVICE [N [GPU_WEIGHTS]]], N 1 to %d\n", MOST);
        return 2;
    }
    eo.model = argv[1];
    eo.device = argc > 3 ? argv[3] : "cuda:0";
    eo.dtype = "bf16";
    eo.gpu_weights = argc > 5 ? argv[5] : NULL;
    eo.cache_mib = 0;
    must(iv_engine_open(&eo, &engine, &e), &e);
    ask_about(engine, NULL);
    ask_about(engine, argv[2]); // other shapes
    for (long i = 0; i < n; i++)
        ms[i] = ask_about(engine, argv[2]);
    double middle = median(ms, (size_t)n);
    printf("first token after %.1f ms [%.1f .. %.1f], %ld times\n", middle, ms[0], ms[n - 1], n);
    iv_engine_close(engine);
    return 0;
}
