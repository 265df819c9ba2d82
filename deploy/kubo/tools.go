//go:build tools

// Package kubo keeps the daemon's main package in this module's graph, so that `go mod tidy` leaves go.sum complete.
package kubo

import _ "github.com/ipfs/kubo/cmd/ipfs"
