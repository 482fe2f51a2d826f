package catalog

import (
	"context"
	"fmt"
	"iter"

	"lifeboat/storage"
	"lifeboat/storage/pack"
)

// idPagesRead is how many pages of ids are in memory at once.
const idPagesRead = 8

// FileChunks yields the chunk ids of a file in order, from its entry or from its
// pages of ids. An error ends the sequence. e must stay as it is meanwhile.
func FileChunks(ctx context.Context, e *Entry, chunks Chunks) iter.Seq2[pack.ChunkID, error] {
	return func(yield func(pack.ChunkID, error) bool) {
		if !e.IDPages {
			for _, id := range e.Chunks {
				if !yield(id, nil) {
					return
				}
			}
			return
		}
		var pages [idPagesRead][]pack.ChunkID
		for at := 0; at < len(e.Chunks); at += idPagesRead {
			want := e.Chunks[at:min(at+idPagesRead, len(e.Chunks))]
			if err := readIDs(ctx, chunks, e, at, want, pages[:len(want)]); err != nil {
				yield(pack.ChunkID{}, fmt.Errorf("chunk list of %q: %w", shorten(e.Path), err))
				return
			}
			for _, page := range pages[:len(want)] {
				for _, id := range page {
					if !yield(id, nil) {
						return
					}
				}
			}
		}
	}
}

// readIDs reads pages of ids, the first being number at of the entry's.
func readIDs(ctx context.Context, chunks Chunks, e *Entry, at int, want []pack.ChunkID, pages [][]pack.ChunkID) error {
	for i := range pages {
		pages[i] = pages[i][:0]
	}
	err := chunks.Read(ctx, want, func(i int, data []byte) error {
		if err := checkIDPage(e, at+i, len(data)); err != nil {
			return fmt.Errorf("page %s: %w: %w", want[i], err, storage.ErrCorrupt)
		}
		pages[i] = appendIDs(pages[i][:0], data)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range pages {
		if len(pages[i]) == 0 {
			return fmt.Errorf("page %s did not come: %w", want[i], storage.ErrNotFound)
		}
	}
	return nil
}

// checkIDPage checks the length of the page of ids with a number: full, but for
// the last, which makes up the number of chunks that the file must have.
func checkIDPage(e *Entry, number, length int) error {
	if length == 0 || length%idLen != 0 || length > PageIDs*idLen {
		return fmt.Errorf("%d bytes of chunk ids", length)
	}
	if number < len(e.Chunks)-1 {
		if length != PageIDs*idLen {
			return fmt.Errorf("%d bytes of chunk ids before the last page", length)
		}
		return nil
	}
	total := int64(number)*PageIDs + int64(length/idLen)
	if least, most := e.chunkCount(); total < least || total > most || total <= InlineIDs {
		return fmt.Errorf("%d chunks for %d bytes", total, e.Size)
	}
	return nil
}

// IDs collects the chunk ids of a file: few of them for its entry, many into
// pages of ids. It holds one page, and the ids of the pages before.
type IDs struct {
	put   Put
	page  []byte
	pages []pack.ChunkID
}

// NewIDs makes a collector that stores pages with put, as metadata chunks.
func NewIDs(put func(page []byte) (pack.ChunkID, error)) *IDs { return &IDs{put: put} }

// Add appends the id of the file's next chunk.
func (c *IDs) Add(id pack.ChunkID) error {
	c.page = append(c.page, id[:]...)
	if len(c.page) == PageIDs*idLen {
		return c.flush()
	}
	return nil
}

func (c *IDs) flush() error {
	id, err := c.put(c.page)
	if err != nil {
		return fmt.Errorf("store page %d of chunk ids: %w", len(c.pages), err)
	}
	c.pages, c.page = append(c.pages, id), c.page[:0]
	return nil
}

// Finish sets Chunks and IDPages of the file's entry, and is ready for the next
// file. It re-uses the capacity of e.Chunks.
func (c *IDs) Finish(e *Entry) error {
	e.Chunks, e.IDPages = e.Chunks[:0], false
	if len(c.pages) == 0 && len(c.page) <= InlineIDs*idLen {
		e.Chunks = appendIDs(e.Chunks, c.page)
		c.page = c.page[:0]
		return nil
	}
	if len(c.page) > 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	e.Chunks, e.IDPages = append(e.Chunks, c.pages...), true
	c.pages = c.pages[:0]
	return nil
}

// Reset forgets the ids added since the last Finish: the file is given up.
func (c *IDs) Reset() { c.page, c.pages = c.page[:0], c.pages[:0] }
