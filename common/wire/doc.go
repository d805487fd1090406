// Package wire is how two processes of a cluster talk: a greeting, then frames,
// each of them one gob value.
//
// The server speaks first. Its greeting (see Greet) has a fixed size and says
// who it is and what it understands, so that two ends that disagree find out
// before the first request, and a connection that nobody serves yet is known by
// its silence. A client that is asked for a secret proves that it knows it, and
// is proved the same, before anything is decoded.
//
// After that each direction is a sequence of frames:
//
//	4 bytes, big-endian: length n, 1 to MaxFrame
//	n bytes: one gob value message, a Request or a Response (a Control on a control port)
//
// A frame can be taken off the wire whole without being decoded, and refused
// unread. Type descriptions never travel (see codec), so hostile ones never
// reach gob; the length and the type of a message, and how many elements the list
// has that comes first in it, are looked at before gob is.
//
// What a server's connections can cost, and what bounds it:
//
//	max_connections × (MaxFrame + MaxUnsent + MaxFrame + 4 KiB) + decoded
//
// A receive buffer holds one frame at most, and grows with the bytes received and
// never with the bytes announced; answers collect up to MaxUnsent, and one more; and
// decoded is what Next says of all requests that are being decoded, applied and
// encoded at the same time, at most 288 KiB each (twice MaxFrame, and 160 bytes for
// each of MaxOps operations). Package node keeps the sum of the large ones within a
// budget; the small ones are the 4 KiB. The garbage collector lets the heap grow to
// twice of that, at most: with 300 connections at their worst to 125 MiB (what it comes
// to is measured by bench's TestMemoryUnderAttack), and with max_connections as it is
// shipped, 10 000, to 4 GiB. Besides, an encoder keeps the bytes of one message, and the
// control port has up to 256 connections of its own.
package wire
