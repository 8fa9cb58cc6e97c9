# teal: an edge proxy for blue-green and canary releases
#
#   make            build build/teal and build/tealctl
#   make run        install what is missing, build, start a demo: an HTTPS edge before a blue and a green backend
#   make demo       half a minute, unattended: a good release is promoted, a bad one rolled back, no client sees a failure
#   make test       install what is missing, build, run all tests (unit, codec, e2e)
#   make unit       unit and codec tests only
#   make e2e        end-to-end tests only (E2E=name chooses by pytest -k)
#   make simulate   false trips and detection delay of the verdict, 10,000 simulated rollouts a cell (a minute)
#   make lint       warnings as errors on gcc and clang, clang-tidy, cppcheck, format, layers
#   make check-layers   config <- health <- balancer <- proxy, proved by nm and by the includes
#   make SAN=address,undefined test     the same under sanitizers (or SAN=thread)
#   make bench      beside nghttpx, HAProxy, nginx and H2O: 25 minutes (QUICK=1: 4; CASE=h2-*,grpc PEER=nginx ROUNDS= SECONDS=)
#   make bench-rollback what a bad release costs users, beside HAProxy and nginx: 5.5 minutes (QUICK=1: 1.2)
#   make bench-memory   memory per idle TLS connection
#   make bench-probes   what probing 1,000 backends costs
#   make profile    where the CPU of one case goes: system calls per request, functions (CASE=h2-32x10 SECONDS=5)
#   make deps       install what building needs (test-deps: what testing needs, bench-deps: what benches need)
#   make install    DESTDIR=, PREFIX=/usr
#   make clean
#
# V=1 shows the commands; WERROR=1 turns warnings into errors.

VERSION := 0.1.0
PREFIX  ?= /usr
CC      ?= gcc
SAN     ?=
comma   := ,
O       := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))$(if $(VARIANT),/$(VARIANT))

# llhttp: a library where the distribution has one, else the C sources in Debian's node-llhttp
LLHTTP_LIB := $(shell pkg-config --libs libllhttp 2>/dev/null)
ifeq ($(LLHTTP_LIB),)
LLHTTP_CFLAGS := -isystem /usr/share/include/llhttp
LLHTTP_OBJ     = $(O)/llhttp/llhttp.o $(O)/llhttp/api.o $(O)/llhttp/http.o
else
LLHTTP_CFLAGS := $(shell pkg-config --cflags libllhttp)
endif

WARN   := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
          -Wwrite-strings -Wformat=2 -Wvla
OPT    := $(if $(SAN),-O1 -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all,-O2)
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE)
CPPFLAGS += -D_GNU_SOURCE -I. -DTEAL_VERSION='"$(VERSION)"' $(LLHTTP_CFLAGS)
CFLAGS ?= -g
ALL_CFLAGS = -std=gnu11 $(OPT) $(HARDEN) $(WARN) $(if $(WERROR),-Werror) $(CFLAGS)
Q      := $(if $(V),,@)
say     = $(if $(V),,@printf '  %-4s %s\n' $(1) $@)
ALL_LDFLAGS = $(if $(SAN),-fsanitize=$(SAN),-pie -Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now) $(LDFLAGS)
LIBS   := -levent -lcurl -lnghttp2 -lssl -lcrypto -lconfig -ljansson $(LLHTTP_LIB) -lpthread -lm

