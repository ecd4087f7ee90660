// Package idtech reads the frame in which ID TECH readers send a card swipe in their original encrypted format (SecureMag and
// its relatives): the tracks masked, tracks 1 and 2 encrypted together under a DUKPT data key, their SHA-1, and the KSN.
//
// [Parse] takes a frame apart; the ciphertext is opened with package dukpt, and [Swipe.Split] takes what came out apart and
// checks it. A frame is not authenticated: SHA-1 of the clear tracks tells that the right key was used, not who sent them.
package idtech

import (
	"crypto/fips140"
	"crypto/sha1"
	"crypto/subtle"
	"errors"
	"fmt"
)

var (
	// ErrFrame says that bytes are no frame, or a damaged one.
	ErrFrame = errors.New("idtech: not a frame of the original encrypted format")
	// ErrTracks says that decrypted tracks are not those that the reader hashed: the key or the way it was used is not the
	// reader's.
	ErrTracks = errors.New("idtech: the clear tracks are not those that were hashed")
	// ErrForbidden says that tracks cannot be checked: Go's FIPS mode is enforced.
	ErrForbidden = errors.New("idtech: Go's FIPS mode is enforced (GODEBUG=fips140=only) and forbids SHA-1")
)

const (
	start, end = 0x02, 0x03
	bankCard   = 0x00 // card type: the only one that is encrypted
	header     = 3    // start and length
	fixed      = 5    // card type, status, three lengths
	trailer    = 3    // LRC, sum, end
	blockSize  = 8
	// KSNSize is the length of a KSN in bytes.
	KSNSize = 10
)

// Swipe is one frame.
type Swipe struct {
	Status     byte               // of the decoding of the tracks, as the reader's manual says
	Masked     [3][]byte          // tracks with most digits masked, empty for one that is not there
	Ciphertext []byte             // tracks 1 and 2 one after the other, filled up to blocks of 8 bytes with zeros, in CBC with a zero IV
	Hash       [2][sha1.Size]byte // of the clear tracks 1 and 2; zeros for one that is not there
	KSN        [KSNSize]byte      // as dukpt.ParseKSN takes it
}

// Parse takes a frame apart. What it returns shares the memory of frame. It fails with [ErrFrame] for anything that is not
// exactly one frame with the right check bytes and at least one encrypted track.
func Parse(frame []byte) (Swipe, error) {
	if len(frame) < header+fixed+KSNSize+trailer || frame[0] != start || frame[len(frame)-1] != end {
		return Swipe{}, fmt.Errorf("%w: %d bytes without its marks", ErrFrame, len(frame))
	}
	size := int(frame[1]) | int(frame[2])<<8
	if size != len(frame)-header-trailer {
		return Swipe{}, fmt.Errorf("%w: it says %d bytes and has %d", ErrFrame, size, len(frame)-header-trailer)
	}
	body := frame[header : header+size]
	if lrc, sum := checks(body); frame[header+size] != lrc || frame[header+size+1] != sum {
		return Swipe{}, fmt.Errorf("%w: the check bytes are wrong", ErrFrame)
	}
	if body[0] != bankCard {
		return Swipe{}, fmt.Errorf("%w: card type %02X is not encrypted", ErrFrame, body[0])
	}
	return parse(body)
}

// parse takes the body apart. Its lengths say what its length has to be.
func parse(body []byte) (Swipe, error) {
	s := Swipe{Status: body[1]}
	lengths, rest := body[2:fixed], body[fixed:]
	encrypted := (int(lengths[0]) + int(lengths[1]) + blockSize - 1) / blockSize * blockSize
	want := encrypted + KSNSize
	for i, n := range lengths {
		want += int(n)
		if i < len(s.Hash) && n > 0 {
			want += sha1.Size
		}
	}
	if encrypted == 0 || len(rest) != want {
		return Swipe{}, fmt.Errorf("%w: tracks of %v bytes make %d bytes, not %d", ErrFrame, lengths, want, len(rest))
	}
	take := func(n int) []byte {
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	for i, n := range lengths {
		s.Masked[i] = take(int(n))
	}
	s.Ciphertext = take(encrypted)
	for i := range s.Hash {
		if lengths[i] > 0 {
			s.Hash[i] = [sha1.Size]byte(take(sha1.Size))
		}
	}
	s.KSN = [KSNSize]byte(take(KSNSize))
	return s, nil
}

// Append appends the frame of s to dst: what [Parse] has read, byte for byte.
func (s Swipe) Append(dst []byte) []byte {
	body := []byte{bankCard, s.Status}
	for _, t := range s.Masked {
		body = append(body, byte(len(t)))
	}
	for _, t := range s.Masked {
		body = append(body, t...)
	}
	body = append(body, s.Ciphertext...)
	for i, h := range s.Hash {
		if len(s.Masked[i]) > 0 {
			body = append(body, h[:]...)
		}
	}
	body = append(body, s.KSN[:]...)
	lrc, sum := checks(body)
	dst = append(dst, start, byte(len(body)), byte(len(body)>>8))
	dst = append(dst, body...)
	return append(dst, lrc, sum, end)
}

// Split takes the decrypted ciphertext apart into tracks 1 and 2, which share its memory. It fails with [ErrTracks] when a
// track is not what the reader hashed, or what fills up the last block is not zeros, and with [ErrForbidden] where SHA-1 is.
func (s Swipe) Split(clear []byte) (track1, track2 []byte, err error) {
	if fips140.Enforced() { // where sha1 panics
		return nil, nil, ErrForbidden
	}
	n1, n2 := len(s.Masked[0]), len(s.Masked[1])
	if len(clear) != len(s.Ciphertext) || n1+n2 > len(clear) {
		return nil, nil, ErrTracks
	}
	track1, track2 = clear[:n1:n1], clear[n1:n1+n2:n1+n2]
	good := 1
	for i, t := range [][]byte{track1, track2} {
		if len(t) > 0 {
			sum := sha1.Sum(t)
			good &= subtle.ConstantTimeCompare(sum[:], s.Hash[i][:])
		}
	}
	for _, b := range clear[n1+n2:] {
		good &= subtle.ConstantTimeByteEq(b, 0)
	}
	if good != 1 {
		return nil, nil, ErrTracks
	}
	return track1, track2, nil
}

// checks are the XOR and the sum of all bytes.
func checks(body []byte) (lrc, sum byte) {
	for _, b := range body {
		lrc ^= b
		sum += b
	}
	return lrc, sum
}
