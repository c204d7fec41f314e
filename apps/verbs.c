// SPDX-License-Identifier: MIT
// The option tables. Each row is the only place where an option's name, range, default and help are
// written down; options.c parses with them and usage.c prints them.
//
//   verb = groups of rows; groups are shared, so that an option means the same for every verb
//
// Easy to get wrong: a row's type must be the type of the field it fills (options.h lists the
// pairs); the default is text and must satisfy the row's own range; ranges are told to people as
// they stand.

#include "verbs.h"

#include <string.h>

#include "chat_talk.h"

#define FIELD(name) offsetof(struct settings, name)
#define GROUP(id, text)                                                                            \
    static const struct option_group id = {text, id##_rows, sizeof id##_rows / sizeof *id##_rows,  \
                                           NULL}

// clang-format off
static const struct option model_rows[] = {
    {"model", NULL, 'm', OPTION_TEXT, FIELD(model), "DIR|GGUF|ORG/REPO[:TYPE]", NULL, NULL,
     "ivchat-small, if installed",
     "folder or .gguf file of the model, or its name on the hub once `ivchat pull` has loaded it"},
    {"mmproj", NULL, 0, OPTION_TEXT, FIELD(mmproj), "FILE", NULL, NULL,
     "mmproj-*.gguf beside the model", "vision file of a .gguf model"},
    {"variant", NULL, 0, OPTION_CHOICE, FIELD(variant), "NAME", "8b|hd|f16|internlm", NULL,
     "from the model", "preprocessing and prompt family"},
};
GROUP(model, "Model");

static const struct option media_rows[] = {
    {"video", NULL, 0, OPTION_TEXT, FIELD(video), "FILE", NULL, NULL, NULL,
     "video in any container FFmpeg reads; - = standard input"},
    {"image", NULL, 0, OPTION_LIST, FIELD(image), "FILE", NULL, NULL, NULL,
     "image; repeat for several"},
    {"num-frames", "num-segments", 0, OPTION_INT, FIELD(num_frames), "N", "[0,512]", "0",
     "0 = of the variant: 8, f16 16", "frames sampled from the video"},
    {"hd-num", NULL, 0, OPTION_INT, FIELD(hd_num), "N", "[1,64]", "6", NULL,
     "most tiles for --padding and --fix-ratio auto"},
    {"padding", NULL, 0, OPTION_FLAG, FIELD(padding), NULL, NULL, NULL, NULL,
     "keep the aspect ratio, pad with white"},
    {"fix-ratio", NULL, 0, OPTION_GRID, FIELD(fix_ratio), "WxH|auto", "[1,64]", "2x1", NULL,
     "grid of tiles; auto = the closest to the video's shape"},
    {"start", NULL, 0, OPTION_REAL, FIELD(start_s), "SECONDS", "[0,1e9]", "0", NULL,
     "begin of the part of the video to look at"},
    {"end", NULL, 0, OPTION_REAL, FIELD(end_s), "SECONDS", "[0,1e9]", "0", "0 = end of the file",
     "end of that part"},
    {"segments", NULL, 0, OPTION_REAL, FIELD(segments), "SECONDS", "[0,1e9]", "0", "0 = one piece",
     "cut a long video in pieces of so many seconds, each with its own frames"},
    {"antialias", NULL, 0, OPTION_FLAG, FIELD(antialias), NULL, NULL, "1", NULL,
     "resize without antialiasing (variant 8b only)"},
};
GROUP(media, "Media");

static const struct option prompt_rows[] = {
    {"prompt", NULL, 'p', OPTION_LIST, FIELD(prompt), "TEXT", "utf-8", NULL, NULL,
     "question; repeat for further turns; - = lines of standard input"},
    {"instruction", NULL, 0, OPTION_TEXT, FIELD(instruction), "TEXT", "utf-8", NULL, NULL,
     "text before the media, also read by the Q-Former (not 8b)"},
    {"msg", NULL, 0, OPTION_TEXT, FIELD(msg), "TEXT", "utf-8", NULL, NULL,
     "text after the media"},
    {"time-text", NULL, 0, OPTION_FLAG, FIELD(time_text), NULL, NULL, NULL, NULL,
     "tell the model the times of the frames, in place of --msg"},
    {"answer-prefix", NULL, 0, OPTION_TEXT, FIELD(answer_prefix), "TEXT", "utf-8", NULL, NULL,
     "text that the answer continues"},
    {"allow-special", NULL, 0, OPTION_FLAG, FIELD(allow_special), NULL, NULL, NULL, NULL,
     "control tokens written in your texts act as such"},
};
GROUP(prompt, "Prompt");

