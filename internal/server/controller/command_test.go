package controller

import (
	"io"
	"testing"
)

// Wrong flags end with what to do next.
func TestCommand(t *testing.T) {
	t.Setenv("LAUNCHER_IMAGE", "")
	t.Setenv("NAMESPACE", "")
	for want, args := range map[string][]string{
		"no launcher image; give --launcher-image":                                                    {},
		"no install namespace; set NAMESPACE or give --namespace":                                     {"--launcher-image=x"},
		`unknown flag: --nonsense`:                                                                    {"--nonsense"},
		`unknown command "extra" for "controller"`:                                                    {"extra"},
		`invalid argument "many" for "--port" flag: strconv.ParseInt: parsing "many": invalid syntax`: {"--port=many"},
	} {
		c := Command()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.Execute(); err == nil || err.Error() != want {
			t.Errorf("%v: %v", args, err)
		}
	}
}
