package clusterconfig

// EmulationAnnotation on a VM or VMI overrides Config.UseEmulation for it: "true" runs it without hardware virtualization,
// "false" insists on it.
const EmulationAnnotation = "virtctl.io/emulation"

// Emulates tells whether a VM with these annotations runs without hardware virtualization.
func (c Config) Emulates(annotations map[string]string) bool {
	switch annotations[EmulationAnnotation] {
	case "true":
		return true
	case "false":
		return false
	default:
		return c.UseEmulation
	}
}
