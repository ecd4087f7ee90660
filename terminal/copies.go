package terminal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// A sealed file holds its content three times, in rooms of equal size, a whole number of blocks each:
//
//	"LKC1"      4
//	blocks      2 bytes, big endian: how many blocks of 4,096 bytes the room has
//	zero        2
//	generation  8, big endian: one more with each content
//	length      4, big endian: of what is sealed
//	CRC-32C     4, big endian: of the 20 bytes before it and of what is sealed
//	sealed      length bytes; the rest of the room is zero
//
// A new content is written over the old one, copy after copy, each synced and read back before the next is touched: so at any
// moment two of the three are whole, and one rotten bit beside a power cut still leaves one. When all three are written the
// content before is gone from the medium, as far as the medium overwrites what is overwritten. The checksum finds rot; that
// nobody has changed a copy is the sealer's to say, and the generation is in the label that it binds.
const (
	copyMagic  = "LKC1"
	copyHeader = 24
	copyBlock  = 4096
	copies     = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// room is one copy of a content.
type room struct {
	generation uint64
	sealed     []byte
}

// generationLabel is what a content is sealed under: the label of the file and the generation.
func generationLabel(label string, generation uint64) string {
	return fmt.Sprintf("%s, generation %d", label, generation)
}

// roomBlocks returns how many blocks a room for n sealed bytes takes.
func roomBlocks(n int) int { return (copyHeader + n + copyBlock - 1) / copyBlock }

// appendRoom appends a room of so many blocks.
func appendRoom(dst []byte, blocks int, r room) []byte {
	start := len(dst)
	dst = append(dst, copyMagic...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(blocks))
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, r.generation)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.sealed)))
	dst = binary.BigEndian.AppendUint32(dst, r.checksum(dst[start:]))
	dst = append(dst, r.sealed...)
	return append(dst, make([]byte, start+blocks*copyBlock-len(dst))...)
}

func (r room) checksum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, r.sealed)
}

// parseRoom reads the room that begins at a place of a file, and its blocks. It fails for what is not whole, in whatever way.
func parseRoom(file []byte, at int) (r room, blocks int, ok bool) {
	b := file[at:]
	if len(b) < copyBlock || string(b[:4]) != copyMagic || b[6] != 0 || b[7] != 0 {
		return room{}, 0, false
	}
	blocks = int(binary.BigEndian.Uint16(b[4:]))
	n := int(binary.BigEndian.Uint32(b[16:]))
	if blocks == 0 || len(b) < blocks*copyBlock || at%(blocks*copyBlock) != 0 || n > blocks*copyBlock-copyHeader {
		return room{}, 0, false
	}
	r = room{generation: binary.BigEndian.Uint64(b[8:]), sealed: b[copyHeader : copyHeader+n]}
	return r, blocks, binary.BigEndian.Uint32(b[20:]) == r.checksum(b[:20])
}

// readRooms returns the rooms of a file that are whole, the highest generation first, and how many blocks each has.
func readRooms(file []byte) (rooms []room, blocks int) {
	for at := 0; at < len(file); at += copyBlock {
		r, n, ok := parseRoom(file, at)
		if !ok || len(rooms) > 0 && n != blocks {
			continue
		}
		blocks = n
		rooms = append(rooms, r)
	}
	slices.SortStableFunc(rooms, func(a, b room) int {
		switch {
		case a.generation > b.generation:
			return -1
		case a.generation < b.generation:
			return 1
		}
		return 0
	})
	return rooms, blocks
}

// equalRooms reports whether a file is three equal rooms and nothing else.
func equalRooms(file []byte) bool {
	size := len(file) / copies
	_, blocks, ok := parseRoom(file, 0)
	return ok && blocks*copyBlock == size && size*copies == len(file) &&
		bytes.Equal(file[:size], file[size:2*size]) && bytes.Equal(file[:size], file[2*size:])
}

// writeCopies puts a content into all rooms of a file. seal makes what is written, for the generation that it is told. A file
// that is not there, or has no room for it, is made anew and takes its name when it is whole.
func writeCopies(f FS, name string, seal func(generation uint64) ([]byte, error)) error {
	file, err := ReadFile(f, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r := room{generation: 1}
	rooms, blocks := readRooms(file)
	if len(rooms) > 0 {
		r.generation = rooms[0].generation + 1
	}
	if r.sealed, err = seal(r.generation); err != nil {
		return err
	}
	need := roomBlocks(len(r.sealed))
	if need*copyBlock*copies > maxFile {
		return fmt.Errorf("terminal: write %s: %d bytes, want at most %d", name, len(r.sealed), maxFile/copies-copyHeader)
	}
	return putRoom(f, name, file, max(need, blocks), r)
}

// putRoom makes all copies in a file, whose bytes are these now, rooms of so many blocks: in place where the file has that size, and
// else in a new file that takes its name when it is whole.
func putRoom(f FS, name string, file []byte, blocks int, r room) error {
	one := appendRoom(nil, blocks, r)
	if len(file) != copies*len(one) {
		return WriteFile(f, name, bytes.Repeat(one, copies))
	}
	return rewriteRooms(f, name, file, one, r.generation)
}

// rewriteRooms writes one room over each of a file's, one after the other. A copy that is equal to it already stays untouched:
// it may be the only good one.
func rewriteRooms(f FS, name string, old, one []byte, generation uint64) (err error) {
	file, err := f.Open(name)
	if err != nil {
		return fmt.Errorf("terminal: write %s: %w", name, err)
	}
	defer func() {
		if e := file.Close(); err == nil && e != nil {
			err = fmt.Errorf("terminal: write %s: %w", name, e)
		}
	}()
	for n := range copies {
		if planted.On(planted.StateTwoCopies) && n == 2 || planted.On(planted.StateAlternate) && n != int(generation%2) {
			continue
		}
		at := n * len(one)
		if bytes.Equal(old[at:at+len(one)], one) {
			continue
		}
		if err := rewriteRoom(file, one, int64(at)); err != nil {
			return fmt.Errorf("terminal: write %s: copy %d: %w", name, n+1, err)
		}
	}
	return nil
}

// rewriteRoom writes a room, makes it durable and reads it back: a medium that does not hold what it was given is found before
// the next copy is touched.
func rewriteRoom(file File, one []byte, at int64) error {
	if _, err := file.WriteAt(one, at); err != nil {
		return err
	}
	if !planted.On(planted.StateNoSync) {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	back := make([]byte, len(one))
	if n, err := file.ReadAt(back, at); n < len(back) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if !bytes.Equal(back, one) {
		return errors.New("the medium gives back other bytes than were written")
	}
	return nil
}
