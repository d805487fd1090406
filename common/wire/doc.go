// Package wire is the protocol between two processes of a cluster: a greeting, then
// frames of one gob value each.
//
// The server speaks first. Its greeting (see Greet) has a fixed size and says who the
// server is and what it understands. So two ends that disagree find out before the first
// request, and a client knows that a silent connection is not served yet. If the server
// asks for a secret, both ends prove that they know it before anything is decoded.
//
// Then each direction is a sequence of frames:
//
//	4 bytes, big-endian: length n, 1 to MaxFrame
//	n bytes: one gob value message, a Request or a Response (a Control on a control port)
//
// A frame can be read whole without being decoded, and refused without being read. Type
// descriptions never travel (see codec), so hostile ones never reach gob. The length and
// type of a message, and the length of the list that it begins with, are checked before
// gob sees it. The lists of a Request and a Response marshal themselves (see Ops), so most of
// a message is one string of bytes to gob.
//
// Both ends count the requests of a connection, and each answer carries the number of its
// request. So a surplus answer is never taken for the answer to the next request.
//
// The memory of a server's connections is bounded by
//
//	max_connections × (MaxFrame + MaxUnsent + MaxFrame + 4 KiB) + decoded
//
// A receive buffer holds at most one frame, and grows with the bytes received, never
// with the bytes announced. Answers collect up to MaxUnsent plus one frame. The memory that
// Next tells of all requests that are being decoded, applied and encoded at the same
// time is decoded: at most 272 KiB each (twice MaxFrame, and 144 bytes for each of
// MaxOps operations). Package node keeps the large ones within a budget; the small ones
// are the 4 KiB. The garbage collector lets the heap grow to at most twice that bound:
// 125 MiB with 300 connections at their worst (bench's TestMemoryUnderAttack measures
// it), and 4 GiB with the shipped max_connections of 10 000. In addition, an encoder
// keeps the bytes of one message and of its list, and the control port has up to 256
// connections.
package wire
