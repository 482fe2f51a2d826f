package main

import (
	"fmt"
	"net"
)

// notify tells systemd about the state of a service, such as "READY=1" or
// "STATUS=3 jobs at work". Without NOTIFY_SOCKET it does nothing.
func (a *app) notify(state string) error {
	path := a.getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' { // an abstract socket
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
