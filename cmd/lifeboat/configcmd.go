package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
)

// configCommand groups what is about the configuration itself.
func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Check, show and describe the configuration",
		Example: "  lifeboat config check\n  lifeboat config show --origin\n  lifeboat config schema > lifeboat.schema.json",
	}
	c.AddCommand(a.configCheckCommand(), a.configShowCommand(), a.configSchemaCommand())
	return c
}

// checkData is the result of config check.
type checkData struct {
	File     string          `json:"file"`
	Problems config.Problems `json:"problems"`
	Errors   int             `json:"errors"`
	Warnings int             `json:"warnings"`
	Regions  []*onlineRegion `json:"regions,omitempty"` // with --online
}

func (a *app) configCheckCommand() *cobra.Command {
	var strict, online bool
	c := &cobra.Command{
		Use: "check [FILE]", Short: "Validate the configuration", Args: cobra.MaximumNArgs(1),
		Long: "Validate the configuration. Every mistake is reported at once, with line and column.\n" +
			"Exits 78 when there are errors, and with --strict when there are warnings.\n\n" +
			"--online then contacts every region by itself: whether it answers and takes the credentials, holds this\n" +
			"repository, can be written, and what time it has. To find out about writing, the newest trust statement is\n" +
			"put again with the bytes that it has, which changes nothing; --dry-run leaves that out. A region that fails\n" +
			"decides the exit code (15 no answer, 10 no repository, 17 another one, 1 refused); an optional one warns.",
		Example: "  lifeboat config check\n  lifeboat config check ./lifeboat.yaml --online\n  lifeboat config check --strict --json",
	}
	c.Flags().BoolVar(&strict, "strict", false, "take warnings as errors")
	c.Flags().BoolVar(&online, "online", false, "contact every region, too")
	return a.handle(c, func(ctx context.Context, args []string) (any, bool, error) {
		if len(args) == 1 {
			a.opt.Config = args[0]
		}
		data, err := a.checkConfig(strict)
		if data == nil {
			return nil, false, err
		}
		if err == nil && online {
			err = a.goOnline(ctx, data, strict)
		}
		return *data, false, err
	})
}

// checkConfig validates the file alone.
func (a *app) checkConfig(strict bool) (*checkData, error) {
	path, err := a.configPath()
	if err != nil {
		return nil, err
	}
	_, problems, err := config.Load(path)
	if err != nil {
		return nil, &Fail{Code: ConfigInvalid, Message: err.Error(), Hint: "name the file: lifeboat config check FILE", Err: err}
	}
	data := &checkData{File: path, Problems: append(config.Problems{}, problems...)}
	data.Errors, data.Warnings = problems.Count()
	if data.Errors > 0 || (strict && data.Warnings > 0) {
		return data, &Fail{Code: ConfigInvalid, Message: fmt.Sprintf("%s has %s", path, data.counts()),
			Hint: "correct the lines above; a running daemon keeps the configuration that it has"}
	}
	return data, nil
}

// goOnline adds what the regions say.
func (a *app) goOnline(ctx context.Context, data *checkData, strict bool) error {
	rows, err := a.checkOnline(ctx)
	data.Regions = rows
	if err != nil {
		return err
	}
	warnings, err := a.onlineVerdict(rows)
	data.Warnings += warnings
	if err == nil && strict && warnings > 0 {
		err = &Fail{Code: ConfigInvalid, Message: fmt.Sprintf("the regions give %d warnings", warnings), Hint: "they are named above"}
	}
	return err
}

func (d checkData) counts() string {
	plural := func(n int, word string) string {
		if n == 1 {
			return "1 " + word
		}
		return fmt.Sprintf("%d %ss", n, word)
	}
	return plural(d.Errors, "error") + ", " + plural(d.Warnings, "warning")
}

func (d checkData) text(p *page) {
	p.app.printProblems(&p.b, d.Problems)
	if d.Errors > 0 {
		return // the error line says how many
	}
	p.line("%s %s: %s", p.mark(markOK, "ok"), d.File, d.counts())
	for _, o := range d.Regions {
		o.text(p)
	}
}

