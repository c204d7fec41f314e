# SPDX-License-Identifier: MIT
"""libivchat.so from Python's standard library alone: reads include/ivchat.h for the structs and functions and offers
engine, media and session as objects. For the tools of this repository, not an installed package.

The header is the only description of the ABI: a member that it gains is seen here at the next start. What the reader
does not understand is an error, never a guess; tests/house/test_accuracy.py compares every offset with the compiler's.

Calls release Python's lock while the library works, so threads run side by side, each with its own session.
"""
import ctypes
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEADER = os.path.join(ROOT, "include", "ivchat.h")
LIBRARY = os.path.join(ROOT, "build", "libivchat.so")
STAGE_PIXELS = 0

NUMBERS = {"int": ctypes.c_int, "bool": ctypes.c_bool, "char": ctypes.c_char, "double": ctypes.c_double,
           "float": ctypes.c_float, "size_t": ctypes.c_size_t, "unsigned": ctypes.c_uint,
           "uint8_t": ctypes.c_uint8, "int32_t": ctypes.c_int32, "uint64_t": ctypes.c_uint64}


class Failure(Exception):
    """A call that returned an error: .code is the iv_status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def read_header(path=HEADER):
    """Text of the header without comments and lines of the preprocessor."""
    with open(path, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def member_type(words, stars, structs):
    """ctypes type of "const char" with "*" and so on."""
    base = [w for w in words if w != "const"]
    if not stars and base[0] == "struct":
        return structs[base[1]]
    if not stars and base[0] == "enum":
        return ctypes.c_int
    if stars == "*" and words == ["const", "char"]:
        return ctypes.c_char_p
    if stars == "*" and base[0] in NUMBERS:
        return ctypes.POINTER(NUMBERS[base[0]])
    if stars:
        return ctypes.c_void_p
    return NUMBERS[base[0]]


def members(body, structs):
    """[(name, type)] of a struct's body."""
    out = []
    for line in (" ".join(part.split()) for part in body.split(";")):
        function = re.match(r"[\w ]+ \*?\(\*(\w+)\)\s*\(.*\)$", line)
        if not line:
            continue
        if function:
            out.append((function.group(1), ctypes.c_void_p))
            continue
        words, declarators = re.match(r"((?:const |struct |enum )*\w+) (.*)$", line).groups()
        for declarator in declarators.split(","):
            stars, name, size = re.match(r"\s*([* ]*(?:const \*)?)\s*(\w+)(?:\[(\d+)\])?$", declarator).groups()
            kind = member_type(words.split(), stars.replace(" ", ""), structs)
            out.append((name, kind * int(size) if size else kind))
    return out


def read_structs(text):
    structs = {}
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, flags=re.DOTALL | re.MULTILINE):
        try:
            fields = members(body, structs)
        except (AttributeError, KeyError) as error:
            raise ValueError("ivchat.h: struct %s has a member of a kind unknown here: %s" % (name, error)) from error
        structs[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return structs


def argument(text):
    if "*" in text or "[" in text:
        return ctypes.c_void_p
    words = [w for w in text.split() if w != "const"]
    return ctypes.c_int if words[0] == "enum" else NUMBERS[words[0]]


def split_arguments(text):
    """The commas that are not inside a function pointer's own list."""
    parts, depth = [""], 0
    for c in " ".join(text.split()):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts if p.strip() not in ("", "void")]


def result(text, structs):
    text = " ".join(text.split())
    plain = re.match(r"struct (\w+)$", text)
    pointer = re.match(r"const struct (\w+) \*$", text)
    if plain:
        return structs[plain.group(1)]
    if pointer:
        return ctypes.POINTER(structs[pointer.group(1)])
    return {"int": ctypes.c_int, "double": ctypes.c_double, "bool": ctypes.c_bool, "size_t": ctypes.c_size_t,
            "const char *": ctypes.c_char_p, "void": None}[text]


