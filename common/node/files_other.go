//go:build !linux && !darwin

package node

import "math"

// maxFiles returns how many descriptors the process may have open, as far as is known.
func maxFiles() int { return math.MaxInt }
