# Builds bin/virt-kube: Kubernetes, etcd, CoreDNS, containerd and what a node needs, in one program.
# Include this from the root Makefile, or run `make -C embedded`.

VIRT_KUBE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
VIRT_KUBE_BIN ?= $(VIRT_KUBE_DIR)/../bin
VIRT_KUBE_ASSETS := $(VIRT_KUBE_DIR)/internal/assets/files
VIRT_KUBE_TAGS := urfave_cli_no_docs,grpcnotrace
VIRT_KUBE_GO = cd $(VIRT_KUBE_DIR) && CGO_ENABLED=0 go

# Kubernetes' version comes from go.mod: clients refuse the default of an unstamped build.
VIRT_KUBE_K8S = $(shell cd $(VIRT_KUBE_DIR) && go list -m -f '{{.Version}}' k8s.io/kubernetes)
VIRT_KUBE_VERSION_PKGS := k8s.io/component-base/version k8s.io/client-go/pkg/version
VIRT_KUBE_LDFLAGS = -s -w $(foreach pkg,$(VIRT_KUBE_VERSION_PKGS),\
	-X $(pkg).gitVersion=$(VIRT_KUBE_K8S) \
	-X $(pkg).gitMajor=$(word 1,$(subst ., ,$(VIRT_KUBE_K8S:v%=%))) \
	-X $(pkg).gitMinor=$(word 2,$(subst ., ,$(VIRT_KUBE_K8S:v%=%))) \
	-X $(pkg).gitCommit= -X $(pkg).gitTreeState=clean)
VIRT_KUBE_PLUGINS := github.com/containernetworking/plugins/plugins

.PHONY: virt-kube virt-kube-assets

virt-kube: virt-kube-assets
	mkdir -p $(VIRT_KUBE_BIN)
	$(VIRT_KUBE_GO) build -trimpath -tags $(VIRT_KUBE_TAGS) -ldflags '$(VIRT_KUBE_LDFLAGS)' -o $(abspath $(VIRT_KUBE_BIN))/virt-kube ./cmd/virt-kube
	ln -sf virt-kube $(VIRT_KUBE_BIN)/kubectl

# The small programs that virt-kube carries: pods run beside them, so each is its own.
virt-kube-assets: $(VIRT_KUBE_ASSETS)/pause
	$(VIRT_KUBE_GO) build -trimpath -tags $(VIRT_KUBE_TAGS),no_grpc -ldflags '-s -w' -o internal/assets/files/ ./cmd/containerd-shim-runc-v2
	$(VIRT_KUBE_GO) build -trimpath -ldflags '-s -w' -o internal/assets/files/ \
		$(VIRT_KUBE_PLUGINS)/main/bridge $(VIRT_KUBE_PLUGINS)/ipam/host-local $(VIRT_KUBE_PLUGINS)/meta/portmap

$(VIRT_KUBE_ASSETS)/pause: $(VIRT_KUBE_DIR)/pause/pause.c
	$(CC) -Os -static -nostdlib -ffreestanding -fno-stack-protector -Wl,--build-id=none -Wl,-z,noseparate-code -s -o $@ $<
