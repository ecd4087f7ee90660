package feed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	cacheMagic = "latchkey-feed-cache-v1\n"
	// cacheSlack is by how much the file may grow before a snapshot is asked for, which makes it small again.
	cacheSlack = 1 << 20
	// cacheHeartbeat is how often a page without records is kept: it tells a follower that starts again how old its
	// knowledge is.
	cacheHeartbeat = 30 * time.Second
	// cachePause is how long after one snapshot that was asked for another is, while the file cannot be added to. Between
	// them the follower asks for what is new: a disk that is full must not make it stale.
	cachePause = time.Minute
)

// cache is the file that keeps what was learnt: the magic, then pages as they came, each after its length in 4 bytes. A
// cache without a path keeps nothing.
type cache struct {
	path  string
	whole int64 // bytes of the file after the last snapshot
	size  int64 // bytes of the file; 0 while there is none that can be added to
	kept  time.Time
	asked time.Time // when a snapshot was asked for last
}

// load hands the pages of the file to take, in order, up to the first that it does not take. Then, and when the file is
// damaged, it returns an error, and only a snapshot makes the file usable again.
func (c *cache) load(take func(page []byte) error) error {
	if c.path == "" {
		return nil
	}
	f, err := os.Open(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	magic := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != cacheMagic {
		return errors.New("not a cache of the feed")
	}
	size := int64(len(cacheMagic))
	for {
		page, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			c.size = size
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", size, err)
		}
		if err := take(page); err != nil {
			return fmt.Errorf("after %d bytes: %w", size, err)
		}
		size += 4 + int64(len(page))
		if c.whole == 0 {
			c.whole = size
		}
	}
}

// readFrame returns the next page, or io.EOF at the end of the file.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxPageBytes {
		return nil, fmt.Errorf("page of %d bytes, want at most %d", n, maxPageBytes)
	}
	page := make([]byte, n)
	if _, err := io.ReadFull(r, page); err != nil {
		return nil, errors.New("cut short")
	}
	return page, nil
}

// keep makes a page durable. After an error the file is gone, so that it does not hold older knowledge than this process
// has, and a snapshot is due.
func (c *cache) keep(page []byte, snapshot, news bool, now time.Time) error {
	if c.path == "" || !snapshot && (c.size == 0 || !news && now.Sub(c.kept) < cacheHeartbeat) {
		return nil
	}
	write := c.add
	if snapshot {
		write = c.replace
	}
	if err := write(page); err != nil {
		c.size = 0
		return errors.Join(err, os.Remove(c.path))
	}
	c.kept = now
	return nil
}

func (c *cache) add(page []byte) error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := writeFrame(f, page); err != nil {
		return err
	}
	c.size += 4 + int64(len(page))
	return nil
}

func (c *cache) replace(page []byte) error {
	f, err := os.OpenFile(c.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, cacheMagic); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := writeFrame(f, page); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.path); err != nil {
		return err
	}
	c.size = int64(len(cacheMagic)) + 4 + int64(len(page))
	c.whole = c.size
	return syncFolder(filepath.Dir(c.path))
}

// writeFrame writes a page, makes it durable and closes the file.
func writeFrame(f *os.File, page []byte) error {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(page)))
	_, err := f.Write(length)
	if err == nil {
		_, err = f.Write(page)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// due reports whether it is time to ask for a snapshot: there is no file that can be added to, or it is full.
func (c *cache) due(now time.Time) bool {
	return c.path != "" && (c.size == 0 || c.full()) && now.Sub(c.asked) >= cachePause
}

// full reports whether the file has grown so much that a snapshot would make it smaller.
func (c *cache) full() bool { return c.size > 2*c.whole+cacheSlack }
