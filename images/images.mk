# Container images without a container engine; included by the Makefile. See docs/images.md.
#
# IMAGE_PREFIX and VERSION name the images: $(IMAGE_PREFIX)/virt-launcher:$(VERSION)

IMAGE_PREFIX ?= localhost/virtctl
IMAGES_OUT   ?= out/images
VERSION      ?= dev

IMAGES_BUILD := go run ./images/build -prefix '$(IMAGE_PREFIX)' -tag '$(VERSION)' -out '$(IMAGES_OUT)'
# What every image depends on: how images are put together.
IMAGES_CODE  := $(wildcard images/build/*.go internal/images/*.go)
DEMO_SOURCES := $(shell find images/demo -type f)

.PHONY: images image-debian images-name
images: $(addprefix $(IMAGES_OUT)/,virt-launcher.tar virt-server.tar virt-handler.tar demo.tar demo-kernel.tar) ## put the platform's images and the demo guest together

image-debian: $(IMAGES_OUT)/debian.tar ## put the full Debian guest together

# Changes only when the images get another name, which makes all of them older than it.
IMAGES_NAME := $(IMAGES_OUT)/.name
images-name:
	@mkdir -p $(IMAGES_OUT)
	@test "$$(cat $(IMAGES_NAME) 2>/dev/null)" = '$(IMAGE_PREFIX):$(VERSION)' || echo '$(IMAGE_PREFIX):$(VERSION)' > $(IMAGES_NAME)
$(IMAGES_NAME): images-name ;

$(IMAGES_OUT)/virt-launcher.tar: bin/virt-launcher bin/cdi-worker $(wildcard images/launcher/*) $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) virt-launcher

$(IMAGES_OUT)/virt-server.tar: bin/virt-server $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) virt-server

$(IMAGES_OUT)/virt-handler.tar: bin/virt-handler $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) virt-handler

$(IMAGES_OUT)/demo.tar: $(DEMO_SOURCES) $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) demo

$(IMAGES_OUT)/demo-kernel.tar: $(DEMO_SOURCES) $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) demo-kernel

$(IMAGES_OUT)/debian.tar: $(wildcard images/debian/*) $(IMAGES_CODE) $(IMAGES_NAME)
	$(IMAGES_BUILD) debian

# Storage for tests that clones by itself; a module of its own. It is loaded by the tests that need it and by no installation.
# The definitions of snapshots come with the module that has their types.
CSI_DIR    := test/csi
CSI_CLIENT := github.com/kubernetes-csi/external-snapshotter/client/v8
.PHONY: csi
csi: out/test/csi.tar out/test/snapshots.yaml
bin/csi/csi-directories: $(shell git ls-files -co --exclude-standard $(CSI_DIR))
	cd $(CSI_DIR) && CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o ../../bin/csi/ tool ./cmd/csi-directories
out/test/csi.tar: bin/csi/csi-directories $(IMAGES_CODE)
	go run ./images/build -prefix '$(IMAGE_PREFIX)' -tag test -out out/test csi
out/test/snapshots.yaml: bin/csi/csi-directories
	@mkdir -p $(@D)
	cat $$(cd $(CSI_DIR) && go list -mod=readonly -m -f '{{.Dir}}' $(CSI_CLIENT))/config/crd/snapshot.storage.k8s.io_*.yaml > $@
