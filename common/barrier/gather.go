package barrier

import (
	"context"
	"fmt"
)

// MaxGathered limits what all processes together bring to Gather, in bytes.
const MaxGathered = 64 << 20

// Gather is Wait for a payload of any size: it takes a round for each MaxPayload bytes of the
// longest one. A process that goes missing on the way brings nothing.
func (b *Barrier) Gather(ctx context.Context, payload []byte) ([][]byte, error) {
	whole, size := make([][]byte, len(b.cfg.Peers)), 0
	for i := range whole {
		whole[i] = []byte{}
	}
	for more := true; more; {
		part := payload[:min(len(payload), MaxPayload-1)]
		payload = payload[len(part):]
		last := byte(1) // begins each part
		if len(payload) > 0 {
			last = 0
		}
		parts, err := b.Wait(ctx, append([]byte{last}, part...))
		if err != nil {
			return nil, err
		}
		more = false
		for i, p := range parts {
			if len(p) == 0 {
				whole[i] = nil
				continue
			}
			more = more || p[0] == 0
			whole[i] = append(whole[i], p[1:]...)
			size += len(p)
		}
		if size > MaxGathered {
			return nil, fmt.Errorf("barrier: the payloads have more than %d MiB", MaxGathered>>20)
		}
	}
	return whole, nil
}
