# escrowctl. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Two at once: while the base image waits for packages, Go compiles.
MAKEFLAGS += --jobs=2

BIN          := bin/escrowctl
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT       ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# The commit's own time, so that one commit builds to one binary.
DATE         ?= $(shell TZ=UTC0 git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null || echo unknown)
LDFLAGS      := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# Of one package; only for what hangs.
TEST_TIMEOUT ?= 60m
TEST_FLAGS   ?=
PACKAGES     ?= ./...
FUZZTIME     ?= 30s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/escrowctl, static, with version, commit and date
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/escrowctl

.PHONY: test
test: deps images ## run all tests, setting up what they need
	go test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $(PACKAGES)
	cd deploy/kubernetes && go test $(TEST_FLAGS) ./... # a module of its own

.PHONY: storm
storm: deps images ## attack the whole binary; figures into docs/reliability.md
	rm -f bin/storm/*.json # of earlier runs, that those of now would stand beside
	STORM=full STORM_REPORT=$(CURDIR)/bin/storm STORM_PAGE=$(CURDIR)/docs/reliability.md \
		go test -count=1 -p=1 -timeout 6h $(TEST_FLAGS) ./internal/storm/...
	STORM=full go test -count=1 -timeout 2h $(TEST_FLAGS) ./cmd/escrowctl ./internal/backup -run 'TestMemory|TestEveryOption'

.PHONY: race
race: deps images ## run all tests with the race detector (needs a C compiler)
	go test -race -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $(PACKAGES)

.PHONY: lint
lint: ## gofmt, go vet, golangci-lint, scripts
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w: $$unformatted" >&2; exit 1; fi
	go vet ./...
	for script in scripts/*.sh .ci/run; do bash -n "$$script"; done
	@scripts/tools.sh golangci-lint
	"$$(. scripts/lib.sh && tool_path golangci-lint)" run ./...

.PHONY: docs
docs: ## write the generated parts of docs/
	go test ./internal/cli -run 'TestGeneratedDocs|TestMetricsPage' -update
	go test ./internal/release -run TestLicences -update

.PHONY: links
links: ## follow every link of the documents to another site
	scripts/links.sh

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do \
		grep -oE '^func Fuzz[A-Za-z0-9_]+' "$$file" | cut -d' ' -f2 | while read -r target; do \
			echo "== $$target ($$file)"; \
			go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s; \
		done; \
	done

.PHONY: vulns
vulns: ## look for known vulnerabilities (VULNDB=file:///DIR: a copy of the database)
	@scripts/tools.sh govulncheck
	"$$(. scripts/lib.sh && tool_path govulncheck)" $(if $(VULNDB),-db $(VULNDB)) ./...

.PHONY: bench
bench: tools ## measure against pg_dump, gzip, psql and others, side by side
	scripts/deps.sh pigz zstd
	bench/run.sh

.PHONY: demo
demo: sandbox build ## start the sandbox and show every capability on it
	scripts/demo.sh

.PHONY: quiet
quiet: build ## check the healthy sandbox 200 times (RUNS): no false alarm
	scripts/quiet.sh

.PHONY: demo-down
demo-down: ## remove the sandbox: containers, volumes, network, images, files
	scripts/demo-down.sh

.PHONY: release
release: ## build dist/: static binaries, SBOMs, Debian packages, checksums
	@scripts/tools.sh nfpm
	scripts/release.sh

.PHONY: reproducible
reproducible: ## build the release in two directories and compare the bytes
	@scripts/tools.sh nfpm
	scripts/reproducible.sh

.PHONY: adopt
adopt: deps images ## install the package beside a sandbox, run a night, remove it
	@scripts/tools.sh nfpm
	scripts/adopt.sh

.PHONY: deps
deps: ## install the Debian packages that are missing
	scripts/deps.sh

.PHONY: tools
tools: ## build the tools that tests and sandbox use into the cache
	scripts/tools.sh versitygw pebble nfpm

.PHONY: base
base: sandbox-deps
	scripts/images.sh base

.PHONY: sandbox-deps sandbox-tools sandbox
sandbox-deps:
	scripts/deps.sh --sandbox
sandbox-tools:
	scripts/tools.sh versitygw
sandbox: base sandbox-tools # what the demo needs, and no more
	scripts/images.sh postgres redis s3 nginx certbot platform monitoring

.PHONY: images
images: deps base tools ## build the container images of tests and sandbox
	scripts/images.sh

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin dist bench/out coverage.out
