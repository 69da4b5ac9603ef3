package vm

import (
	"strings"

	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/create/params"
)

// instancetype takes the instance type by name, from a volume, or not at all.
func (b *builder) instancetype() error {
	s := b.opts.Size
	matcher := &kubevirtv1.InstancetypeMatcher{}
	switch {
	case s.Instancetype != "":
		kind, name, err := matcherOf(flagInstancetype, s.Instancetype, "virtualmachineinstancetype", "virtualmachineclusterinstancetype")
		if err != nil {
			return err
		}
		matcher.Kind, matcher.Name = kind, name
	default:
		volume, policy, err := b.inferFrom(flagInferInstancetype, s.InferInstancetype, flagInferInstancetypeFrom, s.InferInstancetypeFrom)
		if err != nil || volume == "" {
			return err
		}
		// Who sets the size by hand does not want it taken from a volume behind his back.
		if policy != nil && (b.opts.changed(flagMemory) || b.opts.changed("cpu")) {
			return nil
		}
		matcher.InferFromVolume, matcher.InferFromVolumeFailurePolicy = volume, policy
	}
	b.vm.Spec.Instancetype = matcher
	return nil
}

// preference takes the preference by name, from a volume, or not at all.
func (b *builder) preference() error {
	s := b.opts.Size
	matcher := &kubevirtv1.PreferenceMatcher{}
	switch {
	case s.Preference != "":
		kind, name, err := matcherOf(flagPreference, s.Preference, "virtualmachinepreference", "virtualmachineclusterpreference")
		if err != nil {
			return err
		}
		matcher.Kind, matcher.Name = kind, name
	default:
		volume, policy, err := b.inferFrom(flagInferPreference, s.InferPreference, flagInferPreferenceFrom, s.InferPreferenceFrom)
		if err != nil || volume == "" {
			return err
		}
		matcher.InferFromVolume, matcher.InferFromVolumeFailurePolicy = volume, policy
	}
	b.vm.Spec.Preference = matcher
	return nil
}

// inferFrom names the volume to take labels from. What the user did not ask for may fail silently.
func (b *builder) inferFrom(flag string, infer bool, fromFlag, from string) (string, *kubevirtv1.InferFromVolumeFailurePolicy, error) {
	explicit := b.opts.changed(flag)
	switch {
	case from != "":
		why, known := b.inferable[from]
		if !known {
			return "", nil, params.Errorf(fromFlag, "there is no volume with name '%s'", from)
		}
		if why != nil {
			return "", nil, params.Errorf(fromFlag, "%w", why)
		}
		return from, nil, nil
	case !infer:
		return "", nil, nil
	}
	volume, err := b.bootVolume()
	if err == nil {
		err = b.inferable[volume]
	}
	if explicit {
		if err != nil {
			return "", nil, params.Errorf(flag, "%w", err)
		}
		return volume, nil, nil
	}
	if err != nil {
		return "", nil, nil
	}
	ignore := kubevirtv1.IgnoreInferFromVolumeFailure
	return volume, &ignore, nil
}

// matcherOf reads NAME or KIND/NAME.
func matcherOf(flag, text string, kinds ...string) (kind, name string, err error) {
	kind, name, err = params.SplitName(text)
	if err != nil {
		return "", "", params.Errorf(flag, "%w", err)
	}
	if kind == "" {
		return "", name, nil
	}
	for _, known := range kinds {
		if strings.EqualFold(kind, known) {
			return known, name, nil
		}
	}
	return "", "", params.Errorf(flag, "invalid kind %q, supported values are: %s", kind, strings.Join(kinds, ", "))
}
