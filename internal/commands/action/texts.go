package action

import (
	"virtctl/internal/client"
	"virtctl/internal/commands/target"
)

// Scheduled gives upstream's success text, which scripts parse: "VM web was scheduled to start".
func Scheduled(verb string) func(client.Target) string {
	return func(t client.Target) string { return target.Word(t) + " " + t.Name + " was scheduled to " + verb }
}

// WouldBe gives the text of a dry run, which must not look like the real one.
func WouldBe(verb string) func(client.Target) string {
	return func(t client.Target) string {
		return target.Word(t) + " " + t.Name + " would be scheduled to " + verb + " (dry run: nothing was changed)"
	}
}

// Is gives the text of an outcome: "VM web is running".
func Is(state string) func(client.Target) string {
	return func(t client.Target) string { return target.Word(t) + " " + t.Name + " is " + state }
}
