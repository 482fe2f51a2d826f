package main

import (
	"context"
	"errors"

	"lifeboat/config"
)

func (a *app) scheduledCheck(context.Context, config.Amount) error { return errors.New("not yet") }
