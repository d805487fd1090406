package yardstick

import (
	"os"
	"strconv"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// programs are the yardsticks that are not part of bench, by their names in -against.
var programs = map[string]Yardstick{
	// without persistence
	"redis": {
		Name: "redis", program: "redis-server", noCAS: "Redis would need a script for it", codec: redis.codec,
		hello: "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n", version: redisVersion,
		args: func(host, port, dir string, w cluster.Workload) []string {
			return []string{"--bind", host, "--port", port, "--protected-mode", "yes", "--dir", dir,
				"--save", "", "--appendonly", "no", "--maxclients", strconv.Itoa(max(10_000, 2*w.Connections))}
		},
	},
	// with so much memory that it never evicts a value
	"memcached": {
		Name: "memcached", program: "memcached", noCAS: "memcached compares versions, not values", codec: memcached.codec,
		hello: "version\r\nmn\r\n", version: memcachedVersion,
		args: func(host, port, _ string, w cluster.Workload) []string {
			memory := 64 + 2*w.Keys*wire.MaxValue>>20 // MiB; none is taken before it is needed
			args := []string{"-l", host, "-p", port, "-U", "0", "-m", strconv.Itoa(memory), "-c", strconv.Itoa(max(1024, 2*w.Connections))}
			if os.Getuid() == 0 {
				args = append(args, "-u", "root") // memcached insists on it
			}
			return args
		},
	},
}
