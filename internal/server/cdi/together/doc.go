// Package together holds the tests that need CDI's roles together behind a real API server: what is installed, what users may do,
// and what happens to an upload on its way.
package together
