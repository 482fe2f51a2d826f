package main

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// scriptData is the result of completion.
type scriptData struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func (d scriptData) text(p *page) { p.b.WriteString(d.Script) }

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	c := &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Generate shell completion",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: shells,
		Example: "  source <(lifeboat completion bash)\n  lifeboat completion zsh > ~/.zfunc/_lifeboat\n  lifeboat completion fish | source",
	}
	return a.handle(c, func(_ context.Context, args []string) (any, bool, error) {
		var b bytes.Buffer
		var err error
		switch root := c.Root(); args[0] {
		case "bash":
			err = root.GenBashCompletionV2(&b, true)
		case "zsh":
			err = root.GenZshCompletion(&b)
		case "fish":
			err = root.GenFishCompletion(&b, true)
		case "powershell":
			err = root.GenPowerShellCompletionWithDesc(&b)
		}
		return scriptData{Shell: args[0], Script: b.String()}, false, err
	})
}

// completeGlobalFlags completes the values of flags that every command has.
func (a *app) completeGlobalFlags(root *cobra.Command) {
	words := map[string][]string{
		"output":     {formatText, formatWide, formatJSON, formatJSONL, formatYAML, formatName},
		"progress":   {"auto", "bar", "plain", "none"},
		"color":      {"auto", "always", "never"},
		"log-format": {"text", "json"},
	}
	for flag, list := range words {
		_ = root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	}
	_ = root.RegisterFlagCompletionFunc("region", a.completeRegions)
}

// completeWorkloads completes workload names from the configuration alone: no
// network, no errors, nothing when the file is not valid.
func (a *app) completeWorkloads(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, prefix, func(cfg *config.Config) (out []string) {
		for _, w := range cfg.Workloads {
			out = append(out, w.Name+"\t"+w.Description)
		}
		return out
	})
}

// completeRegions completes region names.
func (a *app) completeRegions(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, prefix, func(cfg *config.Config) (out []string) {
		for _, r := range cfg.Regions.List {
			out = append(out, r.Name+"\t"+withoutUser(r.URL))
		}
		return out
	})
}

// completeDrills completes drill names.
func (a *app) completeDrills(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, prefix, func(cfg *config.Config) (out []string) {
		for _, d := range cfg.Drills {
			out = append(out, d.Name+"\t"+strings.Join(d.Workloads, ", "))
		}
		return out
	})
}

func (a *app) complete(c *cobra.Command, prefix string, list func(*config.Config) []string) ([]string, cobra.ShellCompDirective) {
	if path, err := c.Flags().GetString("config"); err == nil && path != "" {
		a.opt.Config = path
	} else {
		a.opt.Config = a.getenv(envName("config"))
	}
	file, err := a.configured()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, item := range list(&file.Config) {
		if strings.HasPrefix(item, prefix) {
			out = append(out, strings.TrimSuffix(item, "\t"))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
