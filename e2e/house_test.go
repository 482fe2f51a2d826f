package e2e

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lifeboat/e2e/internal/harness"
)

// mayImport is the layers of docs/design.md: what each package may use of ours.
// A package that is not listed may not exist; add it here, in its layer.
func mayImport() map[string][]string {
	return map[string][]string{
		// Ground: places, forms, the file.
		"storage":         {},
		"storage/durable": {},
		"config":          {},
		"storage/dir":     {"storage", "storage/durable"},
		"storage/s3":      {"storage"},
		"storage/seal":    {"storage"},
		"storage/pack":    {"storage", "storage/seal"},
		"storage/index":   {"storage", "storage/durable", "storage/seal", "storage/pack"},
		"storage/journal": {"storage", "storage/seal"},
		// The repository over its regions.
		"storage/repo": {"storage", "storage/durable", "storage/seal", "storage/pack", "storage/index", "storage/journal"},
		// What a snapshot is made of.
		"snapshot/chunk":         {"storage/pack"},
		"snapshot/catalog":       {"storage", "storage/pack", "snapshot/chunk"},
		"snapshot/source/volume": {"snapshot/catalog"},
		// Verbs.
		"snapshot": {
			"storage", "storage/durable", "storage/pack", "storage/repo", "snapshot/chunk", "snapshot/catalog", "snapshot/source/volume",
		},
		// Its scrub opens frames and names the snapshots and paths that damage affects.
		"replicate": {
			"storage", "storage/durable", "storage/seal", "storage/pack", "storage/index", "storage/journal", "storage/repo", "snapshot/chunk", "snapshot/catalog",
		},
		"restore": {
			"storage", "storage/durable", "storage/pack", "storage/repo", "snapshot/chunk", "snapshot/catalog",
		},
		"restore/drill":     {"storage", "storage/pack", "storage/journal", "storage/repo", "snapshot/catalog", "restore"},
		"restore/readiness": {"storage", "storage/journal", "storage/repo"},
		// The program. Only it reads config, and nobody imports it.
		"cmd/lifeboat/daemon": {"storage/durable"},
		"cmd/lifeboat": {
			"config", "storage", "storage/durable", "storage/dir", "storage/s3", "storage/seal", "storage/pack", "storage/index", "storage/journal",
			"storage/repo", "snapshot", "snapshot/chunk", "snapshot/catalog", "snapshot/source/volume", "replicate", "restore", "restore/drill",
			"restore/readiness", "cmd/lifeboat/daemon",
		},
		// For tests only.
		"storage/storetest": {"storage"},
		"storage/s3/s3test": {"storage", "storage/s3"},
	}
}

// testOnly packages are imported by _test.go files alone.
func testOnly() []string { return []string{"storage/storetest", "storage/s3/s3test"} }

// topLevel is all that the top of the repository may hold.
func topLevel() []string {
	return []string{
		".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "cmd", "config", "deploy", "docs", "e2e", "go.mod", "go.sum",
		"replicate", "restore", "snapshot", "storage",
	}
}

const (
	fileLinesMost     = 600
	functionLinesLong = 70   // hardly any function is longer
	functionLinesP90  = 40   // nine of ten are not longer
	functionShareLong = 0.03 // of all functions
	interfaceMost     = 6    // methods
)

// source is one Go file of the product's module.
type source struct {
	pkg  string // folder under the top
	name string // path under the top
	text []byte
	file *ast.File
	set  *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

// imports maps the name that each import has in the file to its path.
func (s source) imports() map[string]string {
	all := map[string]string{}
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		all[name] = p
	}
	return all
}

// sources parses every Go file under the top. Nested modules are left out
// unless they are asked for.
func sources(t *testing.T, nested bool) []source {
	t.Helper()
	top, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var all []source
	err = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, p)
		switch {
		case d.IsDir() && (name == "bin" || name == "demo" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && name != "."):
			return fs.SkipDir
		case d.IsDir() && !nested && name == "e2e":
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.Dir(name), name, text, file, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("found no Go files")
	}
	return all
}