static const struct option generation_rows[] = {
    {"max-new-tokens", NULL, 'n', OPTION_INT, FIELD(max_new_tokens), "N", "[1,1000000]", "200",
     NULL, "longest answer, in tokens"},
    {"temp", "temperature", 0, OPTION_REAL, FIELD(temp), "T", "[0,100]", "0", "0 = greedy",
     "temperature of sampling"},
    {"top-p", NULL, 0, OPTION_REAL, FIELD(top_p), "P", "(0,1]", "0.9", NULL,
     "sample from the likeliest tokens that make up P"},
    {"top-k", NULL, 0, OPTION_INT, FIELD(top_k), "K", "[0,1000000]", "0", "0 = off",
     "sample from the K likeliest tokens"},
    {"seed", NULL, 0, OPTION_COUNT, FIELD(seed), "N", "[0,18446744073709551615]", "0", NULL,
     "seed of sampling"},
    {"num-beams", NULL, 0, OPTION_INT, FIELD(num_beams), "N", "[1,64]", "1", NULL,
     "more than 1 = beam search"},
    {"length-penalty", NULL, 0, OPTION_REAL, FIELD(length_penalty), "X", "[-10,10]", "1", NULL,
     "exponent of the length in beam scores"},
    {"repetition-penalty", NULL, 0, OPTION_REAL, FIELD(repetition_penalty), "X", "[0.001,10]", "1",
     NULL, "above 1 = disfavour tokens already generated"},
    {"min-length", NULL, 0, OPTION_INT, FIELD(min_length), "N", "[0,1000000]", "1", NULL,
     "tokens before the answer may end"},
    {"stop", NULL, 0, OPTION_LIST, FIELD(stop), "TEXT", "utf-8", NULL, NULL,
     "text that ends the answer; repeatable"},
    {"ignore-eos", NULL, 0, OPTION_FLAG, FIELD(ignore_eos), NULL, NULL, NULL, NULL,
     "go on after the end-of-sequence token"},
};
GROUP(generation, "Generation");

static const struct option running_rows[] = {
    {"threads", NULL, 't', OPTION_INT, FIELD(threads), "N", "[0,1024]", "0",
     "0 = all cores", "threads"},
    {"device", NULL, 0, OPTION_TEXT, FIELD(device), "cpu|cuda[:N]|auto", NULL, "auto", NULL,
     "where to compute; auto = a GPU if the program was built for one and there is one"},
    {"gpu-weights", NULL, 0, OPTION_CHOICE, FIELD(gpu_weights), "TYPE",
     "plain|q8_0|q6_k|q4_k_m|q4_0", "plain", NULL,
     "quantise the language model's layers on their way to the GPU; a quantised GGUF model takes only plain on a GPU"},
    {"weights", NULL, 0, OPTION_CHOICE, FIELD(weights), "WHERE", "auto|mapped", NULL,
     "auto for serve and bench, else mapped",
     "where a CPU reads the language model's weights: as the files are mapped, or (auto) in a copy in large pages as "
     "far as they lie in small ones and there is memory for it: decodes faster, takes seconds to open"},
    {"dtype", NULL, 0, OPTION_CHOICE, FIELD(dtype), "TYPE", "f32|bf16|int8", "bf16", NULL,
     "precision of products; int8: of those of prompts and video, on the CPU"},
    {"cache-type-k", NULL, 0, OPTION_CHOICE, FIELD(cache_type_k), "TYPE", "f32|bf16|f16|q8_0", NULL,
     "as --dtype", "how keys of the conversation are stored; a GPU has them as --dtype"},
    {"cache-type-v", NULL, 0, OPTION_CHOICE, FIELD(cache_type_v), "TYPE", "f32|bf16|f16|q8_0", NULL,
     "as --dtype", "the same for values"},
    {"cpu", NULL, 0, OPTION_TEXT, FIELD(cpu), "TIER", NULL, NULL, "the best",
     "highest instruction set to use: ref, avx2, avxvnni, avx512, avx512vnni, avx512bf16, onednn (if built "
     "with it), neon, neon-dotprod, neon-bf16"},
};
GROUP(running, "Running");

