package catalog

import "iter"

// DataLength counts the bytes of a file that are not holes, given its size and
// its data ranges (nil: no holes).
func DataLength(size int64, data []Range) int64 {
	if data == nil {
		return size
	}
	var n int64
	for _, r := range data {
		n += r.Length
	}
	return n
}

// Pieces yields the pieces of a file that is cut on a fixed grid: of every
// piece that touches data, in order, the part inside the file. The i-th is what
// the i-th chunk of a Fixed entry holds, holes read as zeros.
func Pieces(size int64, piece uint32, data []Range) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for first, last := range pieceRuns(size, piece, data) {
			for i := first; i <= last; i++ {
				offset := i * int64(piece)
				if !yield(Range{Offset: offset, Length: min(int64(piece), size-offset)}) {
					return
				}
			}
		}
	}
}

// PieceCount counts what Pieces yields, without going through it.
func PieceCount(size int64, piece uint32, data []Range) int64 {
	var n int64
	for first, last := range pieceRuns(size, piece, data) {
		n += last - first + 1
	}
	return n
}

// pieceRuns yields the first and last piece number of each data range, without
// the pieces that the range before has touched.
func pieceRuns(size int64, piece uint32, data []Range) iter.Seq2[int64, int64] {
	return func(yield func(first, last int64) bool) {
		if size <= 0 || piece == 0 {
			return
		}
		if data == nil {
			yield(0, (size-1)/int64(piece))
			return
		}
		done := int64(-1)
		for _, r := range data {
			first, last := max(r.Offset/int64(piece), done+1), (r.End()-1)/int64(piece)
			if first > last {
				continue
			}
			if !yield(first, last) {
				return
			}
			done = last
		}
	}
}
