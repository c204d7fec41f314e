// SPDX-License-Identifier: MIT
// `ivchat quantize SRC DST`: standard output gets the paths of the two files, or with --json one object.
//
// Easy to get wrong: the bar has to go before any other line (console.h sees to it); a run that is stopped
// leaves nothing under the files' names, so its exit code is all there is to say.

#include <string.h>

#include "bytesize.h"
#include "console.h"
#include "heap.h"
#include "jsontext.h"
#include "savefile.h"
#include "signals.h"
#include "verbs.h"
#include "wallclock.h"

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    console_line(user, level, line);
}

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    console_progress(user, stage, done, total);
}

static bool on_abort(void *user)
{
    struct console *con = user;
    return signals_caught() || atomic_load(&con->output_lost);
}

static void add_file(struct json_writer *w, const char *key, const char *path, uint64_t bytes)
{
    jw_object(w, key);
    jw_text(w, "path", path);
    jw_count(w, "bytes", bytes);
    jw_end(w);
}

static int tell_json(struct console *con, const struct settings *s,
                     const struct iv_quantize_result *r, double seconds, struct iv_error *e)
{
    struct json_writer w;
    jw_begin(&w);
    jw_text(&w, "type", s->type ? s->type : r->vision ? "Q4_K_M" : NULL);
    add_file(&w, "language", r->language, r->language_bytes);
    if (r->vision)
        add_file(&w, "vision", r->vision, r->vision_bytes);
    jw_count(&w, "source_bytes", r->source_bytes);
    jw_ms(&w, "ms", 1e3 * seconds);
    char *line = jw_take(&w);
    if (!line)
        return app_error(e, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(con, line, strlen(line)) && console_write(con, "\n", 1));
    heap_free(line);
    return IV_OK;
}

static void tell_text(struct console *con, const struct iv_quantize_result *r, double seconds)
{
    char from[16], language[16], vision[16];
    console_say(con, "%s of tensors became %s%s%s in %.1f s", bytesize(r->source_bytes, from),
                bytesize(r->language_bytes, language), r->vision ? " + " : "",
                r->vision ? bytesize(r->vision_bytes, vision) : "", seconds);
    const char *path[] = {r->language, r->vision};
    for (int i = 0; i < 2 && path[i]; i++) // may be longer than a line of console_print
        (void)(console_write(con, path[i], strlen(path[i])) && console_write(con, "\n", 1));
}

int quantize_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result result = {0};
    struct iv_error e = {0};
    (void)verb;
    if (!s->from || !s->to)
        return console_fail(con,
                            app_error(&e, IV_ERR_USAGE, "%s given: ivchat quantize SRC DST",
                                      s->from ? "no folder to write to" : "no model"),
                            &e);
    o.format = s->format;
    o.type = s->type;
    o.vision_type = s->vision_type;
    o.variant = s->variant;
    o.tensor_type = s->tensor_type.item;
    o.n_tensor_type = s->tensor_type.n;
    o.n_threads = s->threads;
    o.callbacks = (struct iv_callbacks){
        .user = con, .log = on_log, .progress = on_progress, .abort = on_abort};
    double begun = clock_seconds();
    int rc = iv_quantize(s->from, s->to, &o, &result, &e);
    double seconds = clock_seconds() - begun;
    if (rc == IV_OK && s->json)
        rc = tell_json(con, s, &result, seconds, &e);
    else if (rc == IV_OK)
        tell_text(con, &result, seconds);
    iv_quantize_result_free(&result);
    return rc == IV_OK ? 0 : console_fail(con, rc, &e);
}