static const struct option session_rows[] = {
    {"ctx", NULL, 0, OPTION_COUNT, FIELD(ctx), "N", "[0,16777216]", "0", "0 = grows as needed",
     "positions of the conversation's memory"},
    {"cache-mib", NULL, 0, OPTION_COUNT, FIELD(cache_mib), "N", "[0,16777216]", "4096", NULL,
     "most MiB of features and KV kept for reuse; 0 = compute everything anew"},
    {"cache-dir", NULL, 0, OPTION_TEXT, FIELD(cache_dir), "DIR", NULL, NULL, NULL,
     "keep features of videos there for later runs; made if absent"},
    {"cache-dir-mib", NULL, 0, OPTION_COUNT, FIELD(cache_dir_mib), "N", "[0,16777216]", "16384",
     NULL, "most MiB of that folder; the oldest use goes first"},
};
GROUP(session, "Conversation");

static const struct option keeping_rows[] = {
    {"each-segment", NULL, 0, OPTION_FLAG, FIELD(each_segment), NULL, NULL, NULL, NULL,
     "ask about each of the --segments by itself, not about all in one prompt"},
    {"save", NULL, 0, OPTION_TEXT, FIELD(save), "FILE", NULL, NULL, NULL,
     "write the conversation there when it ends, stopped or failed too"},
    {"load", NULL, 0, OPTION_TEXT, FIELD(load), "FILE", NULL, NULL, NULL,
     "go on with the conversation of that file"},
};
GROUP(keeping, "Keeping and cutting");

static const struct option chat_output_rows[] = {
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object a turn on standard output"},
    {"dump", NULL, 0, OPTION_TEXT, FIELD(dump), "DIR", NULL, NULL, NULL,
     "write every stage's output there as .npy"},
};
GROUP(chat_output, "Output");

static const struct option talk_rows[] = {
    {"history", NULL, 0, OPTION_FLAG, FIELD(history), NULL, NULL, "1", NULL,
     "do not keep typed lines for the arrow keys of later conversations"},
};
static const struct option_group talk = {"Typed at a terminal", talk_rows, 1, talk_command_row};

static const struct option embed_output_rows[] = {
    {"stage", NULL, 0, OPTION_CHOICE, FIELD(stage), "NAME", "pixels|vit|qformer|projected",
     "projected", NULL, "which features"},
    {"output", NULL, 'o', OPTION_TEXT, FIELD(output), "FILE", NULL, NULL, NULL,
     "file to write; its name ends in .npy or .safetensors"},
    {"instruction", NULL, 0, OPTION_TEXT, FIELD(instruction), "TEXT", "utf-8", NULL, NULL,
     "text that the Q-Former reads with the video (not 8b)"},
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "say what was written as one JSON object"},
    {"dump", NULL, 0, OPTION_TEXT, FIELD(dump), "DIR", NULL, NULL, NULL,
     "write every stage's output there as .npy"},
};
GROUP(embed_output, "Output");

static const struct option tokenize_rows[] = {
    {"kind", NULL, 0, OPTION_CHOICE, FIELD(kind), "NAME", "lm|bert", "lm", NULL,
     "tokenizer of the language model or of the Q-Former"},
    {"allow-special", NULL, 0, OPTION_FLAG, FIELD(allow_special), NULL, NULL, NULL, NULL,
     "control tokens written in the text become control ids"},
    {"decode", NULL, 0, OPTION_FLAG, FIELD(decode), NULL, NULL, NULL, NULL,
     "ids in, text out"},
};
GROUP(tokenize, "Tokens");

static const struct option info_rows[] = {
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object on standard output"},
    {"verify", NULL, 0, OPTION_FLAG, FIELD(verify), NULL, NULL, NULL, NULL,
     "read every weight: shapes, NaN and infinity, SHA-256 of the files"},
    {"plan", NULL, 0, OPTION_FLAG, FIELD(plan), NULL, NULL, NULL, NULL,
     "memory (a GPU's too), tokens and time that the given options would take"},
    {"size", NULL, 0, OPTION_GRID, FIELD(size), "WxH", "[1,16384]", NULL, "from --video",
     "frame size for --plan, when there is no file yet"},
    {"prompt", NULL, 'p', OPTION_LIST, FIELD(prompt), "TEXT", "utf-8", NULL, NULL,
     "question for --plan; repeatable"},
    {"max-new-tokens", NULL, 'n', OPTION_INT, FIELD(max_new_tokens), "N", "[1,1000000]", "200",
     NULL, "longest answer for --plan, in tokens"},
    {"num-beams", NULL, 0, OPTION_INT, FIELD(num_beams), "N", "[1,64]", "1", NULL,
     "beams for --plan"},
};
GROUP(info, "Information");

