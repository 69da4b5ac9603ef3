package status

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/agent"
	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/wire"
)

// EventSyncFailed is the reason of the event, and reasonSyncFailed that of Synchronized=False, when the node could not start or change
// the domain. Both are contract.
const (
	EventSyncFailed  = "SyncFailed"
	reasonSyncFailed = "Synchronizing with the Domain failed."
)

// maxMessage bounds what of an error message goes into a condition or an event.
const maxMessage = 1024

// condition is one that this package sets.
type condition struct {
	kind            v1.VirtualMachineInstanceConditionType
	status          corev1.ConditionStatus
	reason, message string
}

// setCondition keeps the times of a condition that stays what it was.
func setCondition(status *v1.VirtualMachineInstanceStatus, c condition, now time.Time) {
	c.message = Bounded(c.message)
	at := slices.IndexFunc(status.Conditions, func(x v1.VirtualMachineInstanceCondition) bool { return x.Type == c.kind })
	next := v1.VirtualMachineInstanceCondition{
		Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message, LastTransitionTime: metav1.NewTime(now),
	}
	conditions := slices.Clone(status.Conditions)
	if at < 0 {
		status.Conditions = append(conditions, next)
		return
	}
	old := conditions[at]
	if old.Status == c.status && old.Reason == c.reason && old.Message == c.message {
		return
	}
	if old.Status == c.status {
		next.LastTransitionTime = old.LastTransitionTime
	}
	conditions[at] = next
	status.Conditions = conditions
}

func removeCondition(status *v1.VirtualMachineInstanceStatus, kind v1.VirtualMachineInstanceConditionType) {
	status.Conditions = slices.DeleteFunc(slices.Clone(status.Conditions), func(c v1.VirtualMachineInstanceCondition) bool {
		return c.Type == kind
	})
}

func hasCondition(status *v1.VirtualMachineInstanceStatus, kind v1.VirtualMachineInstanceConditionType) bool {
	return slices.ContainsFunc(status.Conditions, func(c v1.VirtualMachineInstanceCondition) bool { return c.Type == kind })
}

func setFailure(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	setCondition(status, condition{
		v1.VirtualMachineInstanceSynchronized, corev1.ConditionFalse, reasonSyncFailed, o.Failure.Error(),
	}, o.Now)
}

// removeFailure takes back what setFailure said, or what others said about the domain not being there.
func removeFailure(status *v1.VirtualMachineInstanceStatus) {
	for _, c := range status.Conditions {
		if c.Type == v1.VirtualMachineInstanceSynchronized && c.Status == corev1.ConditionFalse {
			removeCondition(status, v1.VirtualMachineInstanceSynchronized)
			return
		}
	}
}

// setPaused follows the contract's reasons; upstream clients compare them.
func setPaused(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	if o.State.State != wire.StatePaused {
		removeCondition(status, v1.VirtualMachineInstancePaused)
		return
	}
	reason, message := "PausedByUser", "VMI was paused by user"
	switch o.State.Reason {
	case wire.ReasonIOError:
		reason, message = "PausedIOError", "VMI was paused, low-level IO error detected"
	case wire.ReasonMigration, wire.ReasonPostCopy:
		reason, message = "PausedByMigrationMonitor", "VMI was paused by the migration monitor"
	case wire.ReasonPostCopyFailed:
		reason, message = "PausedPostcopyFailed", "VMI was paused, post-copy migration failed"
	}
	setCondition(status, condition{v1.VirtualMachineInstancePaused, corev1.ConditionTrue, reason, message}, o.Now)
}

