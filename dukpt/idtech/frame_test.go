package idtech_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt/idtech"
)

// published is the frame of a maker's manual.
func published(t testing.TB) []byte {
	t.Helper()
	frame, err := publishedFrame()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func publishedFrame() ([]byte, error) {
	text, err := os.ReadFile("../../testdata/devices/devices.json")
	if err != nil {
		return nil, err
	}
	var file struct{ Vectors []struct{ Frame string } }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	for _, v := range file.Vectors {
		if v.Frame != "" {
			return hex.DecodeString(v.Frame)
		}
	}
	return nil, errors.New("no frame among the vectors")
}

// sample is a frame with these tracks.
func sample(track1, track2, track3 string) (idtech.Swipe, []byte) {
	s := idtech.Swipe{Status: 0x3F, Masked: [3][]byte{[]byte(track1), []byte(track2), []byte(track3)}, KSN: [10]byte{0x62, 0x99, 9: 1}}
	clear := append([]byte(track1), track2...)
	clear = append(clear, make([]byte, (8-len(clear)%8)%8)...)
	s.Ciphertext = bytes.Repeat([]byte{0xC1}, len(clear))
	for i, t := range []string{track1, track2} {
		if t != "" {
			s.Hash[i] = sha1.Sum([]byte(t))
		}
	}
	return s, clear
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, tracks := range [][3]string{
		{"%B4111^A^1?", ";4111=1?", ""}, {"%B4111^A^1?", "", ""}, {"", ";4111=1?", ""}, {"", "12345678", "+333?"}, {"%B?", ";4111=1?", "+1?"},
	} {
		want, clear := sample(tracks[0], tracks[1], tracks[2])
		frame := want.Append([]byte("x"))[1:]
		got, err := idtech.Parse(frame)
		if err != nil {
			t.Fatalf("%q: %v", tracks, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %v, want %v", tracks, got, want)
		}
		track1, track2, err := got.Split(clear)
		if err != nil || string(track1) != tracks[0] || string(track2) != tracks[1] {
			t.Errorf("%q: split into %q and %q, %v", tracks, track1, track2, err)
		}
		for i := range clear {
			clear[i] ^= 1
			if _, _, err := got.Split(clear); !errors.Is(err, idtech.ErrTracks) {
				t.Errorf("%q: byte %d is another, and %v", tracks, i, err)
			}
			clear[i] ^= 1
		}
		for _, bad := range [][]byte{nil, clear[1:], append(bytes.Clone(clear), 0), append(bytes.Clone(clear), make([]byte, 8)...)} {
			if _, _, err := got.Split(bad); !errors.Is(err, idtech.ErrTracks) {
				t.Errorf("%q: %d bytes of tracks give %v", tracks, len(bad), err)
			}
		}
	}
}

// TestSplitRefuses: a Swipe that no frame made has tracks longer than what was encrypted.
func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	s, clear := sample("12345678", "87654321", "")
	for _, n := range []int{0, 8} {
		s.Ciphertext = s.Ciphertext[:n]
		if track1, track2, err := s.Split(clear[:n]); err != idtech.ErrTracks || track1 != nil || track2 != nil {
			t.Errorf("%d bytes: %q and %q, %v", n, track1, track2, err)
		}
		s.Ciphertext = s.Ciphertext[:16]
	}
}

// TestParseRefuses cuts, lengthens and changes a frame everywhere; every change of one byte is noticed.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	frame := published(t)
	if _, err := idtech.Parse(frame); err != nil {
		t.Fatal(err)
	}
	refused := 0
	refuse := func(how string, frame []byte) {
		t.Helper()
		s, err := idtech.Parse(frame)
		if !errors.Is(err, idtech.ErrFrame) || s.Ciphertext != nil {
			t.Errorf("%s: %v, %v", how, s, err)
		}
		refused++
	}
	for n := range frame {
		refuse(fmt.Sprintf("the first %d bytes", n), frame[:n])
		for _, change := range []byte{0x01, 0x80, 0xFF} {
			bad := bytes.Clone(frame)
			bad[n] ^= change
			refuse(fmt.Sprintf("byte %d XOR %02X", n, change), bad)
		}
	}
	refuse("one byte more", append(bytes.Clone(frame), 3))
	for n := range 15 { // too short for three lengths and a KSN, and right otherwise
		refuse(fmt.Sprintf("a body of %d bytes", n), append(append([]byte{2, byte(n), 0}, make([]byte, n)...), 0, 0, 3))
	}
	for n := range 4 {
		refuse(fmt.Sprintf("marks with %d bytes between", n), append(append([]byte{2}, make([]byte, n)...), 3))
	}
	// frames whose check bytes are right and whose content is not
	good, _ := sample("%B?", ";4111=1?", "+1?")
	for how, change := range map[string]func(body []byte) []byte{
		"card type":         func(b []byte) []byte { b[0] = 1; return b },
		"track 1 longer":    func(b []byte) []byte { b[2]++; return b },
		"track 3 shorter":   func(b []byte) []byte { b[4]--; return b },
		"no track at all":   func(b []byte) []byte { return append([]byte{0, 0x3F, 0, 0, 0}, b[len(b)-10:]...) },
		"track 3 alone":     func(b []byte) []byte { return append([]byte{0, 0x3F, 0, 0, 2, '+', '?'}, b[len(b)-10:]...) },
		"a byte at the end": func(b []byte) []byte { return append(b, 0) },
	} {
		frame := good.Append(nil)
		body := change(bytes.Clone(frame[3 : len(frame)-3]))
		var lrc, sum byte
		for _, b := range body {
			lrc ^= b
			sum += b
		}
		bad := append([]byte{2, byte(len(body)), byte(len(body) >> 8)}, body...)
		refuse(how, append(bad, lrc, sum, 3))
	}
	if refused < 1500 {
		t.Errorf("%d frames refused", refused)
	}
}