static const struct option pull_rows[] = {
    {"repo", NULL, 0, OPTION_OPERAND, FIELD(repo), "ORG/REPO[@REVISION]", "utf-8", NULL, NULL,
     "model on the hub, at a branch, tag or commit (default main)"},
    {"include", NULL, 0, OPTION_LIST, FIELD(include), "GLOB", "utf-8", NULL,
     "what ivchat reads: weights, index, config, tokenizer", "files to load; repeatable"},
    {"exclude", NULL, 0, OPTION_LIST, FIELD(exclude), "GLOB", "utf-8", NULL, NULL,
     "files to leave out; repeatable"},
    {"local-dir", NULL, 0, OPTION_TEXT, FIELD(local_dir), "DIR", NULL, NULL, NULL,
     "put plain files there instead of the cache"},
    {"dry-run", NULL, 0, OPTION_FLAG, FIELD(dry_run), NULL, NULL, NULL, NULL,
     "tell names and bytes, load nothing"},
    {"connections", NULL, 0, OPTION_INT, FIELD(connections), "N", "[1,64]", "8", NULL,
     "transfers at the same time"},
    {"retries", NULL, 0, OPTION_INT, FIELD(retries), "N", "[0,1000]", "6", NULL,
     "repetitions of a request that brings nothing, before giving up"},
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object on standard output"},
};
GROUP(pull, "Download");

static const struct option list_rows[] = {
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object on standard output"},
};
GROUP(list, "Cache");

static const struct option rm_rows[] = {
    {"repo", NULL, 0, OPTION_OPERAND, FIELD(repo), "ORG/REPO[@REVISION]", "utf-8", NULL, NULL,
     "what to remove; with a revision, that one and what no other one uses"},
    {"dry-run", NULL, 0, OPTION_FLAG, FIELD(dry_run), NULL, NULL, NULL, NULL,
     "tell what would be freed, remove nothing"},
};
GROUP(rm, "Removal");

static const struct option quantize_rows[] = {
    {"source", NULL, 0, OPTION_OPERAND, FIELD(from), "SRC", NULL, NULL, NULL,
     "folder of an unquantised model, or its name on the hub"},
    {"target", NULL, 0, OPTION_OPERAND, FIELD(to), "DST", NULL, NULL, NULL,
     "folder for the two files; made if absent; may lack with --imatrix-out"},
    {"format", NULL, 0, OPTION_CHOICE, FIELD(format), "NAME", "gguf|safetensors", "gguf", NULL,
     "safetensors: DST becomes a folder like SRC with the LoRA merged, of --type BF16, F16 or F32"},
    {"type", NULL, 0, OPTION_CHOICE, FIELD(type), "TYPE", "Q4_K_M|Q4_0|Q6_K|Q8_0|BF16|F16|F32", NULL,
     "Q4_K_M; safetensors: as it is", "of the language model"},
    {"vision-type", NULL, 0, OPTION_CHOICE, FIELD(vision_type), "TYPE",
     "Q4_K_M|Q4_0|Q6_K|Q8_0|BF16|F16|F32", NULL, "Q8_0, or a --type of 16 bits and more",
     "of the vision part"},
    {"tensor-type", NULL, 0, OPTION_LIST, FIELD(tensor_type), "REGEX=TYPE", "utf-8", NULL, NULL,
     "other type for the matrices whose names match; repeatable, the first match counts"},
    {"imatrix", NULL, 0, OPTION_TEXT, FIELD(imatrix), "FILE", NULL, NULL, NULL,
     "importance matrix, ours or llama.cpp's: what matters more is rounded better"},
    {"imatrix-out", NULL, 0, OPTION_TEXT, FIELD(imatrix_out), "FILE", NULL, NULL, NULL,
     "make one by asking SRC what --media and --prompt say; with DST it is used at once"},
    {"report", NULL, 0, OPTION_FLAG, FIELD(report), NULL, NULL, NULL, NULL,
     "tell each tensor's error, and with --media or --prompt how far the logits are from those of SRC"},
    {"media", NULL, 0, OPTION_TEXT, FIELD(media), "LIST", NULL, NULL, NULL,
     "lines of JSON with \"video\" or \"image\" and \"prompt\", or paths: what is asked for these two"},
    {"prompt", NULL, 'p', OPTION_LIST, FIELD(prompt), "TEXT", "utf-8", NULL, NULL,
     "question about each path of LIST, without LIST one without media; repeatable"},
    {"max-new-tokens", NULL, 'n', OPTION_INT, FIELD(max_new_tokens), "N", "[1,1000000]", "32", NULL,
     "longest answer to them"},
    {"dtype", NULL, 0, OPTION_CHOICE, FIELD(dtype), "TYPE", "f32|bf16", "bf16", NULL,
     "precision in which they are answered"},
    {"variant", NULL, 0, OPTION_CHOICE, FIELD(variant), "NAME", "8b|hd|f16|internlm", NULL,
     "from the model", "preprocessing and prompt family, kept in the vision file"},
    {"threads", NULL, 't', OPTION_INT, FIELD(threads), "N", "[0,1024]", "0", "0 = all cores",
     "threads"},
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object on standard output"},
};
GROUP(quantize, "Quantising");