class Library:
    """The functions of ivchat.h as attributes, with types; structs by name in .structs."""

    def __init__(self, path=LIBRARY, header=HEADER):
        text = read_header(header)
        self.structs = read_structs(text)
        self.handle = ctypes.CDLL(path)
        for kind, name, arguments in re.findall(r"IV_API ([\w ]+?\**)\s*\b(iv_\w+)\((.*?)\);", text,
                                                flags=re.DOTALL):
            function = getattr(self.handle, name)
            function.restype = result(kind, self.structs)
            function.argtypes = [argument(a) for a in split_arguments(arguments)]
            setattr(self, name, function)

    def check(self, function, *arguments):
        """Calls a function whose last argument is the error; raises Failure."""
        error = self.structs["iv_error"]()
        code = function(*arguments, ctypes.byref(error))
        if code != 0:
            raise Failure(code, error.message.decode("utf-8", "replace"))

    def options(self, kind, given):
        """struct iv_<kind>_options with its defaults and the members of given (None = leave)."""
        out = getattr(self, "iv_%s_options_default" % kind)()
        for name, value in given.items():
            if value is None:
                continue
            if not hasattr(out, name):
                raise ValueError("iv_%s_options has no %s" % (kind, name))
            setattr(out, name, value.encode() if isinstance(value, str) else value)
        return out


class Handle:
    """An opaque pointer that is closed when its with-block ends."""

    closer = None

    def __init__(self, lib):
        self.lib = lib
        self.pointer = ctypes.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        getattr(self.lib, self.closer)(self.pointer)
        self.pointer = ctypes.c_void_p()


class Engine(Handle):
    closer = "iv_engine_close"

    def __init__(self, lib, **given):
        super().__init__(lib)
        lib.check(lib.iv_engine_open, ctypes.byref(lib.options("engine", given)), ctypes.byref(self.pointer))

    @property
    def info(self):
        return self.lib.iv_engine_info(self.pointer).contents


class Media(Handle):
    """A video or image of an engine, made by one of the functions below."""

    closer = "iv_media_close"

    @property
    def info(self):
        return self.lib.iv_media_info(self.pointer).contents

    @classmethod
    def video(cls, engine, path, **given):
        media = cls(engine.lib)
        engine.lib.check(engine.lib.iv_media_open_video, engine.pointer, os.fsencode(path),
                         ctypes.byref(engine.lib.options("media", given)), ctypes.byref(media.pointer))
        return media

    @classmethod
    def image(cls, engine, path, **given):
        media, paths = cls(engine.lib), (ctypes.c_char_p * 1)(os.fsencode(path))
        engine.lib.check(engine.lib.iv_media_open_images, engine.pointer, paths, 1,
                         ctypes.byref(engine.lib.options("media", given)), ctypes.byref(media.pointer))
        return media

    @classmethod
    def rgb(cls, engine, data, n_frame, width, height, fps, **given):
        media = cls(engine.lib)
        engine.lib.check(engine.lib.iv_media_from_rgb, engine.pointer, data, n_frame, width, height, fps,
                         ctypes.byref(engine.lib.options("media", given)), ctypes.byref(media.pointer))
        return media

    @classmethod
    def pixels(cls, engine, data, n_clip, n_frame):
        media = cls(engine.lib)
        engine.lib.check(engine.lib.iv_media_from_pixels, engine.pointer, data, n_clip, n_frame, False,
                         ctypes.byref(media.pointer))
        return media

    def read_pixels(self):
        """(bytearray of f32, [1,clips,frames,3,224,224])"""
        data, dim, rank = ctypes.c_void_p(), (ctypes.c_size_t * 6)(), ctypes.c_uint()
        self.lib.check(self.lib.iv_media_stage, self.pointer, STAGE_PIXELS, None, ctypes.byref(data), dim,
                       ctypes.byref(rank))
        size = ctypes.sizeof(ctypes.c_float)
        for d in dim[:rank.value]:
            size *= d
        copy = bytearray(size)
        ctypes.memmove((ctypes.c_char * size).from_buffer(copy), data, size)
        self.lib.iv_free(data)
        return copy, list(dim[:rank.value])


class Session(Handle):
    closer = "iv_session_close"

    def __init__(self, engine, media, **given):
        super().__init__(engine.lib)
        self.lib.check(self.lib.iv_session_open, engine.pointer, media.pointer if media else None,
                       ctypes.byref(self.lib.options("session", given)), ctypes.byref(self.pointer))

    def ask(self, question, **given):
        """(text, [token ids], why it ended)"""
        answer = self.lib.structs["iv_answer"]()
        self.lib.check(self.lib.iv_session_ask, self.pointer, question.encode(),
                       ctypes.byref(self.lib.options("ask", given)), ctypes.byref(answer))
        text = ctypes.string_at(answer.text, answer.text_len).decode("utf-8", "replace")
        out = (text, answer.token_ids[:answer.n_token], answer.finish_reason.decode())
        self.lib.iv_answer_free(ctypes.byref(answer))
        return out
