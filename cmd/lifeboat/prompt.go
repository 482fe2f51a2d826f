package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"lifeboat/config"
)

// answerBytesMax bounds what is read as one answer.
const answerBytesMax = 4096

// canPrompt reports whether a person can be asked.
func (a *app) canPrompt() bool {
	return !a.opt.NoInput && !a.opt.isJSON() && a.isTTY(a.stdin) && a.isTTY(a.stderr)
}

// confirm asks an ordinary question; --yes answers it.
func (a *app) confirm(question string) error {
	if a.opt.Yes {
		return nil
	}
	if !a.canPrompt() {
		return &Fail{Code: Usage, Message: "a confirmation is needed: " + question, Hint: "answer it with --yes"}
	}
	answer, err := a.ask(question + " [y/N] ")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return &Fail{Code: TargetRefused, Message: "not confirmed; nothing was changed", Hint: "answer y, or give --yes"}
}

// confirmName asks for the name of what will be replaced or deleted. Only
// --confirm with that name answers it; --yes is not enough.
func (a *app) confirmName(warning, name string) error {
	if a.opt.Confirm != "" {
		if a.opt.Confirm == name {
			return nil
		}
		return &Fail{Code: TargetRefused, Message: fmt.Sprintf("--confirm %s does not name the target, which is %s", a.opt.Confirm, name),
			Hint: "if it is really meant: --confirm " + name}
	}
	if !a.canPrompt() {
		return &Fail{Code: Usage, Message: warning + " needs a confirmation by name", Hint: "if it is really meant: --confirm " + name}
	}
	answer, err := a.ask(fmt.Sprintf("%s. Type %s to continue: ", warning, name))
	if err != nil {
		return err
	}
	if answer != name {
		return &Fail{Code: TargetRefused, Message: "the name does not match; nothing was changed", Hint: "type " + name + ", or give --confirm " + name}
	}
	return nil
}

// ask prints a question on stderr and reads one line.
func (a *app) ask(question string) (string, error) {
	a.progress.print(a.stderr, question)
	line, err := bufio.NewReader(io.LimitReader(a.stdin, answerBytesMax)).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", &Fail{Code: Usage, Message: "no answer was given", Hint: "answer the question, or use the flag that answers it", Err: err}
	}
	return strings.TrimSpace(line), nil
}

// passphrase reads the passphrase of an identity: from --passphrase-file, else
// from the terminal without echo.
func (a *app) passphrase(what string) (config.Secret, error) {
	if a.opt.PassphraseFile != "" {
		data, err := config.ReadSecretFile(a.opt.PassphraseFile, a.getenv)
		if err != nil {
			return config.Secret{}, &Fail{Code: Usage, Message: fmt.Sprintf("read passphrase: %v", err), Hint: "name the file with --passphrase-file", Err: err}
		}
		return config.NewSecret([]byte(strings.TrimRight(string(data), "\r\n"))), nil
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !a.canPrompt() {
		return config.Secret{}, &Fail{Code: Usage, Message: what + " is protected by a passphrase", Hint: "give it with --passphrase-file FILE"}
	}
	a.progress.print(a.stderr, "Passphrase of "+what+": ")
	data, err := term.ReadPassword(int(f.Fd()))
	a.progress.print(a.stderr, "\n")
	if err != nil {
		return config.Secret{}, fmt.Errorf("read passphrase: %w", err)
	}
	return config.NewSecret(data), nil
}