static const struct option serve_rows[] = {
    {"host", NULL, 0, OPTION_TEXT, FIELD(host), "ADDRESS", NULL, "127.0.0.1", NULL,
     "address to listen at; 127.0.0.1 is reached from this machine only"},
    {"port", NULL, 0, OPTION_INT, FIELD(port), "N", "[0,65535]", "8080", NULL,
     "port to listen at; 0 = any free one, told on standard error"},
    {"parallel", NULL, 0, OPTION_INT, FIELD(parallel), "N", "[1,64]", "2", NULL,
     "answers that are worked on at once"},
    {"queue", NULL, 0, OPTION_INT, FIELD(queue), "N", "[0,100000]", "256", NULL,
     "requests that may wait behind them; more get 429"},
    {"timeout", NULL, 0, OPTION_REAL, FIELD(timeout), "SECONDS", "[0,1e6]", "600", "600; 0 = none",
     "longest life of a request, waiting included"},
    {"grace", NULL, 0, OPTION_REAL, FIELD(grace), "SECONDS", "[0,3600]", "30", NULL,
     "time for answers to end after SIGTERM or SIGINT; then they are stopped, and their clients told"},
    {"metrics", NULL, 0, OPTION_FLAG, FIELD(metrics), NULL, NULL, NULL, NULL,
     "answer GET /metrics with counters for Prometheus"},
};
GROUP(serve, "Server");

static const struct option guard_rows[] = {
    {"api-key", NULL, 0, OPTION_TEXT, FIELD(api_key), "FILE|-", NULL, NULL, NULL,
     "keys that open the server, one a line; in IVCHAT_API_KEY also a key itself"},
    {"ssl-cert-file", NULL, 0, OPTION_TEXT, FIELD(ssl_cert_file), "FILE", NULL, NULL, NULL,
     "certificates in PEM: https instead of http"},
    {"ssl-key-file", NULL, 0, OPTION_TEXT, FIELD(ssl_key_file), "FILE", NULL, NULL, NULL,
     "their private key in PEM"},
    {"cors-origins", NULL, 0, OPTION_TEXT, FIELD(cors_origins), "ORIGIN,...", NULL, NULL, NULL,
     "web sites whose pages may use the server; * = all"},
    {"media-path", NULL, 0, OPTION_TEXT, FIELD(media_path), "DIR", NULL, NULL, NULL,
     "folder whose files clients may name as file:// URLs"},
    {"allow-remote-media", NULL, 0, OPTION_TEXT, FIELD(allow_remote_media), "HOST,...", NULL, NULL, NULL,
     "hosts whose https URLs the server fetches for clients"},
    {"max-body", NULL, 0, OPTION_COUNT, FIELD(max_body), "BYTES", "[1024,17179869184]", "268435456", NULL,
     "most bytes of a request"},
    {"max-frames", NULL, 0, OPTION_INT, FIELD(max_frames), "N", "[1,512]", "128", NULL,
     "most frames that a request may ask for"},
    {"max-duration", NULL, 0, OPTION_REAL, FIELD(max_duration), "SECONDS", "[0,1e9]", "14400", "14400; 0 = any",
     "longest video"},
    {"store-mib", NULL, 0, OPTION_COUNT, FIELD(store_mib), "N", "[1,16777216]", "1024", NULL,
     "MiB of uploads that are kept; what was used longest ago goes first"},
};
GROUP(guard, "Who may do what");