func TestImportsPointDown(t *testing.T) {
	allowed := mayImport()
	for pkg, list := range allowed {
		for _, imp := range list {
			if slices.Contains(allowed[imp], pkg) {
				t.Errorf("the table itself has a circle: %s and %s", pkg, imp)
			}
		}
	}
	for _, s := range sources(t, false) {
		list, known := allowed[s.pkg]
		if !known {
			t.Errorf("%s: package %s is in no layer (mayImport in e2e/house_test.go, docs/design.md)", s.name, s.pkg)
		}
		for _, full := range s.imports() {
			imp, ours := strings.CutPrefix(full, "lifeboat/")
			switch {
			case !ours:
			case strings.HasPrefix(imp, "e2e"):
				t.Errorf("%s imports %s: e2e is above all", s.name, imp)
			case s.isTest(): // a test may reach further, as long as the compiler finds no circle
			case slices.Contains(testOnly(), imp):
				t.Errorf("%s imports %s, which is for tests only", s.name, imp)
			case !slices.Contains(list, imp):
				t.Errorf("%s: %s must not import %s (docs/design.md, layers)", s.name, s.pkg, imp)
			}
		}
	}
}

// TestVerbsAreStrangers holds one line of the table on its own, since it is the
// one that is tempting to change.
func TestVerbsAreStrangers(t *testing.T) {
	verbs := []string{"snapshot", "replicate", "restore"}
	for pkg, list := range mayImport() {
		verb, _, _ := strings.Cut(pkg, "/")
		if !slices.Contains(verbs, verb) {
			continue
		}
		for _, imp := range list {
			if slices.Contains(verbs, imp) && imp != verb {
				t.Errorf("%s may import %s: verbs meet in stored objects only", pkg, imp)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	comment := map[string]string{}
	for _, s := range sources(t, true) {
		if s.isTest() {
			continue
		}
		comment[s.pkg] += s.file.Doc.Text()
	}
	for pkg, text := range comment {
		if !strings.HasPrefix(text, "Package ") && !strings.HasPrefix(text, "Command ") {
			t.Errorf("%s has no package comment that says its job and what it does not do", pkg)
		}
	}
}

// TestWorldComesFromOutside: the clock, the environment, the log and the exit
// belong to the program; libraries are given values, functions and callbacks.
func TestWorldComesFromOutside(t *testing.T) {
	banned := map[string][]string{
		"time":    {"Now", "Since", "Until"},
		"os":      {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Exit"},
		"syscall": {"Getenv", "Environ", "Exit"},
	}
	for _, s := range sources(t, false) {
		if s.isTest() || strings.HasPrefix(s.pkg, "cmd/") || slices.Contains(testOnly(), s.pkg) {
			continue
		}
		imports := s.imports()
		for _, imp := range imports {
			if imp == "log" || imp == "log/slog" {
				t.Errorf("%s imports %s: libraries report events, the program logs", s.name, imp)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(banned[imports[x.Name]], sel.Sel.Name) {
				t.Errorf("%s uses %s.%s: only cmd may", s.at(n), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestNoHiddenState(t *testing.T) {
	for _, s := range sources(t, false) {
		if s.isTest() {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: init() runs behind everybody's back", s.at(d))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec)
					if !isConstantLike(d, v) {
						t.Errorf("%s: package-level variable %s is neither an error nor embedded", s.at(v), v.Names[0])
					}
				}
			}
		}
	}
}

// isConstantLike accepts errors, assertions (var _ = …) and embedded files.
func isConstantLike(d *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, c := range []*ast.CommentGroup{d.Doc, v.Doc} {
		if c != nil && slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
			return true
		}
	}
	if !slices.ContainsFunc(v.Names, func(n *ast.Ident) bool { return n.Name != "_" }) {
		return true
	}
	return len(v.Values) > 0 && !slices.ContainsFunc(v.Values, func(e ast.Expr) bool { return !isError(e) })
}

// isError tells whether an expression makes an error: errors.New, fmt.Errorf, a
// call that marks one, or a value of an error type.
func isError(e ast.Expr) bool {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	var of ast.Expr
	switch e := e.(type) {
	case *ast.CallExpr:
		of = e.Fun
		for _, a := range e.Args {
			if isError(a) {
				return true // such as Temporary(errors.New("…"))
			}
		}
	case *ast.CompositeLit:
		of = e.Type
	}
	switch of := of.(type) {
	case *ast.SelectorExpr:
		x, ok := of.X.(*ast.Ident)
		return ok && (x.Name == "errors" && of.Sel.Name == "New" || x.Name == "fmt" && of.Sel.Name == "Errorf" || isErrorName(of.Sel.Name))
	case *ast.Ident:
		return isErrorName(of.Name)
	}
	return false
}

func isErrorName(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "err") || strings.HasSuffix(name, "error") || strings.HasSuffix(name, "err")
}

func TestNoSleepingTests(t *testing.T) {
	for _, s := range sources(t, true) {
		imports := s.imports()
		if !s.isTest() || slices.Contains(mapValues(imports), "testing/synctest") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && imports[x.Name] == "time" {
				t.Errorf("%s sleeps for luck: poll with a deadline, or use testing/synctest", s.at(n))
			}
			return true
		})
	}
}

func mapValues(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestFormatted(t *testing.T) {
	for _, s := range sources(t, true) {
		good, err := format.Source(s.text)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(good, s.text) {
			t.Errorf("%s is not formatted (gofmt -w)", s.name)
		}
	}
}

// TestSizes: the habits of good code, with room for the exception.
func TestSizes(t *testing.T) {
	var lengths []int
	for _, s := range sources(t, false) {
		if s.isTest() {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > fileLinesMost {
			t.Errorf("%s has %d lines, more than %d: is it two things?", s.name, n, fileLinesMost)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil {
					lines := s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
					lengths = append(lengths, lines)
					if lines > functionLinesLong {
						t.Logf("%s: %s has %d lines", s.at(n), n.Name, lines)
					}
				}
			case *ast.InterfaceType:
				if n.Methods != nil && len(n.Methods.List) > interfaceMost {
					t.Errorf("%s: an interface of %d methods", s.at(n), len(n.Methods.List))
				}
			}
			return true
		})
	}
	slices.Sort(lengths)
	long := len(lengths) - slices.IndexFunc(append(lengths, functionLinesLong+1), func(n int) bool { return n > functionLinesLong })
	if share := float64(long) / float64(len(lengths)); share > functionShareLong {
		t.Errorf("%d of %d functions have more than %d lines", long, len(lengths), functionLinesLong)
	}
	if p90 := lengths[len(lengths)*9/10]; p90 > functionLinesP90 {
		t.Errorf("nine of ten functions have up to %d lines, more than %d", p90, functionLinesP90)
	}
}

// TestExportedNamesAreDocumented: a name that others use says what it promises.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t, false) {
		if s.isTest() || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && receiverExported(d) && !isCommonMethod(d) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name)
				}
			case *ast.GenDecl:
				undocumented(t, s, d)
			}
		}
	}
}

