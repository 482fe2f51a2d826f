package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/config"
)

// topicNames lists the help topics.
func topicNames() string { return strings.Join(topics(), ", ") }

func topics() []string { return []string{"environment", "exit-codes", "json", "secrets", "times"} }

// helpCommand answers for commands and topics.
func (a *app) helpCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "help [COMMAND | TOPIC]", Short: "Help about a command or topic",
		Long:    "Help about a command, or about a topic: " + topicNames() + ".",
		Example: "  lifeboat help restore\n  lifeboat help exit-codes\n  lifeboat help times",
	}
	c.ValidArgsFunction = func(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		words := topics()
		for _, sub := range c.Root().Commands() {
			words = append(words, sub.Name())
		}
		var out []string
		for _, w := range words {
			if strings.HasPrefix(w, prefix) {
				out = append(out, w)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.begin(c); err != nil {
			return err
		}
		return a.helpFor(c.Root(), args)
	}
	return c
}

func (a *app) helpFor(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		a.help(root, nil)
		return nil
	}
	if target, rest, err := root.Find(args); err == nil && len(rest) == 0 && target != root {
		a.help(target, nil)
		return nil
	}
	if len(args) == 1 {
		if data, ok := topic(args[0]); ok {
			a.kind = "help"
			a.outcome = outcome{data: data, ran: true}
			return nil
		}
	}
	words := topics()
	for _, sub := range root.Commands() {
		words = append(words, sub.Name())
	}
	hint := "topics: " + topicNames()
	if s := config.Suggest(args[len(args)-1], words); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return &Fail{Code: Usage, Message: fmt.Sprintf("there is no help about %q", strings.Join(args, " ")), Hint: hint}
}

func topic(name string) (any, bool) {
	switch name {
	case "environment":
		return helpText{Text: topicEnvironment}, true
	case "exit-codes":
		return exitCodes{Codes: codeTable()}, true
	case "json":
		return helpText{Text: topicJSON}, true
	case "secrets":
		return helpText{Text: topicSecrets}, true
	case "times":
		return helpText{Text: topicTimes}, true
	}
	return nil, false
}

// exitCodes is the table of exit codes as a help topic.
type exitCodes struct {
	Codes []codeInfo `json:"exit_codes"`
}

func (e exitCodes) text(p *page) {
	t := newTable(">CODE", "NAME", "AGAIN?", "MEANING")
	for _, row := range e.Codes {
		t.row(fmt.Sprint(int(row.Code)), row.Name, orElse(row.Retry, p.none()), row.Meaning)
	}
	p.table(t)
	p.line("")
	p.line("Any other code is a failure. Code 2 is never returned on purpose: it is how a Go program crashes.")
	p.line("If several apply, the first of 12, 15, 4, 3, 6, 5 is returned; all causes are in the JSON.")
}
