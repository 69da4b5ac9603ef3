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