static const struct option serve_media_rows[] = {
    {"num-frames", "num-segments", 0, OPTION_INT, FIELD(num_frames), "N", "[0,512]", "0",
     "0 = of the variant: 8, f16 16", "frames sampled from a video, unless the request says"},
    {"hd-num", NULL, 0, OPTION_INT, FIELD(hd_num), "N", "[1,64]", "6", NULL,
     "most tiles for --padding and --fix-ratio auto"},
    {"padding", NULL, 0, OPTION_FLAG, FIELD(padding), NULL, NULL, NULL, NULL,
     "keep the aspect ratio, pad with white"},
    {"fix-ratio", NULL, 0, OPTION_GRID, FIELD(fix_ratio), "WxH|auto", "[1,64]", "2x1", NULL,
     "grid of tiles; auto = the closest to the video's shape"},
    {"max-new-tokens", NULL, 'n', OPTION_INT, FIELD(max_new_tokens), "N", "[1,1000000]", "200",
     NULL, "longest answer, in tokens, unless the request says"},
};
GROUP(serve_media, "What requests may leave open");

static const struct option bench_rows[] = {
    {"stage", NULL, 0, OPTION_LIST, FIELD(bench_stage),
     "peaks|video|preprocess|vision|qformer|prefill|decode|sessions|first-turn|second-turn|second-turn-warm",
     "utf-8", NULL, "all that the other options allow", "what to measure; repeatable"},
    {"repeat", NULL, 0, OPTION_INT, FIELD(repeat), "N", "[1,1000]", "3", NULL,
     "runs of each stage, beside a first one that is not counted"},
    {"prompt-tokens", NULL, 0, OPTION_INT, FIELD(prompt_tokens), "N", "[1,1000000]", "322", NULL,
     "length of the prompt of prefill"},
    {"context", NULL, 0, OPTION_INT, FIELD(context), "N", "[1,1000000]", "322", NULL,
     "tokens in front of those that decode and sessions generate"},
    {"max-new-tokens", NULL, 'n', OPTION_INT, FIELD(max_new_tokens), "N", "[1,1000000]", "32",
     NULL, "tokens generated in a run of decode and sessions, and in a first turn"},
    {"sessions", NULL, 0, OPTION_INT, FIELD(sessions), "N", "[0,256]", "0", "0 = not measured",
     "conversations that decode at once"},
    {"peaks", NULL, 0, OPTION_FLAG, FIELD(peaks), NULL, NULL, "1", NULL,
     "do not measure what this machine can do at best"},
    {"profile", NULL, 0, OPTION_FLAG, FIELD(profile), NULL, NULL, NULL, NULL,
     "one more first turn, its time by stage and kind of work"},
    {"json", NULL, 0, OPTION_FLAG, FIELD(json), NULL, NULL, NULL, NULL,
     "one JSON object on standard output, every single time in it"},
    {"csv", NULL, 0, OPTION_FLAG, FIELD(csv), NULL, NULL, NULL, NULL,
     "a CSV table on standard output"},
};
GROUP(bench, "Measuring");

static const struct option messages_rows[] = {
    {"progress", NULL, 0, OPTION_CHOICE, FIELD(progress), "WHEN", "auto|never|always", "auto", NULL,
     "bars on a terminal, lines elsewhere"},
    {"verbose", NULL, 'v', OPTION_FLAG, FIELD(verbose), NULL, NULL, NULL, NULL,
     "say what is done: frames, tiles, hash of the last logits"},
    {"quiet", NULL, 'q', OPTION_FLAG, FIELD(quiet), NULL, NULL, NULL, NULL,
     "errors only"},
    {"log-json", NULL, 0, OPTION_FLAG, FIELD(log_json), NULL, NULL, NULL, NULL,
     "standard error as JSON lines"},
};
GROUP(messages, "Messages");
// clang-format on

