package daemon

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// maxMessage bounds one line of the daemon's.
const maxMessage = 4 << 10

// message is a line of libvirt's log: time: thread: priority : function:line : text.
type message struct {
	Component    string `json:"component"`
	Level        string `json:"level"`
	Text         string `json:"msg"`
	Position     string `json:"pos,omitempty"`
	Subcomponent string `json:"subcomponent"`
	Thread       string `json:"thread,omitempty"`
	Time         string `json:"timestamp,omitempty"`
}

func parseMessage(line string) message {
	m := message{Component: "virt-launcher", Level: "info", Text: line, Subcomponent: "libvirt"}
	parts := strings.SplitN(line, ": ", 4)
	if len(parts) < 4 || len(parts[0]) < 10 || parts[0][4] != '-' {
		return m
	}
	m.Time, m.Thread, m.Level, m.Text = parts[0], parts[1], strings.TrimSpace(parts[2]), parts[3]
	if function, rest, ok := strings.Cut(m.Text, " : "); ok && !strings.Contains(function, " ") {
		m.Position, m.Text = function, rest
	}
	return m
}

// harmless are messages that say nothing in a pod: who libvirt is, that there is no KVM device in a pod that was given none, that
// libvirt's authors would not support a domain (guest agent commands and a capability filter are enough), that a client has gone.
func harmless(priority, text string) bool {
	return priority == "info" ||
		strings.HasPrefix(text, "Unable to open /dev/kvm") ||
		strings.Contains(text, " is tainted: ") ||
		strings.HasPrefix(text, "getaddrinfo failed for") ||
		strings.HasPrefix(text, "End of file while reading data")
}

// warn writes what the reader of a pod's log should know; the log has the time.
func warn(out io.Writer, m message) {
	if m.Time == "" || !harmless(m.Level, m.Text) {
		fmt.Fprintf(out, "virt-launcher: libvirt: %s\n", m.Text)
	}
}

// tell writes everything, one JSON object a line as log collectors know it from the contract.
func tell(out io.Writer, m message) {
	if line, err := json.Marshal(m); err == nil {
		fmt.Fprintf(out, "%s\n", line)
	}
}

// copyMessages copies the daemon's messages to out, one a line, until in ends.
func copyMessages(out io.Writer, in io.Reader, say func(io.Writer, message)) {
	r := bufio.NewReaderSize(in, maxMessage)
	for {
		line, long, err := r.ReadLine()
		if err != nil {
			return
		}
		text := string(line)
		for long && err == nil {
			_, long, err = r.ReadLine() // the rest of a line that is too long
		}
		say(out, parseMessage(text))
	}
}
