package journal

import (
	"encoding/hex"
	"fmt"
	"slices"
)

// CheckChain looks at one instance's statements, in order of sequence, and
// reports gaps and breaks. A gap is no proof of harm: a region that was away
// lacks what was said meanwhile. It is a reason to doubt, to ask the other
// regions, and never to delete.
func CheckChain(statements []*Signed) []error {
	slices.SortFunc(statements, func(a, b *Signed) int { return int(min(max(int64(a.Seq)-int64(b.Seq), -1), 1)) })
	var problems []error
	for i := 1; i < len(statements); i++ {
		a, b := statements[i-1], statements[i]
		switch {
		case b.Seq == a.Seq:
			problems = append(problems, fmt.Errorf("writer %.8s instance %.8s: two statements with sequence %d", b.Writer, b.Instance, b.Seq))
		case b.Seq != a.Seq+1:
			problems = append(problems, fmt.Errorf("writer %.8s instance %.8s: statements %d to %d are missing", b.Writer, b.Instance, a.Seq+1, b.Seq-1))
		case b.Prev != hex.EncodeToString(a.Hash[:]):
			problems = append(problems, fmt.Errorf("writer %.8s instance %.8s: statement %d does not follow statement %d", b.Writer, b.Instance, b.Seq, a.Seq))
		}
	}
	return problems
}

// Log numbers and chains the statements of one writer's instance.
type Log struct {
	Writer, Instance string
	Head             Ref // of the last statement
}

// Next fills in the writer, the number and the previous hash of a statement.
func (l *Log) Next(s Statement) Statement {
	s.Writer, s.Instance, s.Seq, s.Prev = l.Writer, l.Instance, l.Head.Seq+1, l.Head.Hash
	return s
}

// Follow moves the head to a statement that was made with Next.
func (l *Log) Follow(s *Signed) { l.Head = s.Ref() }
