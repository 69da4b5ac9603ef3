// Package check is the command that tells what the cluster's storage means for virtual machines.
package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	var out output.Flag
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell what each storage class means for virtual machines",
		Long: `Tell what each storage class means for virtual machines: how disks are made on it, whether machines with such disks can be
migrated while they run, how disks are cloned, and which class is taken when none is named.

The exit code is 0 only if disks can be made without naming a storage class or an access mode.`,
		Example: `  # Can my machines be migrated?
  {{ProgramName}} storage check

  # For a script
  {{ProgramName}} storage check -o jsonpath='{.default}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, &out) },
	}
	out.Bind(cmd, output.Table, output.Table, output.JSON, output.YAML, output.Path)
	return cmd
}

// Report is what the check has found.
type Report struct {
	// Default is the class that is taken when none is named.
	Default string  `json:"default,omitempty"`
	Classes []Class `json:"classes"`
	// Faults make the check fail, Notes are good to know.
	Faults []string `json:"faults,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Class is one storage class.
type Class struct {
	Name        string   `json:"name"`
	Default     bool     `json:"default"`
	Provisioner string   `json:"provisioner"`
	Modes       []string `json:"modes,omitempty"`
	Clone       string   `json:"clone,omitempty"`
	Expandable  bool     `json:"expandable"`
	// Migratable tells whether machines on it can be migrated while they run.
	Migratable bool   `json:"liveMigration"`
	Why        string `json:"why,omitempty"`
}

// Run checks.
func Run(ctx context.Context, f *factory.Factory, out *output.Flag) error {
	if err := out.Check(); err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	report, err := gather(ctx, c)
	if err != nil {
		return err
	}
	if !out.IsTable() {
		err = out.Value(f.Streams, report)
	} else {
		err = report.print(f)
	}
	if err == nil && len(report.Faults) > 0 {
		return problem.Silent(problem.Failure)
	}
	return err
}

func gather(ctx context.Context, c *client.Client) (*Report, error) {
	classes, err := c.StorageClasses().List(ctx, client.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the storage classes: %w", err)
	}
	report := &Report{}
	profiles := map[string]*cdiv1.StorageProfile{}
	list, err := c.StorageProfiles().List(ctx, client.ListOptions{})
	switch {
	case err == nil:
		for i := range list.Items {
			profiles[list.Items[i].Name] = &list.Items[i]
		}
	case apierrors.IsNotFound(err):
		report.Faults = append(report.Faults, "the disk service (CDI) is not installed: \"virtctl install\" installs it")
	default:
		return nil, fmt.Errorf("list the storage profiles: %w", err)
	}
	chosen := volume.ChooseDefault(classes.Items)
	for i := range classes.Items {
		sc := &classes.Items[i]
		class := Class{Name: sc.Name, Default: chosen != nil && chosen.Name == sc.Name, Provisioner: sc.Provisioner}
		class.Expandable = sc.AllowVolumeExpansion != nil && *sc.AllowVolumeExpansion
		class.learn(profiles[sc.Name])
		report.Classes = append(report.Classes, class)
	}
	report.judge()
	return report, nil
}

// learn takes over what the storage's profile says.
func (c *Class) learn(profile *cdiv1.StorageProfile) {
	if profile == nil {
		c.Why = "it has no storage profile"
		return
	}
	c.Modes = volume.Sets(profile)
	if profile.Status.CloneStrategy != nil {
		c.Clone = string(*profile.Status.CloneStrategy)
	}
	for _, mode := range c.Modes {
		c.Migratable = c.Migratable || strings.Contains(mode, "RWX")
	}
	switch {
	case len(c.Modes) == 0:
		c.Why = "its profile names no access mode" + told(profile)
	case !c.Migratable:
		c.Why = "its volumes belong to one node at a time (no ReadWriteMany)"
	case !strings.HasPrefix(c.Modes[0], "RWX"):
		c.Why = "only with access mode ReadWriteMany, which is not what it prefers"
	}
}

// told is what the profile's conditions say.
func told(profile *cdiv1.StorageProfile) string {
	for _, condition := range profile.Status.Conditions {
		if condition.Message != "" && condition.Status != "True" {
			return ": " + condition.Message
		}
	}
	return ""
}

func (r *Report) judge() {
	if len(r.Classes) == 0 {
		r.Faults = append(r.Faults, "there is no storage class: disks cannot be made; container disks work without")
		return
	}
	for _, class := range r.Classes {
		if class.Default {
			r.Default = class.Name
			if len(class.Modes) == 0 {
				r.Faults = append(r.Faults, fmt.Sprintf("the default storage class %s says nothing of access modes (%s): set them with kubectl edit storageprofile %s, spec.claimPropertySets", class.Name, class.Why, class.Name))
			}
			if !class.Migratable && len(class.Modes) > 0 {
				r.Notes = append(r.Notes, fmt.Sprintf("machines with disks of the default class %s cannot be migrated while they run: %s", class.Name, class.Why))
			}
		}
	}
	if r.Default == "" {
		r.Faults = append(r.Faults, "no storage class is the default: name one with --storage-class each time, or make one the default with kubectl annotate storageclass NAME storageclass.kubevirt.io/is-default-virt-class=true")
	}
}

func (r *Report) print(f *factory.Factory) error {
	if len(r.Classes) > 0 {
		grid := output.Grid{Head: []string{"NAME", "DEFAULT", "PROVISIONER", "DISKS", "CLONE", "EXPAND", "LIVE-MIGRATION", "WHY"}}
		for _, c := range r.Classes {
			grid.Rows = append(grid.Rows, []string{
				c.Name, yes(c.Default), c.Provisioner, or(strings.Join(c.Modes, " ")), or(c.Clone), yes(c.Expandable), yes(c.Migratable), or(c.Why),
			})
		}
		if err := grid.Print(f.Streams); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		f.Streams.Print("note: %s\n", note)
	}
	for _, fault := range r.Faults {
		f.Streams.Print("fault: %s\n", strings.ReplaceAll(fault, `"virtctl `, `"`+f.Program+" "))
	}
	if len(r.Faults) == 0 {
		f.Streams.Print("Disks can be made: class %s, %s.\n", r.Default, r.preferred())
	}
	return nil
}

func (r *Report) preferred() string {
	for _, c := range r.Classes {
		if c.Default {
			return c.Modes[0]
		}
	}
	return ""
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
