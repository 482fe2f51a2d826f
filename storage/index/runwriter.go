package index

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

const writeBuffer = 256 << 10 // bytes

// runWriter writes a run from front to end. Errors stick: the first one comes
// out of finish.
type runWriter struct {
	runFile
	file   *os.File
	out    *bufio.Writer
	block  [blockSize]byte
	fill   int
	cur    table
	fenced bool
	filter filterBuilder
	groups []storedGroup
	fuses  uint32 // bytes of all fingerprints
	err    error
}

type storedGroup struct{ keys, keyCount, aux, auxBytes uint32 }

// createRun makes the file of a new run. It belongs to nobody until the state
// file names it, so it needs no other name while it is being written.
func createRun(path string, id uint64) (*runWriter, error) {
	if id >= runsMax {
		return nil, fmt.Errorf("create %s: out of numbers", runName(id))
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", runName(id), err)
	}
	w := &runWriter{file: file, out: bufio.NewWriterSize(file, writeBuffer)}
	w.id, w.nonce = id, newNonce()
	n := copy(w.block[:], runMagic)
	binary.LittleEndian.PutUint64(w.block[n:], w.nonce)
	w.fill = blockPayload
	w.flushBlock()
	return w, nil
}

// newNonce draws a random number.
func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// flushBlock writes the current block, if anything is in it.
func (w *runWriter) flushBlock() {
	if w.fill == 0 {
		return
	}
	if w.blocks >= blocksMax {
		w.fail(fmt.Errorf("more than %d blocks", blocksMax))
		return
	}
	sealBlock(w.block[:], w.nonce, w.blocks)
	if w.err == nil {
		_, err := w.out.Write(w.block[:])
		w.fail(err)
	}
	clear(w.block[:])
	w.fill = 0
	w.blocks++
}

func (w *runWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// begin starts a table of entries of size bytes.
func (w *runWriter) begin(size uint32, fenced bool) {
	w.cur = table{first: w.blocks, size: size, fences: w.cur.fences[:0]}
	w.fenced = fenced
}

// put gives the space of the table's next entry; prefix is its first eight bytes.
func (w *runWriter) put(prefix uint64) []byte {
	if w.fill+int(w.cur.size) > blockPayload {
		w.flushBlock()
	}
	if w.fill == 0 && w.fenced {
		w.cur.fences = append(w.cur.fences, prefix)
	}
	entry := w.block[w.fill:][:w.cur.size]
	w.fill += int(w.cur.size)
	w.cur.count++
	return entry
}

// end closes the table. Its fences are good until the next begin.
func (w *runWriter) end() table {
	w.flushBlock()
	return w.cur
}

// blob writes bytes across blocks and gives their first block.
func (w *runWriter) blob(data []byte) uint32 {
	first := w.blocks
	for len(data) > 0 {
		n := copy(w.block[:blockPayload], data)
		w.fill, data = n, data[n:]
		w.flushBlock()
	}
	return first
}

// fences writes a table's fences.
func (w *runWriter) fences(t []uint64) uint32 { return w.blob(appendFences(nil, t)) }

func appendFences(dst []byte, fences []uint64) []byte {
	for _, f := range fences {
		dst = binary.BigEndian.AppendUint64(dst, f)
	}
	return dst
}

// key adds the next key of the run's sorted keys. The entry that it returns is
// to be filled; groups end where they are full.
func (w *runWriter) key(prefix uint64) []byte {
	if w.filter.full(prefix) {
		w.endGroup()
		w.begin(keyEntry, true)
	}
	w.filter.add(prefix)
	return w.put(prefix)
}

// endGroup closes a group and writes its fences and filter behind it.
func (w *runWriter) endGroup() {
	t := w.end()
	if t.count == 0 {
		return
	}
	aux := appendFences(nil, t.fences)
	before := len(aux) + filterHead
	aux, err := w.filter.build(aux)
	w.fail(err)
	w.fuses += uint32(len(aux) - before)
	w.groups = append(w.groups, storedGroup{t.first, t.count, w.blob(aux), uint32(len(aux))})
	if len(w.groups) > groupsMax {
		w.fail(fmt.Errorf("more than %d groups", groupsMax))
	}
}

// layout is where a run's tables are.
type layout struct {
	packs, frames, ids, names table
	packFences, nameFences    uint32
}

// finish writes the footer and, when sync, waits until the disk has the file.
// After an error the file is to be removed.
func (w *runWriter) finish(l layout, sync bool) (runFile, error) {
	footer := append(make([]byte, 0, blockPayload), footerMagic...)
	for _, t := range []table{l.packs, l.frames, l.ids, l.names} {
		footer = binary.LittleEndian.AppendUint32(footer, t.first)
		footer = binary.LittleEndian.AppendUint32(footer, t.count)
	}
	for _, v := range []uint32{l.packFences, l.nameFences, l.ids.count, uint32(len(w.groups)), w.fuses} {
		footer = binary.LittleEndian.AppendUint32(footer, v)
	}
	for _, g := range w.groups {
		for _, v := range []uint32{g.keys, g.keyCount, g.aux, g.auxBytes} {
			footer = binary.LittleEndian.AppendUint32(footer, v)
		}
	}
	if len(footer) <= blockPayload {
		w.blob(footer)
	}
	w.fail(w.out.Flush())
	if sync && w.err == nil {
		w.fail(w.file.Sync())
	}
	if err := errors.Join(w.err, w.file.Close()); err != nil {
		return runFile{}, fmt.Errorf("write %s: %w", runName(w.id), err)
	}
	return w.runFile, nil
}

// abort closes the file of a run that will not be.
func (w *runWriter) abort() { _ = w.file.Close() } // the caller removes it
