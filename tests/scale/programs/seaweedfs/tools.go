//go:build tools

// Package tools pins SeaweedFS, a store that "make stores" builds and tests with.
package tools

import _ "github.com/seaweedfs/seaweedfs/weed"
