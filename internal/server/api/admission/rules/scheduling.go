package rules

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	k8sv1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

// These parts of a spec go into the launcher pod as they are. Kubernetes judges them only when the pod is made, long after
// the user could be told; so its rules are applied here.

// Kubernetes' own limits.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

func dns(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	enum(c, at.Child("dnsPolicy"), spec.DNSPolicy, k8sv1.DNSClusterFirst, k8sv1.DNSClusterFirstWithHostNet, k8sv1.DNSDefault, k8sv1.DNSNone)
	config := at.Child("dnsConfig")
	d := spec.DNSConfig
	if spec.DNSPolicy == k8sv1.DNSNone {
		if d == nil {
			c.required(config, "must provide `dnsConfig` when `dnsPolicy` is %s", k8sv1.DNSNone)
			return
		}
		if len(d.Nameservers) == 0 {
			c.required(config.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is %s", k8sv1.DNSNone)
		}
	}
	if d == nil {
		return
	}
	if len(d.Nameservers) > maxNameservers {
		c.invalid(config.Child("nameservers"), "must not have more than %d nameservers: %v", maxNameservers, d.Nameservers)
	}
	for i, n := range d.Nameservers {
		if _, err := netip.ParseAddr(n); err != nil {
			c.invalid(config.Child("nameservers").Index(i), "must be valid IP address: %s", n)
		}
	}
	if len(d.Searches) > maxSearches {
		c.invalid(config.Child("searches"), "must not have more than %d search paths", maxSearches)
	}
	if len(strings.Join(d.Searches, " ")) > maxSearchChars {
		c.invalid(config.Child("searches"), "must not have more than %d characters (including spaces) in the search list", maxSearchChars)
	}
	for i, s := range d.Searches {
		if problems := validation.IsDNS1123Subdomain(strings.TrimSuffix(s, ".")); s != "." && len(problems) > 0 {
			c.invalid(config.Child("searches").Index(i), "%q is not valid: %s", s, strings.Join(problems, ", "))
		}
	}
	for i, o := range d.Options {
		if o.Name == "" {
			c.required(config.Child("options").Index(i), "name of a DNS option must not be empty")
		}
	}
}

func scheduling(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for _, key := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		value := spec.NodeSelector[key]
		if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(problems) > 0 {
			c.invalid(at.Child("nodeSelector"), "%q=%q is not a label: %s", key, value, strings.Join(problems, ", "))
		}
	}
	if spec.Affinity != nil {
		affinity(c, at.Child("affinity"), spec.Affinity)
	}
	for i, t := range spec.Tolerations {
		toleration(c, at.Child("tolerations").Index(i), t)
	}
	for i, t := range spec.TopologySpreadConstraints {
		spread := at.Child("topologySpreadConstraints").Index(i)
		if t.MaxSkew <= 0 {
			c.invalid(spread.Child("maxSkew"), "must be greater than zero")
		}
		if t.TopologyKey == "" {
			c.required(spread.Child("topologyKey"), "can not be empty")
		}
		if t.WhenUnsatisfiable == "" {
			c.required(spread.Child("whenUnsatisfiable"), "can not be empty")
		}
		enum(c, spread.Child("whenUnsatisfiable"), t.WhenUnsatisfiable, k8sv1.DoNotSchedule, k8sv1.ScheduleAnyway)
		c.selector(spread.Child("labelSelector"), t.LabelSelector)
	}
	if p := spec.PriorityClassName; p != "" {
		if problems := validation.IsDNS1123Subdomain(p); len(problems) > 0 {
			c.invalid(at.Child("priorityClassName"), "%q is not valid: %s", p, strings.Join(problems, ", "))
		}
	}
}

func (c *Check) selector(at *field.Path, s *metav1.LabelSelector) {
	for _, err := range metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at) {
		c.invalid(field.NewPath(err.Field), "%s", err.ErrorBody())
	}
}