LAYERS     := config health balancer
LIB_SRC    := $(wildcard config/*.c health/*.c balancer/*.c proxy/base/*.c proxy/message/*.c proxy/codec/*.c \
                proxy/exchange/*.c proxy/process/*.c)
LIB_SRC    := $(filter-out proxy/process/main.c,$(LIB_SRC))
CTL_SRC    := $(wildcard proxy/tealctl/*.c)
TEST_SRC   := $(wildcard tests/unit/test_*.c tests/codec/test_*.c tests/scenario/test_*.c)
TEST_LIB   := $(filter-out $(TEST_SRC),$(wildcard tests/unit/*.c tests/codec/*.c))
SCENE_SRC  := $(filter-out $(TEST_SRC),$(wildcard tests/scenario/*.c))
LIB_OBJ    := $(LIB_SRC:%.c=$(O)/%.o)
CTL_OBJ    := $(CTL_SRC:%.c=$(O)/%.o)
TEST_LIB_OBJ := $(TEST_LIB:%.c=$(O)/%.o)
TESTS      := $(TEST_SRC:%.c=$(O)/%)
MICRO      := $(patsubst %.c,$(O)/%,$(wildcard bench/micro/*.c))
ALL_SRC    := $(LIB_SRC) proxy/process/main.c $(CTL_SRC) $(TEST_SRC) $(TEST_LIB) $(SCENE_SRC) $(wildcard bench/*.c bench/micro/*.c bench/origin/*.c bench/client/*.c)

.PHONY: all man help deps test-deps bench-deps run demo test unit e2e lint check-layers format bench bench-rollback bench-memory bench-probes bench-micro profile simulate install clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(O)/teal $(O)/tealctl man

help:
	@sed -n 's/^#   //p' Makefile

$(O)/teal: $(O)/proxy/process/main.o $(O)/libteal.a $(LLHTTP_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(O)/tealctl: $(CTL_OBJ) $(O)/libteal.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -ljansson -lm

$(O)/libteal.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(O)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -DLLHTTP_STRICT_MODE=1 -D_GNU_SOURCE $(LLHTTP_CFLAGS) $(OPT) $(HARDEN) -w -c -o $@ $<

$(O)/tests/%: $(O)/tests/%.o $(TEST_LIB_OBJ) $(O)/libteal.a $(LLHTTP_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

$(O)/tests/scenario/%: $(O)/tests/scenario/%.o $(SCENE_SRC:%.c=$(O)/%.o) $(O)/libteal.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

ORIGIN_SRC := $(wildcard bench/origin/*.c)
$(O)/bench/origin/origin: $(ORIGIN_SRC:%.c=$(O)/%.o) $(LLHTTP_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lnghttp2 -lssl -lcrypto $(LLHTTP_LIB) -lpthread

CLIENT_SRC := $(wildcard bench/client/*.c)
$(O)/bench/client/client: $(CLIENT_SRC:%.c=$(O)/%.o)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lssl -lcrypto

$(O)/bench/micro/%: $(O)/bench/micro/%.o $(O)/libteal.a $(LLHTTP_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

-include $(shell find $(O) -name '*.d' 2>/dev/null)

# --- what must be installed (packaging/deps has the lists) --------------------
deps:
	@sh packaging/deps/install.sh build
test-deps:
	@sh packaging/deps/install.sh build test
bench-deps:
	@sh packaging/deps/install.sh build test bench

# --- tests --------------------------------------------------------------------
test: test-deps
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory e2e

unit: $(TESTS)
	@sh tests/run-unit.sh $(TESTS)

e2e: $(O)/teal $(O)/tealctl $(O)/bench/origin/origin $(O)/bench/client/client
	TEAL_BUILD=$(abspath $(O)) TEAL_SAN=$(SAN) /usr/bin/python3 -m pytest tests/e2e -q -p no:cacheprovider $(if $(E2E),-k '$(E2E)') $(PYTEST_ARGS)

lint: test-deps
	@bash tests/lint.sh
check-layers: $(LIB_OBJ)
	@sh tests/check-layers.sh $(O)
format:
	clang-format -i $(ALL_SRC) $(shell git ls-files '*.h')

BENCH_PROGRAMS := $(O)/teal $(O)/bench/origin/origin $(O)/bench/client/client
bench: bench-deps
	@$(MAKE) --no-print-directory $(BENCH_PROGRAMS)
	@TEAL_BUILD=$(abspath $(O)) CASE='$(CASE)' PEER='$(PEER)' ROUNDS='$(ROUNDS)' SECONDS='$(SECONDS)' QUICK='$(QUICK)' \
	    OUT='$(OUT)' /usr/bin/python3 bench/run.py
bench-memory: $(BENCH_PROGRAMS)
	@TEAL_BUILD=$(abspath $(O)) CASE='idle-*' PEER=teal OUT=$(O)/bench/memory /usr/bin/python3 bench/run.py
bench-rollback: bench-deps
	@$(MAKE) --no-print-directory $(O)/teal $(O)/bench/origin/origin
	@QUICK='$(QUICK)' OUT='$(OUT)' /usr/bin/python3 bench/rollback.py $(O)
bench-probes: $(O)/teal
	/usr/bin/python3 bench/probes.py $(O)/teal
bench-micro: $(MICRO)
	@for b in $^; do $$b || exit 1; done
profile: bench-deps
	@$(MAKE) --no-print-directory $(BENCH_PROGRAMS)
	@TEAL_BUILD=$(abspath $(O)) CASE='$(CASE)' SECONDS='$(SECONDS)' /usr/bin/python3 bench/profile.py
simulate: $(O)/tests/unit/test_simulation
	TEAL_SIMULATE=full $<

run: deps
	@$(MAKE) --no-print-directory all
	@TEAL_BUILD=$(abspath $(O)) sh packaging/demo/run.sh

demo: deps
	@$(MAKE) --no-print-directory all
	@TEAL_BUILD=$(abspath $(O)) /usr/bin/python3 packaging/demo/demo.py

man: $(O)/man/teal.conf.5
$(O)/man/teal.conf.5: packaging/man/teal.conf.5.in $(O)/teal
	@mkdir -p $(@D)
	@$(O)/teal --options-man > $(O)/man/options && sed -e '/^@OPTIONS@$$/{r $(O)/man/options' -e 'd;}' $< > $@

install: all
	install -D -m 0755 $(O)/teal $(DESTDIR)$(PREFIX)/sbin/teal
	install -D -m 0755 $(O)/tealctl $(DESTDIR)$(PREFIX)/bin/tealctl
	install -D -m 0644 packaging/man/teal.8 $(DESTDIR)$(PREFIX)/share/man/man8/teal.8
	install -D -m 0644 packaging/man/tealctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/tealctl.1
	install -D -m 0644 $(O)/man/teal.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/teal.conf.5
	install -D -m 0644 packaging/completion/tealctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tealctl
	install -D -m 0644 packaging/teal.service $(DESTDIR)/lib/systemd/system/teal.service
	test -e $(DESTDIR)/etc/teal/teal.conf || install -D -m 0640 packaging/teal.conf $(DESTDIR)/etc/teal/teal.conf

clean:
	rm -rf build