// FuzzParse: what is read is written again as it was.
func FuzzParse(f *testing.F) {
	f.Add(published(f))
	for _, tracks := range [][2]string{{"%B4111^A^1?", ";4111=1?"}, {"", ";1?"}} {
		s, _ := sample(tracks[0], tracks[1], "")
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, err := idtech.Parse(frame)
		if err != nil {
			if !errors.Is(err, idtech.ErrFrame) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := s.Append(nil); !bytes.Equal(again, frame) {
			t.Fatalf("%X is written as %X", frame, again)
		}
	})
}

// FuzzSplit: the tracks that a reader hashed come back, and nothing else is taken for them.
func FuzzSplit(f *testing.F) {
	f.Add("%B4111^A^1?", ";4111=1?", []byte("%B4111^A^1?;4111=1?\x00\x00\x00\x00\x00"))
	f.Add("", ";4111=1?", []byte(";4111=1?"))
	f.Add("%B4111^A^1?", "", []byte("%B4111^A^1?\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, track1, track2 string, clear []byte) {
		if len(track1) > 255 || len(track2) > 255 || track1+track2 == "" {
			return // no frame holds them
		}
		s, want := sample(track1, track2, "")
		if again, err := idtech.Parse(s.Append(nil)); err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%v reads as %v, %v", s, again, err)
		}
		for _, try := range [][]byte{want, clear} {
			got1, got2, err := s.Split(try)
			if good := bytes.Equal(try, want); good != (err == nil) || !good && (!errors.Is(err, idtech.ErrTracks) || got1 != nil || got2 != nil) {
				t.Fatalf("%X split into %q and %q, %v, want success %v", try, got1, got2, err, good)
			}
			if err == nil && (string(got1) != track1 || string(got2) != track2) {
				t.Fatalf("%X split into %q and %q", try, got1, got2)
			}
		}
	})
}
