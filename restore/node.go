package restore

import (
	"container/list"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A node is a directory of the target, or a file that is being written. It can be
// opened again through its parents when its descriptor had to be given up.
type node struct {
	parent *node // nil for the target itself
	name   string
	flags  int // to open it with

	// Guarded by handles.mu.
	fd   int // -1: closed
	pins int
	id   identity // of the first open; zero before
	used *list.Element
}

// handles keeps a bounded number of descriptors of nodes open: the least recently
// used one that nobody holds is closed first. The target itself always stays open.
type handles struct {
	mu    sync.Mutex
	order list.List // of *node, most recently used first
	most  int
}

func newNode(parent *node, name string, flags int) *node {
	return &node{parent: parent, name: name, flags: flags, fd: -1}
}

var errSwapped = errors.New("it was replaced while it was being restored")

// hold gives the node's descriptor, which stays open until release.
func (h *handles) hold(n *node) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(n); err != nil {
		return -1, err
	}
	n.pins++
	return n.fd, nil
}

func (h *handles) release(n *node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n.pins--
	h.trim()
}

// open opens a node, and before it those of its parents that are closed, top down.
func (h *handles) open(n *node) error {
	if n.fd >= 0 {
		if n.used != nil {
			h.order.MoveToFront(n.used)
		}
		return nil
	}
	closed := []*node{n}
	for p := n.parent; p != nil && p.fd < 0; p = p.parent {
		closed = append(closed, p)
	}
	for i := len(closed) - 1; i >= 0; i-- {
		if err := h.openOne(closed[i]); err != nil {
			return err
		}
	}
	return nil
}

// openOne opens a node whose parent is open.
func (h *handles) openOne(n *node) error {
	fd, err := openAt(n.parent.fd, n.name, n.flags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", n.name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fmt.Errorf("stat %q: %w", n.name, err)
	}
	if id := identityOf(&st); n.id == (identity{}) {
		n.id = id
	} else if n.id != id {
		unix.Close(fd)
		return fmt.Errorf("open %q: %w", n.name, errSwapped)
	}
	n.fd = fd
	n.used = h.order.PushFront(n)
	n.pins++ // not to be closed by its own coming
	h.trim()
	n.pins--
	return nil
}

// adopt takes over a descriptor of a node that was just made, and holds it.
func (h *handles) adopt(n *node, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n.fd, n.id, n.pins = fd, identityOf(&st), 1
	n.used = h.order.PushFront(n)
	h.trim()
	return nil
}

// trim closes what is too much, as far as it is not held.
func (h *handles) trim() {
	for e := h.order.Back(); e != nil && h.order.Len() > h.most; {
		n, before := e.Value.(*node), e.Prev()
		if n.pins == 0 {
			h.shut(n)
		}
		e = before
	}
}

func (h *handles) shut(n *node) {
	unix.Close(n.fd)
	n.fd = -1
	h.order.Remove(n.used)
	n.used = nil
}

// drop closes a node's descriptor, which nobody holds.
func (h *handles) drop(n *node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n.fd >= 0 && n.used != nil {
		h.shut(n)
	}
}

// closeAll closes everything but the target, at the end of a run.
func (h *handles) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.order.Front(); e != nil; e = h.order.Front() {
		h.shut(e.Value.(*node))
	}
}
