// Package handover is how a stream between virt-api and a virt-handler outlives the virt-handler.
//
// virt-api says that it can take part with the query parameter Offer. A virt-handler that ends sends what the guest has said so far,
// and then, instead of cutting the stream, closes it with a key. It takes what virt-api still sends until virt-api has answered, leaves
// the guest's end with the launcher under the key, and closes the connection. virt-api waits for the node's next virt-handler and
// asks it for the stream with the query parameter Resume. No byte is lost and none comes twice, so neither end of a console or a VNC
// session notices more than a pause.
package handover

import (
	"crypto/rand"
	"errors"
	"strings"

	"github.com/gorilla/websocket"
)

// Query parameters of a stream.
const (
	Offer  = "handover"
	Resume = "resume"
)

// prefix begins the reason with which a stream is closed that is handed over.
const prefix = "handed over: "

// NewKey makes a key that nobody guesses.
func NewKey() string { return rand.Text() }

// Close is the message that hands a stream over.
func Close(key string) []byte {
	return websocket.FormatCloseMessage(websocket.CloseServiceRestart, prefix+key)
}

// Key tells whether a stream ended because it is handed over, and under which key.
func Key(err error) (string, bool) {
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return "", false
	}
	return KeyOf(closed.Code, closed.Text)
}

// KeyOf does so for what a close message says.
func KeyOf(code int, text string) (string, bool) {
	key, ok := strings.CutPrefix(text, prefix)
	return key, ok && code == websocket.CloseServiceRestart && key != ""
}

// Answer is virt-api's answer, after the last message that it sends on the old connection.
func Answer() []byte { return websocket.FormatCloseMessage(websocket.CloseServiceRestart, "") }

// Answered tells whether a stream ended with the answer.
func Answered(err error) bool {
	var closed *websocket.CloseError
	return errors.As(err, &closed) && closed.Code == websocket.CloseServiceRestart
}
