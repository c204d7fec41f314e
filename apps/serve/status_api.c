// SPDX-License-Identifier: MIT
// What the server is and how it does: /health, /v1/models, /props, /metrics, /openapi.json.

#include <string.h>

#include "embedded.h"
#include "heap.h"
#include "routes.h"

void health_handle(struct request *q, struct reply *p)
{
    struct server *s = q->server;
    struct json_writer w;
    bool closing = atomic_load(&s->closing), ready = atomic_load(&s->ready) && !closing;
    jw_begin(&w);
    jw_text(&w, "status", ready ? "ok" : closing ? "stopping" : "loading model");
    reply_json(p, ready ? 200 : 503, &w);
    p->retry_s = ready ? 0 : 1;
}

static void model_members(const struct server *s, struct json_writer *w)
{
    const struct iv_engine_info *i = iv_engine_info(s->engine);
    jw_text(w, "id", i->name);
    jw_text(w, "object", "model");
    jw_int(w, "created", s->started);
    jw_text(w, "owned_by", "ivchat");
    jw_count(w, "max_model_len", server_positions(s));
    jw_object(w, "meta");
    jw_text(w, "variant", i->variant);
    jw_text(w, "type", i->dtype);
    jw_text(w, "device", i->device);
    jw_count(w, "n_params", i->n_param);
    jw_count(w, "size", i->file_bytes);
    jw_count(w, "n_vocab", i->llm_n_vocab);
    jw_count(w, "n_frames", i->default_n_frame);
    jw_end(w);
}

void models_handle(struct request *q, struct reply *p)
{
    struct json_writer w;
    jw_begin(&w);
    jw_text(&w, "object", "list");
    jw_array(&w, "data");
    jw_object(&w, NULL);
    model_members(q->server, &w);
    jw_end(&w);
    jw_end(&w);
    reply_json(p, 200, &w);
}

void model_handle(struct request *q, struct reply *p)
{
    struct json_writer w;
    struct refusal r;
    if (strcmp(q->rest, iv_engine_info(q->server->engine)->name) != 0) {
        (void)refuse(&r, 404, "model_not_found", "model", "no model of that name is served");
        reply_refusal(p, &r, q->server);
        return;
    }
    jw_begin(&w);
    model_members(q->server, &w);
    reply_json(p, 200, &w);
}

// What a client may ask for, for the page.
void props_handle(struct request *q, struct reply *p)
{
    const struct server *s = q->server;
    struct json_writer w;
    jw_begin(&w);
    jw_object(&w, "model");
    model_members(s, &w);
    jw_end(&w);
    jw_object(&w, "defaults");
    jw_count(&w, "num_frames",
             s->s->num_frames ? (uint64_t)s->s->num_frames
                              : iv_engine_info(s->engine)->default_n_frame);
    jw_int(&w, "max_tokens", s->s->max_new_tokens);
    jw_end(&w);
    jw_object(&w, "limits");
    jw_int(&w, "num_frames", s->s->max_frames);
    jw_count(&w, "body_bytes", s->s->max_body);
    jw_int(&w, "parallel", s->s->parallel);
    jw_end(&w);
    jw_text(&w, "version", iv_version());
    reply_json(p, 200, &w);
}

void metrics_handle(struct request *q, struct reply *p)
{
    struct server *s = q->server;
    struct textbuf b = {0};
    struct refusal r;
    if (!s->s->metrics) {
        (void)refuse(&r, 404, "not_found", "", "there is no such path (started without --metrics)");
        reply_refusal(p, &r, s);
        return;
    }
    struct queue_load load = queue_load_of(s->queue);
    size_t n_item;
    struct counters_now now = {.running = load.running,
                               .waiting = load.waiting,
                               .workers = load.n_worker,
                               .connections = atomic_load(&s->n_connection)};
    now.media_bytes = store_bytes(s->store, &n_item);
    now.media_items = n_item;
    counters_write(&s->counters, &now, &b);
    size_t n;
    char *text = textbuf_take(&b, &n);
    reply_text(p, 200, "text/plain; version=0.0.4; charset=utf-8", text, n);
}

void openapi_handle(struct request *q, struct reply *p)
{
    (void)q;
    *p = (struct reply){.status = 200, .type = "application/json"};
    p->fixed = embedded_openapi(&p->n);
}
