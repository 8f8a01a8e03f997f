package holdfast

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const testDeadline = 2 * time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

// launch starts a daemon of the test's own, on a directory whose path is short enough for a socket.
func launch(t testing.TB, options ...string) (*Daemon, string) {
	if os.Getenv("HOLDFASTD") == "" {
		t.Skip("HOLDFASTD does not say where the daemon's program is")
	}
	directory, err := os.MkdirTemp("", "holdfast-test-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(directory) })
	return relaunch(t, directory, options...), directory
}

func relaunch(t testing.TB, directory string, options ...string) *Daemon {
	o := LaunchOptions{Options: append([]string{"Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"}, options...)}
	daemon, err := o.Launch(testContext(t), directory)
	check(t, err)
	t.Cleanup(func() { daemon.Stop() })
	return daemon
}

func connect(t testing.TB, daemon *Daemon) *Client {
	client, err := daemon.Connect(testContext(t))
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// arena starts a daemon and makes an arena "a".
func arena(t testing.TB, options ...string) (*Client, *Daemon, string) {
	daemon, directory := launch(t, options...)
	client := connect(t, daemon)
	_, err := client.CreateArena(testContext(t), "a", ArenaOptions{})
	check(t, err)
	return client, daemon, directory
}

func put(t testing.TB, client *Client, key, value string) uint64 {
	t.Helper()
	revision, err := client.Put(testContext(t), "a", key, json.RawMessage(value))
	check(t, err)
	return revision
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, found, expected T, what string) {
	t.Helper()
	if found != expected {
		t.Fatalf("%s is %v, not %v", what, found, expected)
	}
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testDeadline); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// played is a daemon that a test plays: it answers each connection as the function says.
func played(t testing.TB, serve func(conn *net.UnixConn)) *Client {
	directory, err := os.MkdirTemp("", "holdfast-test-")
	check(t, err)
	path := filepath.Join(directory, "socket")
	listener, err := net.Listen("unix", path)
	check(t, err)
	t.Cleanup(func() {
		listener.Close()
		os.RemoveAll(directory)
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.UnixConn))
			}()
		}
	}()
	client, err := Connect(testContext(t), path)
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}
