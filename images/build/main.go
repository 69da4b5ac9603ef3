// Command build puts the project's container images together, without a container engine:
//
//	go run ./images/build [flags] [image...]
//
// See docs/images.md for what is in each image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"virtctl/internal/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// run builds the named images, or the default ones, and prints one line for each to stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	b := &builder{log: stderr}
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&b.source, "source", "images", "folder with the images' parts")
	flags.StringVar(&b.bin, "bin", "bin", "folder with the built programs")
	flags.StringVar(&b.out, "out", filepath.Join("out", "images"), "folder for the tars")
	flags.StringVar(&b.cache, "cache", filepath.Join("out", "cache"), "folder for what is kept between runs")
	flags.StringVar(&b.prefix, "prefix", "localhost/virtctl", "registry and path in the images' names")
	flags.StringVar(&b.tag, "tag", "dev", "tag in the images' names")
	flags.StringVar(&b.mirror, "mirror", "http://deb.debian.org/debian", "Debian mirror")
	refresh := flags.Bool("refresh", false, "fetch the Debian packages again, to get newer ones")
	flags.Usage = func() { usage(flags) }
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := pick(flags.Args())
	if err != nil {
		return err
	}
	if err := requireTools(wanted); err != nil {
		return err
	}
	if b.created, err = buildTime(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	lock, err := lockCache(b.cache)
	if err != nil {
		return err
	}
	defer lock.Close()
	if *refresh {
		if err := forgetTrees(b.cache); err != nil {
			return err
		}
	}
	return b.buildAll(ctx, wanted, stdout)
}

func usage(flags *flag.FlagSet) {
	fmt.Fprintln(flags.Output(), "usage: go run ./images/build [flags] [image...]\n\nimages:")
	for _, t := range targets() {
		fmt.Fprintf(flags.Output(), "  %-14s %s\n", t.name, t.about)
	}
	fmt.Fprintln(flags.Output(), "\nflags:")
	flags.PrintDefaults()
}

// buildAll builds one after the other and ends with what the platform's images take together.
func (b *builder) buildAll(ctx context.Context, wanted []target, stdout io.Writer) error {
	const row = "%-42s %9s %9s  %s\n"
	var platform images.Built
	for i, t := range wanted {
		built, err := t.build(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if i == 0 {
			fmt.Fprintf(stdout, row, "IMAGE", "STORED", "UNPACKED", "DIGEST")
		}
		fmt.Fprintf(stdout, row, b.ref(t.name), mib(built.Size), mib(built.Unpacked), built.Digest)
		if strings.HasPrefix(t.name, "virt-") {
			platform.Size += built.Size
			platform.Unpacked += built.Unpacked
		}
	}
	if platform.Size > 0 {
		fmt.Fprintf(stdout, "%-42s %9s %9s\n", "the platform's images together", mib(platform.Size), mib(platform.Unpacked))
	}
	return nil
}

func mib(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + "M" }

// pick returns the targets of these names, or the ones that are built when none is named.
func pick(names []string) ([]target, error) {
	all := targets()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(t target) bool { return t.onDemand }), nil
	}
	var picked []target
	for _, name := range names {
		i := slices.IndexFunc(all, func(t target) bool { return t.name == name })
		if i < 0 {
			var known []string
			for _, t := range all {
				known = append(known, t.name)
			}
			return nil, fmt.Errorf("no image is called %q: there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// requireTools names the Debian packages of every program that is not on this machine, before anything is begun.
func requireTools(wanted []target) error {
	var packages, missing []string
	for _, t := range wanted {
		for _, tool := range t.tools {
			if _, err := exec.LookPath(tool); err == nil || slices.Contains(missing, tool) {
				continue
			}
			missing = append(missing, tool)
			if p := packageOf(tool); !slices.Contains(packages, p) {
				packages = append(packages, p)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("programs missing on this machine: %s\ninstall them with: apt-get install -y --no-install-recommends %s",
		strings.Join(missing, ", "), strings.Join(packages, " "))
}

// packageOf says which Debian package a program comes in.
func packageOf(tool string) string {
	switch tool {
	case "qemu-img":
		return "qemu-utils"
	case "mcopy", "mmd", "mformat":
		return "mtools"
	case "xz":
		return "xz-utils"
	case "mkfs.ext4":
		return "e2fsprogs"
	}
	return tool
}

// buildTime is the time that every file of every image carries: the same sources must give the same image on every machine.
func buildTime(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, errors.New("SOURCE_DATE_EPOCH must be a number of seconds since 1970, or empty")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
