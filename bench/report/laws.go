package report

import (
	"fmt"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/text"
)

// coresBusy is how many cores the CPU time kept busy in the round: by the utilization law,
// requests a second × CPU time a request. It cannot be above the number of cores.
func coresBusy(r *load.Result, cpu time.Duration) float64 {
	return float64(cpu) / float64(max(r.Dur, 1))
}

// breaksLittle returns how a round of a closed loop, with depth requests in flight on
// each connection, breaks Little's law; "" if it does not.
func breaksLittle(r *load.Result, depth int) string {
	want := float64((r.Connections - r.Starved) * depth)
	got := r.InFlight()
	// At the end of a round each connection has a request cut off, or none to send any more.
	ends := want * float64(r.ResponseTimes.Max()) / float64(max(r.Dur, 1))
	switch {
	case away(r): // nobody knows for how long
	case got > 1.05*want:
		return fmt.Sprintf("Little's law: throughput × mean response is %s, with %s requests in flight at most", text.Sig3(got), text.Sig3(want))
	case got < 0.9*want-ends:
		return fmt.Sprintf("Little's law: throughput × mean response is only %s, with %s requests in flight: "+
			"the client spends the rest on itself", text.Sig3(got), text.Sig3(want))
	}
	return ""
}

// away reports whether a server was gone for a part of the round: then connections
// waited between two requests.
func away(r *load.Result) bool {
	return r.Errors[client.ErrDown.Error()]+r.Errors[client.ErrUnknown.Error()] > 0
}

// breaksUtilization returns how a round in which servers and client shared this many
// cores breaks the utilization law; "" if it does not.
func breaksUtilization(r *load.Result, cores int) string {
	if used := coresBusy(r, r.ServerCPU+r.ClientCPU); used > 1.05*float64(cores) {
		return fmt.Sprintf("utilization law: throughput × CPU a request is %s cores, and there are %d", text.Sig3(used), cores)
	}
	return ""
}

// invalid returns why a round measured the client rather than the servers; "" if it
// did not. cores is how many the client may use.
func invalid(r *load.Result, cores int) string {
	if r.Slips != nil {
		// A millisecond is the finest step in which all systems can wait. From there on
		// the client may be a quarter of what the report says of the servers.
		slip, response := r.Slips.Quantile(0.99), r.ResponseTimes.Quantile(0.99)
		if slip > time.Millisecond && slip > response/4 {
			return fmt.Sprintf("the client was late although a connection was free: by %s at p99, in a response of %s "+
				"(stop what else runs on this machine, or lower -rate)", text.Duration(slip), text.Duration(response))
		}
	}
	client, server := coresBusy(r, r.ClientCPU), coresBusy(r, r.ServerCPU)
	if server > 0 && client >= 0.9*float64(cores) && server < client/2 {
		return fmt.Sprintf("the client used up its CPU, %s of %d cores, and the servers idled with %s",
			text.Sig3(client), cores, text.Sig3(server))
	}
	return ""
}
