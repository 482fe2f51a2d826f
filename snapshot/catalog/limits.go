package catalog

import "errors"

// Limits of format version 1, in bytes unless they say otherwise. Encoders and
// decoders hold the same ones.
const (
	PathMax     = 64 << 10 // of a path
	ElementMax  = 4096     // of one element of a path
	DepthMax    = 4096     // elements in a path
	TargetMax   = 64 << 10 // of a symlink's target
	NameMax     = 1024     // of a user or group name
	XattrsMax   = 4096     // attributes of an entry
	XattrKeyMax = 1024     // of an attribute's name
	RangesMax   = 16384    // data ranges of a file
	EntryMax    = 1 << 20  // of an encoded entry
	PageMax     = 4 << 20  // of a page

	InlineIDs = 256  // chunks of a file whose ids stand in its entry; with more, they go to pages of ids
	PageIDs   = 2048 // ids in a page of ids

	// levelMax bounds the height of the page tree. A page above the leaves has two
	// items at least, so a million million entries stay far below.
	levelMax = 48

	pageSoft  = 64 << 10  // from here on, a page ends where the path's hash says so
	pageHard  = 256 << 10 // from here on, it ends
	cutOneIn  = 512       // paths, on average, from one possible page end to the next
	pagesRead = 16        // pages asked for at once
)

// A page that is full but for one byte takes another entry and still fits.
const _ = uint(PageMax - pageHard - EntryMax - pageHeadMax)

// ErrInvalid means that an entry must not be written: it breaks the rules of the
// package comment, or its turn in the order has passed. The catalog is as it was.
var ErrInvalid = errors.New("invalid catalog entry")
