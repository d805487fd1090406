package report

import (
	"time"

	"lockstep/bench/load"
)

// Where says where the time of a request goes, in the mean: what the servers say of
// themselves, and the rest. Each of them is 0 or more.
type Where struct {
	Queue time.Duration `json:"queue"` // for a worker
	Lock  time.Duration `json:"lock"`  // for locks that others held
	Table time.Duration `json:"table"` // in the table, work included; from a sample of the requests
	Codec time.Duration `json:"codec"` // the rest of a turn: decoding, checking, encoding
	Rest  time.Duration `json:"rest"`  // of the time from sent to answered: network, kernel, scheduling, the client
}

// where splits the time of the requests that the servers answered; nil where they
// did not say. Of a request that went to several nodes, the time is that of a part.
func where(r *load.Result) *Where {
	var requests int64
	var turn time.Duration
	w := new(Where)
	for _, n := range r.Nodes {
		requests += n.Requests
		w.Queue += n.QueueWait.Total
		w.Lock += n.Locks.Waited
		w.Table += n.Table.Mean() * time.Duration(n.Requests)
		turn += n.Turn.Total
	}
	if requests == 0 {
		return nil
	}
	w.Codec = max(turn-w.Lock-w.Table, 0)
	service := r.ResponseTimes.Mean()
	if r.ServiceTimes != nil {
		service = r.ServiceTimes.Mean()
	}
	parts := w.Parts()
	for _, part := range parts[:4] {
		*part /= time.Duration(requests)
		service -= *part
	}
	w.Rest = max(service, 0)
	return w
}

// parts are the five of them, in their order.
func (w *Where) Parts() [5]*time.Duration {
	return [5]*time.Duration{&w.Queue, &w.Lock, &w.Table, &w.Codec, &w.Rest}
}

// meanWhere is the mean of each part over the rounds, so that they add up; nil if it is
// not known of any.
func meanWhere(runs []Run) *Where {
	mean, known := new(Where), time.Duration(0)
	for _, run := range runs {
		if run.Where != nil {
			known++
			for i, part := range run.Where.Parts() {
				*mean.Parts()[i] += *part
			}
		}
	}
	if known == 0 {
		return nil
	}
	for _, part := range mean.Parts() {
		*part /= known
	}
	return mean
}
