// SPDX-License-Identifier: MIT
// What every verb that computes needs: the engine and the media that the options describe, with
// callbacks that reach the console, the signals and the dump.
#ifndef IV_APPS_WORK_H
#define IV_APPS_WORK_H

#include "console.h"
#include "dump.h"
#include "ivchat.h"
#include "verbs.h"

// Zero, work_open, work_media, work_close. One thread.
struct work {
    const struct verb *verb;
    const struct settings *s;
    struct console *con;
    struct dump dump;
    bool plan_only; // set before work_open: the engine is for iv_plan only
    bool lasting;   // the same: there will be many answers
    bool
        of_others; // set before work_check: media come with requests, options say what these leave open
    iv_engine *engine;
    iv_media *media; // NULL = no --video and no --image
    double media_ms; // wall time of opening the media
    struct iv_error error;
    atomic_bool finishing; // what was done is being saved: only a second signal stops that
    atomic_bool halt;      // stops the running call, as a signal would; any thread may set it
    // sees every stage before the dump does; NULL = none
    void (*watch)(void *user, const char *name, const char *dtype, const void *data,
                  const size_t *dim, unsigned n_dim);
    void *watch_user;
};

// Whether the options can be meant: media given twice, a device that this version lacks... 0 or an
// IV_ERR_* code with the message in w->error. Touches no file.
int work_check(struct work *w);
// Opens the engine. The rest of work_open is undone by work_close, also after a failure.
int work_open(struct work *w, bool tokenizer_only);
// Opens the media, if any is named. The engine is open.
int work_media(struct work *w);
// The same into *out, NULL when none is named, after the checks of work_check that concern it; the
// media in w stays. *ms gets the wall time.
int work_media_open(struct work *w, iv_media **out, double *ms);
void work_close(struct work *w);

struct iv_callbacks work_callbacks(struct work *w);
struct iv_media_options work_media_options(struct work *w);
// Exit code of a failed step, told on the console; a failed dump is the cause of an aborted call.
int work_fail(struct work *w, int status);

// "video" of chat --json: what was looked at, or null.
struct json_writer;
void work_media_json(const struct work *w, struct json_writer *json, const char *key);
// The members of that object; path NULL = null.
void work_media_members(const iv_media *media, const char *path, struct json_writer *json);
// -v: file, frames, times, tiles.
void work_media_note(const struct work *w);

#endif
