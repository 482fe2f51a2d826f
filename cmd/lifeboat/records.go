package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
)

// yamlRecordsMax bounds what -o yaml collects.
const yamlRecordsMax = 100_000

// column of a streamed list: its width is fixed, since later rows are not known.
type column struct {
	title string
	width int  // of a terminal; longer cells push the rest to the right
	right bool // numbers
}

// records streams a long list to stdout in constant memory. The command calls
// add for each record and returns what else belongs into data, as a struct or
// map without the list's field; finish writes the end.
type records struct {
	app     *app
	field   string
	columns []column
	w       *bufio.Writer
	count   int
	kept    []any
}

// records begins the list that data.<field> will hold.
func (a *app) records(field string, columns ...column) *records {
	r := &records{app: a, field: field, columns: columns, w: bufio.NewWriterSize(a.stdout, 64<<10)}
	a.stream = r
	switch a.opt.Output {
	case formatJSON:
		fmt.Fprintf(r.w, `{"schema":%q,"kind":%q,"data":{%q:[`, resultSchema, a.kind, field)
	case formatText, formatWide:
		r.header()
	}
	return r
}

func (r *records) header() {
	titles := make([]string, len(r.columns))
	some := false
	for i, c := range r.columns {
		titles[i] = c.title
		some = some || c.title != ""
	}
	if some {
		r.row(titles)
	}
}

// add prints one record: record for machines, name for -o name, cells for people.
func (r *records) add(record any, name string, cells ...string) error {
	r.count++
	switch r.app.opt.Output {
	case formatName:
		fmt.Fprintln(r.w, name)
	case formatText, formatWide:
		r.row(cells)
	case formatYAML:
		if r.count > yamlRecordsMax {
			return &Fail{Code: Usage, Message: fmt.Sprintf("more than %d records are too many for YAML", yamlRecordsMax), Hint: "use --output jsonl"}
		}
		r.kept = append(r.kept, record)
	default:
		return r.addJSON(record)
	}
	return r.writable()
}

func (r *records) addJSON(record any) error {
	out, err := marshal(record, false)
	if err != nil {
		return err
	}
	if r.app.opt.Output == formatJSON {
		out = bytes.TrimSuffix(out, []byte("\n"))
		if r.count > 1 {
			_ = r.w.WriteByte(',')
		}
	}
	_, _ = r.w.Write(out)
	return r.writable()
}

// writable ends the run when nobody reads stdout any more: a bufio.Writer
// keeps its first error.
func (r *records) writable() error {
	_, err := r.w.Write(nil)
	if isClosedPipe(err) {
		return errClosedPipe
	}
	return err
}

func (r *records) row(cells []string) {
	if !r.app.isTTY(r.app.stdout) {
		for i, cell := range cells {
			if i > 0 {
				_ = r.w.WriteByte('\t')
			}
			_, _ = r.w.WriteString(strings.Map(noTabs, cell))
		}
		_ = r.w.WriteByte('\n')
		return
	}
	for i, cell := range cells {
		c := column{}
		if i < len(r.columns) {
			c = r.columns[i]
		}
		pad := strings.Repeat(" ", max(0, c.width-runewidth.StringWidth(cell)))
		last := i == len(cells)-1
		switch {
		case c.right:
			_, _ = r.w.WriteString(pad + cell)
		case last:
			_, _ = r.w.WriteString(cell)
		default:
			_, _ = r.w.WriteString(cell + pad)
		}
		if !last {
			_, _ = r.w.WriteString("  ")
		}
	}
	_ = r.w.WriteByte('\n')
}

func noTabs(r rune) rune {
	if r == '\t' || r == '\n' {
		return ' '
	}
	return r
}

func (r *records) flush() error {
	err := r.w.Flush()
	if isClosedPipe(err) {
		return errClosedPipe
	}
	return err
}

// end closes the list and writes the rest of the envelope.
func (r *records) end(e envelope) error {
	if r.app.opt.Output == formatJSONL {
		out, err := marshal(e, false)
		if err != nil {
			return err
		}
		_, _ = r.w.Write(out)
		return r.flush()
	}
	rest, err := r.rest(e)
	if err != nil {
		return err
	}
	_, _ = r.w.Write(rest)
	return r.flush()
}

// rest is what follows the records: the other fields of data, then the
// envelope without the fields already written.
func (r *records) rest(e envelope) ([]byte, error) {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return nil, err
	}
	e.Data = nil
	tail, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteByte(']')
	if len(data) > 2 && data[0] == '{' {
		out.WriteByte(',')
		out.Write(data[1:])
	} else {
		out.WriteByte('}')
	}
	out.WriteByte(',')
	out.Write(withoutKeys(tail))
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// withoutKeys drops the opening brace and the fields that the head has written.
func withoutKeys(tail []byte) []byte {
	_, after, _ := bytes.Cut(tail, []byte(`"ok":`))
	after = bytes.Replace(after, []byte(`,"data":null`), nil, 1)
	return append([]byte(`"ok":`), after...)
}

// collected puts the kept records into data, for YAML.
func (r *records) collected(data any) any {
	out := map[string]any{r.field: r.kept}
	raw, err := json.Marshal(data)
	if err != nil {
		return out
	}
	var others map[string]any
	if json.Unmarshal(raw, &others) == nil {
		for k, v := range others {
			out[k] = v
		}
	}
	return out
}
