// SPDX-License-Identifier: MIT
// `ivchat chat --save FILE --load FILE`: conversations that outlive the program.
//
// What the file tells wins over defaults and loses against what a person names: media and prompt come
// from the file alone, the numbers of generation from the file where no option gives them.

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chat.h"
#include "savefile.h"

// Whether what stands at path may be replaced: nothing, an empty file, a saved conversation.
static int check_target(const char *path, struct iv_error *e)
{
    static const char magic[] = "IVCHCONV"; // docs/FORMATS.md
    char begin[sizeof magic - 1];
    struct stat st;
    if (stat(path, &st) != 0)
        return IV_OK;
    if (!S_ISREG(st.st_mode))
        return app_error(e, IV_ERR_FAIL, "%s: is not a regular file; it is not replaced", path);
    if (st.st_size == 0)
        return IV_OK;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, begin, sizeof begin) : -1;
    if (fd >= 0)
        (void)close(fd);
    if (got == (ssize_t)sizeof begin && memcmp(begin, magic, sizeof begin) == 0)
        return IV_OK;
    return app_error(e, IV_ERR_FAIL,
                     "%s: exists and is not a saved conversation; it is not replaced", path);
}

int chat_save(struct chat *c, const char *path, struct iv_error *e)
{
    if (iv_session_n_turn(c->session) == 0)
        return app_error(e, IV_ERR_FAIL, "%s: not written, the conversation has no turn", path);
    int rc = check_target(path, e);
    return rc == IV_OK ? iv_session_save(c->session, path, e) : rc;
}

static bool given(const struct work *w, const char *option)
{
    return options_given(w->verb->groups, w->s, option);
}

static int check_segments(struct work *w)
{
    const struct settings *s = w->s;
    if (s->segments <= 0 || !s->video)
        return app_error(&w->error, IV_ERR_USAGE, "--each-segment needs --video and --segments");
    if (s->save)
        return app_error(&w->error, IV_ERR_USAGE, "--each-segment and --save exclude each other");
    bool all_given = s->prompt.n > 0;
    for (size_t i = 0; i < s->prompt.n; i++)
        all_given = all_given && strcmp(s->prompt.item[i], "-") != 0;
    if (!all_given)
        return app_error(&w->error, IV_ERR_USAGE,
                         "--each-segment: the questions are asked again about each segment; "
                         "give them with -p");
    return IV_OK;
}

int chat_check_file(struct work *w)
{
    static const char *const of_prompt[] = {"instruction", "allow-special"}; // more: work_check
    const struct settings *s = w->s;
    if (s->each_segment && check_segments(w) != IV_OK)
        return w->error.code;
    if (s->load && (s->video || s->image.n > 0))
        return app_error(&w->error, IV_ERR_USAGE,
                         "--load: the file brings its media; --video and --image exclude it");
    for (size_t i = 0; s->load && !w->later && i < sizeof of_prompt / sizeof *of_prompt; i++)
        if (given(w, of_prompt[i]))
            console_warn(w->con, "--%s has no effect with --load", of_prompt[i]);
    if (s->save && check_target(s->save, &w->error) != IV_OK)
        return w->error.code;
    return s->save ? savefile_check(s->save, &w->error) : IV_OK;
}

static void take_options(const struct chat *c, struct settings *mine)
{
    struct iv_ask_options o = iv_session_last_options(c->session);
    const struct work *w = &c->work;
    if (!given(w, "max-new-tokens"))
        mine->max_new_tokens = o.max_new_tokens;
    if (!given(w, "temp"))
        mine->temp = o.temperature;
    if (!given(w, "top-p"))
        mine->top_p = o.top_p;
    if (!given(w, "top-k"))
        mine->top_k = o.top_k;
    if (!given(w, "seed"))
        mine->seed = o.seed;
    if (!given(w, "num-beams"))
        mine->num_beams = o.num_beams;
    if (!given(w, "length-penalty"))
        mine->length_penalty = o.length_penalty;
    if (!given(w, "repetition-penalty"))
        mine->repetition_penalty = o.repetition_penalty;
    if (!given(w, "min-length"))
        mine->min_length = o.min_length;
    if (!given(w, "ignore-eos"))
        mine->ignore_eos = o.ignore_eos;
}

int chat_load(struct chat *c, struct settings *mine)
{
    struct iv_session_options o = chat_session_options(c);
    struct work *w = &c->work;
    int rc = iv_session_load(w->engine, mine->load, &o, &w->media, &c->session, &w->error);
    if (rc != IV_OK)
        return rc;
    c->media_told = true; // it was opened in another life
    take_options(c, mine);
    console_note(w->con, "%s: %zu turns", mine->load, iv_session_n_turn(c->session));
    return IV_OK;
}
