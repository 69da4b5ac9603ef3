// Package flagtype holds flag values that the standard types do not cover.
package flagtype

import (
	"fmt"
	"strconv"
	"time"
)

// Minutes is a duration that may also be given as a bare number of minutes, as older scripts do.
type Minutes time.Duration

// String writes a duration.
func (m *Minutes) String() string { return time.Duration(*m).String() }

// Type names the value in help.
func (m *Minutes) Type() string { return "minutes|duration" }

// Set reads "5" as five minutes and "20s" as twenty seconds.
func (m *Minutes) Set(text string) error {
	duration, err := time.ParseDuration(text)
	if number, numberErr := strconv.Atoi(text); numberErr == nil {
		duration, err = time.Duration(number)*time.Minute, nil
	}
	if err != nil {
		return fmt.Errorf("%q is neither a number of minutes nor a duration such as 20s", text)
	}
	if duration < 0 {
		return fmt.Errorf("must not be negative")
	}
	*m = Minutes(duration)
	return nil
}
