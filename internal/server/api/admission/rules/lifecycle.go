package rules

import (
	"strconv"
	"strings"

	k8sv1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

func hostname(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for _, f := range []struct{ name, value string }{{"hostname", spec.Hostname}, {"subdomain", spec.Subdomain}} {
		if f.value == "" {
			continue
		}
		if problems := validation.IsDNS1123Label(f.value); len(problems) > 0 {
			c.invalid(at.Child(f.name), "%s does not conform to the kubernetes DNS_LABEL rules : %s", at.Child(f.name),
				strings.Join(problems, ", "))
		}
	}
}

func probes(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	probe(c, at.Child("readinessProbe"), spec.ReadinessProbe, spec)
	probe(c, at.Child("livenessProbe"), spec.LivenessProbe, spec)
	if spec.LivenessProbe != nil && spec.LivenessProbe.SuccessThreshold > 1 {
		c.invalid(at.Child("livenessProbe", "successThreshold"), "%s must be 1", at.Child("livenessProbe", "successThreshold"))
	}
}

func probe(c *Check, at *field.Path, p *v1.Probe, spec *v1.VirtualMachineInstanceSpec) {
	if p == nil {
		return
	}
	switch n := count(p.HTTPGet != nil, p.TCPSocket != nil, p.Exec != nil, p.GuestAgentPing != nil); {
	case n > 1:
		c.invalid(at, "%s must have exactly one probe type set", at)
	case n == 0:
		c.required(at, "either %s, %s, %s or %s must be set if a %s is specified", at.Child("tcpSocket"), at.Child("exec"),
			at.Child("httpGet"), at.Child("guestAgentPing"), at)
	}
	for _, t := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		if t.value < 0 {
			c.invalid(at.Child(t.name), "%s must be greater than or equal to 0", at.Child(t.name))
		}
	}
	onPod := podNetwork(spec)
	if p.HTTPGet != nil {
		probePort(c, at.Child("httpGet", "port"), p.HTTPGet.Port)
		enum(c, at.Child("httpGet", "scheme"), p.HTTPGet.Scheme, k8sv1.URISchemeHTTP, k8sv1.URISchemeHTTPS)
		if !onPod {
			c.invalid(at.Child("httpGet"), "%s is only allowed if the Pod Network is attached", at.Child("httpGet"))
		}
	}
	if p.TCPSocket != nil {
		probePort(c, at.Child("tcpSocket", "port"), p.TCPSocket.Port)
		if !onPod {
			c.invalid(at.Child("tcpSocket"), "%s is only allowed if the Pod Network is attached", at.Child("tcpSocket"))
		}
	}
	if p.Exec != nil && len(p.Exec.Command) == 0 {
		c.required(at.Child("exec", "command"), "%s must not be empty", at.Child("exec", "command"))
	}
}

func podNetwork(spec *v1.VirtualMachineInstanceSpec) bool {
	for _, n := range spec.Networks {
		if n.Pod != nil {
			return true
		}
	}
	return false
}

func probePort(c *Check, at *field.Path, port intstr.IntOrString) {
	number := port.IntVal
	if port.Type == intstr.String {
		parsed, err := strconv.ParseInt(port.StrVal, 10, 32)
		if err != nil {
			if problems := validation.IsValidPortName(port.StrVal); len(problems) > 0 {
				c.invalid(at, "%s %q is not a port: %s", at, port.StrVal, strings.Join(problems, ", "))
			}
			return
		}
		number = int32(parsed)
	}
	if problems := validation.IsValidPortNum(int(number)); len(problems) > 0 {
		c.invalid(at, "%s %d is not a port: %s", at, number, strings.Join(problems, ", "))
	}
}

func evictionAndStart(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if s := spec.EvictionStrategy; s != nil {
		switch *s {
		case v1.EvictionStrategyNone, v1.EvictionStrategyLiveMigrate, v1.EvictionStrategyLiveMigrateIfPossible, v1.EvictionStrategyExternal:
		default:
			//nolint:misspell // contract
			c.invalid(at.Child("evictionStrategy"), "%s is set with an unrecognized option: %s, must be one of: %s, %s, %s, %s",
				at.Child("evictionStrategy"), *s, v1.EvictionStrategyLiveMigrate, v1.EvictionStrategyLiveMigrateIfPossible,
				v1.EvictionStrategyExternal, v1.EvictionStrategyNone)
		}
	}
	if s := spec.StartStrategy; s != nil {
		where := at.Child("startStrategy")
		switch {
		case *s != v1.StartStrategyPaused:
			c.invalid(where, "%s is set with an unrecognized option: %s", where, *s) //nolint:misspell // contract
		case spec.LivenessProbe != nil:
			c.invalid(where, "either %s or %s should be provided.Pausing VMI with LivenessProbe is not supported", where,
				at.Child("livenessProbe"))
		}
	}
}

func gracePeriod(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if g := spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		c.invalid(at.Child("terminationGracePeriodSeconds"), "%s must be greater than or equal to 0", at.Child("terminationGracePeriodSeconds"))
	}
}

func accessCredentials(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	noCloud, configDrive := false, false
	for _, v := range spec.Volumes {
		noCloud = noCloud || v.CloudInitNoCloud != nil
		configDrive = configDrive || v.CloudInitConfigDrive != nil
	}
	for i, a := range spec.AccessCredentials {
		credential := at.Child("accessCredentials").Index(i)
		if count(a.SSHPublicKey != nil, a.UserPassword != nil) != 1 {
			c.invalid(credential, "%s must have exactly one access credential type set", credential)
			continue
		}
		if a.UserPassword != nil {
			if a.UserPassword.Source.Secret == nil || a.UserPassword.Source.Secret.SecretName == "" {
				c.required(credential.Child("userPassword", "source"), "%s must have exactly one source set", credential)
			}
			if a.UserPassword.PropagationMethod.QemuGuestAgent == nil {
				c.required(credential.Child("userPassword", "propagationMethod"), "%s must have exactly one propagationMethod set", credential)
			}
			continue
		}
		key := credential.Child("sshPublicKey")
		if a.SSHPublicKey.Source.Secret == nil || a.SSHPublicKey.Source.Secret.SecretName == "" {
			c.required(key.Child("source"), "%s must have exactly one source set", credential)
		}
		m := a.SSHPublicKey.PropagationMethod
		method := key.Child("propagationMethod")
		switch {
		case count(m.ConfigDrive != nil, m.NoCloud != nil, m.QemuGuestAgent != nil) != 1:
			c.invalid(method, "%s must have exactly one propagationMethod set", credential)
		case m.ConfigDrive != nil && !configDrive:
			c.required(method, "%s requires a configDrive volume to exist when the configDrive propagationMethod is in use.", method)
		case m.NoCloud != nil && !noCloud:
			c.required(method, "%s requires a noCloud volume to exist when the noCloud propagationMethod is in use.", method)
		case m.QemuGuestAgent != nil && len(m.QemuGuestAgent.Users) == 0:
			c.required(method.Child("qemuGuestAgent", "users"), "%s requires at least one user to be present in the users list",
				method.Child("qemuGuestAgent"))
		}
	}
}
