// Package token makes and checks the tokens that stand for a permission once given: to upload into a claim, or to clone
// one. They are JSON web tokens signed with PS256, as CDI's public contract has them.
package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Operation is what a token allows.
type Operation string

// The operations.
const (
	Clone  Operation = "Clone"
	Upload Operation = "Upload"
)

// Parameters of clone tokens.
const (
	ParamTargetNamespace = "targetNamespace"
	ParamTargetName      = "targetName"
	ParamUID             = "uid"
)

// Lifetimes of the contract.
const (
	Lifetime     = 5 * time.Minute
	LongLifetime = 10 * 365 * 24 * time.Hour
	Leeway       = 10 * time.Second
)

// maxToken bounds what is looked at; a token has less than a kilobyte.
const maxToken = 16 << 10

// Payload is what a token allows, and on what.
type Payload struct {
	Operation Operation                   `json:"operation,omitempty"`
	Name      string                      `json:"name,omitempty"`
	Namespace string                      `json:"namespace,omitempty"`
	Resource  metav1.GroupVersionResource `json:"resource,omitempty"`
	Params    map[string]string           `json:"params,omitempty"`
}

// Claims is the resource of tokens about claims.
func Claims() metav1.GroupVersionResource {
	return metav1.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
}

// ErrInvalid is why a token was refused: it is not one, was signed by somebody else, or is not valid now.
var ErrInvalid = errors.New("invalid token")

type header struct {
	Algorithm string   `json:"alg"`
	Critical  []string `json:"crit,omitempty"`
}

type content struct {
	Payload
	Issuer    string  `json:"iss,omitempty"`
	IssuedAt  seconds `json:"iat,omitempty"`
	NotBefore seconds `json:"nbf,omitempty"`
	Expiry    seconds `json:"exp,omitempty"`
}

// seconds is a time as JSON web tokens write it: a number, with a fraction if need be.
type seconds float64

func at(t time.Time) seconds { return seconds(t.Unix()) }

// time is the moment itself. Numbers no clock will show are refused before they overflow.
func (s seconds) time() (time.Time, error) {
	if f := float64(s); f > 0 && f < math.MaxInt32*64 {
		return time.Unix(int64(f), 0), nil
	}
	return time.Time{}, fmt.Errorf("%w: %g is no time", ErrInvalid, float64(s))
}

var (
	encoding = base64.RawURLEncoding
	pss      = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
)

// Sign makes a token that is valid from now on for a while.
func Sign(key *rsa.PrivateKey, issuer string, p Payload, now time.Time, lifetime time.Duration) (string, error) {
	head, err := json.Marshal(header{Algorithm: "PS256"})
	if err != nil {
		return "", fmt.Errorf("encode the token: %w", err)
	}
	body, err := json.Marshal(content{Payload: p, Issuer: issuer, IssuedAt: at(now), NotBefore: at(now), Expiry: at(now.Add(lifetime))})
	if err != nil {
		return "", fmt.Errorf("encode the token: %w", err)
	}
	signed := encoding.EncodeToString(head) + "." + encoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], pss)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	return signed + "." + encoding.EncodeToString(signature), nil
}

// Verify gives what a token allows. Every error is an ErrInvalid.
func Verify(key *rsa.PublicKey, issuer, text string, now time.Time) (Payload, error) {
	if len(text) > maxToken {
		return Payload{}, fmt.Errorf("%w: %d bytes are too many", ErrInvalid, len(text))
	}
	signed, last, ok := cutLast(text)
	if !ok || strings.Count(signed, ".") != 1 {
		return Payload{}, fmt.Errorf("%w: not three parts", ErrInvalid)
	}
	head, body, _ := strings.Cut(signed, ".")
	var h header
	if err := decode(head, &h); err != nil {
		return Payload{}, err
	}
	// The algorithm is ours to choose, not the token's: "none" and HMAC with the public key are known tricks.
	if h.Algorithm != "PS256" || len(h.Critical) > 0 {
		return Payload{}, fmt.Errorf("%w: signed with %q, want PS256", ErrInvalid, h.Algorithm)
	}
	signature, err := encoding.DecodeString(last)
	if err != nil {
		return Payload{}, fmt.Errorf("%w: signature: %w", ErrInvalid, err)
	}
	digest := sha256.Sum256([]byte(signed))
	if err := rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}); err != nil {
		return Payload{}, fmt.Errorf("%w: the signature is not the issuer's", ErrInvalid)
	}
	var c content
	if err := decode(body, &c); err != nil {
		return Payload{}, err
	}
	return c.Payload, c.check(issuer, now)
}

func (c content) check(issuer string, now time.Time) error {
	if c.Issuer != issuer {
		return fmt.Errorf("%w: issued by %q, want %q", ErrInvalid, c.Issuer, issuer)
	}
	from, err := c.NotBefore.time()
	if err != nil {
		return err
	}
	until, err := c.Expiry.time()
	if err != nil {
		return err
	}
	switch {
	case now.Add(Leeway).Before(from):
		return fmt.Errorf("%w: valid from %s on", ErrInvalid, from.UTC().Format(time.RFC3339))
	case now.Add(-Leeway).After(until):
		return fmt.Errorf("%w: expired at %s; ask for a new one", ErrInvalid, until.UTC().Format(time.RFC3339))
	}
	return nil
}

func cutLast(text string) (before, last string, ok bool) {
	i := strings.LastIndexByte(text, '.')
	if i < 0 {
		return "", "", false
	}
	return text[:i], text[i+1:], true
}

func decode(part string, into any) error {
	raw, err := encoding.DecodeString(part)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