func toleration(c *Check, at *field.Path, t k8sv1.Toleration) {
	enum(c, at.Child("operator"), t.Operator, k8sv1.TolerationOpExists, k8sv1.TolerationOpEqual, k8sv1.TolerationOpGt, k8sv1.TolerationOpLt)
	enum(c, at.Child("effect"), t.Effect, k8sv1.TaintEffectNoSchedule, k8sv1.TaintEffectPreferNoSchedule, k8sv1.TaintEffectNoExecute)
	switch {
	case t.Key == "" && t.Operator != k8sv1.TolerationOpExists:
		c.invalid(at.Child("operator"), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	case t.Operator == k8sv1.TolerationOpExists && t.Value != "":
		c.invalid(at.Child("operator"), "value must be empty when `operator` is 'Exists'")
	}
	if t.Key != "" {
		if problems := validation.IsQualifiedName(t.Key); len(problems) > 0 {
			c.invalid(at.Child("key"), "%q is not valid: %s", t.Key, strings.Join(problems, ", "))
		}
	}
	if t.TolerationSeconds != nil && t.Effect != k8sv1.TaintEffectNoExecute {
		c.invalid(at.Child("effect"), "effect must be 'NoExecute' when `tolerationSeconds` is set")
	}
}

func affinity(c *Check, at *field.Path, a *k8sv1.Affinity) {
	if n := a.NodeAffinity; n != nil {
		node := at.Child("nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			required := node.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
			if len(r.NodeSelectorTerms) == 0 {
				c.required(required, "must have at least one node selector term")
			}
			for i, t := range r.NodeSelectorTerms {
				nodeTerm(c, required.Index(i), t)
			}
		}
		for i, p := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			preferred := node.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
			weight(c, preferred, p.Weight)
			nodeTerm(c, preferred.Child("preference"), p.Preference)
		}
	}
	if p := a.PodAffinity; p != nil {
		podTerms(c, at.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		podTerms(c, at.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func weight(c *Check, at *field.Path, w int32) {
	if w <= 0 || w > 100 {
		c.invalid(at.Child("weight"), "must be in the range 1-100")
	}
}

func nodeTerm(c *Check, at *field.Path, t k8sv1.NodeSelectorTerm) {
	for i, e := range t.MatchExpressions {
		nodeRequirement(c, at.Child("matchExpressions").Index(i), e)
		if problems := validation.IsQualifiedName(e.Key); len(problems) > 0 {
			c.invalid(at.Child("matchExpressions").Index(i).Child("key"), "%q is not valid: %s", e.Key, strings.Join(problems, ", "))
		}
	}
	for i, f := range t.MatchFields {
		nodeRequirement(c, at.Child("matchFields").Index(i), f)
	}
}

func nodeRequirement(c *Check, at *field.Path, r k8sv1.NodeSelectorRequirement) {
	switch r.Operator {
	case k8sv1.NodeSelectorOpIn, k8sv1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			c.required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case k8sv1.NodeSelectorOpExists, k8sv1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			c.forbidden(at.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case k8sv1.NodeSelectorOpGt, k8sv1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			c.required(at.Child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'")
		} else if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			c.invalid(at.Child("values").Index(0), "%q is not a whole number", r.Values[0])
		}
	default:
		c.invalid(at.Child("operator"), "not a valid selector operator: %q", r.Operator)
	}
}

func podTerms(c *Check, at *field.Path, required []k8sv1.PodAffinityTerm, preferred []k8sv1.WeightedPodAffinityTerm) {
	for i, t := range required {
		podTerm(c, at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), t)
	}
	for i, p := range preferred {
		term := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		weight(c, term, p.Weight)
		podTerm(c, term.Child("podAffinityTerm"), p.PodAffinityTerm)
	}
}

func podTerm(c *Check, at *field.Path, t k8sv1.PodAffinityTerm) {
	c.selector(at.Child("labelSelector"), t.LabelSelector)
	c.selector(at.Child("namespaceSelector"), t.NamespaceSelector)
	for _, n := range t.Namespaces {
		if problems := validation.IsDNS1123Label(n); len(problems) > 0 {
			c.invalid(at.Child("namespaces"), "%q is not valid: %s", n, strings.Join(problems, ", "))
		}
	}
	if t.TopologyKey == "" {
		c.required(at.Child("topologyKey"), "can not be empty")
	} else if problems := validation.IsQualifiedName(t.TopologyKey); len(problems) > 0 {
		c.invalid(at.Child("topologyKey"), "%q is not valid: %s", t.TopologyKey, strings.Join(slices.Compact(problems), ", "))
	}
}