static const struct verb verbs[] = {
    {
        "chat",
        "ask questions about a video or images",
        "Answers go to standard output as they are generated, everything else to standard error.\n"
        "Without --video and --image the conversation is plain text. Without -p the questions are\n"
        "the lines of standard input; on a terminal they are typed, with editing, history and\n"
        "commands.",
        "  ivchat chat --video clip.mp4 -p \"What happens?\"\n"
        "  ivchat chat -m MODEL --video clip.mp4 -p \"Describe the action step by step.\"\n"
        "  ivchat chat -m MODEL --video clip.mp4 -p \"What happens?\" -p \"Who is in it?\"\n"
        "  ivchat chat -m MODEL --image a.jpg --image b.jpg -p \"What differs?\" --json\n"
        "  ivchat chat -m MODEL --video - -p \"What is this?\" --temp 0.7 --seed 1 < clip.mkv\n"
        "  ivchat chat -m MODEL --video film.mkv --segments 60 --time-text -p \"What happens "
        "when?\"\n"
        "  ivchat chat -m MODEL --video clip.mp4 -p \"What happens?\" --save talk.ivchat\n"
        "  ivchat chat -m MODEL --load talk.ivchat -p \"And after that?\"\n",
        {&model, &media, &prompt, &generation, &running, &session, &keeping, &chat_output, &talk,
         &messages},
        chat_run,
    },
    {
        "embed",
        "write features of a video or images",
        "Stages: pixels [1,clips,frames,3,224,224]; vit [clips,1+256*frames,width] after its "
        "layer\n"
        "norm; qformer [clips,96,width]; projected [96*clips,width], what the language model gets.",
        "  ivchat embed -m MODEL --video clip.mp4 --stage projected -o clip.npy\n"
        "  ivchat embed -m MODEL --image cat.png --stage vit -o cat.safetensors\n",
        {&model, &media, &embed_output, &running, &messages},
        embed_run,
    },
    {
        "tokenize",
        "text to token ids and back",
        "Reads JSON strings from standard input, one a line, and writes one JSON array of ids for\n"
        "each, with the special tokens that the model would add. --decode goes the other way.",
        "  echo '\"hello world\"' | ivchat tokenize -m MODEL\n"
        "  echo '\"What is she wearing?\"' | ivchat tokenize -m MODEL --kind bert\n"
        "  echo '[1,7080,29477,2294]' | ivchat tokenize -m MODEL --decode\n",
        {&model, &tokenize, &messages},
        tokenize_run,
    },
    {
        "info",
        "what a model is, what it would need, whether its files are sound",
        "--verify with --video asks the two published questions about the model card's example "
        "video\n"
        "and shows our text beside the published one, with a hash of every stage.",
        "  ivchat info -m MODEL\n"
        "  ivchat info -m MODEL --verify\n"
        "  ivchat info -m MODEL --plan --num-frames 16 --padding --size 1920x1080\n"
        "  ivchat info -m MODEL --verify --video yoga.mp4\n",
        {&model, &info, &media, &running, &session, &messages},
        info_run,
    },
    {
        "quantize",
        "make GGUF files of fewer bytes from a model",
        "Writes DST/NAME-TYPE.gguf, the language model with its LoRA merged, in the form that\n"
        "llama.cpp reads too, and DST/mmproj-NAME-TYPE.gguf, the rest. NAME is the last part of\n"
        "SRC. Rows that a type's blocks do not divide get a type of smaller blocks. Prints both\n"
        "paths; -m takes the first. A file stands under its name only once it is whole.",
        "  ivchat quantize models/InternVideo2_chat_8B_HD gguf\n"
        "  ivchat quantize OpenGVLab/InternVideo2_chat_8B_HD gguf --type Q8_0\n"
        "  ivchat quantize MODEL gguf --type Q4_0 --tensor-type 'ffn_down=Q6_K'\n"
        "  ivchat quantize MODEL gguf --imatrix-out MODEL.imatrix --media questions.jsonl "
        "--report\n"
        "  ivchat chat -m gguf/InternVideo2_chat_8B_HD-Q4_K_M.gguf --video clip.mp4 -p \"What "
        "happens?\"\n",
        {&quantize, &messages},
        quantize_run,
    },
    {
        "bench",
        "how fast each stage is, and what share of the machine's peaks that is",
        "Stages: video (decoding of the frames), preprocess, vision and qformer (one clip each), "
        "prefill,\n"
        "decode (one token), sessions (one token in each of several conversations at once), "
        "first-turn\n"
        "(all of it, with -n tokens), second-turn (to its first token), second-turn-warm (the same "
        "when\n"
        "everything but the question was prefilled before). The machine's own peaks are measured "
        "between\n"
        "the stages: reading memory, multiply-adds in f32, dot products of bf16 and int8. \"of "
        "limit\" is the\n"
        "time that the arithmetic and the bytes take at those peaks, divided by the median (mem: "
        "mostly the\n"
        "bytes). Without --video the frames are made up. Times mean something only on an idle "
        "machine.",
        "  ivchat bench\n"
        "  ivchat bench --stage peaks\n"
        "  ivchat bench -m MODEL --video clip.mp4 --json\n"
        "  ivchat bench -m MODEL --stage prefill --stage decode --repeat 5 --csv\n"
        "  ivchat bench -m MODEL --stage sessions --sessions 8 -n 16 -t 4\n"
        "  ivchat bench -m MODEL --video clip.mp4 --stage peaks --profile\n",
        {&model, &bench, &media, &running, &messages},
        bench_run,
    },
    {
        "serve",
        "answer over HTTP as OpenAI's clients ask, with a page to try it in",
        "POST /v1/chat/completions with videos and images, uploads, embeddings, tokens; a web page "
        "at /.\n"
        "By default only this machine reaches it, and it fetches nothing and reads no file for "
        "clients.\n"
        "SIGTERM lets running answers finish. docs/SERVER.md tells more.",
        "  ivchat serve\n"
        "  ivchat serve -m MODEL --port 9000 --parallel 4\n"
        "  ivchat serve -m MODEL --host 0.0.0.0 --api-key keys.txt --ssl-cert-file cert.pem "
        "--ssl-key-file key.pem\n"
        "  ivchat serve -m MODEL --media-path /srv/videos --metrics\n",
        {&model, &serve, &guard, &serve_media, &running, &session, &messages},
        serve_run,
    },
    {
        "pull",
        "download a model from the hub and verify it",
        "Goes on where an earlier download stopped, whatever stopped it. The files land in the "
        "cache\n"
        "of the hub's own client (HF_HOME, HF_HUB_CACHE), which both share; HF_TOKEN opens what "
        "is\n"
        "given on request. Prints the model's folder; -m ORG/REPO finds it from then on.",
        "  ivchat pull OpenGVLab/InternVideo2_chat_8B_HD\n"
        "  ivchat pull OpenGVLab/InternVideo2_chat_8B_HD --dry-run\n"
        "  ivchat pull OpenGVLab/InternVideo2_chat_8B_HD@main --local-dir models/hd\n"
        "  ivchat pull internlm/internlm2_5-7b-chat-1m --include '*.json' --exclude "
        "'generation*'\n",
        {&pull, &messages},
        pull_run,
    },
    {
        "list",
        "models in the cache, with sizes",
        "Every model of the hub's cache, also those that other programs loaded.",
        "  ivchat list\n"
        "  ivchat list --json\n",
        {&list, &messages},
        list_run,
    },
    {
        "rm",
        "remove a model from the cache",
        "Other models stay as they are, and with a revision the files that other revisions use.",
        "  ivchat rm OpenGVLab/InternVideo2_chat_8B_HD\n"
        "  ivchat rm OpenGVLab/InternVideo2_chat_8B_HD@main --dry-run\n",
        {&rm, &messages},
        rm_run,
    },
};

const struct verb *verb_at(size_t i)
{
    return i < sizeof verbs / sizeof *verbs ? &verbs[i] : NULL;
}

const char *verb_operand(const struct verb *verb, size_t k)
{
    for (const struct option_group *const *g = verb->groups; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if ((*g)->option[i].type == OPTION_OPERAND && k-- == 0)
                return (*g)->option[i].value;
        }
    }
    return NULL;
}

const struct verb *verb_find(const char *name)
{
    const struct verb *v;
    for (size_t i = 0; (v = verb_at(i)); i++) {
        if (strcmp(v->name, name) == 0)
            return v;
    }
    return NULL;
}
