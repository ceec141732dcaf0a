//go:build tools

package tools

import _ "github.com/equinix-labs/otel-cli"
