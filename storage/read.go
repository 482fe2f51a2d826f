package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ReadAll reads a whole object. An object larger than limit bytes is
// ErrCorrupt, and is not read.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	body, info, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, info, err
	}
	if info.Size > limit {
		err := fmt.Errorf("read %s: %w: %d bytes, where at most %d are possible", key, ErrCorrupt, info.Size, limit)
		return nil, info, errors.Join(err, body.Close())
	}
	data := make([]byte, info.Size)
	return data, info, fill(body, key, data)
}

// ReadVerified reads a whole object like ReadAll and compares its SHA-256 with
// the one in its name: a difference is ErrCorrupt. A key that carries no
// SHA-256 is an error too.
func ReadVerified(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	want, ok := HashOf(key)
	if !ok {
		return nil, Info{}, fmt.Errorf("read %s: the name carries no hash to verify", key)
	}
	data, info, err := ReadAll(ctx, s, key, limit)
	if err != nil {
		return nil, info, err
	}
	if sha256.Sum256(data) != want {
		return nil, info, fmt.Errorf("read %s: %w: its %d bytes do not hash to its name", key, ErrCorrupt, len(data))
	}
	return data, info, nil
}

// ReadRange reads exactly n bytes at offset off. An object that ends before
// off+n is ErrCorrupt. Info describes the whole object.
func ReadRange(ctx context.Context, s Store, key string, off, n int64) ([]byte, Info, error) {
	if n < 0 {
		return nil, Info{}, fmt.Errorf("read %s: a range of %d bytes", key, n)
	}
	data := make([]byte, n)
	info, err := ReadRangeInto(ctx, s, key, off, data)
	if err != nil {
		return nil, info, err
	}
	return data, info, nil
}

// ReadRangeInto is ReadRange into the caller's buffer, which it fills.
func ReadRangeInto(ctx context.Context, s Store, key string, off int64, buf []byte) (Info, error) {
	if off < 0 {
		return Info{}, fmt.Errorf("read %s: offset %d", key, off)
	}
	n := int64(len(buf))
	body, info, err := s.Get(ctx, key, off, n)
	if err != nil {
		return info, err
	}
	if info.Size < n || off > info.Size-n {
		err := fmt.Errorf("read %s: %w: ends at %d, before %d+%d", key, ErrCorrupt, info.Size, off, n)
		return info, errors.Join(err, body.Close())
	}
	return info, fill(body, key, buf)
}

// ReadSuffix reads the last n bytes of an object, or the whole of a shorter one.
func ReadSuffix(ctx context.Context, s Store, key string, n int64) ([]byte, Info, error) {
	if n <= 0 {
		return nil, Info{}, fmt.Errorf("read %s: a suffix of %d bytes", key, n)
	}
	body, info, err := s.Get(ctx, key, -n, -1)
	if err != nil {
		return nil, info, err
	}
	data := make([]byte, min(n, info.Size))
	return data, info, fill(body, key, data)
}

// fill reads a body that must hold exactly len(data) bytes, and closes it. A
// body that ends early is a broken connection, not a corrupt object: the size
// was checked against Info before.
func fill(body io.ReadCloser, key string, data []byte) error {
	_, err := io.ReadFull(body, data)
	if err == nil {
		var one [1]byte
		if n, _ := body.Read(one[:]); n > 0 {
			err = fmt.Errorf("%w: more bytes than announced", ErrCorrupt)
		}
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = Temporary(io.ErrUnexpectedEOF)
	}
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// Span resolves the offset and length of a Get against an object's size: where
// to start and how many bytes to give. A Store that serves ranges itself uses it.
func Span(size, offset, length int64) (start, n int64, err error) {
	if offset < 0 {
		if length >= 0 {
			return 0, 0, fmt.Errorf("range of %d bytes at offset %d", length, offset)
		}
		start = max(0, size+offset)
		return start, size - start, nil
	}
	start = min(offset, size)
	n = size - start
	if length >= 0 {
		n = min(n, length)
	}
	return start, n, nil
}
