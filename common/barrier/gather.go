package barrier

import (
	"context"
	"fmt"
)

// MaxGathered limits what all processes together bring to Gather, in bytes.
const MaxGathered = 64 << 20

// Gather is Wait for a payload of any size: it takes a round for each MaxPayload bytes of the
// longest one, and a part that is shorter is the last. A process that goes missing on the way
// brings nothing.
func (b *Barrier) Gather(ctx context.Context, payload []byte) ([][]byte, error) {
	whole, size := make([][]byte, len(b.cfg.Peers)), 0
	for more := true; more; {
		part := payload[:min(len(payload), MaxPayload)]
		payload = payload[len(part):]
		parts, err := b.Wait(ctx, part)
		if err != nil {
			return nil, err
		}
		more = false
		for i, p := range parts {
			more = more || len(p) == MaxPayload
			size += len(p)
			if whole[i] == nil || p == nil {
				whole[i] = p
			} else {
				whole[i] = append(whole[i], p...)
			}
		}
		if size > MaxGathered {
			return nil, fmt.Errorf("barrier: the payloads have more than %d MiB", MaxGathered>>20)
		}
	}
	return whole, nil
}
