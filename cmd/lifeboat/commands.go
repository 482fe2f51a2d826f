package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
)

// commands is the list of all commands; each is written in a file of its own.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.initCommand(),
		a.backupCommand(),
		a.snapshotsCommand(),
		a.lsCommand(),
		a.findCommand(),
		a.diffCommand(),
		a.catCommand(),
		a.statsCommand(),
		a.restoreCommand(),
		a.replicateCommand(),
		a.drillCommand(),
		a.daemonCommand(),
		a.statusCommand(),
		a.checkCommand(),
		a.keyCommand(),
		a.hostCommand(),
		a.configCommand(),
		a.versionCommand(),
		a.completionCommand(),
	}
}

// root is the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lifeboat",
		Short: "Keep volumes safe in several regions, bring them back, and prove it",
		Example: "  lifeboat status\n" +
			"  lifeboat backup --all\n" +
			"  lifeboat restore files --to ./out --repo file:///mnt/dr --identity-file kit.txt",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              a.unknownCommand,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	addGlobalFlags(root.PersistentFlags())
	a.completeGlobalFlags(root)
	root.AddCommand(a.commands()...)
	root.SetHelpCommand(a.helpCommand())
	root.RunE = func(c *cobra.Command, _ []string) error {
		if a.opt.isJSON() {
			return &Fail{Code: Usage, Message: "which command?", Hint: "see: lifeboat help"}
		}
		return c.Help()
	}
	for _, c := range append(descendants(root), root) {
		a.finishCommand(c)
	}
	root.SetHelpFunc(a.help)
	return root
}

// commandNameWidth is the column width of command names in help.
const commandNameWidth = 14

// unknownCommand answers for words that are no command.
func (a *app) unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	hint := "see: " + c.CommandPath() + " --help"
	if s := config.Suggest(args[0], names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return &Fail{Code: Usage, Message: fmt.Sprintf("there is no command %q in %s", args[0], c.CommandPath()), Hint: hint}
}

func descendants(c *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range c.Commands() {
		out = append(append(out, sub), descendants(sub)...)
	}
	return out
}

// finishCommand gives groups of commands (config, key, …) an answer of their own,
// and turns complaints about arguments into usage errors.
func (a *app) finishCommand(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, given []string) error {
			err := args(c, given)
			var fail *Fail
			if err != nil && !errors.As(err, &fail) {
				return a.usage(c, err)
			}
			return err
		}
	}
	if c.HasSubCommands() && c.RunE == nil && c.Run == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := a.unknownCommand(c, args); err != nil {
				return err
			}
			return &Fail{Code: Usage, Message: fmt.Sprintf("%s needs a command", c.CommandPath()), Hint: "see: " + c.CommandPath() + " --help"}
		}
	}
}

// usage is a usage error that points to the command's own help.
func (a *app) usage(c *cobra.Command, err error) *Fail {
	f := usageError(err)
	f.Hint = "see: " + c.CommandPath() + " --help"
	return f
}

// help prints a command's help; under --json as a document.
func (a *app) help(c *cobra.Command, _ []string) {
	a.kind = "help"
	a.outcome = outcome{data: helpText{Text: helpOf(c, a.fullHelp || !c.HasParent())}, ran: true}
}

// helpOf writes the help of a command: examples first. The global flags are
// only in the full form.
func helpOf(c *cobra.Command, full bool) string {
	var b bytes.Buffer
	if examples := examplesOf(c); examples != "" {
		fmt.Fprintf(&b, "Examples:\n%s\n\n", examples)
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", orElse(c.Long, c.Short), usageLine(c))
	if c.HasAvailableSubCommands() {
		fmt.Fprint(&b, "\nCommands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s  %s\n", commandNameWidth, sub.Name(), sub.Short)
			}
		}
	}
	if c.HasAvailableLocalFlags() && c.HasParent() {
		fmt.Fprintf(&b, "\nFlags:\n%s", c.LocalFlags().FlagUsages())
	}
	global := c.Root().PersistentFlags().FlagUsages()
	if full {
		fmt.Fprintf(&b, "\nGlobal flags:\n%s", global)
	} else {
		fmt.Fprintf(&b, "\nGlobal flags are shown by: %s --help\n", c.CommandPath())
	}
	fmt.Fprintf(&b, "\nTopics (lifeboat help TOPIC): %s\n", topicNames())
	return b.String()
}

// examplesOf gives a command's examples; a group shows the first of each of its
// commands.
func examplesOf(c *cobra.Command) string {
	if c.Example != "" {
		return c.Example
	}
	var lines []string
	for _, sub := range c.Commands() {
		if line := firstUpToNewline(sub.Example); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func usageLine(c *cobra.Command) string {
	if c.HasAvailableSubCommands() {
		return c.CommandPath() + " COMMAND"
	}
	return c.UseLine()
}

// helpText is the help of a command or topic.
type helpText struct {
	Text string `json:"text"`
}

func (h helpText) text(p *page) { p.b.WriteString(h.Text) }
