package holdfast

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answerWith waits for a call, then sends the text.
func answerWith(text string) func(*net.UnixConn) {
	return func(conn *net.UnixConn) {
		conn.Read(make([]byte, 4096))
		conn.Write([]byte(text))
		conn.Read(make([]byte, 4096)) // stays until the client goes
	}
}

func TestRepliesThatMakeNoSense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":              "garbage\x00",
		"nothing":              "\x00",
		"no object":            "[1]\x00",
		"no parameters":        `{"parameters":[1]}` + "\x00",
		"a wrong type":         `{"error":7}` + "\x00",
		"wrong parameters":     `{"parameters":{"value":1,"revision":"x"}}` + "\x00",
		"negative revision":    `{"parameters":{"value":1,"revision":-1}}` + "\x00",
		"continues":            `{"parameters":{},"continues":true}` + "\x00",
		"an error continues":   `{"error":"a.b.C","continues":true}` + "\x00",
		"deep":                 strings.Repeat("[", 100000) + "\x00",
		"a message cut off":    `{"parameters":`,
		"two replies to one":   strings.Repeat(`{"parameters":{"value":1,"revision":1}}`+"\x00", 2),
		"endless":              strings.Repeat(" ", MessageBytesMax+1<<20),
		"no reply to the call": "",
	} {
		name, text := name, text
		t.Run(name, func(t *testing.T) {
			client := played(t, func(conn *net.UnixConn) {
				conn.Read(make([]byte, 4096))
				conn.Write([]byte(text))
				if strings.HasPrefix(name, "a message cut") || name == "no reply to the call" {
					return
				}
				conn.Read(make([]byte, 4096))
			})
			_, _, err := client.Get(testContext(t), "a", "k")
			if name == "two replies to one" {
				eventually(t, "the second reply ends the connection", func() bool { return client.current.dead.Load() })
			} else if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrConnectionLost) {
				t.Fatal(err)
			}
			// One that continues and then says nothing is a stream so far.
			ctx, cancel := context.WithTimeout(testContext(t), 200*time.Millisecond)
			defer cancel()
			err = client.ListAll(ctx, "a", ListOptions{}, func(Entry) error { return nil })
			if err == nil && !strings.Contains(text, "value") {
				t.Fatal("that was taken for a listing")
			}
		})
	}
}

func TestADaemonThatSaysNothing(t *testing.T) {
	client := played(t, answerWith(""))
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if _, _, err := client.Get(ctx, "a", "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if err := client.ListAll(ctx, "a", ListOptions{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// A daemon that reads nothing must not have the client gather calls without end.
func TestADaemonThatReadsNothing(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	client := played(t, func(*net.UnixConn) { <-stop })
	value := json.RawMessage(`"` + strings.Repeat("x", 8<<20) + `"`)
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	for i := 0; i < 8; i++ {
		if _, err := client.Put(ctx, "a", "k", value); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(testContext(t), time.Millisecond)
		defer cancel()
	}
	client.current.lock.Lock()
	defer client.current.lock.Unlock()
	if client.current.bytes > 2*unsentBytesMax {
		t.Fatalf("%d bytes wait", client.current.bytes)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

// A descriptor to hand out.
var devNull, _ = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)

// withFiles answers each call with the text and so many descriptors.
func withFiles(text string, count int) func(*net.UnixConn) {
	return func(conn *net.UnixConn) {
		buffer := make([]byte, 4096)
		for {
			if n, err := conn.Read(buffer); err != nil || !bytes.HasSuffix(buffer[:n], []byte{0}) {
				return
			}
			descriptors := make([]int, count)
			for i := range descriptors {
				descriptors[i] = devNull
			}
			conn.WriteMsgUnix([]byte(text), syscall.UnixRights(descriptors...), nil)
		}
	}
}

const openReply = `{"parameters":{"fileDescriptor":0,"arena":{"name":"a"}}}` + "\x00"

func TestDescriptorsThatMakeNoSense(t *testing.T) {
	plain := `{"parameters":{"value":1,"revision":1}}` + "\x00"
	wrongIndex := strings.Replace(openReply, ":0", ":3", 1)
	for name, c := range map[string]struct {
		serve func(*net.UnixConn)
		call  func(*Client) error
	}{
		"beside a reply without": {withFiles(plain, 1), func(c *Client) error {
			_, _, err := c.Get(testContext(t), "a", "k")
			return err
		}},
		"more than there should be": {withFiles(openReply, 2), openIt(t)},
		"very many":                 {withFiles(openReply, 200), openIt(t)},
		"none":                      {answerWith(openReply), openIt(t)},
		"of another index":          {withFiles(wrongIndex, 1), openIt(t)},
		"in a stream": {withFiles(plain, 1), func(c *Client) error {
			return c.Stream(testContext(t), "List", nil, func(json.RawMessage) error { return nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			client := played(t, c.serve)
			err := c.call(client)
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrConnectionLost) {
				t.Fatal(err)
			}
			client.Close()
		})
	}
}

func openIt(t *testing.T) func(*Client) error {
	return func(c *Client) error {
		_, _, err := c.OpenArena(testContext(t), "a")
		return err
	}
}

func TestDescriptorsDoNotLeak(t *testing.T) {
	client := played(t, withFiles(openReply, 2))
	open := func() { openIt(t)(client) }
	open()
	before := openFiles(t)
	for i := 0; i < 50; i++ {
		open()
	}
	eventually(t, "descriptors are closed", func() bool { return openFiles(t) <= before+4 })
}
