package version

import (
	"fmt"
	"strings"
)

// Skew says what a difference between this program's and the platform's version means; "" when there is nothing to say.
func Skew(client, server string) string {
	mine, theirs := minor(client), minor(server)
	if mine == "" || theirs == "" || mine == theirs {
		return ""
	}
	return fmt.Sprintf("You are using a client virtctl version that is different from the KubeVirt version running in the cluster\n"+
		"Client Version: %s\nServer Version: %s\n"+
		"requests that one of them does not know will fail; run \"virtctl install\" with the newer program to upgrade the cluster", client, server)
}

// minor gives "v1.9" of "v1.9.0+virtctl.0.1.0".
func minor(v string) string {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 3 || !strings.HasPrefix(v, "v") {
		return ""
	}
	return parts[0] + "." + parts[1]
}
