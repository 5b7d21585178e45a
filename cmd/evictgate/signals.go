package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilHangup is for servers. A terminal that goes away ends them as SIGTERM does, in good order, unless nohup has
// them ignore it. A pipe that breaks does not end them: Go ends a program that writes to a broken stdout or stderr
// when it was not told to take notice of SIGPIPE, and so it must for `evictgate review list | head`.
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, func() {}
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