// undocumented reports exported types, constants and variables without words,
// be they above, beside, over the group, or in a neighbour's comment. The
// values of an enumeration are explained by its type.
func undocumented(t *testing.T, s source, d *ast.GenDecl) {
	said := ""
	for _, spec := range d.Specs {
		if v, ok := spec.(*ast.ValueSpec); ok {
			if v.Type != nil && d.Tok == token.CONST {
				return
			}
			said += " " + v.Doc.Text()
		}
	}
	for _, spec := range d.Specs {
		switch v := spec.(type) {
		case *ast.TypeSpec:
			if v.Name.IsExported() && d.Doc == nil && v.Doc == nil && v.Comment == nil {
				t.Errorf("%s: type %s has no comment", s.at(v), v.Name)
			}
		case *ast.ValueSpec:
			name := v.Names[0].Name
			if ast.IsExported(name) && d.Doc == nil && v.Doc == nil && v.Comment == nil && !slices.Contains(strings.Fields(said), name) {
				t.Errorf("%s: %s has no comment", s.at(v), name)
			}
		}
	}
}

// isCommonMethod is one whose meaning its interface fixes.
func isCommonMethod(d *ast.FuncDecl) bool {
	common := []string{"String", "GoString", "Error", "Unwrap", "Is", "Len", "Less", "Swap", "MarshalText", "MarshalJSON", "UnmarshalText", "UnmarshalJSON", "UnmarshalYAML", "MarshalYAML", "Read", "Write", "Close"}
	return d.Recv != nil && slices.Contains(common, d.Name.Name)
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	id, ok := of.(*ast.Ident)
	return ok && id.IsExported()
}
