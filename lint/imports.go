package main

import (
	"errors"
	"fmt"

	"github.com/OpenPeeDeeP/depguard/v2"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/go/analysis"
)

// settings is what this program takes from golangci.yml.
type settings struct {
	Linters struct {
		Settings struct {
			Depguard struct {
				Rules map[string]rule `yaml:"rules"`
			} `yaml:"depguard"`
		} `yaml:"settings"`
	} `yaml:"linters"`
}

type rule struct {
	Files []string `yaml:"files"`
	Deny  []denial `yaml:"deny"`
}

type denial struct {
	Package string `yaml:"pkg"`
	Reason  string `yaml:"desc"`
}

// importRules is the analyzer of the import rules in the text of a golangci.yml.
func importRules(text []byte) (*analysis.Analyzer, error) {
	var s settings
	if err := yaml.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("reading golangci.yml: %w", err)
	}
	rules := s.Linters.Settings.Depguard.Rules
	if len(rules) == 0 {
		return nil, errors.New("golangci.yml has no import rules: they belong to linters.settings.depguard.rules")
	}
	lists := depguard.LinterSettings{}
	for name, r := range rules {
		list := &depguard.List{Files: r.Files, Deny: map[string]string{}}
		if len(r.Files) == 0 || len(r.Deny) == 0 {
			return nil, fmt.Errorf("import rule %s of golangci.yml needs files and deny", name)
		}
		for _, d := range r.Deny {
			list.Deny[d.Package] = d.Reason
		}
		lists[name] = list
	}
	analyzer, err := depguard.NewAnalyzer(&lists)
	if err != nil {
		return nil, fmt.Errorf("import rules of golangci.yml: %w", err)
	}
	return analyzer, nil
}
