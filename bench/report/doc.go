// Package report turns the rounds of a measurement into summaries, ratios and a verdict.
// It writes a report as text, as JSON and as lines for benchstat, and reads the JSON again.
//
// # The JSON
//
// What -o writes is one object, a [Report]. The paths below are those of jq. A name that ends
// in _ns is in nanoseconds; so are the members of an object whose name does.
//
//	.schema            2, the version of this format
//	.verdict           ok, interrupted, or "invalid: …", "failed: …", "wrong data: …"
//	.stages            names in the order of the tables, the baseline first
//	.nodes             servers of each stage; 0: bench did not start them
//	.aa                the second stage is the first one again
//	.config            the properties.json that was used, without the secret
//	.sweep.property    the property that has several values; no .sweep: none has
//	.sweep.points      these values
//
//	.env               an Environment: the machine, the command, the programs
//
//	.runs[]            a Run, one round of one stage, in the order of time
//	  .stage           its name
//	  .point           the value of the swept property
//	  .round           from 1
//	  .client          what sent the requests: client.Client or pipeline
//	  .dur_ns          how long the load lasted
//	  .requests        answered
//	  .ok              operations answered, misses and mismatches included
//	  .bytes           of keys and values in these, sent and received
//	  .misses          operations on a key that had no value
//	  .mismatches      compare-and-swaps whose comparison failed
//	  .errors          requests that failed, by kind
//	  .refusals        answers "busy"; the request was sent again, or failed
//	  .unfinished      requests without an answer when the round ended
//	  .wrong           answers that no correct server gives
//	  .connections     as many as -c asks for
//	  .starved         connections on which no request was completed
//	  .never_greeted   of these, those that no server greeted
//	  .refused_dials   connections refused, and dialled again
//	  .failed_dials    other dials that failed, by reason, if each request has one
//	  .not_served      why the first connection was not greeted
//	  .first_error     the first error
//	  .first_wrong     the first wrong answer
//	  .restarted       which server restarted
//	  .invalid         why the client was measured and not the servers
//	  .warnings        what else to know
//	  .clients         several client processes: the counts and figures of each, by
//	                   number; missing: it did not bring its result
//	  .ops_per_s       operations answered a second
//	  .bytes_per_s     the same of bytes
//	  .latency_ns      p50, p90, p99, p999, max and mean of the response time
//	  .service_ns      the same from when a request was sent; open loops only
//	  .slip_ns         how late the client sent it; open loops only
//	  .connect_ns      the time to connect, where each request has a connection
//	  .where_ns        its mean by part: queue, memory, lock, table, codec, rest
//	  .at_least        the members of latency_ns that are only lower bounds
//	  .lock_held       the share of dur_ns that the most used lock was held
//	  .server_cpu_ns   of all servers in dur_ns
//	  .client_cpu_ns   of the client
//	  .machine_cpu_ns  of all programs on the client's machine; 0: not known
//	  .server_cpu_ns_per_request
//	  .client_cpu_ns_per_request
//	  .other_cores     cores kept busy by other programs; 0: none, or not known
//	  .client_cores    cores that the client may keep busy
//	  .stalled_ns      how long the client did not run although it should have
//	  .longest_stall_ns
//	  .failed_ns       time spent in the requests that failed; closed loops only
//	  .ok_each_second  operations answered in each second of the round
//	  .time_wait       the client's sockets in TIME_WAIT at the end; 0: not known
//	  .samples[]       with -samples, up to 2000 requests that were sent, drawn by lot:
//	                   due_ns, sent_ns and done_ns from the start of the round, and
//	                   outcome: answered, unfinished, or a kind of .errors
//	  .histogram       response times: sum_ns, max_ns, buckets [[edge, count], …]
//	  .service_histogram
//	  .slip_histogram
//	  .connect_histogram
//	  .nodes           what each server counted: see metrics.Snapshot
//
//	.summary[]         a Summary of the rounds of a stage, at one point: the counts
//	                   of a run, added up, the medians of its figures, and:
//	  .ops_per_s       median, low, high, level, rounds: see stats.Interval
//	  .p99_ns          the same of the response time
//	  .ratio           a Ratio to the first stage: ops_per_s; open loops: p99
//	  .p99_ratio       the same, of p99 in any loop
package report
