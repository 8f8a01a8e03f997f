package holdfast

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"unicode/utf8"
)

const systemSocket = "/run/holdfast/holdfast.sock"

// Client speaks to one daemon. It may be used by any number of goroutines at once: their calls share a connection and
// are pipelined. Where the connection was lost the next call connects anew.
type Client struct {
	path string

	lock    sync.Mutex
	current *connection
	dialing chan struct{} // closed when the one who connects is through; nil: nobody does
	closed  bool
}

// DefaultPath is the socket that Connect uses where none is named: the user's own
// ($XDG_RUNTIME_DIR/holdfast.sock) where there is one and the caller is not root, else the system's.
func DefaultPath() string {
	directory := os.Getenv("XDG_RUNTIME_DIR")
	if os.Geteuid() != 0 && os.Geteuid() == os.Getuid() && filepath.IsAbs(directory) {
		own := filepath.Join(directory, "holdfast.sock")
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return systemSocket
}

// Connect connects to the daemon whose socket lies at path; "" is DefaultPath.
func Connect(ctx context.Context, path string) (*Client, error) {
	if path == "" {
		path = DefaultPath()
	}
	c := &Client{path: path}
	if _, err := c.connection(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connection; calls that wait return ErrClosed, and so does everything after it.
func (c *Client) Close() error {
	c.lock.Lock()
	connection := c.current
	c.closed = true
	c.lock.Unlock()
	if connection != nil {
		connection.fail(ErrClosed)
	}
	return nil
}

// Path is where the daemon's socket lies.
func (c *Client) Path() string {
	return c.path
}

// connection returns one that is alive as far as anyone knows, a new one if need be. One goroutine connects, and the
// others wait for it.
func (c *Client) connection(ctx context.Context) (*connection, error) {
	for {
		c.lock.Lock()
		if c.closed {
			c.lock.Unlock()
			return nil, ErrClosed
		}
		if c.current != nil && !c.current.dead.Load() {
			defer c.lock.Unlock()
			return c.current, nil
		}
		dialing := c.dialing
		if dialing == nil {
			c.dialing = make(chan struct{})
			c.lock.Unlock()
			return c.connect(ctx)
		}
		c.lock.Unlock()
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, fmt.Errorf("holdfast: connecting: %w", ctx.Err())
		}
	}
}

func (c *Client) connect(ctx context.Context) (*connection, error) {
	connection, err := dial(ctx, c.path)
	c.lock.Lock()
	defer c.lock.Unlock()
	close(c.dialing)
	c.dialing = nil
	if err != nil {
		return nil, err
	}
	if c.closed {
		connection.fail(ErrClosed)
		return nil, ErrClosed
	}
	c.current = connection
	return connection, nil
}

// answer is the daemon's error as one of Go.
func answer(r *reply) error {
	return &Error{Name: r.Error, Parameters: r.Parameters}
}

// callOn makes a call and returns the connection that it went over beside the reply.
func (c *Client) callOn(ctx context.Context, method string, parameters any, file bool) (*connection, *reply, error) {
	message, err := encodeCall(method, parameters, false)
	if err != nil {
		return nil, nil, err
	}
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, err := connection.call(ctx, message, file)
	if err != nil {
		return nil, nil, err
	}
	if r.Error != "" {
		return nil, nil, answer(r)
	}
	return connection, r, nil
}

// Call calls any method; a name without a dot is one of io.holdfast. parameters is what encoding/json makes an object
// of, nil for none; result, unless nil, is what the reply's parameters are decoded into.
func (c *Client) Call(ctx context.Context, method string, parameters, result any) error {
	_, r, err := c.callOn(ctx, method, parameters, false)
	if err != nil {
		return err
	}
	return decode(r.Parameters, result)
}

func decode(parameters json.RawMessage, result any) error {
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(parameters, result); err != nil {
		return fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	return nil
}

// Stream calls a method with "more" and hands the parameters of each reply to the function, the last one's included.
// It has a connection of its own, so a function that takes its time holds up nobody else; an error that it returns, and
// a context that ends, end the stream, and that error is returned.
func (c *Client) Stream(ctx context.Context, method string, parameters any,
	each func(parameters json.RawMessage) error) error {
	c.lock.Lock()
	closed := c.closed
	c.lock.Unlock()
	if closed {
		return ErrClosed
	}
	message, err := encodeCall(method, parameters, true)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.path)
	if err != nil {
		return fmt.Errorf("holdfast: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	defer conn.Close()
	go func() {
		select {
		case <-ctx.Done():
			conn.Close() // whatever waits for it goes on
		case <-ended:
		}
	}()
	err = stream(conn.(*net.UnixConn), message, each)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("holdfast: %w", ctx.Err())
	}
	return err
}

func stream(conn *net.UnixConn, message []byte, each func(json.RawMessage) error) error {
	if _, err := conn.Write(message); err != nil {
		return lost(err)
	}
	reader := newFrameReader(conn)
	defer reader.closeFiles()
	for {
		text, err := reader.next()
		if err != nil {
			return connectionError(err)
		}
		r, err := parseReply(text)
		if err != nil {
			return err
		}
		if len(reader.files) > 0 {
			return fmt.Errorf("%w: a file descriptor that nobody asked for", ErrProtocol)
		}
		if r.Error != "" {
			return answer(r)
		}
		if err := each(r.Parameters); err != nil {
			return err
		}
		if !r.Continues {
			return nil
		}
	}
}

// checkTexts refuses what JSON cannot say: encoding/json would put another character in its place.
func checkTexts(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%w: %.40q is not UTF-8", ErrInvalid, text)
		}
	}
	return nil
}
