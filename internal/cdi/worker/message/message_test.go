package message

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEncodeFitsTheKubeletsLimit(t *testing.T) {
	labels := map[string]string{}
	for i := range 200 {
		labels[strings.Repeat("k", i+1)] = "v"
	}
	long := Termination{Message: FailurePrefix + strings.Repeat("ü\"", 5000), Labels: labels, Fatal: true, Reason: ReasonChecksum}
	raw, err := long.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > Limit {
		t.Fatalf("%d bytes", len(raw))
	}
	got := Parse(string(raw))
	if !got.Fatal || got.Reason != ReasonChecksum || !strings.HasPrefix(got.Message, FailurePrefix) {
		t.Fatalf("what matters was lost: %+v", got)
	}
}

func TestParse(t *testing.T) {
	yes := true
	cases := map[string]Termination{
		`{"scratchSpaceRequired":true,"message":"Import Complete"}`: {ScratchSpaceRequired: &yes, Message: "Import Complete"},
		"Unable to process data: no":                                {Message: "Unable to process data: no"},
		`{"broken`:                                                  {Message: `{"broken`},
		"":                                                          {},
	}
	for text, want := range cases {
		if diff := cmp.Diff(want, Parse(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestWriteKeepsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Termination{Message: UploadComplete, Digest: "sha256:00"}).Write(file); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(file)
	if string(raw) != `{"message":"Upload Complete","digest":"sha256:00"}` {
		t.Fatalf("%s", raw)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"message":"x","labels":{"a":"b"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed := Parse(text)
		if raw, err := parsed.Encode(); err == nil && len(raw) > Limit {
			t.Fatal("too long")
		}
	})
}
