package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"virtctl/internal/libvirt/wire"
)

func secret(t *testing.T, values map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// guest plays an agent that takes credentials, for users it knows.
type guest struct {
	users     []string
	away      bool
	said      []string
	keys      map[string][]string
	passwords map[string]string
}

func (g *guest) run(command string) ([]byte, error) {
	var c struct {
		Execute   string
		Arguments struct {
			Username, Password string
			Keys               []string
			Reset              bool
			Crypted            *bool
		}
	}
	if err := json.Unmarshal([]byte(command), &c); err != nil {
		return nil, err
	}
	a := c.Arguments
	g.said = append(g.said, c.Execute+" "+a.Username)
	switch {
	case g.away:
		return nil, &wire.Error{Code: wire.CodeUnavailable, Message: "the guest agent is not connected"}
	case !slices.Contains(g.users, a.Username):
		return nil, fmt.Errorf("guest agent: failed to lookup user %q", a.Username)
	case c.Execute == SetKeys && a.Reset && a.Keys != nil:
		g.keys[a.Username] = a.Keys
	case c.Execute == SetPassword && a.Crypted != nil && !*a.Crypted:
		plain, err := base64.StdEncoding.DecodeString(a.Password)
		if err != nil {
			return nil, err
		}
		g.passwords[a.Username] = string(plain)
	default:
		return nil, errors.New("unknown command: " + command)
	}
	return []byte(`{"return":{}}`), nil
}

func newGuest(users ...string) *guest {
	return &guest{users: users, keys: map[string][]string{}, passwords: map[string]string{}}
}

func TestCredentialsReachTheirUsers(t *testing.T) {
	both := secret(t, map[string]string{"a": "ssh-rsa A", "b": "ssh-rsa B"})
	mine := secret(t, map[string]string{"c": "ssh-rsa C\nssh-rsa A"})
	none := secret(t, nil)
	words := secret(t, map[string]string{"root": "topsecret\n", "me": "hush"})
	c, err := ReadCredentials([]wire.Credential{
		{Dir: both, Users: []string{"me", "root"}}, {Dir: mine, Users: []string{"me"}}, {Dir: none, Users: []string{"locked"}}, {Dir: words},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest("me", "root", "locked")
	if err := c.Apply(context.Background(), g.run); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.keys["me"], []string{"ssh-rsa A", "ssh-rsa B", "ssh-rsa C"}) || len(g.keys["root"]) != 2 || len(g.keys["locked"]) != 0 {
		t.Errorf("keys %q", g.keys)
	}
	if _, ok := g.keys["locked"]; !ok {
		t.Error("a user whose Secret is empty keeps the keys that were there")
	}
	if g.passwords["root"] != "topsecret" || g.passwords["me"] != "hush" {
		t.Errorf("passwords %q", g.passwords)
	}
}

// What the agent says ends up in a condition of the API object.
func TestRefusalsAreBoundedAndHoldNoPassword(t *testing.T) {
	values := map[string]string{}
	for i := range 20 {
		values[fmt.Sprintf("user%02d", i)] = "topsecret"
	}
	c, err := ReadCredentials([]wire.Credential{{Dir: secret(t, values)}})
	if err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]Run{
		"an echo":           func(command string) ([]byte, error) { return nil, errors.New(command) },
		"an echo in answer": func(string) ([]byte, error) { return []byte(`{"error":{"desc":"no topsecret here"}}`), nil },
		"much":              func(string) ([]byte, error) { return nil, errors.New(strings.Repeat("x\x1b\n", 1<<16)) },
		"nonsense":          func(string) ([]byte, error) { return []byte("{"), nil },
	} {
		err := c.Apply(context.Background(), run)
		if err == nil || len(err.Error()) > 2048 || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, word := range []string{"topsecret", base64.StdEncoding.EncodeToString([]byte("topsecret"))} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%s: the password is in %q", name, err)
			}
		}
		if !strings.Contains(err.Error(), `"user00"`) || !strings.HasSuffix(err.Error(), "and 16 more") {
			t.Errorf("%s: %q", name, err)
		}
	}
}

