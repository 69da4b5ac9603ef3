package daemon

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxMessage bounds one line of the daemon's.
const maxMessage = 4 << 10

// splitMessage takes libvirt's stamp (time: thread: priority : function:line : text) off a line; the container's log has the time.
func splitMessage(line string) (priority, text string) {
	parts := strings.SplitN(line, ": ", 4)
	if len(parts) < 4 || len(parts[0]) < 10 || parts[0][4] != '-' {
		return "", line
	}
	priority, text = strings.TrimSpace(parts[2]), parts[3]
	if function, rest, ok := strings.Cut(text, " : "); ok && !strings.Contains(function, " ") {
		text = rest
	}
	return priority, text
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

// copyMessages copies the daemon's messages to out, one a line, until in ends.
func copyMessages(out io.Writer, in io.Reader) {
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
		if priority, text := splitMessage(text); !harmless(priority, text) {
			fmt.Fprintf(out, "virt-launcher: libvirt: %s\n", text)
		}
	}
}
