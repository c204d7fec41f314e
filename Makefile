# SPDX-License-Identifier: MIT
# What people type. CMake does the work; see CMakePresets.json for the builds behind each word.
#
#   make            build/ivchat, build/libivchat.a, build/libivchat.so
#   make demo       the small model answers two questions about a video
#   make test       every test: plain, sanitizers, lint, fuzz, other CPUs (about a quarter of an hour)
#   make help       the rest
PREFIX ?= /usr/local
DESTDIR ?=
BUILD = build
PYTHON ?= python3
PHASES ?=
FUZZ_SECONDS ?= 60
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: all demo help build-deps deps configure test check lint analyze parity parity-reference bench fuzz soak hub-soak serve-soak test-cuda bench-cuda \
        debug format install uninstall clean

all: configure
	cmake --build $(BUILD) --parallel $(JOBS)

help:
	@echo 'make              build/ivchat, build/libivchat.a, build/libivchat.so'
	@echo 'make demo         build, then the small model answers two questions about a short video'
	@echo 'make deps         install what build and tests need (Debian, Ubuntu; elsewhere a list)'
	@echo 'make test         everything; PHASES="release lint" for a part'
	@echo 'make check        build and run the plain tests only'
	@echo 'make lint         layers, banned calls, sizes, names, format'
	@echo 'make analyze      cppcheck and clang-tidy, if installed'
	@echo 'make parity       the golden cases of ../shared through the built program'
	@echo 'make parity-reference  the same through tools/reference.py; needs PyTorch (docs/REFERENCE.md)'
	@echo 'make bench        kernels, each tier against the plain one, and the stages of the small model and of MODEL=DIR;'
	@echo '                  PEERS=DIR, made by tools/bench_peers.py install: beside other engines'
	@echo 'make test-cuda    GPU kernels and golden cases on the first NVIDIA GPU (docs/GPU.md)'
	@echo 'make bench-cuda   times on it; MODEL=DIR for those of a model, and against PyTorch if installed'
	@echo 'make fuzz         every parser, FUZZ_SECONDS=60 each'
	@echo 'make soak         repeats the plain tests under sanitizers, SOAK_MINUTES=30'
	@echo 'make hub-soak     pull: kill -9 at 100 moments, the hub client on one cache, speed'
	@echo 'make serve-soak   the server under load: CLIENTS=200 SOAK_MINUTES=10'
	@echo 'make debug        build-debug/: AddressSanitizer and UBSan'
	@echo 'make format       clang-format over all sources'
	@echo 'make install      PREFIX=/usr/local DESTDIR='
	@echo 'make clean        remove every build folder'

demo: configure
	@cmake --build $(BUILD) --parallel $(JOBS) --target ivchat_app
	@sh tools/demo.sh $(BUILD)/ivchat

build-deps:
	@sh tools/install_deps.sh build

deps:
	@sh tools/install_deps.sh all

configure: build-deps
	@cmake --preset release --log-level=NOTICE -DCMAKE_INSTALL_PREFIX='$(PREFIX)'

test: deps
	@$(PYTHON) tests/run_tests.py $(PHASES)

check: deps
	@$(PYTHON) tests/run_tests.py release

lint: deps
	@$(PYTHON) tools/lint.py

analyze: configure
	@sh tools/analyze.sh $(BUILD)

parity: all
	@$(PYTHON) tests/parity/run.py --build $(BUILD)

GOLDEN ?= ../shared/golden
parity-reference:
	@$(PYTHON) -c 'import av, safetensors, sentencepiece, torch' || { \
	    echo 'docs/REFERENCE.md says how to get these modules; then PYTHON=... names that Python' >&2; exit 1; }
	@for m in tiny-hd tiny-internlm; do echo "$$m"; \
	    $(PYTHON) tools/reference.py check -m $(GOLDEN)/$$m --golden $(GOLDEN) || exit 1; done

MODEL ?=
PEERS ?=
bench: deps configure
	@cmake --build $(BUILD) --parallel $(JOBS)
	@$(PYTHON) tests/run_tests.py --bench
	@for m in models/ivchat-small $(MODEL); do $(BUILD)/ivchat bench -m "$$m" --sessions 8 --progress never || exit 1; done
	@test -z '$(MODEL)' -o -z '$(PEERS)' || $(PYTHON) tools/bench_peers.py run --env '$(PEERS)' --model '$(MODEL)' \
	    --ivchat $(BUILD)/ivchat --only vision,prefill,decode

test-cuda:
	@cmake --preset cuda --log-level=NOTICE
	cmake --build build-cuda --parallel $(JOBS)
	ctest --test-dir build-cuda -L gpu --output-on-failure
	build-cuda/tests/parity --device cuda:0 $(GOLDEN)

bench-cuda:
	@cmake --preset cuda --log-level=NOTICE
	cmake --build build-cuda --parallel $(JOBS)
	build-cuda/tests/bench_linear
	build-cuda/tests/bench_product
	for p in check_cuda_quant check_cuda_rows check_gpu_attention; do build-cuda/tests/$$p --bench || exit 1; done
	@test -z '$(MODEL)' || build-cuda/tests/bench_model '$(MODEL)' cuda:0
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then $(PYTHON) tools/peer_torch.py; \
	    else echo 'PyTorch is not installed: no comparison'; fi

fuzz: deps
	@$(PYTHON) tests/run_tests.py --fuzz-seconds $(FUZZ_SECONDS) fuzz

SOAK_MINUTES ?= 30
soak: deps
	@$(PYTHON) tests/run_tests.py --soak $(SOAK_MINUTES) sanitize

HUB_PYTHON ?= $(PYTHON)
hub-soak: deps all
	@IVCHAT=$(BUILD)/ivchat $(PYTHON) tests/hub/soak_pull.py --python '$(HUB_PYTHON)'

CLIENTS ?= 200
serve-soak: deps all
	@IVCHAT=$(BUILD)/ivchat $(PYTHON) tests/serve/soak_serve.py --clients $(CLIENTS) \
	    --minutes $(if $(filter command line,$(origin SOAK_MINUTES)),$(SOAK_MINUTES),10)

debug: deps
	@cmake --preset debug --log-level=NOTICE
	cmake --build build-debug --parallel $(JOBS)

format:
	@$(PYTHON) tools/lint.py --format

install: all
	DESTDIR='$(DESTDIR)' cmake --install $(BUILD) --prefix '$(PREFIX)'

uninstall:
	@test -f $(BUILD)/install_manifest.txt || { echo 'nothing installed from this tree' >&2; exit 1; }
	while read -r f || [ -n "$$f" ]; do \
	    rm -f "$(DESTDIR)$$f"; \
	    d=$${f%/*}; \
	    while case $$d in '$(PREFIX)') false;; */ivchat | */ivchat/*) rmdir "$(DESTDIR)$$d" 2>/dev/null;; *) false;; esac; do \
	        d=$${d%/*}; \
	    done; \
	done < $(BUILD)/install_manifest.txt

clean:
	rm -rf build build-debug build-tsan build-fuzz build-aarch64 build-aarch64-sysroot build-cuda build-cuda-check build-cuda-emulated build-onednn