func TestTooManyUsersAreRefused(t *testing.T) {
	values := map[string]string{}
	for i := range maxCredentialUsers + 1 {
		values[fmt.Sprint("u", i)] = "x"
	}
	if _, err := ReadCredentials([]wire.Credential{{Dir: secret(t, values)}}); wire.CodeOf(err) != wire.CodeInvalid {
		t.Fatalf("got %v", err)
	}
}

// kept is a Keeper in a bubble of its own time.
type kept struct {
	*guest
	dir           string
	states        []wire.CredentialsState
	came, changed chan struct{}
}

func keep(t *testing.T, g *guest) *kept {
	k := &kept{guest: g, dir: secret(t, map[string]string{"me": "first"}), came: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	keeper := Keeper{
		List: []wire.Credential{{Dir: k.dir}}, Run: g.run, Connected: func() bool { return !g.away },
		Report: func(s wire.CredentialsState) { k.states = append(k.states, s) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); keeper.Keep(ctx, k.came, k.changed) }()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

func (k *kept) last() wire.CredentialsState {
	if len(k.states) == 0 {
		return wire.CredentialsState{}
	}
	return k.states[len(k.states)-1]
}

func (k *kept) write(t *testing.T, password string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, "me"), []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	k.changed <- struct{}{}
	synctest.Wait()
}

func TestAChangedSecretReachesTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, newGuest("me"))
		k.came <- struct{}{}
		synctest.Wait()
		if k.passwords["me"] != "first" || !k.last().Synchronized {
			t.Fatalf("%q, %+v", k.passwords, k.last())
		}
		k.write(t, "second")
		if k.passwords["me"] != "second" {
			t.Fatalf("%q", k.passwords)
		}
		told := len(k.said)
		k.write(t, "second")
		if len(k.said) != told {
			t.Error("the agent was told again what it knows")
		}
	})
}

// The agent often comes before cloud-init has made the users.
func TestARefusedCredentialIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, newGuest())
		k.came <- struct{}{}
		synctest.Wait()
		if s := k.last(); s.Synchronized || s.Reason != wire.CredentialsRefused || !strings.Contains(s.Message, "failed to lookup user") {
			t.Fatalf("%+v", s)
		}
		k.users = []string{"me"}
		time.Sleep(firstRetry) // the bubble's time
		synctest.Wait()
		if k.passwords["me"] != "first" || !k.last().Synchronized {
			t.Fatalf("%q, %+v", k.passwords, k.last())
		}
		told := len(k.said)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(k.said) != told {
			t.Error("the agent is asked though all is done")
		}
	})
}

func TestASecretThatChangesWithoutAgentWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, newGuest("me"))
		k.away = true
		k.write(t, "early")
		if len(k.states) != 0 || len(k.said) != 0 {
			t.Fatalf("said %q, %+v", k.said, k.states)
		}
		k.away = false
		k.came <- struct{}{}
		synctest.Wait()
		k.away = true
		k.write(t, "late")
		if s := k.last(); s.Reason != wire.CredentialsNoAgent {
			t.Fatalf("%+v", s)
		}
		k.write(t, "early")
		if !k.last().Synchronized {
			t.Fatalf("the guest has what the Secret says again: %+v", k.last())
		}
		k.write(t, "late")
		k.away = false
		k.came <- struct{}{}
		synctest.Wait()
		if k.passwords["me"] != "late" || !k.last().Synchronized {
			t.Fatalf("%q, %+v", k.passwords, k.last())
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(`{"return":{}}`, "")
	f.Add(`{"error":{"desc":"x"}}`, "gone")
	f.Fuzz(func(t *testing.T, answer, fails string) {
		c := Credentials{keys: []userKeys{{user: "me", keys: []string{"k"}}}}
		err := c.Apply(context.Background(), func(string) ([]byte, error) {
			if fails != "" {
				return nil, errors.New(fails)
			}
			return []byte(answer), nil
		})
		if err != nil && (len(err.Error()) > 1024 || strings.ContainsRune(err.Error(), '\n')) {
			t.Fatalf("%q", err)
		}
	})
}