func setGuest(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	if !o.Agent {
		removeCondition(status, v1.VirtualMachineInstanceAgentConnected)
		removeCondition(status, v1.VirtualMachineInstanceUnsupportedAgent)
		status.GuestOSInfo = v1.VirtualMachineInstanceGuestOSInfo{}
		return
	}
	setCondition(status, condition{kind: v1.VirtualMachineInstanceAgentConnected, status: corev1.ConditionTrue}, o.Now)
	if o.Guest == nil {
		return
	}
	if missing := lacking(o.Guest.Commands, needed(vmi)); len(missing) > 0 {
		setCondition(status, condition{
			v1.VirtualMachineInstanceUnsupportedAgent, corev1.ConditionTrue, "AgentCommandsMissing",
			"This guest agent doesn't support required " + kindOf(missing) + " commands: " + strings.Join(missing, ", ") + "; update or configure it in the guest",
		}, o.Now)
	} else {
		removeCondition(status, v1.VirtualMachineInstanceUnsupportedAgent)
	}
	status.GuestOSInfo = GuestOS(o.Guest.OS)
	if o.Guest.FSFreeze == "frozen" {
		status.FSFreezeStatus = o.Guest.FSFreeze
	} else {
		status.FSFreezeStatus = ""
	}
}

// setCredentials tells whether the guest's users have what accessCredentials say. A launcher that has not asked the agent yet says
// nothing, and what was known stays.
func setCredentials(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	c := o.State.Credentials
	switch {
	case c == nil:
	case c.Synchronized:
		setCondition(status, condition{kind: v1.VirtualMachineInstanceAccessCredentialsSynchronized, status: corev1.ConditionTrue}, o.Now)
	default:
		setCondition(status, condition{
			v1.VirtualMachineInstanceAccessCredentialsSynchronized, corev1.ConditionFalse, credentialsReason(c.Reason), c.Message,
		}, o.Now)
	}
}

// credentialsReason lets through only the reasons there are: a pod that a guest has broken out into may say anything.
func credentialsReason(r wire.CredentialsReason) string {
	switch r {
	case wire.CredentialsNoAgent, wire.CredentialsRefused, wire.CredentialsUnreadable:
		return string(r)
	}
	return "Unknown"
}

// needed are the commands an agent must have for this guest: the basic ones, and those that its access credentials go by.
func needed(vmi *v1.VirtualMachineInstance) []string {
	commands := basicCommands()
	for _, c := range domain.Credentials(vmi) {
		command := agent.SetPassword
		if len(c.Users) > 0 {
			command = agent.SetKeys
		}
		if !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	return commands
}

// kindOf names missing commands as the contract does.
func kindOf(missing []string) string {
	switch missing[0] {
	case agent.SetKeys:
		return "public key"
	case agent.SetPassword:
		return "password"
	}
	return "basic"
}

// basicCommands are what an agent must be able to do for the platform to say anything about its guest (contract).
func basicCommands() []string {
	return []string{
		"guest-ping", "guest-get-time", "guest-info", "guest-shutdown", "guest-network-get-interfaces", "guest-get-fsinfo",
		"guest-get-host-name", "guest-get-users", "guest-get-timezone", "guest-get-osinfo",
	}
}

// lacking are the commands of those needed that an agent does not have or that its guest has turned off. One that lists no commands is taken
// as it is.
func lacking(commands []wire.GuestCommand, needed []string) []string {
	if len(commands) == 0 {
		return nil
	}
	var out []string
	for _, name := range needed {
		if !slices.Contains(commands, wire.GuestCommand{Name: name, Enabled: true}) {
			out = append(out, name)
		}
	}
	return out
}

// GuestOS says what the agent says in the API's words.
func GuestOS(os wire.GuestOS) v1.VirtualMachineInstanceGuestOSInfo {
	return v1.VirtualMachineInstanceGuestOSInfo{
		Name: os.Name, KernelRelease: os.KernelRelease, Version: os.Version, PrettyName: os.PrettyName, VersionID: os.VersionID,
		KernelVersion: os.KernelVersion, Machine: os.Machine, ID: os.ID,
	}
}

// Bounded cuts a message to what fits a condition.
func Bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	cut := maxMessage
	for cut > 0 && message[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return message[:cut] + "…"
}