// printProblems writes one line per problem, for editors and CI; on a terminal
// with the fix and the line itself, unless that may hold a secret.
func (a *app) printProblems(w io.Writer, problems config.Problems) {
	tty := a.isTTY(a.stdout) && a.isTTY(a.stderr)
	var lines []string
	for _, problem := range problems {
		fmt.Fprintln(w, problem)
		if !tty {
			continue
		}
		if problem.Suggestion != "" && !strings.Contains(problem.Message, "did you mean") {
			fmt.Fprintf(w, "       | fix: %s\n", problem.Suggestion)
		}
		if lines == nil {
			lines = readLines(problem.File)
		}
		if problem.Private || problem.Line > len(lines) || problem.Width == 0 {
			continue
		}
		text := strings.ReplaceAll(lines[problem.Line-1], "\t", " ")
		if config.MayHoldSecret(text) {
			continue
		}
		fmt.Fprintf(w, "%6d | %s\n       | %s%s\n", problem.Line, text,
			strings.Repeat(" ", max(problem.Column-1, 0)), strings.Repeat("^", problem.Width))
	}
}

func readLines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return []string{} // the snippet is a courtesy
	}
	return strings.Split(string(data), "\n")
}

// showData is the result of config show.
type showData struct {
	File    string            `json:"file"`
	Config  json.RawMessage   `json:"config"`
	Origins map[string]string `json:"origins,omitempty"`

	lines []setting
}

// setting is one effective value and where it came from.
type setting struct{ path, value, origin string }

func (a *app) configShowCommand() *cobra.Command {
	var origin bool
	var option string
	c := &cobra.Command{
		Use: "show", Short: "Print the effective configuration, secrets as references", Args: cobra.NoArgs,
		Example: "  lifeboat config show\n  lifeboat config show --origin\n  lifeboat config show --option workloads[0].schedule",
	}
	c.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	c.Flags().StringVar(&option, "option", "", "only what lies at or below this `PATH`")
	return a.handle(c, func(context.Context, []string) (any, bool, error) {
		file, err := a.configured()
		if err != nil {
			return nil, false, err
		}
		effective := file.Config
		effective.Paths = config.Paths{State: a.stateDir(), Cache: a.cacheDir()}
		raw, err := json.Marshal(effective)
		if err != nil {
			return nil, false, err
		}
		data := showData{File: file.Name, Config: raw}
		if !origin && option == "" {
			return data, false, nil
		}
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			return nil, false, err
		}
		a.flatten(file, &data, "", tree, option)
		if option != "" && len(data.lines) == 0 {
			return nil, false, &Fail{Code: Usage, Message: fmt.Sprintf("nothing is set at %q", option), Hint: "see the paths with: lifeboat config show --origin"}
		}
		return data, false, nil
	})
}

func (d showData) text(p *page) {
	if d.lines != nil {
		t := newTable("PATH", "VALUE", "ORIGIN")
		for _, s := range d.lines {
			t.row(s.path, s.value, s.origin)
		}
		p.table(t)
		return
	}
	out, err := toYAML(d.Config)
	if err != nil {
		p.line("%v", err)
		return
	}
	p.b.Write(out)
}

// flatten lists the leaves below a value in the order of the file's types.
func (a *app) flatten(file *config.File, data *showData, path string, value any, option string) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			sub := key
			if path != "" {
				sub = path + "." + key
			}
			a.flatten(file, data, sub, v[key], option)
		}
		return
	case []any:
		for i, item := range v {
			a.flatten(file, data, fmt.Sprintf("%s[%d]", path, i), item, option)
		}
		return
	}
	if option != "" && path != option && !strings.HasPrefix(path, option+".") && !strings.HasPrefix(path, option+"[") {
		return
	}
	if data.Origins == nil {
		data.Origins = map[string]string{}
	}
	data.Origins[path] = a.origin(file, path)
	data.lines = append(data.lines, setting{path, fmt.Sprint(value), data.Origins[path]})
}

func (a *app) configSchemaCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema for editors", Args: cobra.NoArgs,
		Example: "  lifeboat config schema > lifeboat.schema.json\n  lifeboat config schema --json\n  lifeboat config schema -o yaml",
	}
	return a.handle(c, func(context.Context, []string) (any, bool, error) {
		raw, err := config.Schema()
		return schemaData{Schema: raw}, false, err
	})
}

// schemaData is the result of config schema.
type schemaData struct {
	Schema json.RawMessage `json:"schema"`
}

func (d schemaData) text(p *page) { p.b.Write(d.Schema) }
