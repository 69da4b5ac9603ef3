package datavolume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Storage rounds sizes up. A clone that asks for what its source once asked for would be too small for what the source became, and would
// never be made; one that asks for more grows when it is there; one that asks for less than the source did is a mistake.
func TestSizesOfClones(t *testing.T) {
	list := func(size string) corev1.ResourceList {
		if size == "" {
			return nil
		}
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	}
	for name, c := range map[string]struct {
		asked, got, restore, want string
		made, grow                string
		refused                   bool
	}{
		"as its source":            {asked: "72246887", got: "69Mi", want: "72246887", made: "69Mi"},
		"as its snapshot":          {asked: "72246887", got: "69Mi", restore: "70Mi", want: "72246887", made: "70Mi"},
		"no larger than rounding":  {asked: "72246887", got: "1Gi", want: "500Mi", made: "1Gi"},
		"larger":                   {asked: "72246887", got: "69Mi", restore: "69Mi", want: "1Gi", made: "69Mi", grow: "1Gi"},
		"source with no capacity":  {asked: "1Gi", want: "2Gi", made: "1Gi", grow: "2Gi"},
		"smaller":                  {asked: "1Gi", got: "1Gi", want: "900Mi", refused: true},
		"a snapshot as source":     {restore: "69Mi", want: "72246887", made: "69Mi"},
		"a larger one of snapshot": {restore: "69Mi", want: "1Gi", made: "69Mi", grow: "1Gi"},
	} {
		p := &pass{}
		if c.restore != "" {
			p.source.restoreSize = resource.MustParse(c.restore)
		}
		if c.asked != "" {
			p.source.claim = &corev1.PersistentVolumeClaim{}
			p.source.claim.Spec.Resources.Requests, p.source.claim.Status.Capacity = list(c.asked), list(c.got)
		}
		spec := &corev1.PersistentVolumeClaimSpec{}
		spec.Resources.Requests = list(c.want)
		if fits(p, spec) == c.refused || (p.why.reason != "") != c.refused {
			t.Errorf("%s: refused for %+v", name, p.why)
		}
		if c.refused {
			continue
		}
		how := plan{}
		how.size(p, spec)
		if made := spec.Resources.Requests[corev1.ResourceStorage]; made.Cmp(resource.MustParse(c.made)) != 0 {
			t.Errorf("%s: made with %s", name, made.String())
		}
		if c.grow == "" && !how.expandTo.IsZero() || c.grow != "" && how.expandTo.Cmp(resource.MustParse(c.grow)) != 0 {
			t.Errorf("%s: grows to %s", name, how.expandTo.String())
		}
	}
}
