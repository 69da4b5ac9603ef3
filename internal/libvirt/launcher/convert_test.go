package launcher

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"os/exec"
	"strings"
	"testing"
)

func TestScreenshotsBecomePNG(t *testing.T) {
	ppm := append([]byte("P6\n2 1\n255\n"), 255, 0, 0, 10, 20, 30)
	out, err := ppmToPNG(ppm)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(out))
	if err != nil || picture.Bounds().Dx() != 2 || picture.Bounds().Dy() != 1 {
		t.Fatalf("%v, %v", picture, err)
	}
	if got := color.NRGBAModel.Convert(picture.At(1, 0)); got != (color.NRGBA{10, 20, 30, 255}) {
		t.Errorf("a pixel is %v", got)
	}
	for name, bad := range map[string]string{
		"empty": "", "other": "P5\n1 1\n255\nx", "short": "P6\n2 2\n255\nxyz", "huge": "P6\n999999999 999999999\n255\n", "negative": "P6\n-1 1\n255\n", "deep": "P6\n1 1\n65535\nxxxxxx",
	} {
		if _, err := ppmToPNG([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzScreenshot(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\nabcdef"))
	f.Add([]byte("P6\n7680 4320\n255\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := ppmToPNG(data)
		if err == nil {
			if _, err := png.Decode(bytes.NewReader(out)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAliases(t *testing.T) {
	disk := `<disk type='file'><source file='/x'/><alias name='ua-disk'/></disk>`
	if got := deviceAlias(disk); got != "ua-disk" {
		t.Errorf("%q", got)
	}
	if got := deviceAlias(`<disk><backingStore><alias name='not-this'/></backingStore></disk>`); got != "" {
		t.Errorf("%q", got)
	}
	domain := fmt.Sprintf("<domain><devices>%s</devices></domain>", disk)
	if !hasAlias(domain, "ua-disk") || hasAlias(domain, "ua") || hasAlias("<broken", "ua-disk") {
		t.Error("aliases are not found or found where there are none")
	}
	channel := `<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='%s'/></channel>`
	if !agentConnected(fmt.Sprintf(channel, "connected")) || agentConnected(fmt.Sprintf(channel, "disconnected")) {
		t.Error("the agent's channel is misread")
	}
}

// The launcher is in every virtual machine's pod: it knows domains and not Kubernetes, and stays small.
func TestTheLauncherStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "virtctl/cmd/virt-launcher").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.SplitSeq(string(out), "\n") {
		for _, forbidden := range []string{"k8s.io/", "kubevirt.io/", "sigs.k8s.io/", "net/http", "crypto/tls", "github.com/spf13/", "google.golang.org/"} {
			if strings.HasPrefix(path, forbidden) {
				t.Errorf("virt-launcher reaches %s", path)
			}
		}
	}
}
