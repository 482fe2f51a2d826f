# make build     the program: one static file, bin/lifeboat
# make demo      see it work: back up, lose a region, restore, drill
# make test      everything that must pass before a change goes in
# make help      the rest

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

FUZZTIME  ?= 10s
TEST      ?= .
BENCH     ?= .
BENCHARGS ?=
SIMSEEDS  ?= 2000

# The commit is stamped into the program where this is a clone that git trusts.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)

.PHONY: help build demo test unit e2e race bench bench-engine fuzz soak lint deps clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "make unit      the tests of the packages alone"
	@echo "make e2e       the tests of the built program alone        (TEST=name)"
	@echo "make race      the tests under the race detector           (needs gcc)"
	@echo "make fuzz      every fuzz target                           (FUZZTIME=60s)"
	@echo "make bench     against restic and borg, and the engine     (BENCHARGS=…)"
	@echo "make soak      a million files, other S3 servers: hours"
	@echo "make lint      gofmt, vet, staticcheck, govulncheck"
	@echo "make deps      what tests need beside Go: by apt, as root"
	@echo "make clean     bin, demo and the cache of test tools"

build:
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(VCS) -ldflags='-s -w' -o bin/lifeboat ./cmd/lifeboat

demo: build
	cd e2e && go run ./demo -binary ../bin/lifeboat -dir ../demo

test: deps lint build unit e2e

unit:
	go test ./...

e2e:
	cd e2e && go test -timeout 30m -run '$(TEST)' ./...

race:
	@command -v gcc >/dev/null || { echo "make race needs a C compiler: apt-get install gcc libc6-dev" >&2; exit 1; }
	CGO_ENABLED=1 go test -race -timeout 30m ./...
	CGO_ENABLED=1 go build -race -o bin/lifeboat-race ./cmd/lifeboat
	cd e2e && CGO_ENABLED=1 LIFEBOAT_BINARY=$(CURDIR)/bin/lifeboat-race go test -race -timeout 60m ./...

bench: build bench-engine
	cd e2e && go run ./bench -binary ../bin/lifeboat $(BENCHARGS)

bench-engine:
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

fuzz:
	FUZZTIME=$(FUZZTIME) e2e/scripts/fuzz.sh

# What is too slow for every change: many seeds, MinIO beside the S3 server of
# the other tests, 200 kills of backup and of restore, a million files.
soak: deps build
	LIFEBOAT_SIM_SEEDS=$(SIMSEEDS) go test -count=1 -timeout 6h -run 'TestSimulation' ./storage/repo
	LIFEBOAT_S3_SERVER=minio go test -count=1 -timeout 1h -run 'TestConformance' ./storage/s3
	cd e2e && LIFEBOAT_S3_SERVER=minio go test -count=1 -timeout 1h -run 'TestTortureRoundTrip|TestEveryRegionAlone|TestManyRuns|TestRequestBudget' .
	cd e2e && LIFEBOAT_SOAK=1 go test -count=1 -timeout 6h -v -run 'TestKill' .
	cd e2e && go test -tags soak -count=1 -timeout 12h -v -run 'Soak' ./...

lint:
	e2e/scripts/lint.sh

deps:
	e2e/scripts/deps.sh

clean:
	rm -rf bin
	cd e2e && go run ./demo -clean -dir ../demo
	rm -rf "$${LIFEBOAT_TEST_BIN:-$${XDG_CACHE_HOME:-$$HOME/.cache}/lifeboat-test}"
