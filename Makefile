# virtctl: everything that is built, tested and measured. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export GOFLAGS ?= -buildvcs=false
# The checksums of the libvirt modules are in go.sum; the public checksum database does not know them.
export GONOSUMDB ?= libvirt.org/*

RELEASE  ?= v0.1.0
# A build is named after what is in it, so that installing a changed tree is an upgrade.
ifndef VERSION
SOURCES  := cmd internal images go.mod go.sum
VERSION  := $(RELEASE)-$(shell (git ls-files -s -- $(SOURCES); git diff -- $(SOURCES); git ls-files -o --exclude-standard -z -- $(SOURCES) | xargs -0r cat) 2>/dev/null | sha1sum | cut -c1-10)
endif
IMAGE_PREFIX ?= localhost/virtctl
PKG      := virtctl/internal/version
LDFLAGS  := -s -w -X $(PKG).version=$(RELEASE) -X $(PKG).registry=$(IMAGE_PREFIX) -X $(PKG).tag=$(VERSION)
GO_FILES := $(wildcard $(shell git ls-files -co --exclude-standard 'cmd/*.go' 'internal/*.go' 'internal/crds/*.yaml' go.mod go.sum))
GOBUILD  := go build -trimpath -ldflags '$(LDFLAGS)'

include images/images.mk
include embedded/build.mk

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 20

.PHONY: deps
DEPS := $(shell sed 's/\#.*//' packages.txt images/packages.txt)
deps: ## install the Debian packages that building and running need
	@missing=$$({ dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(DEPS) 2>/dev/null || true; } | awk '$$2=="installed"{print $$1}' | sort -u | comm -13 - <(printf '%s\n' $(DEPS) | sort -u)); \
	if [ -n "$$missing" ]; then apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; fi

.PHONY: build
build: bin/virtctl bin/virt-server bin/virt-handler bin/virt-launcher bin/cdi-worker ## build the programs

# The version is part of the programs: they are linked again when it changes.
bin/.version: FORCE
	@mkdir -p bin
	@test "$$(cat $@ 2>/dev/null)" = '$(VERSION)' || echo '$(VERSION)' > $@
FORCE:

bin/virtctl bin/virt-server bin/virt-handler bin/cdi-worker: bin/%: bin/.version $(GO_FILES)
	CGO_ENABLED=0 $(GOBUILD) -o $@ ./cmd/$*

bin/virt-launcher: bin/.version $(GO_FILES)
	CGO_ENABLED=1 $(GOBUILD) -o $@ ./cmd/virt-launcher

bin/virt-kube: $(wildcard $(shell git ls-files -co --exclude-standard embedded))
	$(MAKE) virt-kube

STATE_DIR ?= /var/lib/virt-kube
NODES     ?= 1
VIRTCTL   := bin/virtctl --kubeconfig $(STATE_DIR)/kubeconfig

.PHONY: up
up: deps build bin/virt-kube images ## from nothing to a running VM: cluster, platform, demo VM and its console's first lines
	bin/virtctl install --embedded --nodes $(NODES) --state-dir $(STATE_DIR) --timeout 10m
	$(VIRTCTL) create vm --name demo --memory 128Mi --volume-containerdisk src:$(IMAGE_PREFIX)/demo:$(VERSION) | bin/kubectl --kubeconfig $(STATE_DIR)/kubeconfig apply -f -
	$(VIRTCTL) wait demo --for ready --timeout 2m
	$(VIRTCTL) get vms
	sed '/Welcome to the demo guest/q' <(timeout 60 $(VIRTCTL) logs demo --follow 2>/dev/null)
	@echo "now: $(VIRTCTL) console demo"

.PHONY: down
down: ## stop the embedded cluster and leave nothing behind
	bin/virtctl uninstall --embedded --state-dir $(STATE_DIR) --delete-vms

.PHONY: generate
generate: ## write again what is generated: definitions, completions, reference
	cd internal/crds && go run ./gen .
	go run ./cmd/virtctl/gen

.PHONY: test test-unit test-integration test-libvirt test-guest test-kube test-csi test-e2e
test: deps lint test-unit test-integration test-libvirt test-e2e ## lint, unit, integration, libvirt and e2e; what CI runs

UNIT := go test -timeout 15m
test-unit: deps ## unit, golden and script tests (UPDATE=1 writes golden files again)
	$(UNIT) ./cmd/... ./images/... ./internal/...
	cd lint && $(UNIT) ./...
	cd $(CSI_DIR) && CGO_ENABLED=0 $(UNIT) -trimpath ./...
	$(MAKE) -C embedded test

test-csi: ## the driver that tests of clones stand on, by CSI's own tests; not in make test
	cd $(CSI_DIR) && CGO_ENABLED=0 $(UNIT) -trimpath -tags sanity ./internal/driver

test-integration: deps bin/virt-kube ## the controllers and servers behind a real API server
	go test -tags integration -count=1 -p 1 -timeout 20m ./internal/server/api ./internal/server/controller ./internal/server/cdi/...

test-libvirt: deps images ## domains and the launcher on the libvirt and QEMU of the launcher image
	go test -tags libvirt -count=1 -p 1 -timeout 20m ./internal/libvirt/launcher

test-guest: deps images ## the demo guest on all the hardware it may meet; not in make test
	go test -tags guest -count=1 -p 1 -timeout 20m ./images/demo

test-kube: deps ## virt-kube's own life: two nodes, kill -9, a second start; not in make test
	$(MAKE) -C embedded e2e

test-e2e: deps build bin/virt-kube bin/multus images csi ## the user's journeys on a cluster of this machine, with real VMs
	go test -tags e2e -count=1 -timeout 60m -v ./test/e2e/...

# The plugin that puts the pods of some e2e tests on a second network. Its versions of what it shares with the main module are the main
# module's, so that most of it is compiled already.
bin/multus: test/multus/go.mod
	cd test/multus && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../$@ gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus

.PHONY: bench
bench: deps build bin/virt-kube images ## measure docs/promises.md, each figure beside its floor
	go test -tags bench -count=1 -timeout 60m -v ./test/bench

# The tags of every test, so that no file is left out.
TEST_TAGS := e2e,bench,integration,libvirt,guest
.PHONY: lint lint-all format
lint: deps bin/lint bin/gofumpt virt-kube-assets ## the part of lint-all that every test run checks: format, import rules, errorlint
	@unformatted=$$(bin/gofumpt -l .); if [ -n "$$unformatted" ]; then echo "not formatted, run make format: $$unformatted" >&2; exit 1; fi
	bin/lint -tags $(TEST_TAGS) ./...
	CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) -trimpath' bin/lint -C embedded -tags $(VIRT_KUBE_TAGS),e2e ./...
	CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) -trimpath' bin/lint -C $(CSI_DIR) ./...

lint-all: ## style, bugs and import rules by golangci-lint; compiles it the first time, which takes minutes
	go run $(GOLANGCI) run --build-tags $(TEST_TAGS) ./...
	cd embedded && CGO_ENABLED=0 go run $(GOLANGCI) run --build-tags $(VIRT_KUBE_TAGS),e2e ./...
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

format: bin/gofumpt ## format the source
	bin/gofumpt -w .

bin/lint: $(wildcard lint/*)
	cd lint && CGO_ENABLED=0 go build -trimpath -o ../$@ .
bin/gofumpt: lint/go.mod
	cd lint && CGO_ENABLED=0 go build -trimpath -o ../$@ mvdan.cc/gofumpt
